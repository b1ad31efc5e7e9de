//! EndpointSlices, found by their Service and by the Pods that they list.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::objects::touch_map;
use super::{Key, Touch};

/// Label of a slice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// All slices.
#[derive(Default)]
pub(super) struct Slices {
    all: BTreeMap<Key, EndpointSlice>,
    of_service: BTreeMap<Key, BTreeSet<Key>>,
    of_pod: BTreeMap<Key, BTreeSet<Key>>,
}

impl Slices {
    /// Takes in a change, and returns the Services that it concerns.
    pub(super) fn apply(&mut self, touch: Touch<EndpointSlice>) -> BTreeSet<Key> {
        let mut concerned = BTreeSet::new();
        let before = touch_map(&mut self.all, touch);
        for (key, old) in before {
            if let Some(old) = old {
                let service = service(&old);
                service.iter().for_each(|service| take_out(&mut self.of_service, service, &key));
                pods(&old).for_each(|pod| take_out(&mut self.of_pod, &pod, &key));
                concerned.extend(service);
            }
            if let Some(new) = self.all.get(&key) {
                let service = service(new);
                if let Some(service) = &service {
                    self.of_service.entry(service.clone()).or_default().insert(key.clone());
                }
                for pod in pods(new) {
                    self.of_pod.entry(pod).or_default().insert(key.clone());
                }
                concerned.extend(service);
            }
        }
        concerned
    }

    /// The slices of a Service, in the order of their names.
    pub(super) fn of_service(&self, service: &Key) -> Vec<&EndpointSlice> {
        self.of_service.get(service).into_iter().flatten().filter_map(|key| self.all.get(key)).collect()
    }

    /// The Services that list a Pod.
    pub(super) fn services_of_pod(&self, pod: &Key) -> impl Iterator<Item = Key> {
        self.of_pod.get(pod).into_iter().flatten().filter_map(|key| service(self.all.get(key)?))
    }
}

fn take_out(index: &mut BTreeMap<Key, BTreeSet<Key>>, at: &Key, slice: &Key) {
    if let Some(slices) = index.get_mut(at) {
        slices.remove(slice);
        if slices.is_empty() {
            index.remove(at);
        }
    }
}

fn service(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some((slice.metadata.namespace.clone().unwrap_or_default(), name.clone()))
}

fn pods(slice: &EndpointSlice) -> impl Iterator<Item = Key> {
    let namespace = slice.metadata.namespace.clone().unwrap_or_default();
    let names = slice.endpoints.iter().flatten().filter_map(|e| e.target_ref.as_ref()?.name.clone());
    names.map(move |name| (namespace.clone(), name))
}
