//! The objects of the cluster that matter here, and what a change to one of them concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{ApiResource, DynamicObject};

use super::slices::Slices;
use super::{Change, Key, Touch};
use crate::catalog::Catalog;
use crate::config::accept::Resource;
use crate::intentions::Intention;
use crate::peering::Wanted;
use crate::registration::{Instance, Refused, Scope, cluster_ips, register};
use crate::tenancy::Tenancy;
use crate::world::Touched;

/// What the watches have told so far.
#[derive(Default)]
pub(super) struct Cluster {
    pods: BTreeMap<Key, Pod>,
    services: BTreeMap<Key, Service>,
    slices: Slices,
    resources: BTreeMap<Entry, (ApiResource, DynamicObject)>,
    /// By Service: its instances, and the Pods that could not be registered.
    registered: BTreeMap<Key, (Vec<Arc<Instance>>, Vec<Refused>)>,
    /// Kinds that were listed as a whole.
    listed: BTreeSet<String>,
    /// Kinds of our group that are defined; `None` until that is known.
    defined: Option<Vec<String>>,
    /// What changed since it was last asked for.
    pub(super) news: Unseen,
}

/// A custom resource: its kind, and its key.
pub(super) type Entry = (String, Key);

/// What changed and is in no world yet.
#[derive(Default)]
pub(super) struct Unseen {
    pub(super) touched: Touched,
    /// Services whose registration is out of date.
    stale: BTreeSet<Key>,
    /// Whether a custom resource changed.
    pub(super) entries: bool,
    /// Whether other Pods than before could not be registered.
    pub(super) refused: bool,
    pub(super) default_intention: Option<Intention>,
}

impl Unseen {
    /// These news and those of another cluster.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.touched.extend(&other.touched);
        self.stale.extend(other.stale);
        self.entries |= other.entries;
        self.refused |= other.refused;
        self.default_intention = other.default_intention.or(self.default_intention);
        self
    }
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
        let news = &mut self.news;
        match change {
            Change::Pod(touch) => {
                for (pod, _) in touch_map(&mut self.pods, touch) {
                    news.stale.extend(self.slices.services_of_pod(&pod));
                }
            }
            Change::Service(touch) => {
                for (service, _) in touch_map(&mut self.services, touch) {
                    // its ClusterIPs may be those of a resolver of this name
                    news.touched.services.insert(service.1.clone());
                    news.stale.insert(service);
                }
            }
            Change::Slice(touch) => news.stale.extend(self.slices.apply(touch)),
            Change::Resource(api, touch) => {
                news.entries = true;
                let at = |object: &DynamicObject| (api.kind.clone(), key(object));
                let (mut set, mut gone) = (Vec::new(), Vec::new());
                match touch {
                    Touch::Set(object) => set.push(*object),
                    Touch::Gone(object) => gone.push(at(&object)),
                    Touch::All(objects) => {
                        gone.extend(self.resources.keys().filter(|(kind, _)| *kind == api.kind).cloned());
                        set = objects;
                    }
                }
                for entry in gone {
                    let old = self.resources.remove(&entry);
                    concern(&mut news.touched, &entry, old.map(|(_, object)| object).as_ref());
                }
                for object in set {
                    let entry = at(&object);
                    concern(&mut news.touched, &entry, Some(&object));
                    let old = self.resources.insert(entry.clone(), (api.clone(), object));
                    concern(&mut news.touched, &entry, old.map(|(_, object)| object).as_ref());
                }
            }
            Change::Defined(kinds) => self.defined = Some(kinds),
            Change::Default(intention) => {
                news.default_intention = Some(intention);
                news.touched.everything = true;
            }
            Change::Touch => news.touched.everything = true,
            Change::Enough => {}
            // they are no cluster's
            Change::Abroad(..) | Change::Partition(..) | Change::Peer(..) | Change::Query(..) => {}
        }
    }

    /// Says that an entry is applied now, or no longer, though nobody changed it.
    pub(super) fn concern(&mut self, entry: &Entry) {
        concern(&mut self.news.touched, entry, self.resources.get(entry).map(|(_, object)| object));
    }

    /// Registers again what is out of date; `place` is the cluster's among those of the datacenter.
    pub(super) fn register(&mut self, place: usize, tenancy: &Tenancy, catalog: &mut Catalog) {
        for stale in std::mem::take(&mut self.news.stale) {
            let (old, refused_before) = self.registered.remove(&stale).unwrap_or_default();
            let (instances, refused) = match self.services.get(&stale) {
                Some(service) => {
                    let slices = self.slices.of_service(&stale);
                    register(&Scope { cluster: place, tenancy, service, slices, pods: &self.pods })
                }
                None => Default::default(),
            };
            // equal instances keep their allocation, so that comparing two worlds is cheap
            let instances = instances.into_iter().map(|new| match old.iter().find(|o| ***o == new) {
                Some(same) => same.clone(),
                None => Arc::new(new),
            });
            let instances: Vec<Arc<Instance>> = instances.collect();
            for (one, others) in [(&old, &instances), (&instances, &old)] {
                let differ = one.iter().filter(|i| !others.iter().any(|other| Arc::ptr_eq(i, other)));
                for instance in differ {
                    self.news.touched.services.insert(instance.service.clone());
                    // whatever is reached in another datacenter may be reached through it
                    self.news.touched.everything |= instance.gateway.is_some();
                }
            }
            catalog.replace(&old, &instances);
            self.news.refused |= refused != refused_before;
            if !instances.is_empty() || !refused.is_empty() {
                self.registered.insert(stale, (instances, refused));
            }
        }
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

    /// Names of the peerings that resources ask for.
    pub(super) fn peers(&self) -> impl Iterator<Item = &str> {
        let wanted = self.resources.keys().filter(|(kind, _)| Wanted::is_kind(kind));
        wanted.map(|(_, (_, name))| name.as_str())
    }

    /// ClusterIPs of all Services of this name.
    pub(super) fn cluster_ips(&self, name: &str) -> BTreeSet<IpAddr> {
        let named = self.services.iter().filter(|((_, n), _)| n == name);
        named.flat_map(|(_, service)| cluster_ips(service)).collect()
    }
}

/// Adds the services that an entry is about. Of a kind that is not known to be about some, everything may depend.
fn concern(touched: &mut Touched, (kind, (_, name)): &Entry, object: Option<&DynamicObject>) {
    let service = match kind.as_str() {
        "ServiceDefaults" | "ServiceResolver" | "ServiceRouter" | "ServiceSplitter" => Some(name.as_str()),
        "ServiceIntentions" => match object {
            Some(object) => object.data["spec"]["destination"]["name"].as_str().filter(|name| *name != "*"),
            None => return,
        },
        _ => None,
    };
    match service {
        Some(service) => touched.services.extend([service.to_owned()]),
        None => touched.everything = true,
    }
}

fn key<T: ResourceExt>(object: &T) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Applies a touch to a map and returns the keys that it concerns, with what was there before.
pub(super) fn touch_map<T: ResourceExt>(map: &mut BTreeMap<Key, T>, touch: Touch<T>) -> Vec<(Key, Option<T>)> {
    match touch {
        Touch::Set(object) => {
            let key = key(&*object);
            let before = map.insert(key.clone(), *object);
            vec![(key, before)]
        }
        Touch::Gone(object) => {
            let key = key(&*object);
            let before = map.remove(&key);
            vec![(key, before)]
        }
        Touch::All(objects) => {
            let mut before = std::mem::take(map);
            map.extend(objects.into_iter().map(|o| (key(&o), o)));
            let mut concerned: Vec<_> = map.keys().map(|key| (key.clone(), before.remove(key))).collect();
            concerned.extend(before.into_iter().map(|(key, object)| (key, Some(object))));
            concerned
        }
    }
}
