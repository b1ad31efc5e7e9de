//! The bed on one machine: a lab of network namespaces with the product installed and the stand-in mesh running.

mod admin;
mod cni;
mod external;
mod images;
mod observer;
mod processes;
mod servers;
mod start;

pub use start::{Order, start};

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use capture::{Place, Recorder};
use netns::NetNs;
use redirect::contract;
use sim::{Dial as _, Families, Impairment, Lab, Primary, ProbeOutcome};
use tokio::sync::OnceCell;

use super::{Bed, Credentials, RuleDump, Timing};
use crate::cluster::Cluster;
use crate::install;
use crate::install::cni::Cni;
use crate::install::gateway::Gateways;
use crate::pods::{PodRef, Pods, has_condition, is_going};
use crate::settings::Settings;
use crate::topology::DEFAULT_PARTITION;
use crate::vocabulary::parameters::{Certificate, Component, State, Verdict};

use external::Externals;
use observer::Taps;
use processes::Stopped;
use servers::Servers;

/// How many times faster than a real kubelet's its periods and back-offs pass.
const TEMPO: f64 = 40.0;
/// A machine with two busy cores starts three Pods in a second or two; what takes this long never comes.
const READY: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(500);

/// A lab, the mesh's servers, and the recorder of all packets.
pub struct SimBed {
    /// The cluster's, where there are several.
    name: Option<String>,
    lab: Lab,
    /// Those of its datacenter.
    servers: Arc<Servers>,
    /// Those of other datacenters and peers.
    elsewhere: Vec<Arc<Servers>>,
    /// Whether they are in this cluster, where there are several.
    has_servers: bool,
    cluster: Cluster,
    pods: Pods,
    /// Whether it has mesh gateways. They come up while the first Pods do.
    has_gateways: bool,
    gateways_up: OnceCell<()>,
    taps: Arc<Taps>,
    externals: Externals,
    stopped: Stopped,
    /// Its admin partition, where there are any.
    partition: Option<String>,
    families: Families,
    work: PathBuf,
    outer_pid: i32,
    primary: Primary,
}

impl SimBed {
    fn netns(&self, pod: &PodRef) -> Result<NetNs> {
        let sandbox = self.taps.sandbox(&pod.namespace, &pod.name);
        Ok(sandbox.with_context(|| format!("find the network of {}", pod.host()))?.netns)
    }

    /// What its admin partition has; everything where there are none.
    fn home(&self) -> Result<mesh::Partition> {
        self.servers.partition(self.partition.as_deref().unwrap_or(DEFAULT_PARTITION))
    }

    fn gateways_here(&self) -> Gateways<'_> {
        Gateways { cluster: &self.cluster, pods: &self.pods, patience: READY }
    }

    /// Waits until those that were installed have come up, once.
    async fn await_gateways(&self) -> Result<()> {
        let installed = async || if self.has_gateways { self.gateways_here().installed().await } else { Ok(()) };
        self.gateways_up.get_or_try_init(installed).await.copied()
    }

    fn cni(&self) -> Cni<'_> {
        Cni { cluster: &self.cluster, pods: &self.pods, nodes: self.lab.nodes().len(), patience: READY }
    }

    /// What the control plane lacks that those of other clusters know, or the first running proxy that the control plane wants it to have.
    async fn lacking(&self) -> Result<(), String> {
        if let Some(address) = self.elsewhere.iter().find(|s| !self.servers.are_abreast_of(s)).map(|s| s.address()) {
            return Err(format!("{}: what the servers at {address} tell", self.servers.address()));
        }
        if !self.servers.mesh().is_settled() {
            return Err(format!("{}: what partitions export to each other", self.servers.address()));
        }
        for pod in self.pods.all() {
            let injected =
                pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(contract::CONNECT_INJECT_STATUS));
            if !injected || is_going(&pod) || !has_condition(&pod, "Ready") {
                continue;
            }
            let found = self.pods.reference(&pod);
            let Ok(netns) = self.netns(&found) else { continue };
            let lacking = async {
                let dump = admin::dump(&netns).await?;
                let id = admin::proxy_id(&dump).context("find the proxy's id")?;
                let home = self.home()?;
                let wanted = home.proxy_config(id).with_context(|| format!("find {id} in the catalogue"))?;
                // only then do others hear of it
                if home.is_passing(id) != Some(true) {
                    return Ok(Some(format!("{id}: the servers have not heard that it is ready")));
                }
                anyhow::Ok(admin::difference(&wanted, &dump).map(|lacks| format!("{id}: {lacks}")))
            };
            match lacking.await {
                Ok(None) => {}
                Ok(Some(lacks)) => return Err(lacks),
                Err(error) => return Err(format!("{}: {error:#}", found.host())),
            }
        }
        Ok(())
    }
}

/// Waits until the webhook's Service leads somewhere, seen from where the API server dials it.
async fn reachable(lab: &Lab, cluster: &Cluster) -> Result<()> {
    let node = lab.nodes().first().context("find the first node")?;
    let service = cluster.get("Service", install::NAMESPACE, install::WEBHOOK).await?;
    let ip = service.as_ref().and_then(|s| s["spec"]["clusterIP"].as_str()?.parse::<IpAddr>().ok());
    let address = SocketAddr::new(ip.context("find the address of the webhook's Service")?, 443);
    let look = async || node.netns.dial(address).await.map(|_| ());
    crate::wait::until(&format!("the webhook to be reachable at {address}"), READY, look).await
}

/// Has the cluster's DNS ask Consul's about its domain, or not. It stands outside of the nodes, where no Service leads: it
/// is told what is behind that of Consul's DNS.
fn forward(lab: &Lab, settings: &Settings, dns: SocketAddr) -> Result<()> {
    lab.set_stub_domain("consul", settings.forwards_consul()?.then_some(dns));
    Ok(())
}

#[async_trait]
impl Bed for SimBed {
    fn at(&self, _: Option<&str>) -> &dyn Bed {
        self
    }

    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn parts(&self) -> Vec<&dyn Bed> {
        vec![self]
    }

    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn pods(&self) -> &Pods {
        &self.pods
    }

    fn recorder(&self) -> &Recorder {
        &self.taps.recorder
    }

    fn timing(&self) -> Timing {
        Timing { patience: PATIENCE, quiet: QUIET, ready: READY, tempo: TEMPO }
    }

    fn nodes(&self) -> Vec<(String, Vec<IpAddr>)> {
        self.lab.nodes().iter().map(|n| (n.name.clone(), n.addresses.clone())).collect()
    }

    fn cluster_dns(&self) -> IpAddr {
        self.lab.cluster_dns()
    }

    fn gateways(&self) -> Vec<PodRef> {
        self.gateways_here().all()
    }

    fn virtual_ip(&self, namespace: &str, service: &str) -> Option<IpAddr> {
        self.home().ok()?.virtual_ip(namespace, service)
    }

    fn server_name(&self, namespace: &str, service: &str) -> String {
        self.home().map(|home| home.server_name(namespace, service)).unwrap_or_default()
    }

    async fn external(&self, name: &str, address: SocketAddr) -> Result<()> {
        if self.externals.has(name, address) {
            return Ok(());
        }
        if self.externals.has_host(name) {
            self.lab.remove_station(name).await?;
        }
        let station = self.lab.station(name, &self.external_addresses(address.ip())).await?;
        self.taps.station(&station.netns, name, Place::Eth0).await;
        self.externals.serve(&station.netns, name, address).await
    }

    fn external_addresses(&self, address: IpAddr) -> Vec<IpAddr> {
        let has_both = matches!(self.families, Families::Dual | Families::UnannouncedV6);
        let companion = match address {
            IpAddr::V4(v4) if has_both => Some(external::companion(v4)),
            _ => None,
        };
        std::iter::once(address).chain(companion).collect()
    }

    fn unannounced(&self, pod: &PodRef) -> Vec<IpAddr> {
        let sandbox = self.taps.sandbox(&pod.namespace, &pod.name);
        let addresses = sandbox.into_iter().flat_map(|sandbox| sandbox.addresses);
        addresses.filter(|address| !self.families.announces(address)).collect()
    }

    async fn impair(&self, pod: &PodRef, impairment: Impairment) -> Result<()> {
        self.lab.impair(&pod.namespace, &pod.name, impairment).await
    }

    async fn probe(&self, pod: &PodRef) -> Result<Vec<ProbeOutcome>> {
        self.lab.probe_now(&pod.namespace, &pod.name).await
    }

    async fn rules(&self, pod: &PodRef) -> Result<Option<RuleDump>> {
        let Ok(netns) = self.netns(pod) else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || {
            let held = netns.run(redirect::kernel::held)?.context("read rules")?;
            anyhow::Ok(held.iter().map(ToString::to_string).collect())
        });
        read.await.context("start a thread")?.map(Some)
    }

    async fn admin(&self, pod: &PodRef, path: &str) -> Result<String> {
        admin::get(&self.netns(pod)?, path).await
    }

    async fn default_intention(&self, verdict: Verdict) -> Result<()> {
        self.servers.default_intention(verdict);
        Ok(())
    }

    async fn converge(&self) -> Result<()> {
        self.await_gateways().await?;
        let start = Instant::now();
        loop {
            let Err(lacking) = self.lacking().await else { return Ok(()) };
            if start.elapsed() >= PATIENCE {
                // a proxy that was stopped on purpose never converges; requests will show what that means
                self.taps.timeline.note(format!("a proxy does not have the newest configuration: {lacking}"));
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    fn problems(&self) -> Vec<String> {
        // servers of several clusters are asked once
        let problems = if self.has_servers { self.servers.mesh().problems() } else { Vec::new() };
        problems.into_iter().map(|problem| format!("{}: {}", problem.object, problem.message)).collect()
    }

    fn rejected(&self) -> Vec<(String, String)> {
        if self.has_servers { self.servers.rejected() } else { Vec::new() }
    }

    async fn credentials(&self, certificate: &Certificate, namespace: &str, service: &str) -> Result<Credentials> {
        // somebody who may, so that nothing but the certificate can be the reason for a refusal
        const SOMEBODY: &str = "static-client";
        let home = self.home()?;
        let leaf = match certificate {
            Certificate::None => None,
            Certificate::SelfSigned => Some(home.issue_self_signed(SOMEBODY)),
            Certificate::Expired => Some(home.issue_expired(namespace, SOMEBODY)),
            Certificate::OtherTrustDomain => Some(home.issue_foreign(SOMEBODY)),
            Certificate::Of(name) => Some(home.issue(namespace, name)),
        };
        Ok(Credentials {
            identity: leaf.map(|l| (l.cert_chain_pem, l.key_pem)),
            server_name: self.server_name(namespace, service),
        })
    }

    async fn component(
        &self,
        component: Component,
        of: Option<&PodRef>,
        state: State,
        settings: &Settings,
    ) -> Result<()> {
        if component == Component::MeshGateway {
            self.await_gateways().await?;
        }
        match (component, of, state) {
            (Component::ControlPlane, ..) if !self.has_servers => {}
            (Component::ControlPlane, _, State::Stopped | State::Killed) => self.servers.stop().await,
            (Component::ControlPlane, _, State::Started) => self.servers.start()?,
            (Component::ControlPlane, _, State::Restarted) => {
                self.servers.stop().await;
                self.servers.start()?;
            }
            (Component::Proxy, Some(pod), State::Stopped) => self.stopped.stop(self.netns(pod)?)?,
            (Component::Proxy, Some(pod), State::Started) => self.stopped.start(&self.netns(pod)?)?,
            (Component::Proxy, Some(pod), State::Killed | State::Restarted) => {
                processes::kill_proxy(&self.netns(pod)?)?;
            }
            (Component::Proxy, Some(pod), State::AskedToShutDown) => {
                admin::exchange(&self.netns(pod)?, contract::GRACEFUL_PORT, "POST", "graceful_shutdown").await?;
            }
            (Component::Webhook, _, State::Stopped) => install::scale(&self.cluster, &self.pods, 0, READY).await?,
            (Component::Webhook, _, State::Started) => {
                install::scale(&self.cluster, &self.pods, install::replicas()?, READY).await?;
                reachable(&self.lab, &self.cluster).await?;
            }
            (Component::CniPlugin, _, State::Removed | State::Deleted) => self.cni().remove().await?,
            (Component::CniPlugin, _, State::Installed) => self.cni().install(settings).await?,
            (Component::CniPlugin, _, State::Stopped) => self.cni().stop().await?,
            (Component::CniPlugin, _, State::Started) => {
                self.cni().repossess(settings).await?;
                self.cni().start().await?;
            }
            (Component::CniPlugin, _, State::Restarted) => self.cni().roll().await?,
            (Component::CniPlugin, _, State::Killed | State::ForceKilled) => self.cni().kill().await?,
            (Component::CniPlugin, _, State::WithoutCredentials) => self.cni().dispossess().await?,
            (Component::Node, _, State::Restarted) => {
                for node in self.lab.nodes() {
                    self.lab.restart_node(&node.name, self.primary).await?;
                }
            }
            (Component::MeshGateway, _, State::Stopped) => self.gateways_here().scale(0).await?,
            (Component::MeshGateway, _, State::Started) => self.gateways_here().scale(1).await?,
            (Component::MeshGateway, _, State::Restarted | State::Deleted) => {
                self.gateways_here().replace(None).await?
            }
            (Component::MeshGateway, _, State::Killed | State::ForceKilled) => {
                self.gateways_here().replace(Some(0)).await?;
            }
            (component, _, state) => bail!("have the {component} {state}: this bed does not know how"),
        }
        Ok(())
    }

    async fn run_plugins(&self, pod: &PodRef, verb: &str) -> Result<()> {
        self.lab.run_plugins(&pod.namespace, &pod.name, verb).await
    }

    async fn reconfigure(&self, settings: &Settings) -> Result<()> {
        // `global.dualStack.enabled` changes them too
        if settings.families()? != self.families {
            bail!("change the address families of a running mesh");
        }
        forward(&self.lab, settings, self.servers.dns())?;
        match settings.is_cni()? {
            true => self.cni().install(settings).await?,
            false => self.cni().remove().await?,
        }
        let servers = self.servers.address();
        let home = install::Home { servers: &servers, partition: self.partition.as_deref() };
        install::reconfigure(&self.cluster, &self.pods, settings, home, READY).await?;
        reachable(&self.lab, &self.cluster).await
    }

    fn chained_plugins(&self) -> Result<Vec<String>> {
        let node = self.lab.nodes().first().context("find a node")?;
        cni::chain(&self.lab.node_root(&node.name))
    }

    fn join_line(&self, pod: &PodRef) -> String {
        let Ok(netns) = self.netns(pod) else { return format!("{} has no network any more", pod.host()) };
        format!(
            "nsenter --user --preserve-credentials --mount --target {} nsenter --net={}",
            self.outer_pid,
            netns.proc_path().display()
        )
    }

    async fn stop(&self) {
        if self.has_servers {
            self.servers.mesh().stop();
        }
        self.lab.stop().await;
        // what is left is on a file system that goes with the sandbox
        let _ = std::fs::remove_dir_all(&self.work);
    }
}
