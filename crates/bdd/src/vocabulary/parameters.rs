//! The parameter types of the vocabulary: what may stand for `{outcome}`, `{may}` … in a step.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// A type that may stand in a step's expression.
pub trait Parameter: Sized {
    /// The name between braces.
    const NAME: &'static str;
    /// What matches, without capturing groups.
    const REGEX: &'static str;
    /// Reads the text that matched.
    fn read(text: &str) -> Result<Self, NotA>;
}

/// A text that is not what its place in the step asks for.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is no {{{name}}}")]
pub struct NotA {
    /// The parameter type.
    pub name: &'static str,
    /// The text.
    pub text: String,
}

macro_rules! choices {
    ($($(#[$doc:meta])* $type:ident $name:literal { $(#[$d0:meta])* $v0:ident = $t0:literal $(, $(#[$d:meta])* $v:ident = $t:literal)* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
            pub enum $type { $(#[$d0])* $v0, $($(#[$d])* $v),* }

            impl Parameter for $type {
                const NAME: &'static str = $name;
                const REGEX: &'static str = concat!($t0 $(, "|", $t)*);
                fn read(text: &str) -> Result<Self, NotA> {
                    match text {
                        $t0 => Ok(Self::$v0),
                        $($t => Ok(Self::$v),)*
                        _ => Err(NotA { name: $name, text: text.to_owned() }),
                    }
                }
            }

            impl fmt::Display for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(match self { Self::$v0 => $t0, $(Self::$v => $t),* })
                }
            }

            impl FromStr for $type {
                type Err = NotA;
                fn from_str(text: &str) -> Result<Self, NotA> { Self::read(text) }
            }
        )*
    };
}

choices! {
    /// Who installs the rules.
    Mechanism "mechanism" {
        /// The injected init container.
        InitContainer = "init container",
        /// The CNI plugin.
        CniPlugin = "CNI plugin",
    }
    /// What the default intention says.
    Verdict "verdict" {
        /// Everyone may talk to everyone.
        Allow = "allow",
        /// Nobody may.
        Deny = "deny",
    }
    /// Whether an intention allows.
    May "may" {
        /// It allows.
        MayNot = "may not",
        /// It does not.
        May = "may",
    }
    /// How two clusters are joined.
    Link "link" {
        /// WAN federation.
        Federated = "federated over mesh gateways",
        /// One datacenter.
        SharingOneDatacenter = "sharing one datacenter",
        /// Peering.
        Peered = "peered",
    }
    /// Whether a sameness group is the default for failover.
    Failover "failover" {
        /// It is not.
        NotFailing = "not failing",
        /// It is.
        Failing = "failing",
    }
    /// Whether a service is exported.
    Export "export" {
        /// It is not.
        NotExported = "not exported",
        /// It is.
        Exported = "exported",
    }
    /// A custom resource of `consul.hashicorp.com/v1alpha1`.
    Crd "crd" {
        /// Defaults of a service.
        ServiceDefaults = "ServiceDefaults",
        /// Defaults of every proxy.
        ProxyDefaults = "ProxyDefaults",
        /// Settings of the mesh.
        Mesh = "Mesh",
        /// Redirects, subsets, failover.
        ServiceResolver = "ServiceResolver",
        /// HTTP routes.
        ServiceRouter = "ServiceRouter",
        /// Shares of requests.
        ServiceSplitter = "ServiceSplitter",
        /// Who may talk to whom.
        ServiceIntentions = "ServiceIntentions",
        /// A sameness group.
        SamenessGroup = "SamenessGroup",
        /// What peers and partitions see.
        ExportedServices = "ExportedServices",
        /// The accepting side of a peering.
        PeeringAcceptor = "PeeringAcceptor",
        /// The dialling side of a peering.
        PeeringDialer = "PeeringDialer",
    }
    /// What a client speaks.
    Protocol "protocol" {
        /// A line over TCP.
        Tcp = "tcp",
        /// A datagram.
        Udp = "udp",
        /// TLS of the application's own.
        Tls = "tls",
        /// HTTP/1.1.
        Http = "http",
        /// gRPC.
        Grpc = "grpc",
        /// An echo request.
        Icmp = "icmp",
        /// DNS over UDP.
        DnsUdp = "dns/udp",
        /// DNS over TCP.
        DnsTcp = "dns/tcp",
    }
    /// A part of the system that can be stopped, started …
    Component "component" {
        /// The CNI plugin.
        CniPlugin = "CNI plugin",
        /// The Consul servers.
        ControlPlane = "control plane",
        /// A node.
        Node = "node",
        /// A Pod's sidecar.
        Proxy = "proxy",
        /// A mesh gateway.
        MeshGateway = "mesh gateway",
        /// A Pod's injected init container.
        InitContainer = "init container",
        /// The admission webhook, all replicas of it.
        Webhook = "webhook",
    }
    /// What is done to a part of the system.
    State "state" {
        /// Asked to end, and not started again.
        Stopped = "stopped",
        /// Started again.
        Started = "started",
        /// Ended at once (SIGKILL).
        Killed = "killed",
        /// Ended and started again.
        Restarted = "restarted",
        /// Uninstalled.
        Removed = "removed",
        /// Installed.
        Installed = "installed",
        /// Deleted through the API.
        Deleted = "deleted",
        /// Deleted without grace.
        ForceKilled = "force-killed",
        /// Without its credentials.
        WithoutCredentials = "without credentials",
        /// Asked over its own interface.
        AskedToShutDown = "asked to shut down",
    }
    /// Whether an application calls itself healthy.
    Health "health" {
        /// It does not.
        Unhealthy = "unhealthy",
        /// It does.
        Healthy = "healthy",
    }
    /// How a request ended.
    Outcome "outcome" {
        /// By the application.
        Answered = "answered",
        /// TLS came up or was refused, and the connection closed without an application byte.
        Denied = "denied",
        /// HTTP 403.
        Forbidden = "forbidden",
        /// Plaintext met a TLS listener.
        Reset = "reset",
        /// RST to the SYN.
        Refused = "refused",
        /// Any failure, where the kind is no part of the contract.
        Blocked = "blocked",
    }
    /// What becomes of a Pod.
    Readiness "readiness" {
        /// Its Ready condition becomes true.
        BecomesReady = "becomes ready",
        /// Its Ready condition never becomes true.
        StaysUnready = "stays unready",
        /// All its containers end with success.
        RunsToCompletion = "runs to completion",
    }
    /// What admission says.
    Admission "admission" {
        /// The object was stored.
        Accepted = "accepted",
        /// The object was refused.
        Rejected = "rejected",
    }
    /// Something that ends with a verdict.
    Task "task" {
        /// The last command run in a Pod.
        Command = "command",
        /// The check before an installation.
        PreflightCheck = "preflight check",
    }
    /// How a task ended.
    TaskResult "result" {
        /// Exit status 0.
        Succeeds = "succeeds",
        /// Nothing was found wrong.
        Passes = "passes",
        /// Something was.
        Fails = "fails",
    }
    /// What is expected of a Pod's rules.
    Rules "rules" {
        /// As the Pod's settings demand.
        InPlace = "in place",
        /// None.
        Absent = "absent",
        /// As they were.
        Unchanged = "unchanged",
        /// No rule twice.
        FreeOfDuplicates = "free of duplicates",
        /// All or none.
        CompleteOrAbsent = "complete or absent",
    }
    /// Whether the proxy carried the traffic.
    Path "path" {
        /// It did.
        Through = "through",
        /// It did not.
        Around = "around",
    }
    /// What the wire shows.
    Wire "wire" {
        /// TLS of the mesh, both ends authenticated.
        MutualTls = "mutual TLS",
        /// The canary is readable.
        Plaintext = "plaintext",
    }
    /// Who answered a look-up.
    Resolver "resolver" {
        /// Consul, through the Pod's proxy.
        ConsulDns = "Consul DNS",
        /// The cluster's DNS service.
        ClusterDns = "the cluster DNS",
    }
}

fn quoted(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('"')?;
    Some(rest.strip_suffix('"')?.to_owned())
}

/// What a client presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// Nothing.
    None,
    /// One that it signed itself.
    SelfSigned,
    /// One of the mesh that has expired.
    Expired,
    /// One of another mesh.
    OtherTrustDomain,
    /// The mesh's own for this service.
    Of(String),
}

impl Parameter for Certificate {
    const NAME: &'static str = "certificate";
    const REGEX: &'static str = r#"no certificate|a self-signed certificate|an expired certificate|a certificate of another trust domain|the certificate of "[^"]*""#;
    fn read(text: &str) -> Result<Self, NotA> {
        Ok(match text {
            "no certificate" => Self::None,
            "a self-signed certificate" => Self::SelfSigned,
            "an expired certificate" => Self::Expired,
            "a certificate of another trust domain" => Self::OtherTrustDomain,
            _ => Self::Of(quoted(text).ok_or_else(|| NotA { name: Self::NAME, text: text.to_owned() })?),
        })
    }
}

/// What a look-up yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An address in 240.0.0.0/4.
    VirtualIp,
    /// NXDOMAIN, or no record.
    NoSuchName,
    /// Any failure.
    Error,
    /// The cluster IP of a Service.
    ClusterIp(String),
    /// The addresses of all Pods of a workload, and no other.
    PodIps(String),
    /// The address of an external endpoint.
    External(String),
}

impl Parameter for Answer {
    const NAME: &'static str = "answer";
    const REGEX: &'static str = r#"a virtual IP|no such name|an error|the cluster IP of "[^"]*"|the pod IPs of "[^"]*"|the external address of "[^"]*""#;
    fn read(text: &str) -> Result<Self, NotA> {
        let not = || NotA { name: Self::NAME, text: text.to_owned() };
        Ok(match text {
            "a virtual IP" => Self::VirtualIp,
            "no such name" => Self::NoSuchName,
            "an error" => Self::Error,
            _ => {
                let of = quoted(text).ok_or_else(not)?;
                match text.split(" of ").next() {
                    Some("the cluster IP") => Self::ClusterIp(of),
                    Some("the pod IPs") => Self::PodIps(of),
                    Some("the external address") => Self::External(of),
                    _ => return Err(not()),
                }
            }
        })
    }
}

/// Which mesh gateways were crossed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateways(pub Vec<String>);

impl Parameter for Gateways {
    const NAME: &'static str = "gateways";
    const REGEX: &'static str = r#"no mesh gateway|the mesh gateway of "[^"]*"|the mesh gateways of "[^"]*""#;
    fn read(text: &str) -> Result<Self, NotA> {
        if text == "no mesh gateway" {
            return Ok(Self(Vec::new()));
        }
        let names = quoted(text).ok_or_else(|| NotA { name: Self::NAME, text: text.to_owned() })?;
        Ok(Self(names.split(',').map(|n| n.trim().to_owned()).collect()))
    }
}

/// Names and expressions of all parameter types that are not built into Cucumber Expressions.
#[must_use]
pub fn all() -> HashMap<&'static str, &'static str> {
    macro_rules! table {
        ($($type:ident),* $(,)?) => { HashMap::from([$(($type::NAME, $type::REGEX)),*]) };
    }
    table![
        Mechanism,
        Verdict,
        May,
        Link,
        Failover,
        Export,
        Crd,
        Protocol,
        Certificate,
        Component,
        State,
        Health,
        Outcome,
        Answer,
        Readiness,
        Admission,
        Task,
        TaskResult,
        Rules,
        Path,
        Wire,
        Gateways,
        Resolver,
    ]
}
