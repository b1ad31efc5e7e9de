//! The catalogue: instances by service and by node, and how Consul's HTTP API shows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::registration::Instance;

mod json;

pub(crate) use json::{health_entry, node_services, service_entry};

/// All registered instances.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    by_service: BTreeMap<String, Vec<Arc<Instance>>>,
    /// By Consul node, then by proxy id: ids are unique on a node only.
    by_node: BTreeMap<String, BTreeMap<String, Arc<Instance>>>,
}

impl Catalog {
    /// Sorts instances into a catalogue.
    pub(crate) fn new<'a>(instances: impl IntoIterator<Item = &'a Arc<Instance>>) -> Self {
        let mut catalog = Self::default();
        for instance in instances {
            catalog.by_service.entry(instance.service.clone()).or_default().push(instance.clone());
            let node = catalog.by_node.entry(instance.node.clone()).or_default();
            node.insert(instance.proxy_id.clone(), instance.clone());
        }
        catalog
    }

    /// Names of the services that have instances.
    pub(crate) fn services(&self) -> impl Iterator<Item = &str> {
        self.by_service.keys().map(String::as_str)
    }

    /// Instances of a service, healthy or not.
    pub(crate) fn instances(&self, service: &str) -> &[Arc<Instance>] {
        self.by_service.get(service).map_or(&[], Vec::as_slice)
    }

    /// The instances on a node; `None` when there is no such node.
    pub(crate) fn on_node(&self, node: &str) -> Option<impl Iterator<Item = &Arc<Instance>>> {
        self.by_node.get(node).map(BTreeMap::values)
    }

    /// The instance whose proxy has this id; without a node, the first one that has it.
    pub(crate) fn proxy(&self, node: Option<&str>, proxy_id: &str) -> Option<&Arc<Instance>> {
        match node {
            Some(node) => self.by_node.get(node)?.get(proxy_id),
            None => self.by_node.values().find_map(|n| n.get(proxy_id)),
        }
    }
}
