//! Turns changes into worlds: gathers what happened within a moment, registers, accepts configuration, publishes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::ApiResource;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};

use super::objects::{Cluster, Entry, Unseen};
use super::{Change, status};
use crate::abroad::Abroad;
use crate::cluster;
use crate::config::accept::{Accepted, Resource, Verdict, without_effect};
use crate::kept::Keeper;
use crate::partition::{self, Partitions};
use crate::peering::{self, Peers, Told, Wanted};
use crate::query::{self, Queries, Refused, Request};
use crate::world::{Problem, World};

/// Who asked for a change of a query.
type Asker = oneshot::Sender<Result<(), Refused>>;

/// Changes that come within this time become one world.
const GATHER: Duration = Duration::from_millis(1);

/// Publishes a world for every burst of changes in these clusters, as the reconciler makes it, until the senders are gone.
pub(crate) async fn reconcile(
    clusters: Vec<Client>,
    mut reconciler: Reconciler,
    peerings: watch::Sender<Vec<Wanted>>,
    mut changes: UnboundedReceiver<cluster::Told>,
    worlds: watch::Sender<Arc<World>>,
    mut keeper: Option<Keeper>,
) {
    let status: Vec<status::Writer> = clusters.into_iter().map(status::Writer::start).collect();
    while let Some(first) = changes.recv().await {
        tokio::time::sleep(GATHER).await;
        let mut next = Some(first);
        while let Some(change) = next {
            reconciler.apply(change);
            next = changes.try_recv().ok();
        }
        let before = worlds.borrow().clone();
        let world = reconciler.after(&before, |place, api, resource, verdict| {
            if let Some(status) = status.get(place) {
                status.say(api, resource, verdict);
            }
        });
        if let Some(Err(error)) = keeper.as_mut().map(|keeper| keeper.keep(&world.vips, &world.queries)) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "virtual addresses and queries are others at the next start"
            );
        }
        let wanted = reconciler.wanted_peerings();
        peerings.send_if_modified(|known| std::mem::replace(known, wanted.clone()) != wanted);
        worlds.send_replace(Arc::new(world));
        reconciler.answer();
    }
}

/// The clusters, and what became of their custom resources.
pub(crate) struct Reconciler {
    clusters: Vec<Cluster>,
    /// Name of the datacenter whose entries win; ours if none is named.
    primary: Option<Arc<str>>,
    /// What other datacenters tell, and what of that is in no world yet.
    abroad: BTreeMap<Arc<str>, Arc<Abroad>>,
    /// Datacenters that had told of themselves before the servers began anew.
    awaited: Vec<Arc<str>>,
    /// What other partitions tell, and peers, and whether that is in a world.
    partitions: Partitions,
    peers: Peers,
    has_other_exports: bool,
    /// Requests about prepared queries that are in no world yet.
    requests: Vec<(Request, Asker)>,
    /// Who is to be told what became of those that are in the last one.
    answers: Vec<(Asker, Result<(), Refused>)>,
    news: Unseen,
    acceptance: Accepted,
    accepted: BTreeSet<(usize, Entry)>,
    refused: Vec<Problem>,
    /// Whether a custom resource was refused the last time.
    has_refused: bool,
    /// Whether everything there is has been heard of once.
    is_complete: bool,
    /// Whether that has been waited for long enough.
    has_waited: bool,
}

impl Reconciler {
    /// For so many clusters of which nothing is known.
    pub(crate) fn new(clusters: usize, primary: Option<Arc<str>>) -> Self {
        Self {
            clusters: std::iter::repeat_with(Cluster::default).take(clusters).collect(),
            primary,
            abroad: BTreeMap::new(),
            awaited: Vec::new(),
            partitions: Partitions::new(),
            peers: Peers::new(),
            has_other_exports: false,
            requests: Vec::new(),
            answers: Vec::new(),
            news: Unseen::default(),
            acceptance: Accepted::default(),
            accepted: BTreeSet::new(),
            refused: Vec::new(),
            has_refused: false,
            is_complete: false,
            has_waited: false,
        }
    }

    /// With datacenters that are to tell of themselves before proxies are told anything.
    pub(crate) fn awaiting(self, datacenters: Vec<Arc<str>>) -> Self {
        Self { awaited: datacenters, ..self }
    }

    /// One that remembers what this one accepted, and nothing else.
    #[cfg(test)]
    pub(crate) fn heir(&self) -> Self {
        Self { acceptance: self.acceptance.clone(), ..Self::new(self.clusters.len(), self.primary.clone()) }
    }

    /// Takes in a change.
    pub(crate) fn apply(&mut self, (place, change): cluster::Told) {
        match change {
            Change::Abroad(datacenter, told) => self.hear(datacenter, *told),
            Change::Partition(name, told) => self.hear_partition(name, told),
            Change::Peer(name, told) => self.hear_peer(name, told.map(|told| *told)),
            Change::Query(request, done) => self.requests.push((request, done)),
            Change::Enough => self.has_waited = true,
            change => {
                if let Some(cluster) = self.clusters.get_mut(place) {
                    cluster.apply(change);
                }
            }
        }
    }

    /// Takes in what a peer tells, or that the peering has ended.
    fn hear_peer(&mut self, name: Arc<str>, told: Option<Told>) {
        let before = self.peers.get(&name).cloned();
        if before.as_deref() == told.as_ref() {
            return;
        }
        self.has_other_exports = true;
        let news = &mut self.news;
        // who trusts whom, and where the gateways are, is everybody's business; of its services, only those that differ
        let common = |told: &Told| Told { services: BTreeMap::new(), ..told.clone() };
        news.touched.everything |= before.as_deref().map(common) != told.as_ref().map(common);
        let services = |told: Option<&Told>| told.map(|told| told.services.clone()).unwrap_or_default();
        let (old, new) = (services(before.as_deref()), services(told.as_ref()));
        for service in old.keys().chain(new.keys()).filter(|service| old.get(*service) != new.get(*service)) {
            news.touched.services.insert(peering::id(service, &name));
            // somebody may fail over to it
            news.touched.services.insert(service.clone());
        }
        match told {
            Some(told) => drop(self.peers.insert(name, Arc::new(told))),
            None => drop(self.peers.remove(&name)),
        }
    }

    /// Takes in what another partition tells.
    fn hear_partition(&mut self, name: Arc<str>, told: Arc<partition::Told>) {
        let before = self.partitions.insert(name.clone(), told.clone());
        if before.as_ref() == Some(&told) {
            return;
        }
        self.has_other_exports = true;
        let news = &mut self.news;
        let before = before.unwrap_or_default();
        news.touched.everything |= before.gateways != told.gateways;
        let (old, new) = (&before.services, &told.services);
        for service in old.keys().chain(new.keys()).filter(|service| old.get(*service) != new.get(*service)) {
            news.touched.services.insert(partition::id(service, &name));
            // somebody may fail over to it
            news.touched.services.insert(service.clone());
        }
    }

    /// Takes in the requests about prepared queries.
    fn change_queries(&mut self, queries: &mut Arc<Queries>) {
        for (request, asker) in std::mem::take(&mut self.requests) {
            let done = request.apply(queries).map(|names| {
                let of_query = names.iter().filter(|name| !name.is_empty()).map(|name| query::upstream(name));
                self.news.touched.services.extend(of_query);
            });
            self.answers.push((asker, done));
        }
    }

    /// Tells those who asked, once a world has what they asked for.
    fn answer(&mut self) {
        for (asker, done) in self.answers.drain(..) {
            // who does not wait any more need not know
            let _ = asker.send(done);
        }
    }

    /// The resources of the first cluster that ask for peerings.
    pub(crate) fn wanted_peerings(&self) -> Vec<Wanted> {
        let all = self.clusters.first().into_iter().flat_map(Cluster::resources);
        let wanted = all.filter(|(_, resource)| Wanted::is_kind(&resource.kind));
        wanted.map(|(api, resource)| Wanted { api: api.clone(), resource }).collect()
    }

    /// Takes in what another datacenter tells of itself.
    fn hear(&mut self, datacenter: Arc<str>, told: Abroad) {
        let before = self.abroad.get(&datacenter).cloned().unwrap_or_default();
        let news = &mut self.news;
        news.entries |= before.resources != told.resources;
        news.touched.everything |= before.resources != told.resources || before.gateways != told.gateways;
        for (one, other) in [(&before.services, &told.services), (&told.services, &before.services)] {
            let differ = one.iter().filter(|(service, seen)| other.get(*service) != Some(seen));
            news.touched.services.extend(differ.map(|(service, _)| service.clone()));
        }
        self.abroad.insert(datacenter, Arc::new(told));
    }

    /// The world that the changes since `before` make of it. What no change touches is taken over, and costs nothing. `say` is
    /// told what became of each custom resource, with the place of its cluster.
    pub(crate) fn after(
        &mut self,
        before: &World,
        mut say: impl FnMut(usize, &ApiResource, &Resource, &Verdict),
    ) -> World {
        let mut world = before.clone();
        world.index += 1;
        for (place, cluster) in self.clusters.iter_mut().enumerate() {
            cluster.register(place, &world.config.home.tenancy, &mut world.catalog);
        }
        if self.news.entries || self.clusters.iter().any(|cluster| cluster.news.entries) {
            self.accept(&mut world, &mut say);
        }
        if self.abroad.iter().any(|(name, told)| world.abroad.get(name).is_none_or(|old| !Arc::ptr_eq(old, told))) {
            world.abroad = Arc::new(self.abroad.clone());
        }
        self.change_queries(&mut world.queries);
        let has_other_exports = std::mem::take(&mut self.has_other_exports);
        if has_other_exports {
            world.partitions = Arc::new(self.partitions.clone());
            world.peers = Arc::new(self.peers.clone());
        }
        let news = self.clusters.iter_mut().map(|cluster| std::mem::take(&mut cluster.news));
        let news = news.fold(std::mem::take(&mut self.news), Unseen::and);
        let Unseen { touched, entries, refused, default_intention, .. } = news;
        let is_tenant = world.config.home.tenancy.is_on();
        if entries || refused || is_tenant {
            let of_pods = self.clusters.iter().flat_map(Cluster::refused);
            let of_pods = of_pods.map(|(object, message)| Problem { object: object.clone(), message: message.clone() });
            let of_partitions = if is_tenant { partition::unreachable(&world) } else { Vec::new() };
            let problems = self.refused.iter().cloned().chain(of_pods).chain(of_partitions);
            let problems: BTreeSet<Problem> = problems.collect();
            world.problems = problems.into_iter().collect();
        }
        world.default_intention = default_intention.unwrap_or(world.default_intention);
        let has_instances = |world: &World, service: &str| !world.catalog.instances(service).is_empty();
        let is_addressed = |world: &World, service: &str| {
            let ports: Vec<String> = world.more_ports(service).into_keys().map(str::to_owned).collect();
            (has_instances(world, service), ports)
        };
        let is_whole = self.clusters.iter().all(Cluster::is_whole);
        let was_complete = self.is_complete;
        self.is_complete |= is_whole && self.is_told(&world);
        if entries
            || has_other_exports
            || self.is_complete != was_complete
            || touched.services.iter().any(|s| is_addressed(before, s) != is_addressed(&world, s))
        {
            let addressed = world.addressed();
            let wanted = || addressed.iter().map(String::as_str);
            let vips = Arc::make_mut(&mut world.vips);
            if self.is_complete {
                // before, a service that is missing may only not have been heard of yet
                vips.retain(wanted());
            }
            vips.assign(wanted());
        }
        let mut concerned: BTreeSet<String> = touched.services.clone();
        if entries || has_other_exports {
            // a group leads services elsewhere that it does not name
            concerned.extend(world.services().into_iter().map(str::to_owned));
            concerned.extend(world.manual_vips.keys().cloned());
        }
        for service in &concerned {
            let leads_elsewhere = world.config.resolvers.contains_key(service)
                || (world.config.default_group().is_some() && world.has_service(service));
            let wanted = leads_elsewhere && !has_instances(&world, service);
            let addresses = wanted.then(|| self.cluster_ips(service));
            if world.manual_vips.get(service) != addresses.as_ref() {
                let manual = Arc::make_mut(&mut world.manual_vips);
                match addresses {
                    Some(addresses) => drop(manual.insert(service.clone(), addresses)),
                    None => drop(manual.remove(service)),
                }
            }
        }
        world.is_whole = is_whole;
        world.is_partial = before.is_partial && !self.has_waited && !self.is_complete;
        world.news = before.news.and(world.index, touched);
        world
    }

    /// Whether every other partition has told all that it has to, and datacenters and peers have told anything: they do not before they
    /// know all that they have to.
    fn is_told(&self, world: &World) -> bool {
        let mut others = world.config.home.tenancy.others().iter();
        others.all(|name| self.partitions.get(name).is_some_and(|told| told.is_whole))
            && self.awaited.iter().all(|datacenter| self.abroad.contains_key(datacenter))
            && self.clusters.first().is_none_or(|first| first.peers().all(|name| self.peers.contains_key(name)))
    }

    /// ClusterIPs of all Services of this name, with the clusters that they are in.
    fn cluster_ips(&self, name: &str) -> BTreeSet<(usize, IpAddr)> {
        let clusters = self.clusters.iter().enumerate();
        clusters.flat_map(|(place, c)| c.cluster_ips(name).into_iter().map(move |address| (place, address))).collect()
    }

    /// Accepts all entries anew. One may be applied now, or no longer, because of another.
    fn accept(&mut self, world: &mut World, say: &mut impl FnMut(usize, &ApiResource, &Resource, &Verdict)) {
        let all = self.clusters.iter().enumerate();
        let own: Vec<(usize, &ApiResource, Resource)> = all
            .flat_map(|(place, c)| c.resources().into_iter().map(move |(api, r)| (place, api, r)))
            .filter(|(.., resource)| !Wanted::is_kind(&resource.kind))
            .collect();
        world.resources = own.iter().map(|(.., resource)| resource.clone()).collect();
        // those of the primary datacenter come first, and keep their names
        let abroad = || self.abroad.iter();
        let first = abroad().filter(|(name, _)| Some(*name) == self.primary.as_ref());
        let last = abroad().filter(|(name, _)| Some(*name) != self.primary.as_ref());
        let before: Vec<&Resource> = first.flat_map(|(_, told)| &told.resources).collect();
        let (skip, own_resources) = (before.len(), own.iter().map(|(.., resource)| resource));
        let resources = before.into_iter().chain(own_resources).chain(last.flat_map(|(_, told)| &told.resources));
        let (config, verdicts) = self.acceptance.accept(resources, &world.config.home);
        let mut accepted = BTreeSet::new();
        self.refused.clear();
        for ((place, api, resource), (_, verdict)) in own.iter().zip(verdicts.iter().skip(skip)) {
            say(*place, api, resource, verdict);
            if verdict.is_ok() {
                let key = (resource.namespace.clone(), resource.name.clone());
                accepted.insert((*place, (resource.kind.clone(), key)));
            }
            for message in verdict.as_ref().err().into_iter().flatten().chain(&without_effect(resource)) {
                let object = format!("{} {}/{}", resource.kind, resource.namespace, resource.name);
                self.refused.push(Problem { object, message: message.clone() });
            }
        }
        // what is in force of a refused one is not what it says, nor does it say whom that concerns
        let has_refused = verdicts.iter().any(|(_, verdict)| verdict.is_err());
        let had_refused = std::mem::replace(&mut self.has_refused, has_refused);
        world.config = Arc::new(config);
        self.news.touched.everything |= has_refused || had_refused;
        let before = std::mem::replace(&mut self.accepted, accepted);
        for (place, entry) in before.symmetric_difference(&self.accepted) {
            if let Some(cluster) = self.clusters.get_mut(*place) {
                cluster.concern(entry);
            }
        }
    }
}
