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

use crate::catalog::Catalog;
use crate::config::Config;
use crate::intentions::Intention;
use crate::names::Names;
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
    pub(crate) default_intention: Intention,
    pub(crate) config: Arc<Config>,
    pub(crate) catalog: Catalog,
    pub(crate) vips: Arc<VirtualIps>,
    /// ClusterIPs of Services without instances whose name is that of a resolver.
    pub(crate) manual_vips: Arc<BTreeMap<String, BTreeSet<IpAddr>>>,
    pub(crate) problems: Arc<[Problem]>,
    pub(crate) news: News,
}

impl World {
    /// The world before anything is known.
    pub(crate) fn empty(names: Names, default_intention: Intention) -> Self {
        Self {
            index: 1,
            names,
            default_intention,
            config: Arc::default(),
            catalog: Catalog::default(),
            vips: Arc::default(),
            manual_vips: Arc::default(),
            problems: Arc::default(),
            news: News::default(),
        }
    }

    /// Every service that has instances or that an entry names.
    pub(crate) fn services(&self) -> BTreeSet<&str> {
        self.catalog.services().chain(self.config.subjects()).collect()
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
        ports.chain(services.iter().map(|service| (*service).to_owned())).collect()
    }

    /// Whether the service is one of [`Self::services`].
    pub(crate) fn has_service(&self, service: &str) -> bool {
        !self.catalog.instances(service).is_empty() || self.config.subjects().any(|name| name == service)
    }

    /// The addresses by which clients mean `service`: the automatic one and ClusterIPs, sorted.
    pub(crate) fn virtual_addresses(&self, service: &str) -> BTreeSet<IpAddr> {
        let mut addresses: BTreeSet<IpAddr> = self.vips.get(service).map(IpAddr::from).into_iter().collect();
        addresses.extend(self.catalog.instances(service).iter().flat_map(|i| i.cluster_ips.iter().copied()));
        addresses.extend(self.manual_vips.get(service).into_iter().flatten());
        addresses
    }
}
