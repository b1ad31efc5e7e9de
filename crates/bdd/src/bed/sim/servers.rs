//! The mesh's servers, which can be stopped and started again as those of a cluster can.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use mesh::feed::Rejected;
use mesh::{AclOptions, Federation, FederationSecret, Intention, Mesh, MeshOptions, Partition, PartitionOptions};
use netns::NetNs;
use sim::Lab;
use tokio::net::TcpStream;

use crate::selftest::Saboteur;
use crate::settings::Settings;
use crate::vocabulary::parameters::Verdict;

/// The port of Consul's DNS.
const DNS: u16 = 8600;
/// The port at which proxies and other servers are told what these know.
const FEED: u16 = 8502;
/// How long a socket of earlier servers may be held at most.
const HELD: Duration = Duration::from_secs(1);

/// Where servers are, and whose they are.
pub(super) struct Site {
    netns: NetNs,
    address: IpAddr,
    clusters: Clusters,
    datacenter: String,
    data_dir: PathBuf,
    federated: Option<Federated>,
}

/// The clusters of a datacenter.
pub(super) struct Clusters {
    /// Those of the default partition.
    pub(super) default: Vec<kube::Client>,
    /// Those of others, by their names; `None` where there are no partitions.
    pub(super) partitions: Option<Vec<(String, Vec<kube::Client>)>>,
}

/// The federation that a datacenter belongs to.
#[derive(Clone)]
pub(super) struct Federated {
    /// What the primary has others share; `None` in the primary itself.
    pub(super) secret: Option<FederationSecret>,
    /// Name of the primary.
    pub(super) primary: String,
    /// The others, each with the address of its feed.
    pub(super) others: Vec<(String, SocketAddr)>,
}

impl Site {
    /// Where the lab's control plane is, with `data_dir` as the servers' own.
    pub(super) fn of(
        lab: &Lab,
        clusters: Clusters,
        datacenter: String,
        data_dir: PathBuf,
        federated: Option<Federated>,
    ) -> Result<Self> {
        let address = Self::feed(lab)?.ip();
        Ok(Self { netns: lab.control_plane().netns.clone(), address, clusters, datacenter, data_dir, federated })
    }

    /// Where those of a lab tell proxies, and other servers, what they know.
    pub(super) fn feed(lab: &Lab) -> Result<SocketAddr> {
        let address = lab.control_plane().addresses.first().context("find the address of the mesh's servers")?;
        Ok(SocketAddr::new(*address, FEED))
    }
}

/// The servers of one datacenter. What they keep is on disk, so that those which start later go on with it.
pub(super) struct Servers {
    site: Site,
    acls: Option<AclOptions>,
    saboteur: Option<Saboteur>,
    state: Mutex<State>,
}

struct State {
    mesh: Arc<Mesh>,
    is_running: bool,
    default_intention: Intention,
    /// What proxies refused of servers that are stopped now.
    rejected: Vec<(String, Rejected)>,
}

/// Opens the servers' own connections from where they are.
struct From(NetNs);

impl mesh::Dial for From {
    fn dial(&self, to: SocketAddr) -> BoxFuture<'static, std::io::Result<TcpStream>> {
        let netns = self.0.clone();
        async move { sim::Dial::dial(&netns, to).await }.boxed()
    }
}

impl Servers {
    /// Starts them.
    pub(super) fn new(site: Site, settings: &Settings, saboteur: Option<Saboteur>) -> Result<Self> {
        let default_intention = intention(settings.intention_by_default()?);
        let acls = settings.acls()?;
        let mesh = launch(&site, default_intention, acls.clone(), saboteur)?;
        let state = State { mesh: Arc::new(mesh), is_running: true, default_intention, rejected: Vec::new() };
        Ok(Self { site, acls, saboteur, state: Mutex::new(state) })
    }

    /// Those that run, or ran last.
    pub(super) fn mesh(&self) -> Arc<Mesh> {
        Arc::clone(&self.lock().mesh)
    }

    /// The admin partition of this name.
    pub(super) fn partition(&self, name: &str) -> Result<Partition> {
        self.mesh().partition(name).cloned().with_context(|| format!("find the partition {name}"))
    }

    /// Whether these work with all that the others have to tell them. Those that are stopped tell nothing.
    pub(super) fn are_abreast_of(&self, others: &Self) -> bool {
        let (here, there) = (self.mesh(), others.mesh());
        !others.lock().is_running || here.is_abreast_of(&there)
    }

    /// Where they are.
    pub(super) fn address(&self) -> String {
        self.site.address.to_string()
    }

    /// Where they answer DNS.
    pub(super) fn dns(&self) -> SocketAddr {
        SocketAddr::new(self.site.address, DNS)
    }

    pub(super) fn default_intention(&self, verdict: Verdict) {
        let mut state = self.lock();
        state.default_intention = intention(verdict);
        state.mesh.set_default_intention(state.default_intention);
    }

    /// What Envoys refused: the proxy's id, and what it was.
    pub(super) fn rejected(&self) -> Vec<(String, String)> {
        let state = self.lock();
        let all = state.rejected.iter().cloned().chain(state.mesh.rejected());
        all.map(|(proxy, Rejected { section, name })| (proxy, format!("{section} {name}").trim().to_owned())).collect()
    }

    /// Stops them; returns when their sockets are closed.
    pub(super) async fn stop(&self) {
        let mesh = self.mesh();
        mesh.stop();
        mesh.stopped().await;
        self.lock().is_running = false;
    }

    /// Starts others in their place, unless they run.
    pub(super) fn start(&self) -> Result<()> {
        let mut state = self.lock();
        if state.is_running {
            return Ok(());
        }
        let mesh = launch(&self.site, state.default_intention, self.acls.clone(), self.saboteur)?;
        let refused = state.mesh.rejected();
        state.rejected.extend(refused);
        state.mesh = Arc::new(mesh);
        state.is_running = true;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Binds a socket that servers before these may have had: a program that is being started at that moment has all sockets of
/// this process until it runs, and nobody tells when that is.
fn once_free<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let start = Instant::now();
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < HELD => {
                std::thread::sleep(Duration::from_millis(2));
            }
            bound => return bound,
        }
    }
}

fn launch(
    site: &Site,
    default_intention: Intention,
    acls: Option<AclOptions>,
    saboteur: Option<Saboteur>,
) -> Result<Mesh> {
    let Site { netns, address, clusters, datacenter, data_dir, federated } = site;
    let tcp = |port| {
        let socket = SocketAddr::new(*address, port);
        once_free(|| netns.tcp_listen(socket)).with_context(|| format!("listen on {socket} for the mesh's servers"))
    };
    let federation = federated.clone().map(|Federated { secret, primary, others }| Federation {
        secret,
        primary,
        others,
        dial: Arc::new(From(netns.clone())),
    });
    let options = MeshOptions {
        clusters: clusters.default.clone(),
        http: tcp(8500)?,
        feed: tcp(FEED)?,
        dns_udp: once_free(|| netns.udp_bind(SocketAddr::new(*address, DNS)))
            .context("answer DNS for the mesh's servers")?,
        dns_tcp: tcp(DNS)?,
        datacenter: datacenter.clone(),
        partitions: clusters.partitions.as_ref().map(|partitions| {
            let of = |(name, clusters): &(String, Vec<kube::Client>)| PartitionOptions {
                name: name.clone(),
                clusters: clusters.clone(),
            };
            partitions.iter().map(of).collect()
        }),
        default_intention,
        acls,
        data_dir: Some(data_dir.clone()),
        federation,
        dial: Some(Arc::new(From(netns.clone()))),
        tamper: saboteur.and_then(Saboteur::envoy_tamper),
    };
    Mesh::start(options).context("start the mesh's servers")
}

fn intention(verdict: Verdict) -> Intention {
    match verdict {
        Verdict::Allow => Intention::Allow,
        Verdict::Deny => Intention::Deny,
    }
}
