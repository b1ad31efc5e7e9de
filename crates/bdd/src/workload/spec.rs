//! A workload as the steps describe it, before it is any Kubernetes object.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;
use sim::Impairment;

/// What runs the Pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
    /// A Job.
    Job,
    /// Nothing: a bare Pod.
    Pod,
}

impl FromStr for Controller {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "Deployment" => Self::Deployment,
            "StatefulSet" => Self::StatefulSet,
            "Job" => Self::Job,
            "Pod" => Self::Pod,
            _ => anyhow::bail!("{text:?} is no kind of workload: it is Deployment, StatefulSet, Job or Pod"),
        })
    }
}

/// What the application containers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serve what `listens` says.
    Server,
    /// Wait for requests to be asked of them.
    Client,
}

/// A port that the application serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// `http`, `https`, `tcp`, `udp`, `tls`, `grpc` or `server-first`.
    pub protocol: String,
    /// The port.
    pub port: u16,
}

/// Where the application binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// All addresses.
    Wildcard,
    /// 127.0.0.1.
    Loopback,
    /// The Pod's address.
    PodIp,
}

/// A Service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name.
    pub name: String,
    /// The port of the Service.
    pub port: u16,
    /// The port of the Pods.
    pub target: u16,
}

/// Which Services select the Pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceShape {
    /// One, of this name.
    Named(String),
    /// One without a cluster IP, named as the workload.
    Headless,
    /// None.
    None,
    /// One whose selector matches no Pod.
    Mismatch,
    /// Two.
    Two(String, String),
}

/// Whose resolver a client's programs have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// `getaddrinfo` of glibc.
    Glibc,
    /// `getaddrinfo` of musl, in a static program.
    Musl,
    /// A stub resolver in Rust.
    Rust,
}

impl Library {
    /// The word for it, in tables and in the test program's arguments.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
            Self::Rust => "rust",
        }
    }
}

impl FromStr for Library {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let all = [Self::Glibc, Self::Musl, Self::Rust];
        let found = all.into_iter().find(|library| library.name() == text);
        found.ok_or_else(|| anyhow::anyhow!("{text:?} is no resolver: it is glibc, musl or rust"))
    }
}

/// Which of a container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    /// `livenessProbe`.
    Liveness,
    /// `readinessProbe`.
    Readiness,
    /// `startupProbe`.
    Startup,
}

impl FromStr for ProbeKind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "liveness" => Self::Liveness,
            "readiness" => Self::Readiness,
            "startup" => Self::Startup,
            _ => anyhow::bail!("{text:?} is no kind of probe: it is liveness, readiness or startup"),
        })
    }
}

impl ProbeKind {
    /// The field of a container.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::Liveness => "livenessProbe",
            Self::Readiness => "readinessProbe",
            Self::Startup => "startupProbe",
        }
    }
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAction {
    /// GET of a path.
    Http(u16, String),
    /// GET of a path over TLS.
    Https(u16, String),
    /// A connection.
    Tcp(u16),
    /// A gRPC health check.
    Grpc(u16),
    /// A command.
    Exec(Vec<String>),
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Which one.
    pub kind: ProbeKind,
    /// What it does.
    pub action: ProbeAction,
}

/// A command of the application, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Dial this address at once, then go on as usual.
    DialFirst(String),
    /// Request this URL until it is answered once, and end.
    RequestOnce(String),
    /// A shell command.
    Shell(String),
}

/// Before or after the injected init container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Where the webhook leaves it.
    Unsaid,
    /// In front of all others.
    First,
    /// Behind all others of the application.
    Last,
}

/// An init container of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitContainer {
    /// Its user, when the step names one.
    pub uid: Option<u32>,
    /// What it requests.
    pub url: String,
    /// Where it stands.
    pub placement: Placement,
}

/// An init container of the application that goes on beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InitSidecar {
    /// What it serves.
    pub listens: Vec<Listen>,
    /// Its probes.
    pub probes: Vec<Probe>,
}

/// One application container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its user.
    pub uid: u32,
    /// What it does.
    pub role: Role,
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Name of the controller, the ServiceAccount and (usually) the Service.
    pub name: String,
    /// The cluster that it is in, where there are several.
    pub cluster: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// What runs the Pods.
    pub controller: Controller,
    /// How many.
    pub replicas: u32,
    /// Which Services select them.
    pub service: ServiceShape,
    /// The Service's ports; derived from `listens` when empty.
    pub service_ports: Vec<ServicePort>,
    /// Node port of the first Service port.
    pub node_port: Option<u16>,
    /// What is served.
    pub listens: Vec<Listen>,
    /// Where.
    pub binds: Bind,
    /// Annotations of the Pods, full keys; a number is one that a step left unquoted.
    pub annotations: BTreeMap<String, Value>,
    /// Application containers.
    pub containers: Vec<Container>,
    /// Probes of the first container.
    pub probes: Vec<Probe>,
    /// Init containers of the application.
    pub init: Vec<InitContainer>,
    /// One of them that restarts always.
    pub init_sidecar: Option<InitSidecar>,
    /// What the first container does instead.
    pub command: Option<Command>,
    /// A name server of the Pods' own.
    pub dns_server: Option<String>,
    /// Whose resolver clients have; when unsaid, requests are glibc's and look-ups those of the stub resolver in Rust, which
    /// tells most about them.
    pub resolver: Option<Library>,
    /// Whether the Pods use the node's network.
    pub host_network: bool,
    /// What is wrong with the Pods' link.
    pub link: Option<Impairment>,
    /// Seconds that a deleted Pod may take, when that is what a scenario is about: a client lives for all of them, whatever
    /// it is told.
    pub farewell: Option<u32>,
}

impl Workload {
    /// The value of an annotation, when it is set and a string.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).and_then(Value::as_str)
    }

    /// The cluster that it is in, where there are several.
    #[must_use]
    pub fn at(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// What no other workload is called: `<name>`, or `<name>@<cluster>` where there are several clusters.
    #[must_use]
    pub fn key(&self) -> String {
        self.at().map_or_else(|| self.name.clone(), |cluster| format!("{}@{cluster}", self.name))
    }

    /// The name its Consul service has: the annotation's, or the Kubernetes Service's.
    #[must_use]
    pub fn consul_service(&self) -> &str {
        self.annotation(redirect::contract::CONNECT_SERVICE).unwrap_or(match &self.service {
            ServiceShape::Named(name) | ServiceShape::Two(name, _) => name,
            ServiceShape::Headless | ServiceShape::None | ServiceShape::Mismatch => &self.name,
        })
    }

    /// The name of the Service that clients dial.
    #[must_use]
    pub fn service_name(&self) -> &str {
        match &self.service {
            ServiceShape::Named(name) | ServiceShape::Two(name, _) => name,
            _ => &self.name,
        }
    }

    /// Whether it does one thing as soon as it starts and ends with it, so that what it needs must be there before.
    #[must_use]
    pub fn acts_once(&self) -> bool {
        self.controller == Controller::Job || matches!(self.command, Some(Command::RequestOnce(_)))
    }

    /// The port its first application port is.
    #[must_use]
    pub fn app_port(&self) -> Option<u16> {
        self.listens.first().map(|l| l.port)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
