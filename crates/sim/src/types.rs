//! What the parts of a lab say to each other: sandboxes, images, exec and log requests, settings.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use netns::NetNs;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::Ranges;

/// Which address families Pods and Services of a lab have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Families {
    /// IPv4 only; IPv6 is left as the kernel has it.
    #[default]
    V4,
    /// IPv6 only.
    V6,
    /// Both, IPv4 first.
    Dual,
    /// Both on the interfaces, as where a router advertises an IPv6 prefix, and Kubernetes knows of IPv4 only.
    UnannouncedV6,
}

impl Families {
    /// Whether Kubernetes knows of addresses of this family.
    #[must_use]
    pub fn announces(self, address: &IpAddr) -> bool {
        match self {
            Self::V4 | Self::UnannouncedV6 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
            Self::Dual => true,
        }
    }
}

/// What a lab is made of.
#[derive(Clone)]
pub struct LabOptions {
    /// Short name, unique in this process; part of directory and thread names.
    pub name: String,
    /// Worker nodes, at least one. The first also carries the API server.
    pub nodes: usize,
    /// Address families of Pods and Services.
    pub families: Families,
    /// What names of nodes begin with, so that those of several labs differ where somebody knows them all; empty otherwise.
    pub node_prefix: String,
    /// Networks of Pods, Services and nodes. Labs that are to be joined need networks that differ; see [`Join`].
    pub ranges: Ranges,
    /// Directory for container roots, volumes and logs, made if missing; removed by the lab's `stop`.
    pub scratch: PathBuf,
    /// Directory that outlives the lab: the kubeconfig and container logs go here.
    pub artifacts: PathBuf,
    /// Image names and what they stand for.
    pub images: ImageTable,
    /// Told of every Pod sandbox before its first process.
    pub observer: Arc<dyn SandboxObserver>,
    /// How many times faster than a real kubelet's the probe periods, probe delays and restart back-offs pass. Probe
    /// *timeouts* and termination grace periods are real time.
    pub tempo: f64,
    /// What the nodes' kernel must pretend to lack.
    pub lacks: Vec<Missing>,
    /// Edits API responses on their way out; for saboteurs. `None` in every honest run.
    pub tamper: Option<Arc<dyn Tamper>>,
    /// The container runtime hands the Pods' annotations to CNI plugins that declare the capability, as containerd and CRI-O do.
    pub hands_over_annotations: bool,
}

/// What the primary network's agent does when a node starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Primary {
    /// It leaves its network configuration as it finds it.
    Keeps,
    /// It writes its network configuration anew, whatever others have made of it: kindnet and Cilium do.
    Rewrites,
}

/// A kernel feature taken from the containers of a lab by a seccomp program that answers as a kernel without it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// No xtables and no nf_tables: `iptables` of either flavour fails as on a node without the modules.
    IpTables,
}

/// Edits an object that the API server is about to return to a client.
pub trait Tamper: Send + Sync {
    /// `user` is the authenticated name (`system:serviceaccount:<ns>:<name>` for Pods), `resource` the plural name.
    fn response(&self, user: &str, resource: &str, object: &mut serde_json::Value);
}

/// A Pod's network, as observers see it.
#[derive(Debug, Clone)]
pub struct SandboxInfo {
    /// Namespace of the Pod.
    pub namespace: String,
    /// Name of the Pod.
    pub pod: String,
    /// `metadata.uid`.
    pub uid: String,
    /// Name of the node.
    pub node: String,
    /// The Pod's network namespace; its interfaces are `lo` and `eth0`.
    pub netns: NetNs,
    /// Addresses on `eth0`, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// The node's network namespace.
    pub node_netns: NetNs,
    /// The node's end of the pair.
    pub host_interface: String,
}

/// What is wrong with the link of a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impairment {
    /// What the Pod sends is late by so much.
    Delay(Duration),
    /// So many of a hundred packets that the Pod sends are lost.
    Loss(u8),
    /// No packet is larger, in bytes.
    Mtu(u32),
    /// More than so many kilobits in a second are lost, in either direction.
    Rate(u64),
}

/// How two labs are joined. Their Service networks are never routed across: a ClusterIP means something in its own lab only.
///
/// The networks of either lab that the other one reaches must be new to it: they overlap none of its own, and none that
/// it reaches through another join. Labs that are not joined do not reach each other through a third one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Join {
    /// What of each lab the other one reaches.
    pub reach: Reach,
    /// Packets that cross are late by so much, in each direction.
    pub delay: Option<Duration>,
}

/// What of a lab another one reaches that is joined with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nodes and the lab's own stations, as between clusters behind NAT gateways: what a Pod sends across comes from the
    /// address of its lab's router. Pods are refused, and both labs may have the same Pod network.
    Nodes,
    /// Pods too, as in a flat network: they keep their source addresses.
    Pods,
}

/// Is told of sandboxes, in time to record every packet.
#[async_trait]
pub trait SandboxObserver: Send + Sync {
    /// The sandbox has its addresses and routes; no process of the Pod runs yet, and none will until this returns.
    async fn created(&self, sandbox: &SandboxInfo);
    /// The last process of the Pod has ended; the namespace is about to go.
    async fn removed(&self, sandbox: &SandboxInfo);
}

/// Observes nothing.
pub struct NoObserver;

#[async_trait]
impl SandboxObserver for NoObserver {
    async fn created(&self, _: &SandboxInfo) {}
    async fn removed(&self, _: &SandboxInfo) {}
}

/// A host of the lab that is no Pod: the Consul servers, the cluster DNS, an external endpoint.
#[derive(Debug, Clone)]
pub struct Station {
    /// Name, unique in the lab.
    pub name: String,
    /// Its network namespace; its interfaces are `lo` and `eth0`.
    pub netns: NetNs,
    /// Addresses on `eth0`.
    pub addresses: Vec<IpAddr>,
}

/// A node of the lab.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// Name of the Node object.
    pub name: String,
    /// Its network namespace; `eth0` leads to the rest of the lab.
    pub netns: NetNs,
    /// Addresses on `eth0`.
    pub addresses: Vec<IpAddr>,
}

/// What an image name stands for.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Files put into the container's root: path in the container, file on this machine. A file that exists in the root
    /// (`/usr/sbin/iptables-restore`) is covered.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
    /// `ENV`.
    pub env: Vec<(String, String)>,
    /// `USER`; root when unset.
    pub user: Option<u32>,
}

/// Images by repository name, without tag and digest.
#[derive(Debug, Clone, Default)]
pub struct ImageTable(pub BTreeMap<String, Image>);

impl ImageTable {
    /// Finds the image that a Pod names: `registry/name:tag@digest` is looked up as `registry/name`.
    #[must_use]
    pub fn get(&self, reference: &str) -> Option<&Image> {
        let name = reference.split('@').next().unwrap_or(reference);
        let name = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => repository,
            _ => name,
        };
        self.0.get(name)
    }
}

/// A command to run in a running container.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    /// Namespace of the Pod.
    pub namespace: String,
    /// Name of the Pod.
    pub pod: String,
    /// Container; the Pod's first (or its `kubectl.kubernetes.io/default-container`) when empty.
    pub container: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Whether a standard input is wanted.
    pub stdin: bool,
}

/// A running exec.
pub struct ExecSession {
    /// Standard input, when asked for.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Standard output.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Standard error.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// The exit code; 128 + n for signal n. Dropping it kills the process.
    pub exit: BoxFuture<'static, i32>,
}

/// Which log is wanted.
#[derive(Debug, Clone, Default)]
pub struct LogRequest {
    /// Namespace of the Pod.
    pub namespace: String,
    /// Name of the Pod.
    pub pod: String,
    /// Container; the Pod's first when empty.
    pub container: String,
    /// The log of the instance before the current one.
    pub previous: bool,
    /// Follow until the container ends.
    pub follow: bool,
    /// Only the last lines.
    pub tail_lines: Option<usize>,
}

/// Why a node could not do what was asked; becomes the API's answer.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The Pod or container is not (or no longer) on the node.
    #[error("{0} not found")]
    NotFound(String),
    /// The container exists and does not run.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// Anything else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What the API server asks of a kubelet.
#[async_trait]
pub trait NodeAgent: Send + Sync {
    /// Runs a command in a container.
    async fn exec(&self, request: ExecRequest) -> Result<ExecSession, AgentError>;
    /// Reads a container's log.
    async fn logs(&self, request: LogRequest) -> Result<BoxStream<'static, io::Result<Bytes>>, AgentError>;
}

/// Opens TCP connections from somewhere in the lab.
#[async_trait]
pub trait Dial: Send + Sync {
    /// Connects, or says why not.
    async fn dial(&self, peer: SocketAddr) -> io::Result<TcpStream>;
}

#[async_trait]
impl Dial for NetNs {
    async fn dial(&self, peer: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::from_std(self.tcp_connect(peer)?)?;
        stream.writable().await?;
        match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }
}

/// One probe of a Pod, run now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ProbeOutcome {
    /// Container.
    pub container: String,
    /// `liveness`, `readiness` or `startup`.
    pub kind: &'static str,
    /// Whether the probe would count as a success.
    pub success: bool,
    /// What happened.
    pub result: ProbeResult,
    /// In words, as the kubelet's event says it.
    pub message: String,
    /// For HTTP, TCP and gRPC: the address probed.
    pub peer: Option<SocketAddr>,
    /// For HTTP, TCP and gRPC: the source port on the node, to find the flow.
    pub local_port: Option<u16>,
}

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeResult {
    /// The application (or whoever listens) answered: HTTP status, TCP handshake, exit code.
    Answered,
    /// The connection came up and was reset or closed without an answer.
    Reset,
    /// The connection was refused.
    Refused,
    /// Nothing in time.
    TimedOut,
}
