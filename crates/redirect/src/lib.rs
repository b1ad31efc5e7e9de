//! What a mesh redirects in a Pod's network namespace, as data; the rules that do it; and putting them in the kernel.
//!
//! The way of a setting: [`Config`] is the JSON that webhook, CNI plugin and init container exchange; [`Policy`] is what it
//! means, validated, with every mistake reported at once; [`Policy::verdict`] says in plain Rust what must become of a
//! packet; [`rules`] renders the same for each backend, with Consul's chains in Consul's order; [`apply`], [`verify`] and
//! [`remove`] take them to the kernel; [`rules::explain`] says which rule decides.
//!
//! ```
//! use redirect::{Config, Packet, Policy, Verdict};
//!
//! let config = Config::from_json(r#"{"ProxyUserID":"5995","ProxyInboundPort":20000,"ExcludeOutboundPorts":["8443"]}"#)?;
//! let policy = Policy::from_config(&config, false)?;
//! let dial = |port| Packet::tcp_out("198.51.100.10".parse().expect("a literal"), port, 1000);
//! assert_eq!(policy.verdict(&dial(443)), Verdict::RedirectTo(15001));
//! assert_eq!(policy.verdict(&dial(8443)), Verdict::Accept);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Backends
//!
//! | [`Backend`] | how | what is atomic |
//! |---|---|---|
//! | `nftables` | nf_tables over netlink, no program | everything, both families |
//! | `iptables-nft`, `iptables-legacy` | `iptables-restore --noflush`, one process for each family | a table of a family; what a refused one left is undone |
//!
//! `auto` follows what the namespace holds (so that a second run never leaves two sets of rules) and otherwise takes the first
//! of the three that works, found by trying. [`apply`] converges: over rules of an older version, of another backend, and of
//! Consul's own, whether they are its chains in table `nat` or its table `consul_tproxy`. Our table has a name of its own, so that
//! we never fight over that one. Only `nftables` can redirect a Pod with its own user namespace (`hostUsers: false`) from
//! outside: the owner match of iptables is refused there.
//!
//! # What is redirected, and what is not
//!
//! By default exactly what Consul redirects. Where that leaves something open, a [`Safeguard`] closes it:
//!
//! | traffic | by default | with a safeguard |
//! |---|---|---|
//! | to 127.0.0.1 and ::1 | stays | |
//! | to the rest of 127.0.0.0/8, to the Pod's own addresses | to the proxy | `local-direct`: stays |
//! | IPv6 in single stack | goes around the mesh | `refuse-ipv6`: refused, but for neighbour discovery, link-local and multicast |
//! | to 169.254.169.254 and fd00:ec2::254 | to the proxy | `refuse-metadata`: refused |
//! | UDP, QUIC with it | goes around the mesh | `refuse-udp`: refused, but for DNS and answers |
//! | what connection tracking takes for invalid | reaches whatever socket has the port | `drop-invalid`: dropped |
//!
//! # Probes
//!
//! What the kubelet sends to a Pod is captured like everything else, and the proxy answers it in place of the application. A
//! policy may exempt it: a TCP connection from one of [`Config::probe_sources`] to one of [`Config::probe_ports`] goes where it was
//! sent. Both must be right; where either list is empty nothing is exempt, and the rules are the same as without the other.
//!
//! | from | to a probe port | to another port |
//! |---|---|---|
//! | a probe source | the application | to the proxy |
//! | anywhere else | to the proxy | to the proxy |
//!
//! What is absent: UDP other than DNS is never *redirected*, as no listener of Consul's proxy takes it.

pub mod config;
pub mod contract;
pub mod kernel;
pub mod packet;
pub mod parse;
pub mod policy;
pub mod range;
pub mod rules;
pub mod safeguard;

pub use config::{Config, ConfigError};
pub use kernel::{Applied, ApplyError, Backend, Drift, Verified, apply, bypasses, remove, verify};
pub use packet::{Hook, Packet, Protocol, Verdict};
pub use parse::Mistake;
pub use policy::{Dns, Policy, PolicyErrors};
pub use range::{IdRange, PortRange};
pub use safeguard::Safeguard;
