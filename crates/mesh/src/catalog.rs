//! The catalogue: instances by service and by node, and how Consul's HTTP API shows them.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use crate::registration::Instance;

mod json;

pub(crate) use json::{check_entry, health_entry, node_services, nodes, service_entry};

/// What is known of every node: that it is one of the catalogue only.
pub(crate) const NODE_META: [(&str, &str); 1] = [("synthetic-node", "true")];

/// All registered instances. A copy shares everything with the original, and a change copies what it changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Catalog {
    by_service: RedBlackTreeMapSync<String, Arc<[Arc<Instance>]>>,
    gateways: Arc<[Arc<Instance>]>,
    by_node: RedBlackTreeMapSync<String, RedBlackTreeMapSync<Registered, Arc<Instance>>>,
}

/// Proxy id, Kubernetes namespace, Kubernetes Service. Consul knows a proxy by the first alone, and when several are
/// registered by one id, the last one has it.
type Registered = (String, String, String);

impl Catalog {
    /// Sorts instances into a catalogue.
    #[cfg(test)]
    pub(crate) fn new<'a>(instances: impl IntoIterator<Item = &'a Arc<Instance>>) -> Self {
        let mut catalog = Self::default();
        catalog.replace(&[], &instances.into_iter().cloned().collect::<Vec<_>>());
        catalog
    }

    /// Takes out what a Service had registered, and puts in what it has now. An instance that is in both stays.
    pub(crate) fn replace(&mut self, old: &[Arc<Instance>], new: &[Arc<Instance>]) {
        let among = |list: &[Arc<Instance>], one: &Arc<Instance>| list.iter().any(|other| Arc::ptr_eq(one, other));
        let gone: Vec<_> = old.iter().filter(|i| !among(new, i)).collect();
        let come: Vec<_> = new.iter().filter(|i| !among(old, i)).collect();
        for instance in &gone {
            if let Some(mut node) = self.by_node.get(&instance.node).cloned() {
                node.remove_mut(&registered(instance));
                if node.is_empty() {
                    self.by_node.remove_mut(&instance.node);
                } else {
                    self.by_node.insert_mut(instance.node.clone(), node);
                }
            }
        }
        for instance in &come {
            let mut node = self.by_node.get(&instance.node).cloned().unwrap_or_default();
            node.insert_mut(registered(instance), Arc::clone(instance));
            self.by_node.insert_mut(instance.node.clone(), node);
        }
        if gone.iter().chain(&come).any(|i| i.gateway.is_some()) {
            let staying = self.gateways.iter().filter(|i| !gone.iter().any(|gone| Arc::ptr_eq(i, gone)));
            let mut list: Vec<_> =
                staying.chain(come.iter().copied().filter(|i| i.gateway.is_some())).cloned().collect();
            list.sort_by_cached_key(|i| (i.cluster, registered(i)));
            self.gateways = list.into();
        }
        let (gone, come) = (
            gone.into_iter().filter(|i| i.gateway.is_none()).collect::<Vec<_>>(),
            come.into_iter().filter(|i| i.gateway.is_none()).collect::<Vec<_>>(),
        );
        let mut services: Vec<&str> = gone.iter().chain(&come).map(|i| i.service.as_str()).collect();
        services.sort_unstable();
        services.dedup();
        for service in services {
            let staying = self.instances(service).iter().filter(|i| !gone.iter().any(|gone| Arc::ptr_eq(i, gone)));
            let coming = come.iter().copied().filter(|i| i.service == service);
            let mut list: Vec<_> = staying.chain(coming).cloned().collect();
            list.sort_by_cached_key(|i| {
                let (proxy, namespace, service) = registered(i);
                (i.cluster, namespace, service, proxy)
            });
            if list.is_empty() {
                self.by_service.remove_mut(service);
            } else {
                self.by_service.insert_mut(service.to_owned(), list.into());
            }
        }
    }

    /// The mesh gateways, healthy or not.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.gateways.iter()
    }

    /// Names of the services that have instances. Gateways are none.
    pub(crate) fn services(&self) -> impl Iterator<Item = &str> {
        self.by_service.keys().map(String::as_str)
    }

    /// Instances of a service, healthy or not.
    pub(crate) fn instances(&self, service: &str) -> &[Arc<Instance>] {
        self.by_service.get(service).map_or(&[], |list| &**list)
    }

    /// Names of the nodes that have instances.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.by_node.keys().map(String::as_str)
    }

    /// The instances on a node; `None` when there is no such node.
    pub(crate) fn on_node(&self, node: &str) -> Option<impl Iterator<Item = &Arc<Instance>>> {
        let mut all = self.by_node.get(node)?.iter().peekable();
        Some(std::iter::from_fn(move || {
            loop {
                let ((id, ..), instance) = all.next()?;
                if all.peek().is_none_or(|((next, ..), _)| next != id) {
                    return Some(instance);
                }
            }
        }))
    }

    /// The instance whose proxy has this id; without a node, the first one that has it.
    pub(crate) fn proxy(&self, node: Option<&str>, proxy_id: &str) -> Option<&Arc<Instance>> {
        match node {
            Some(node) => with_id(self.by_node.get(node)?, proxy_id),
            None => self.by_node.values().find_map(|node| with_id(node, proxy_id)),
        }
    }
}

fn with_id<'a>(node: &'a RedBlackTreeMapSync<Registered, Arc<Instance>>, proxy_id: &str) -> Option<&'a Arc<Instance>> {
    let first = (proxy_id.to_owned(), String::new(), String::new());
    let named = node.range(first..).take_while(|((id, ..), _)| id == proxy_id);
    named.last().map(|(_, instance)| instance)
}

fn registered(instance: &Instance) -> Registered {
    let service = instance.meta.get("k8s-service-name").cloned().unwrap_or_default();
    (instance.proxy_id.clone(), instance.namespace.clone(), service)
}

#[cfg(test)]
mod tests;
