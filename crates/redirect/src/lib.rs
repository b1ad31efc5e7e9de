//! What a mesh redirects in a Pod's network namespace, as data; the rules that do it; and putting them in the kernel.
//!
//! The way of a setting: [`Config`] is the JSON that webhook, CNI plugin and init container exchange; [`Policy`] is what it
//! means, validated, with every mistake reported at once; [`Policy::verdict`] says in plain Rust what must become of a
//! packet; [`rules::Ruleset`] renders the same as iptables rules, with Consul's chains in Consul's order; [`apply`],
//! [`verify`] and [`remove`] take them to the kernel.
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
//! What is absent: in a single-stack policy IPv6 is neither redirected nor refused, as in Consul, so a Pod that has IPv6
//! addresses anyway bypasses the mesh over them. UDP other than DNS is never redirected.

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
pub use kernel::{Applied, ApplyError, Backend, Drift, Verified, apply, remove, verify};
pub use packet::{Hook, Packet, Protocol, Verdict};
pub use parse::Mistake;
pub use policy::{Dns, Policy, PolicyErrors};
pub use range::{IdRange, PortRange};
pub use safeguard::Safeguard;
