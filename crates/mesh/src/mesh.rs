//! The control plane as a value: started with its sockets, asked and changed while it runs, stopped.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::abroad::{self, Abroad, Dial, Federation, FederationSecret};
use crate::acl::{AclOptions, Acls, SelectorError};
use crate::ca::{Authority, CaError, Leaf, Validity, self_signed};
use crate::cluster::{self, Change, Told};
use crate::feed::Rejected;
use crate::intentions::Intention;
use crate::kept::{self, Keeper, Kept, KeptError};
use crate::names::Names;
use crate::peering::{self, Accepted, Manager};
use crate::query::Queries;
use crate::serve::{self, Gate, Shared};
use crate::vip::VirtualIps;
use crate::world::{Problem, World};

/// How often the age of certificates is looked at.
const RENEW_EVERY: Duration = Duration::from_secs(3600);

/// What a [`Mesh`] is made of. The sockets are non-blocking.
pub struct MeshOptions {
    /// The Kubernetes clusters that the datacenter extends over, at least one. They are asked for Pods, Services, EndpointSlices
    /// and the resources of group `consul.hashicorp.com`.
    pub clusters: Vec<kube::Client>,
    /// Consul's HTTP API (8500).
    pub http: TcpListener,
    /// The proxies' configuration (8502).
    pub feed: TcpListener,
    /// Consul DNS (8600).
    pub dns_udp: UdpSocket,
    /// Consul DNS (8600).
    pub dns_tcp: TcpListener,
    /// Name of the datacenter: `dc1`.
    pub datacenter: String,
    /// What happens where no intention says otherwise.
    pub default_intention: Intention,
    /// Who may ask for what; `None` is everybody for everything.
    pub acls: Option<AclOptions>,
    /// Where the root and the virtual addresses are kept for the next control plane; `None` forgets them.
    pub data_dir: Option<PathBuf>,
    /// The other datacenters, if there are any.
    pub federation: Option<Federation>,
    /// How the servers reach those of other meshes from where they are; without it there are no peerings.
    pub dial: Option<Arc<dyn Dial>>,
    /// Edits what proxies get; for saboteurs. `None` in every honest run.
    pub tamper: Option<Arc<dyn EnvoyTamper>>,
}

/// Edits a proxy's Envoy configuration on its way out.
pub trait EnvoyTamper: Send + Sync {
    /// `resources` is an object of five objects, `listeners`, `clusters`, `endpoints`, `routes`, `secrets`: each maps
    /// names to complete xDS resources with their `@type`.
    fn edit(&self, proxy_id: &str, resources: &mut Value);
}

/// Why the control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root certificate could not be made.
    #[error("start the certificate authority")]
    Ca(#[from] CaError),
    /// What an earlier control plane kept cannot be used, or nothing can be kept.
    #[error("use the data directory")]
    Kept(#[from] KeptError),
    /// The selector of the ACLs' binding rule cannot be read.
    #[error("read the selector of the binding rule")]
    Selector(#[from] SelectorError),
    /// A socket is not usable.
    #[error("serve {what} on the socket that was given")]
    Socket {
        /// Which of the sockets.
        what: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// A running control plane. Dropping it stops it.
pub struct Mesh {
    shared: Arc<Shared>,
    changes: mpsc::UnboundedSender<Told>,
    gate: Gate,
    tasks: TaskTracker,
    /// Names of the other datacenters.
    others: Vec<Arc<str>>,
}

impl Mesh {
    /// Starts to follow the cluster and to serve; returns at once. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`Error::Ca`] when no root can be made, [`Error::Kept`] when the data directory cannot be used, [`Error::Socket`] when a
    /// socket is not a listening, non-blocking one.
    pub fn start(options: MeshOptions) -> Result<Self, Error> {
        let MeshOptions {
            clusters,
            http,
            feed,
            dns_udp,
            dns_tcp,
            datacenter,
            default_intention,
            acls,
            data_dir,
            federation,
            dial,
            tamper,
        } = options;
        let kept = data_dir.as_deref().map(kept::read).transpose()?.flatten();
        let kept = match (kept, federation.as_ref().and_then(|federation| federation.secret.clone())) {
            (Some(kept), Some(FederationSecret { trust_domain, root })) => Some(Kept { trust_domain, root, ..kept }),
            (None, Some(FederationSecret { trust_domain, root })) => {
                Some(Kept { trust_domain, root, vips: VirtualIps::default(), queries: Queries::default() })
            }
            (kept, None) => kept,
        };
        let trust_domain = kept.as_ref().map_or_else(|| format!("{}.consul", uuid()), |k| k.trust_domain.clone());
        let names = Names::new(&datacenter, &trust_domain);
        let (authority, vips, queries) = match kept {
            Some(kept) => (Authority::resume(names.clone(), kept.root)?, kept.vips, kept.queries),
            None => (Authority::new(names.clone())?, VirtualIps::default(), Queries::default()),
        };
        let acls = acls.map(|acls| Acls::start(acls, clusters.clone(), data_dir.clone())).transpose()?;
        let keep = |directory: PathBuf| {
            let (root, vips, queries) = (authority.root().clone(), vips.clone(), queries.clone());
            Keeper::start(&directory, Kept { trust_domain, root, vips, queries })
        };
        let keeper = data_dir.map(keep).transpose()?;
        let foreign = Authority::new(Names::new(&datacenter, &format!("{}.consul", uuid())))?;
        let first = World {
            index: first_index(),
            clusters: clusters.len(),
            vips: Arc::new(vips),
            queries: Arc::new(queries),
            ..World::empty(names, default_intention)
        };
        let (worlds, world) = watch::channel(Arc::new(first));
        let (changes, incoming) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(world, authority, foreign, tamper).with_acls(acls));
        let gate = Gate::default();
        let tasks = TaskTracker::new();
        let cancel = gate.stopped();
        if shared.acls().is_some() {
            tasks.spawn(cancel.clone().run_until_cancelled_owned(sweep(shared.clone())));
        }
        for (place, client) in clusters.iter().enumerate() {
            let follow = cluster::follow(place, client.clone(), changes.clone());
            tasks.spawn(cancel.clone().run_until_cancelled_owned(follow));
        }
        let primary = federation.as_ref().map(|federation| Arc::from(federation.primary.as_str()));
        let primary = primary.filter(|name: &Arc<str>| **name != datacenter);
        let mut others: Vec<Arc<str>> = Vec::new();
        if let Some(Federation { others: all, dial, .. }) = federation {
            for (name, server) in all {
                let name: Arc<str> = name.into();
                others.push(name.clone());
                let follow = abroad::follow(name, server, dial.clone(), changes.clone());
                tasks.spawn(cancel.clone().run_until_cancelled_owned(follow));
            }
        }
        let (peerings, wanted) = watch::channel(Vec::new());
        let accepted = Arc::new(Accepted::default());
        if let (Some(dial), Some(client)) = (dial, clusters.first()) {
            let address = feed.local_addr().map_err(|source| Error::Socket { what: "the feed", source })?;
            let manager = Manager {
                client: client.clone(),
                accepted: accepted.clone(),
                changes: changes.clone(),
                worlds: shared.worlds(),
                roots: shared.authority.root_pem(),
                address: address.to_string(),
                dial,
            };
            tasks.spawn(cancel.clone().run_until_cancelled_owned(manager.run(wanted)));
        }
        let reconcile = cluster::reconcile(clusters, primary, peerings, incoming, worlds, keeper);
        tasks.spawn(cancel.run_until_cancelled_owned(reconcile));
        tasks.spawn(gate.stopped().run_until_cancelled_owned(renew(changes.clone())));
        let socket = |what| move |source| Error::Socket { what, source };
        let api = serve::http::router(shared.clone());
        let api = api.merge(serve::http::query::router(shared.clone(), changes.clone()));
        let api = api.merge(serve::acl::router(shared.clone()));
        serve::tcp(http, api, &gate, &tasks).map_err(socket("the HTTP API"))?;
        let proxies = serve::feed::router(shared.clone()).merge(serve::rejected::router(shared.clone()));
        let proxies = proxies.merge(serve::acl::router(shared.clone()));
        let proxies = proxies.merge(serve::abroad::router(shared.clone()));
        let proxies = proxies.merge(serve::peering::router(shared.clone(), accepted, changes.clone()));
        serve::tcp(feed, proxies, &gate, &tasks).map_err(socket("the feed"))?;
        serve::dns::start(dns_udp, dns_tcp, shared.clone(), &gate, &tasks).map_err(socket("DNS"))?;
        Ok(Self { shared, changes, gate, tasks, others })
    }

    /// Changes what happens where no intention says otherwise.
    pub fn set_default_intention(&self, intention: Intention) {
        self.send(Change::Default(intention));
    }

    /// `<uuid>.consul`.
    #[must_use]
    pub fn trust_domain(&self) -> String {
        self.shared.world().names.trust_domain().to_owned()
    }

    /// The secret of the token with which operators may do everything; `None` where there are no ACLs.
    #[must_use]
    pub fn bootstrap_token(&self) -> Option<String> {
        self.shared.acls().map(Acls::bootstrap_secret)
    }

    /// What other datacenters must share to be in one federation with this one as the primary.
    #[must_use]
    pub fn federation_secret(&self) -> FederationSecret {
        FederationSecret { trust_domain: self.trust_domain(), root: self.shared.authority.root().clone() }
    }

    /// A certificate for a service. `service_namespace` is its Kubernetes namespace and changes nothing: in Consul's
    /// community edition every service is in namespace `default`.
    #[must_use]
    pub fn issue(&self, service_namespace: &str, service: &str) -> Leaf {
        let _ = service_namespace;
        certain(self.shared.authority.issue(service, Validity::Now))
    }

    /// As [`Mesh::issue`], and expired an hour ago.
    #[must_use]
    pub fn issue_expired(&self, service_namespace: &str, service: &str) -> Leaf {
        let _ = service_namespace;
        certain(self.shared.authority.issue(service, Validity::Expired))
    }

    /// A certificate that claims to be the service and is signed by itself only.
    #[must_use]
    pub fn issue_self_signed(&self, service: &str) -> Leaf {
        certain(self_signed(&self.shared.world().names, service))
    }

    /// A certificate of a service of the same name in another trust domain, signed by that domain's root.
    #[must_use]
    pub fn issue_foreign(&self, service: &str) -> Leaf {
        certain(self.shared.foreign.issue(service, Validity::Now))
    }

    /// The root certificates, PEM.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        self.shared.authority.root_pem()
    }

    /// Gives every proxy a new certificate, now.
    pub fn rotate_certificates(&self) {
        self.shared.forget_leaves();
        self.send(Change::Touch);
    }

    /// The virtual address 240.x of a service; `None` while nothing refers to it. The namespace changes nothing.
    #[must_use]
    pub fn virtual_ip(&self, service_namespace: &str, service: &str) -> Option<IpAddr> {
        let _ = service_namespace;
        self.shared.world().vips.get(service).map(IpAddr::from)
    }

    /// The Envoy configuration that a proxy gets, private keys left out; `None` when it is not registered.
    #[must_use]
    pub fn proxy_config(&self, proxy_id: &str) -> Option<Value> {
        let mut resources = self.shared.render(None, proxy_id)?;
        if let Some(secrets) = resources.get_mut("secrets").and_then(Value::as_object_mut) {
            for certificate in secrets.values_mut().filter_map(|s| s.get_mut("tls_certificate")) {
                certificate["private_key"] = Value::from("[left out]");
            }
        }
        Some(resources)
    }

    /// What proxies refused of their configuration, with the proxies' ids. An Envoy that refuses an update goes on with the
    /// one before, so nothing else shows it.
    #[must_use]
    pub fn rejected(&self) -> Vec<(String, Rejected)> {
        self.shared.rejected()
    }

    /// What the control plane was asked for and does not do, in the order of the objects' names.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.shared.world().problems.to_vec()
    }

    /// Whether this control plane works with all that another one has to tell it: as a datacenter of its federation, or as a peer
    /// that has told it anything. One that is neither has nothing to tell.
    #[must_use]
    pub fn is_abreast_of(&self, other: &Self) -> bool {
        let (here, there) = (self.shared.world(), other.shared.world());
        if self.others.iter().any(|name| **name == *there.names.datacenter()) {
            return here.abroad.get(there.names.datacenter()).is_some_and(|told| **told == Abroad::of(&there));
        }
        let mut from_there = here.peers.values().filter(|told| told.trust_domain == there.names.trust_domain());
        from_there.all(|told| **told == peering::Told::of(&there, &told.your_name, &other.roots_pem()))
    }

    /// Stops serving, as when the servers are down: connections are dropped, new ones closed, datagrams lost. What
    /// happens in the cluster meanwhile is still followed.
    pub fn pause(&self) {
        self.gate.close();
    }

    /// Serves again.
    pub fn resume(&self) {
        self.gate.open();
    }

    /// Stops everything and closes the sockets; returns at once.
    pub fn stop(&self) {
        self.gate.stop();
        self.tasks.close();
    }

    /// Returns when everything has stopped, after [`Mesh::stop`]: the sockets' addresses are free.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }

    fn send(&self, change: Change) {
        // the receiver is gone only after `stop`, when changes no longer matter
        let _ = self.changes.send((0, change));
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Has every proxy looked at now and then, so that certificates which are half through their life are replaced.
async fn renew(changes: mpsc::UnboundedSender<Told>) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        // as in `send`: nobody receives after `stop`
        let _ = changes.send((0, Change::Touch));
    }
}

/// Has the tokens of Pods that are gone taken out of force, world by world.
async fn sweep(shared: Arc<Shared>) {
    let mut worlds = shared.worlds();
    while worlds.changed().await.is_ok() {
        let world = worlds.borrow_and_update().clone();
        if let Some(acls) = shared.acls() {
            acls.sweep(&world.catalog);
        }
    }
}

/// The authority has signed its own root with the same algorithm, so only a service name that no URI can hold fails.
fn certain(leaf: Result<Leaf, CaError>) -> Leaf {
    leaf.expect("a service name is ASCII, as Kubernetes demands")
}

/// Higher than any index of servers before these: there is no world in less than a millisecond. Who knows one of theirs is told
/// everything, and not only what changed since a world of ours that has its number.
fn first_index() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default().max(1)
}

pub(crate) fn uuid() -> String {
    let n: u128 = rand::random();
    let hex = format!("{n:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
