//! One admin partition of the datacenter: what its clusters have, and what is asked about it. Where there are no partitions, there is one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::EnvoyTamper;
use crate::abroad::Dial;
use crate::acl::Acls;
use crate::ca::{Authority, CaError, Leaf, Validity, self_signed};
use crate::cluster::{self, Change, Reconciler, Told};
use crate::config::{Config, Home};
use crate::intentions::Intention;
use crate::kept::Keeper;
use crate::names::Names;
use crate::peering::{Accepted, Manager};
use crate::query::Queries;
use crate::registration::Health;
use crate::serve::{Gate, Shared};
use crate::tenancy::Tenancy;
use crate::vip::VirtualIps;
use crate::world::{Problem, World};

/// How often the age of certificates is looked at.
const RENEW_EVERY: Duration = Duration::from_secs(3600);

/// How long proxies wait for the servers to know everything, before they are told what there is. A cluster that is away must not keep
/// those of another from their configuration.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a partition begins with.
pub(super) struct Plan {
    pub(super) names: Names,
    pub(super) tenancy: Tenancy,
    pub(super) clusters: Vec<kube::Client>,
    pub(super) default_intention: Intention,
    pub(super) vips: VirtualIps,
    pub(super) queries: Queries,
    pub(super) keeper: Option<Keeper>,
    pub(super) authority: Authority,
    pub(super) foreign: Authority,
    /// Name of the datacenter whose resources win, if it is not ours.
    pub(super) primary: Option<Arc<str>>,
    /// Datacenters that are to tell of themselves before proxies are told anything.
    pub(super) awaited: Vec<Arc<str>>,
    pub(super) dial: Option<Arc<dyn Dial>>,
    /// Where the servers are reached by those of peers, `host:port`.
    pub(super) address: String,
    /// Those of the datacenter, which has one partition then.
    pub(super) acls: Option<Acls>,
    pub(super) tamper: Option<Arc<dyn EnvoyTamper>>,
}

/// An admin partition of a running [`Mesh`](super::Mesh).
#[derive(Clone)]
pub struct Partition {
    name: Arc<str>,
    pub(super) shared: Arc<Shared>,
    pub(super) changes: mpsc::UnboundedSender<Told>,
    pub(super) accepted: Arc<Accepted>,
}

impl Partition {
    /// Starts to follow its clusters.
    pub(super) fn start(plan: Plan, gate: &Gate, tasks: &TaskTracker) -> Self {
        let Plan { names, tenancy, clusters, default_intention, vips, queries, keeper, .. } = plan;
        let name: Arc<str> = tenancy.own().into();
        let home = Home { datacenter: names.datacenter().to_owned(), tenancy };
        let first = World {
            index: first_index(),
            clusters: clusters.len(),
            config: Arc::new(Config { home, ..Config::default() }),
            vips: Arc::new(vips),
            queries: Arc::new(queries),
            is_partial: true,
            ..World::empty(names, default_intention)
        };
        let (worlds, world) = watch::channel(Arc::new(first));
        let (changes, incoming) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(world, plan.authority, plan.foreign, plan.tamper).with_acls(plan.acls));
        let cancel = gate.stopped();
        if shared.acls().is_some() {
            tasks.spawn(cancel.clone().run_until_cancelled_owned(sweep(shared.clone())));
        }
        for (place, client) in clusters.iter().enumerate() {
            let follow = cluster::follow(place, client.clone(), changes.clone());
            tasks.spawn(cancel.clone().run_until_cancelled_owned(follow));
        }
        let (peerings, wanted) = watch::channel(Vec::new());
        let accepted = Arc::new(Accepted::default());
        if let (Some(dial), Some(client)) = (plan.dial, clusters.first()) {
            let manager = Manager {
                client: client.clone(),
                accepted: accepted.clone(),
                changes: changes.clone(),
                worlds: shared.worlds(),
                roots: shared.authority.root_pem(),
                address: plan.address,
                dial,
            };
            tasks.spawn(cancel.clone().run_until_cancelled_owned(manager.run(wanted)));
        }
        let reconciler = Reconciler::new(clusters.len(), plan.primary).awaiting(plan.awaited);
        let reconcile = cluster::reconcile(clusters, reconciler, peerings, incoming, worlds, keeper);
        tasks.spawn(cancel.clone().run_until_cancelled_owned(reconcile));
        tasks.spawn(cancel.clone().run_until_cancelled_owned(give_up(changes.clone())));
        tasks.spawn(cancel.run_until_cancelled_owned(renew(changes.clone())));
        Self { name, shared, changes, accepted }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A certificate for a service. `service_namespace` is its Kubernetes namespace and changes nothing: every service is in the
    /// Consul namespace `default`.
    #[must_use]
    pub fn issue(&self, service_namespace: &str, service: &str) -> Leaf {
        let _ = service_namespace;
        certain(self.shared.authority.issue(service, Validity::Now))
    }

    /// As [`Partition::issue`], and expired an hour ago.
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

    /// The server name by which proxies ask for a service. The namespace changes nothing.
    #[must_use]
    pub fn server_name(&self, service_namespace: &str, service: &str) -> String {
        let _ = service_namespace;
        self.shared.world().names.sni(service, None)
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

    /// Whether the service behind a proxy passes its health checks, as far as is known; `None` when it is not registered.
    #[must_use]
    pub fn is_passing(&self, proxy_id: &str) -> Option<bool> {
        let world = self.shared.world();
        world.catalog.proxy(None, proxy_id).map(|instance| instance.health == Health::Passing)
    }

    /// What it was asked for and does not do, in the order of the objects' names.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.shared.world().problems.to_vec()
    }

    pub(super) fn send(&self, change: Change) {
        // the receiver is gone only after the end, when changes no longer matter
        let _ = self.changes.send((0, change));
    }
}

/// Ends the wait for what is not known.
async fn give_up(changes: mpsc::UnboundedSender<Told>) {
    tokio::time::sleep(PATIENCE).await;
    // as in `send`: nobody receives after the end
    let _ = changes.send((0, Change::Enough));
}

/// Has every proxy looked at now and then, so that certificates which are half through their life are replaced.
async fn renew(changes: mpsc::UnboundedSender<Told>) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        // as in `send`: nobody receives after the end
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
