//! What steps ask of a test bed; they never know which one it is.

mod joined;
pub mod sim;

pub use joined::Joined;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ::sim::{Impairment, ProbeOutcome};
use anyhow::Result;
use async_trait::async_trait;
use capture::Recorder;

use crate::cluster::Cluster;
use crate::pods::{PodRef, Pods};
use crate::settings::Settings;
use crate::vocabulary::parameters::{Certificate, Component, State, Verdict};

/// How patient this bed wants its steps to be.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A positive outcome is polled this long.
    pub patience: Duration,
    /// A negative outcome must hold this long.
    pub quiet: Duration,
    /// A Pod may take this long to become ready.
    pub ready: Duration,
    /// How many times faster than real time `seconds pass`.
    pub tempo: f64,
}

/// What a client needs to speak TLS to a proxy; PEM.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Certificate chain and key, when one is presented.
    pub identity: Option<(String, String)>,
    /// Server name to ask for.
    pub server_name: String,
}

/// The rules of one Pod, as lines, whichever backend installed them.
pub type RuleDump = Vec<String>;

/// A cluster with the product installed, the mesh running, and every packet recorded.
#[async_trait]
pub trait Bed: Send + Sync {
    /// The part of this name, where there are several clusters; the first one when none is named.
    fn at(&self, cluster: Option<&str>) -> &dyn Bed;
    /// The name of the one cluster, where there are several.
    fn name(&self) -> Option<&str>;
    /// All parts: one for each cluster.
    fn parts(&self) -> Vec<&dyn Bed>;
    /// The cluster's API; of several clusters, the first one's.
    fn cluster(&self) -> &Cluster;
    /// The cluster's Pods as a watch knows them; of several clusters, the first one's.
    fn pods(&self) -> &Pods;
    /// All packets.
    fn recorder(&self) -> &Recorder;
    /// How patient to be.
    fn timing(&self) -> Timing;
    /// Names and addresses of the nodes.
    fn nodes(&self) -> Vec<(String, Vec<IpAddr>)>;
    /// The address of the cluster's DNS service.
    fn cluster_dns(&self) -> IpAddr;
    /// Mesh gateways of a cluster, as the capture knows them.
    fn gateways(&self) -> Vec<PodRef>;
    /// The Pod's own address in 240.0.0.0/4, when the mesh has given its service one.
    fn virtual_ip(&self, namespace: &str, service: &str) -> Option<IpAddr>;
    /// The server name by which proxies ask for a service.
    fn server_name(&self, namespace: &str, service: &str) -> String;
    /// Makes something outside the mesh answer at an address.
    async fn external(&self, name: &str, address: SocketAddr) -> Result<()>;
    /// Every address of something outside the mesh that was made at this one.
    fn external_addresses(&self, address: IpAddr) -> Vec<IpAddr>;
    /// Addresses that a Pod's interface has, and Kubernetes does not know of.
    fn unannounced(&self, pod: &PodRef) -> Vec<IpAddr>;
    /// Impairs the link of a Pod from now on.
    async fn impair(&self, pod: &PodRef, impairment: Impairment) -> Result<()>;
    /// Runs all probes of a Pod now.
    async fn probe(&self, pod: &PodRef) -> Result<Vec<ProbeOutcome>>;
    /// The rules in the Pod's network; `None` when it has no network (any more).
    async fn rules(&self, pod: &PodRef) -> Result<Option<RuleDump>>;
    /// GET of the proxy's admin interface.
    async fn admin(&self, pod: &PodRef, path: &str) -> Result<String>;
    /// Sets the default intention.
    async fn default_intention(&self, verdict: Verdict) -> Result<()>;
    /// Waits until every running proxy works with the newest configuration.
    async fn converge(&self) -> Result<()>;
    /// What the control plane was asked for and does not do.
    fn problems(&self) -> Vec<String>;
    /// What Envoys refused of their configuration: the proxy's id, and what it was.
    fn rejected(&self) -> Vec<(String, String)>;
    /// What a client presents.
    async fn credentials(&self, certificate: &Certificate, namespace: &str, service: &str) -> Result<Credentials>;
    /// Stops, starts … a part of the system, of one Pod where it is one's.
    async fn component(
        &self,
        component: Component,
        of: Option<&PodRef>,
        state: State,
        settings: &Settings,
    ) -> Result<()>;
    /// Has the node's container runtime run a CNI verb for a Pod once more, with all plugins of its network.
    async fn run_plugins(&self, pod: &PodRef, verb: &str) -> Result<()>;
    /// Changes the installation to these settings.
    async fn reconfigure(&self, settings: &Settings) -> Result<()>;
    /// Types of the CNI plugins in the chain of a node, in order.
    fn chained_plugins(&self) -> Result<Vec<String>>;
    /// A command line that joins the Pod's network, for a person.
    fn join_line(&self, pod: &PodRef) -> String;
    /// Ends everything.
    async fn stop(&self);
}
