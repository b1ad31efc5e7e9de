//! Everything the control plane knows at one moment, immutable: what proxies are configured from.
//!
//! A world shares with the one before it all that did not change: the catalogue is a persistent map, in which replacing the
//! instances of one service copies the path to them only, and everything else is behind a counted pointer. So a world costs
//! what its change costs, whatever else there is. And it says what that change was, in [`News`]: who has rendered an earlier
//! world need not look for the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

mod news;

pub(crate) use news::{News, Touched};

use crate::abroad::Abroad;
use crate::catalog::Catalog;
use crate::config::accept::Resource;
use crate::config::{Config, Home};
use crate::intentions::Intention;
use crate::names::Names;
use crate::partition::{self, Partitions};
use crate::peering::{self, Exported, Peers, Told};
use crate::query::{Queries, Query};
use crate::vip::VirtualIps;

/// Something that the control plane was asked for and does not do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Kind, namespace and name: `ServiceIntentions default/web`.
    pub object: String,
    /// What is wrong with it.
    pub message: String,
}

/// A moment of the control plane.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// Grows with every change; never 0.
    pub(crate) index: u64,
    pub(crate) names: Names,
    /// How many Kubernetes clusters the datacenter extends over.
    pub(crate) clusters: usize,
    pub(crate) default_intention: Intention,
    pub(crate) config: Arc<Config>,
    pub(crate) catalog: Catalog,
    pub(crate) vips: Arc<VirtualIps>,
    /// ClusterIPs of Services without instances that lead elsewhere by their name, each with its Kubernetes cluster.
    pub(crate) manual_vips: Arc<BTreeMap<String, BTreeSet<(usize, IpAddr)>>>,
    pub(crate) problems: Arc<[Problem]>,
    /// The custom resources of the datacenter's own clusters.
    pub(crate) resources: Arc<[Resource]>,
    /// What other datacenters tell of themselves, by their names.
    pub(crate) abroad: Arc<BTreeMap<Arc<str>, Arc<Abroad>>>,
    /// What other partitions tell, by their names.
    pub(crate) partitions: Arc<Partitions>,
    /// What peers tell, by what they are called here.
    pub(crate) peers: Arc<Peers>,
    pub(crate) queries: Arc<Queries>,
    /// Whether its own clusters have told of everything that is there.
    pub(crate) is_whole: bool,
    /// Whether that, or what partitions, peers and datacenters are to tell, is still awaited since the servers began. A proxy that
    /// were told of such a world would drop what is only not known yet.
    pub(crate) is_partial: bool,
    pub(crate) news: News,
}

impl World {
    /// The world before anything is known.
    pub(crate) fn empty(names: Names, default_intention: Intention) -> Self {
        Self {
            index: 1,
            config: Arc::new(Config { home: Home::new(names.datacenter()), ..Config::default() }),
            names,
            clusters: 1,
            default_intention,
            catalog: Catalog::default(),
            vips: Arc::default(),
            manual_vips: Arc::default(),
            problems: Arc::default(),
            resources: Arc::default(),
            abroad: Arc::default(),
            partitions: Arc::default(),
            peers: Arc::default(),
            queries: Arc::default(),
            is_whole: false,
            is_partial: false,
            news: News::default(),
        }
    }

    /// Whether others may be told of it: its own clusters are known, or have been waited for long enough. What others tell is not
    /// waited for, or two that have both begun anew would wait for each other.
    pub(crate) fn knows_itself(&self) -> bool {
        self.is_whole || !self.is_partial
    }

    /// What is left of it for who may read no service and no node: what is of nobody in particular.
    pub(crate) fn hidden(&self) -> Self {
        let Config { home, proxy_defaults, mesh, entries, .. } = (*self.config).clone();
        let open = |kind: &str| matches!(kind, "proxy-defaults" | "mesh");
        let entries = entries.into_iter().filter(|(kind, _)| open(kind)).collect();
        let config = Config { home, proxy_defaults, mesh, entries, ..Config::default() };
        Self {
            index: self.index,
            clusters: self.clusters,
            config: Arc::new(config),
            ..Self::empty(self.names.clone(), self.default_intention)
        }
    }

    /// Every service that has instances, that an entry names, or that is the same as one elsewhere.
    pub(crate) fn services(&self) -> BTreeSet<&str> {
        self.catalog.services().chain(self.config.subjects()).chain(self.same()).collect()
    }

    /// Services of members of the default sameness group: those of the same name here fail over to them, even if none is here.
    fn same(&self) -> impl Iterator<Item = &str> {
        let members = || self.config.default_group().into_iter().flat_map(|group| &group.members);
        let peers = members().filter_map(|member| self.peers.get(member.peer.as_deref()?));
        let partitions = members().filter_map(|member| self.partitions.get(member.partition.as_deref()?));
        let of_peers = peers.flat_map(|told| told.services.keys());
        of_peers.chain(partitions.flat_map(|told| told.services.keys())).map(String::as_str)
    }

    /// Names of the further ports of a service, over all instances, with the Service ports that lead to them.
    pub(crate) fn more_ports(&self, service: &str) -> BTreeMap<&str, BTreeSet<u16>> {
        let mut ports: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
        for port in self.catalog.instances(service).iter().flat_map(|i| &i.more_ports) {
            ports.entry(&port.name).or_default().extend(port.service_port);
        }
        ports
    }

    /// Everything that has a virtual address of its own: services, and their further ports as `<port>.<service>`.
    pub(crate) fn addressed(&self) -> BTreeSet<String> {
        let services = self.services();
        let ports = services
            .iter()
            .flat_map(|service| self.more_ports(service).into_keys().map(move |port| format!("{port}.{service}")));
        ports.chain(services.iter().map(|service| (*service).to_owned())).chain(self.imported()).collect()
    }

    /// Every service that a peer exports to us, by its [`peering::id`].
    pub(crate) fn imported(&self) -> impl Iterator<Item = String> {
        let of = |(peer, told): (&'_ Arc<str>, &'_ Arc<Told>)| {
            told.services.keys().map(|service| peering::id(service, peer)).collect::<Vec<_>>()
        };
        self.peers.iter().flat_map(of).collect::<Vec<_>>().into_iter()
    }

    /// What a peer tells, and of a service that it exports.
    pub(crate) fn import(&self, service: &str, peer: &str) -> Option<(&Told, &Exported)> {
        let told = self.peers.get(peer)?;
        Some((told, told.services.get(service)?))
    }

    /// Every service that another partition exports to ours, by its [`partition::id`]. It has its virtual address there.
    fn shared(&self) -> impl Iterator<Item = String> {
        let of = |(partition, told): (&Arc<str>, &Arc<partition::Told>)| {
            told.services.keys().map(|service| partition::id(service, partition)).collect::<Vec<_>>()
        };
        self.partitions.iter().flat_map(of).collect::<Vec<_>>().into_iter()
    }

    /// A service that another partition exports to ours.
    pub(crate) fn share(&self, service: &str, partition: &str) -> Option<&partition::Exported> {
        self.partitions.get(partition)?.services.get(service)
    }

    /// The prepared query of this name.
    pub(crate) fn query(&self, name: &str) -> Option<&Query> {
        self.queries.values().find(|query| query.name == name)
    }

    /// Everything that proxies may reach without naming it: [`Self::services`], [`Self::imported`], and
    /// what other partitions export.
    pub(crate) fn upstreams(&self) -> BTreeSet<String> {
        self.services().into_iter().map(str::to_owned).chain(self.imported()).chain(self.shared()).collect()
    }

    /// Whether it is one of [`Self::upstreams`].
    pub(crate) fn has_upstream(&self, id: &str) -> bool {
        match (peering::parse(id), partition::parse(id)) {
            (Some((service, peer)), _) => self.import(service, peer).is_some(),
            (None, Some((service, partition))) => self.share(service, partition).is_some(),
            (None, None) => self.has_service(id),
        }
    }

    /// Whether the service is one of [`Self::services`].
    pub(crate) fn has_service(&self, service: &str) -> bool {
        !self.catalog.instances(service).is_empty()
            || self.config.subjects().any(|name| name == service)
            || self.same().any(|name| name == service)
    }

    /// The addresses by which clients in a Kubernetes cluster mean `service`: the automatic one and ClusterIPs, sorted.
    pub(crate) fn virtual_addresses(&self, service: &str, cluster: usize) -> BTreeSet<IpAddr> {
        let mut addresses: BTreeSet<IpAddr> = self.vips.get(service).map(IpAddr::from).into_iter().collect();
        addresses.extend(self.cluster_ips(service, cluster));
        let manual = self.manual_vips.get(service).into_iter().flatten();
        addresses.extend(manual.filter(|(of, _)| *of == cluster).map(|(_, address)| address));
        addresses
    }

    /// ClusterIPs of `service` in a Kubernetes cluster. Another cluster may give the same address to another Service.
    pub(crate) fn cluster_ips(&self, service: &str, cluster: usize) -> BTreeSet<IpAddr> {
        let instances = self.catalog.instances(service).iter().filter(|i| i.cluster == cluster);
        instances.flat_map(|i| i.cluster_ips.iter().copied()).collect()
    }
}
