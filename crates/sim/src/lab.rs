//! A whole cluster: network, API server, controllers, kubelets, service proxy and DNS, started and stopped as one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Context;
use futures::future::{join_all, try_join_all};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};

use crate::api::{ApiOptions, ApiServer};
use crate::controllers::{self, ControllerOptions, Controllers};
use crate::kubelet::{Kubelet, KubeletApi, KubeletOptions};
use crate::net::dns::{self, Dns};
use crate::net::link::Impaired;
use crate::net::service_proxy::{self, ServiceProxy};
use crate::net::{Network, Plan};
use crate::{
    AgentError, ExecRequest, ExecSession, Impairment, Join, LabOptions, NodeAgent, NodeInfo, Primary, ProbeOutcome,
    SandboxInfo, Station,
};

mod objects;

/// The API server's port on the first node.
const API_PORT: u16 = 6443;

/// A running cluster.
///
/// End it with [`Lab::stop`]. A lab that is merely dropped leaves its containers running until the sandbox ends.
pub struct Lab {
    plan: Plan,
    network: Arc<Network>,
    api: Arc<ApiServer>,
    client: Client,
    controllers: Controllers,
    kubelets: BTreeMap<String, Arc<Kubelet>>,
    proxy: ServiceProxy,
    dns: Dns,
    control_plane: Station,
    scratch: PathBuf,
    impaired: Mutex<Vec<Impaired>>,
}

impl Lab {
    /// Starts a cluster and returns when its nodes are ready and its DNS can be reached.
    ///
    /// # Errors
    /// When a part does not start; the message says which. What was started before is ended.
    pub async fn start(options: LabOptions) -> anyhow::Result<Self> {
        let name = options.name.clone();
        Self::assemble(options).await.with_context(|| format!("start lab {name}"))
    }

    async fn assemble(options: LabOptions) -> anyhow::Result<Self> {
        for directory in [&options.scratch, &options.artifacts] {
            std::fs::create_dir_all(directory).with_context(|| format!("make directory {}", directory.display()))?;
        }
        let plan = Plan::new(options.families, options.ranges);
        let network = Arc::new(Network::build(&options).await.context("build the network")?);
        let (control_plane, dns_addresses) = (plan.control_plane(), plan.cluster_dns());
        let stations = futures::future::try_join(
            network.station("control-plane", &control_plane),
            network.station("cluster-dns", &dns_addresses),
        );
        let (stations, api) = futures::future::join(stations, api_server(&options, &network, plan)).await;
        let (control_plane, dns_station) = stations.context("build the network")?;
        let api = Arc::new(api?);
        let internal = api.client();

        objects::create(&internal, &network, plan, &dns_station).await?;
        let controllers = controllers::start(
            internal.clone(),
            ControllerOptions {
                nodes: network.nodes().iter().map(|node| node.name.clone()).collect(),
                families: options.families,
            },
        );
        let dns = dns::start(&internal, &dns_station).context("start the cluster's DNS")?;
        let proxy = service_proxy::start(&internal, network.nodes());
        let kubelets = kubelets(&options, &network, &api, plan).await?;
        proxy.synced().await;
        Ok(Self {
            plan,
            client: api.https_client().context("make a client of the API server")?,
            network,
            api,
            controllers,
            kubelets,
            proxy,
            dns,
            control_plane,
            scratch: options.scratch,
            impaired: Mutex::default(),
        })
    }

    /// A client of the cluster's administrator, over HTTPS as any client has it.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client of the cluster's administrator without sockets, for parts of the lab.
    #[must_use]
    pub fn internal_client(&self) -> Client {
        self.api.client()
    }

    /// The kubeconfig file, for programs in the sandbox.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        self.api.kubeconfig()
    }

    /// The API server, for what has no client: tokens, the authority's certificate.
    #[must_use]
    pub fn api(&self) -> &ApiServer {
        &self.api
    }

    /// The nodes, `node-0` first.
    #[must_use]
    pub fn nodes(&self) -> &[NodeInfo] {
        self.network.nodes()
    }

    /// The host of the mesh's servers.
    #[must_use]
    pub fn control_plane(&self) -> &Station {
        &self.control_plane
    }

    /// What is a node's own of its file system: `etc/cni/net.d` and `opt/cni/bin` are in there.
    #[must_use]
    pub fn node_root(&self, node: &str) -> PathBuf {
        crate::kubelet::host_root(&self.scratch, node)
    }

    /// Cuts a node's power and brings it up again. Its Pods are started anew, in networks of their own; `/run` is empty.
    ///
    /// # Errors
    /// There is no such node, or its files cannot be changed.
    pub async fn restart_node(&self, node: &str, primary: Primary) -> anyhow::Result<()> {
        let kubelet = self.kubelets.get(node).with_context(|| format!("find node {node}"))?;
        kubelet.restart(primary).await.with_context(|| format!("restart node {node}"))
    }

    /// Has the runtime run a CNI verb for a Pod once more, with all plugins of its network but the lab's own: `ADD`, `CHECK`, `DEL`
    /// or `STATUS`.
    ///
    /// # Errors
    /// When the Pod has no network, or a plugin fails.
    pub async fn run_plugins(&self, namespace: &str, pod: &str, verb: &str) -> anyhow::Result<()> {
        self.kubelet_of(namespace, pod).await?.run_plugins(namespace, pod, verb).await
    }

    /// Adds a host that is no Pod.
    ///
    /// # Errors
    /// When the name or an address is taken, or the kernel refuses.
    pub async fn station(&self, name: &str, addresses: &[IpAddr]) -> Result<Station, crate::net::Error> {
        self.network.station(name, addresses).await
    }

    /// Removes a host; its addresses become unreachable at once.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_station(&self, name: &str) -> Result<(), crate::net::Error> {
        self.network.remove_station(name).await
    }

    /// Joins the networks of two labs, for as long as both live.
    ///
    /// # Errors
    /// When they are joined already, their address families differ, a network that one is to reach of the other overlaps one
    /// that it knows already, or the kernel refuses.
    pub async fn join(&self, other: &Self, join: Join) -> anyhow::Result<()> {
        Ok(self.network.join(&other.network, join).await?)
    }

    /// Gives a name outside the cluster's zone addresses (none: takes it away).
    pub fn set_host(&self, name: &str, addresses: &[IpAddr]) {
        self.dns.set_host(name, addresses);
    }

    /// Lets another DNS server answer for a domain, as a stub domain of CoreDNS does.
    pub fn set_stub_domain(&self, domain: &str, server: Option<SocketAddr>) {
        self.dns.set_stub_domain(domain, server);
    }

    /// A Pod's network, once it has one. Pods on the host's network have none.
    #[must_use]
    pub fn sandbox(&self, namespace: &str, pod: &str) -> Option<SandboxInfo> {
        self.kubelets.values().find_map(|kubelet| kubelet.sandbox(namespace, pod))
    }

    /// Impairs the link of a Pod, as long as the lab lives.
    ///
    /// # Errors
    /// The Pod has no network of its own, or the kernel cannot do it.
    pub async fn impair(&self, namespace: &str, pod: &str, impairment: Impairment) -> anyhow::Result<()> {
        let sandbox = self.sandbox(namespace, pod).with_context(|| format!("find the network of {namespace}/{pod}"))?;
        let impaired = crate::net::link::impair(&sandbox, impairment)
            .await
            .with_context(|| format!("impair the link of {namespace}/{pod}"))?;
        self.impaired.lock().unwrap_or_else(PoisonError::into_inner).push(impaired);
        Ok(())
    }

    /// Runs every probe that a Pod declares once, now.
    ///
    /// # Errors
    /// When the Pod does not run.
    pub async fn probe_now(&self, namespace: &str, pod: &str) -> anyhow::Result<Vec<ProbeOutcome>> {
        self.kubelet_of(namespace, pod).await?.probe_now(namespace, pod).await
    }

    /// Runs a command in a container, without going through the API server.
    ///
    /// # Errors
    /// When the Pod or container does not run, or the command cannot be started.
    pub async fn exec(&self, request: ExecRequest) -> Result<ExecSession, AgentError> {
        self.kubelet_of(&request.namespace, &request.pod).await?.exec(request).await
    }

    /// Where Services get their addresses, the primary family first.
    #[must_use]
    pub fn service_cidrs(&self) -> Vec<IpNet> {
        self.plan.service_cidrs()
    }

    /// Where Pods get their addresses, the primary family first.
    #[must_use]
    pub fn pod_cidrs(&self) -> Vec<IpNet> {
        self.plan.all_pod_cidrs()
    }

    /// The cluster's DNS as Pods reach it: the ClusterIP of `kube-dns`.
    #[must_use]
    pub fn cluster_dns(&self) -> IpAddr {
        first(self.plan.dns_service())
    }

    /// Kills every container, ends every part, and removes the lab's scratch directory. Namespaces go with the last
    /// handle on them.
    pub async fn stop(&self) {
        let kubelets = join_all(self.kubelets.values().map(|kubelet| kubelet.stop()));
        tokio::join!(self.controllers.stop(), kubelets, self.proxy.stop(), self.dns.stop());
        self.api.stop().await;
        let scratch = self.scratch.clone();
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(scratch)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(scratch = %self.scratch.display(), %error, "removing a lab's scratch directory");
        }
    }

    async fn kubelet_of(&self, namespace: &str, pod: &str) -> Result<&Arc<Kubelet>, AgentError> {
        let found = self.kubelets.values().find(|kubelet| kubelet.sandbox(namespace, pod).is_some());
        if let Some(kubelet) = found {
            return Ok(kubelet);
        }
        // It may be on the host's network.
        let missing = || AgentError::NotFound(format!("pod {namespace}/{pod}"));
        let pods: Api<Pod> = Api::namespaced(self.internal_client(), namespace);
        let object = pods.get_opt(pod).await.map_err(std::io::Error::other)?.ok_or_else(missing)?;
        let node = object.spec.and_then(|spec| spec.node_name).ok_or_else(missing)?;
        self.kubelets.get(&node).ok_or_else(missing)
    }
}

async fn api_server(options: &LabOptions, network: &Network, plan: Plan) -> anyhow::Result<ApiServer> {
    let node = network.nodes().first().context("find the first node")?;
    let local = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on the loopback interface")?;
    let mut advertise = vec![local.local_addr().context("listen on the loopback interface")?];
    let mut listeners = vec![local];
    for address in &node.addresses {
        let address = SocketAddr::new(*address, API_PORT);
        listeners.push(node.netns.tcp_listen(address).with_context(|| format!("listen on {address}"))?);
        advertise.push(address);
    }
    ApiServer::start(ApiOptions {
        artifacts: options.artifacts.clone(),
        listeners,
        advertise,
        dial: Arc::new(node.netns.clone()),
        tamper: options.tamper.clone(),
        service_cidrs: plan.service_cidrs(),
    })
    .await
    .context("start the API server")
}

async fn kubelets(
    options: &LabOptions,
    network: &Arc<Network>,
    api: &Arc<ApiServer>,
    plan: Plan,
) -> anyhow::Result<BTreeMap<String, Arc<Kubelet>>> {
    let started = network.nodes().iter().map(|node| async move {
        // The server holds the kubelet for exec and logs, so the kubelet must not hold the server.
        let server: Weak<ApiServer> = Arc::downgrade(api);
        let kubelet = Kubelet::start(KubeletOptions {
            node: node.clone(),
            client: api.client_as(&format!("system:node:{}", node.name)),
            network: Arc::clone(network),
            api: KubeletApi {
                ca_pem: api.ca_pem().to_owned(),
                server: SocketAddr::new(first(plan.api_service()), 443),
                issue_token: Arc::new(move |namespace, account, pod, uid| {
                    let server = server.upgrade();
                    server.map(|api| api.issue_token(namespace, account, Some((pod, uid)))).unwrap_or_default()
                }),
            },
            images: options.images.clone(),
            observer: Arc::clone(&options.observer),
            scratch: options.scratch.clone(),
            artifacts: options.artifacts.clone(),
            tempo: options.tempo,
            lacks: options.lacks.clone(),
            cluster_dns: first(plan.dns_service()),
            hands_over_annotations: options.hands_over_annotations,
        })
        .await?;
        api.register_agent(&node.name, Arc::clone(&kubelet) as Arc<dyn NodeAgent>);
        anyhow::Ok((node.name.clone(), kubelet))
    });
    Ok(try_join_all(started).await?.into_iter().collect())
}

/// A plan has an address of every kind in at least one family.
fn first(addresses: Vec<IpAddr>) -> IpAddr {
    addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}
