//! The objects of the cluster that matter here, and which Services a change concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{ApiResource, DynamicObject};

use super::{Change, Key, Touch};
use crate::config::accept::Resource;
use crate::registration::{Instance, Refused, Scope, cluster_ips, register};

/// Label of a slice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What the watches have told so far.
#[derive(Default)]
pub(super) struct Cluster {
    pods: BTreeMap<Key, Pod>,
    services: BTreeMap<Key, Service>,
    slices: BTreeMap<Key, EndpointSlice>,
    resources: BTreeMap<(String, Key), (ApiResource, DynamicObject)>,
    /// By Service: its instances, and the Pods that could not be registered.
    registered: BTreeMap<Key, (Vec<Arc<Instance>>, Vec<Refused>)>,
    /// Services whose registration is out of date.
    stale: BTreeSet<Key>,
    /// Kinds that were listed as a whole.
    listed: BTreeSet<String>,
    /// Kinds of our group that are defined; `None` until that is known.
    defined: Option<Vec<String>>,
}

impl Cluster {
    /// Whether everything there is has been heard of once.
    pub(super) fn is_whole(&self) -> bool {
        let listed = |kind: &str| self.listed.contains(kind);
        ["Pod", "Service", "EndpointSlice"].into_iter().all(listed)
            && self.defined.as_ref().is_some_and(|kinds| kinds.iter().all(|kind| listed(kind)))
    }

    /// Takes in a change.
    pub(super) fn apply(&mut self, change: Change) {
        if let Some(kind) = change.listed() {
            self.listed.insert(kind.to_owned());
        }
        match change {
            Change::Pod(touch) => {
                for pod in touch_map(&mut self.pods, touch) {
                    self.stale.extend(services_of_pod(&self.slices, &pod));
                }
            }
            Change::Service(touch) => self.stale.extend(touch_map(&mut self.services, touch)),
            Change::Slice(touch) => {
                let before: Vec<Key> = self.slices.values().filter_map(service_of_slice).collect();
                let all = matches!(touch, Touch::All(_));
                let gone = match &touch {
                    Touch::Gone(slice) => service_of_slice(slice),
                    _ => None,
                };
                for slice in touch_map(&mut self.slices, touch) {
                    self.stale.extend(self.slices.get(&slice).and_then(service_of_slice));
                }
                self.stale.extend(gone);
                if all {
                    self.stale.extend(before);
                }
            }
            Change::Resource(api, touch) => {
                let at = |object: &DynamicObject| (api.kind.clone(), key(object));
                match touch {
                    Touch::Set(object) => drop(self.resources.insert(at(&object), (api, *object))),
                    Touch::Gone(object) => drop(self.resources.remove(&at(&object))),
                    Touch::All(objects) => {
                        self.resources.retain(|(kind, _), _| *kind != api.kind);
                        self.resources.extend(objects.into_iter().map(|o| (at(&o), (api.clone(), o))));
                    }
                }
            }
            Change::Defined(kinds) => self.defined = Some(kinds),
            Change::Default(_) | Change::Touch => {}
        }
    }

    /// Registers again what is out of date.
    pub(super) fn register(&mut self, datacenter: &str) {
        for stale in std::mem::take(&mut self.stale) {
            let Some(service) = self.services.get(&stale) else {
                self.registered.remove(&stale);
                continue;
            };
            let slices = self.slices.values().filter(|s| service_of_slice(s).as_ref() == Some(&stale)).collect();
            let (instances, refused) = register(&Scope { datacenter, service, slices, pods: &self.pods });
            // equal instances keep their allocation, so that comparing two worlds is cheap
            let (old, _) = self.registered.remove(&stale).unwrap_or_default();
            let instances = instances.into_iter().map(|new| match old.iter().find(|o| ***o == new) {
                Some(same) => same.clone(),
                None => Arc::new(new),
            });
            self.registered.insert(stale, (instances.collect(), refused));
        }
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.registered.values().flat_map(|(instances, _)| instances)
    }

    pub(super) fn refused(&self) -> impl Iterator<Item = &Refused> {
        self.registered.values().flat_map(|(_, refused)| refused)
    }

    /// The custom resources, older ones first within a kind.
    pub(super) fn resources(&self) -> Vec<(&ApiResource, Resource)> {
        let mut found: Vec<_> = self.resources.iter().collect();
        found.sort_by_key(|(at, (_, object))| (&at.0, object.creation_timestamp(), &at.1));
        let mut resources = Vec::new();
        for ((kind, (namespace, name)), (api, object)) in found {
            let resource = Resource {
                kind: kind.clone(),
                namespace: namespace.clone(),
                name: name.clone(),
                uid: object.uid().unwrap_or_default(),
                generation: object.metadata.generation.unwrap_or_default(),
                spec: object.data.get("spec").cloned().unwrap_or_default(),
            };
            resources.push((api, resource));
        }
        resources
    }

    /// ClusterIPs of all Services of this name.
    pub(super) fn cluster_ips(&self, name: &str) -> BTreeSet<IpAddr> {
        let named = self.services.iter().filter(|((_, n), _)| n == name);
        named.flat_map(|(_, service)| cluster_ips(service)).collect()
    }
}

fn key<T: ResourceExt>(object: &T) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Applies a touch to a map and returns the keys that it concerns.
fn touch_map<T: ResourceExt>(map: &mut BTreeMap<Key, T>, touch: Touch<T>) -> Vec<Key> {
    match touch {
        Touch::Set(object) => {
            let key = key(&*object);
            map.insert(key.clone(), *object);
            vec![key]
        }
        Touch::Gone(object) => {
            let key = key(&*object);
            map.remove(&key);
            vec![key]
        }
        Touch::All(objects) => {
            let mut concerned: Vec<Key> = map.keys().cloned().collect();
            map.clear();
            map.extend(objects.into_iter().map(|o| (key(&o), o)));
            concerned.extend(map.keys().cloned());
            concerned
        }
    }
}

fn service_of_slice(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some((slice.metadata.namespace.clone().unwrap_or_default(), name.clone()))
}

fn services_of_pod(slices: &BTreeMap<Key, EndpointSlice>, pod: &Key) -> Vec<Key> {
    let lists = |slice: &&EndpointSlice| {
        slice.metadata.namespace.as_deref() == Some(pod.0.as_str())
            && slice
                .endpoints
                .iter()
                .flatten()
                .any(|e| e.target_ref.as_ref().is_some_and(|t| t.name.as_deref() == Some(pod.1.as_str())))
    };
    slices.values().filter(lists).filter_map(service_of_slice).collect()
}
