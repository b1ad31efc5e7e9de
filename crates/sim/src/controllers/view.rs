//! The copy of the cluster that the controllers look at, kept by watches and by the controllers' own writes.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::graph::Graph;
use super::kinds::{self, Known};
use super::work::Name;

/// An object of a kind that some controller works on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Object<'a> {
    Pod(&'a Pod),
    ReplicaSet(&'a ReplicaSet),
    Deployment(&'a Deployment),
    StatefulSet(&'a StatefulSet),
    DaemonSet(&'a DaemonSet),
    Job(&'a Job),
    Service(&'a Service),
    EndpointSlice(&'a EndpointSlice),
    Node(&'a Node),
    Namespace(&'a Namespace),
    /// Anything else, of which only the metadata is known.
    Other,
}

/// Something that has happened to an object.
pub(super) struct Change<'a> {
    pub(super) known: &'a Known,
    pub(super) metadata: &'a ObjectMeta,
    /// The state now, or the last one.
    pub(super) object: Object<'a>,
    pub(super) before: Option<Object<'a>>,
    pub(super) gone: bool,
}

/// Is told of every change, after the view has it.
pub(super) type Listener = Box<dyn Fn(&Change<'_>) + Send + Sync>;

/// The objects of a kind.
pub(super) struct Shelf<K>(RwLock<Objects<K>>);

struct Objects<K> {
    by_name: HashMap<Name, Arc<K>>,
    /// Deleted by a controller; a watch may still tell of earlier states.
    removed: HashSet<String>,
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Self(RwLock::new(Objects { by_name: HashMap::new(), removed: HashSet::new() }))
    }
}

fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn name_of<K: Resource>(object: &K) -> Name {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

impl<K: Resource> Shelf<K> {
    pub(super) fn get(&self, name: &Name) -> Option<Arc<K>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name).cloned()
    }

    /// The objects for which something holds, in order of their names.
    pub(super) fn select(&self, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let objects = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<_> = objects.by_name.values().filter(|object| wanted(object)).cloned().collect();
        found.sort_by(|a, b| (&a.meta().namespace, &a.meta().name).cmp(&(&b.meta().namespace, &b.meta().name)));
        found
    }

    /// Takes over a state, unless a later one is known. Gives back the state before, when this one is news.
    pub(super) fn observe(&self, object: Arc<K>) -> Option<Option<Arc<K>>> {
        let mut objects = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if object.meta().uid.as_ref().is_some_and(|uid| objects.removed.contains(uid)) {
            return None;
        }
        let name = name_of(&*object);
        let before = objects.by_name.get(&name).cloned();
        if before.as_ref().is_some_and(|before| version(&**before) >= version(&*object)) {
            return None;
        }
        objects.by_name.insert(name, object);
        Some(before)
    }

    /// Takes an object out that a controller has deleted for good.
    pub(super) fn remove(&self, object: &K) {
        let mut objects = self.0.write().unwrap_or_else(PoisonError::into_inner);
        objects.by_name.remove(&name_of(object));
        objects.removed.extend(object.meta().uid.clone());
    }

    fn removed(&self, object: &K) {
        let mut objects = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(uid) = &object.meta().uid {
            objects.removed.remove(uid);
        }
        let name = name_of(object);
        // A new object may have taken the name.
        if objects.by_name.get(&name).is_some_and(|found| found.meta().uid == object.meta().uid) {
            objects.by_name.remove(&name);
        }
    }
}

/// The objects of the cluster.
#[derive(Default)]
pub(super) struct View {
    pub(super) pods: Shelf<Pod>,
    pub(super) replica_sets: Shelf<ReplicaSet>,
    pub(super) deployments: Shelf<Deployment>,
    pub(super) stateful_sets: Shelf<StatefulSet>,
    pub(super) daemon_sets: Shelf<DaemonSet>,
    pub(super) jobs: Shelf<Job>,
    pub(super) services: Shelf<Service>,
    pub(super) slices: Shelf<EndpointSlice>,
    pub(super) nodes: Shelf<Node>,
    pub(super) namespaces: Shelf<Namespace>,
}

/// A kind of the view.
trait Watched: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static {
    fn shelf(view: &View) -> &Shelf<Self>;
    fn object(&self) -> Object<'_>;
}

macro_rules! watched {
    ($($kind:ident: $field:ident),* $(,)?) => {
        $(impl Watched for $kind {
            fn shelf(view: &View) -> &Shelf<Self> {
                &view.$field
            }
            fn object(&self) -> Object<'_> {
                Object::$kind(self)
            }
        })*
    };
}

watched! {
    Pod: pods, ReplicaSet: replica_sets, Deployment: deployments, StatefulSet: stateful_sets, DaemonSet: daemon_sets,
    Job: jobs, Service: services, EndpointSlice: slices, Node: nodes, Namespace: namespaces,
}

/// What every watch needs.
#[derive(Clone)]
struct Watches {
    client: kube::Client,
    view: Arc<View>,
    graph: Arc<Graph>,
    listeners: Arc<Vec<Listener>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Starts to follow the cluster.
pub(super) fn watch(
    client: kube::Client,
    view: Arc<View>,
    graph: Arc<Graph>,
    listeners: Arc<Vec<Listener>>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let watches = Watches { client, view, graph, listeners, tasks: tasks.clone(), stop: stop.clone() };
    watches.typed::<Namespace>(false);
    watches.typed::<Node>(false);
    watches.typed::<Service>(true);
    watches.typed::<EndpointSlice>(true);
    watches.typed::<Deployment>(true);
    watches.typed::<ReplicaSet>(true);
    watches.typed::<StatefulSet>(true);
    watches.typed::<DaemonSet>(true);
    watches.typed::<Job>(true);
    watches.typed::<Pod>(true);
    for known in kinds::metadata_only() {
        watches.metadata(known);
    }
    watches.definitions();
}

impl Watches {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(task));
    }

    fn tell(&self, change: &Change<'_>) {
        self.listeners.iter().for_each(|listener| listener(change));
    }

    /// Follows a kind of the view.
    fn typed<K: Watched>(&self, namespaced: bool) {
        let known = Known::new(&K::group(&()), &K::version(&()), &K::kind(&()), &K::plural(&()), namespaced);
        self.graph.know(known.clone());
        let watches = self.clone();
        self.spawn(async move {
            let mut stale = HashSet::new();
            let events = watcher::watcher(Api::<K>::all(watches.client.clone()), watcher::Config::default());
            let mut events = events.default_backoff().boxed();
            while let Some(event) = events.next().await {
                let shelf = K::shelf(&watches.view);
                match event {
                    Ok(Event::Init) => stale = shelf.select(|_| true).iter().map(|object| name_of(&**object)).collect(),
                    Ok(Event::InitApply(object) | Event::Apply(object)) => {
                        stale.remove(&name_of(&object));
                        watches.apply(&known, object);
                    }
                    Ok(Event::InitDone) => {
                        for object in stale.drain().filter_map(|name| shelf.get(&name)) {
                            watches.delete(&known, &object);
                        }
                    }
                    Ok(Event::Delete(object)) => watches.delete(&known, &Arc::new(object)),
                    Err(error) => tracing::debug!(kind = %known.resource.kind, %error, "watch broke off"),
                }
            }
        });
    }

    fn apply<K: Watched>(&self, known: &Known, object: K) {
        let object = Arc::new(object);
        // A controller's own write is in the view already; the others still must hear of it.
        let before = K::shelf(&self.view).observe(object.clone()).flatten();
        let (metadata, before) = (object.meta(), before.as_ref().map(|before| before.object()));
        self.tell(&Change { known, metadata, object: object.object(), before, gone: false });
    }

    fn delete<K: Watched>(&self, known: &Known, object: &Arc<K>) {
        K::shelf(&self.view).removed(object);
        self.tell(&Change { known, metadata: object.meta(), object: object.object(), before: None, gone: true });
    }

    /// Follows a kind's metadata, for owners and namespaces.
    fn metadata(&self, known: Known) -> CancellationToken {
        self.graph.know(known.clone());
        let ended = self.stop.child_token();
        let watches = self.clone();
        let task = async move {
            let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(watches.client.clone(), &known.resource);
            let mut seen = HashMap::<String, PartialObjectMeta<DynamicObject>>::new();
            let mut stale = HashSet::new();
            let mut events = watcher::watcher(api, watcher::Config::default()).default_backoff().boxed();
            while let Some(event) = events.next().await {
                let tell = |object: &PartialObjectMeta<DynamicObject>, gone| {
                    let metadata = &object.metadata;
                    watches.tell(&Change { known: &known, metadata, object: Object::Other, before: None, gone });
                };
                match event {
                    Ok(Event::Init) => stale = seen.keys().cloned().collect(),
                    Ok(Event::InitApply(object) | Event::Apply(object)) => {
                        let uid = object.uid().unwrap_or_default();
                        stale.remove(&uid);
                        tell(&object, false);
                        seen.insert(uid, object);
                    }
                    Ok(Event::InitDone) => {
                        stale.drain().filter_map(|uid| seen.remove(&uid)).for_each(|object| tell(&object, true));
                    }
                    Ok(Event::Delete(object)) => {
                        seen.remove(&object.uid().unwrap_or_default());
                        tell(&object, true);
                    }
                    Err(error) => tracing::debug!(kind = %known.resource.kind, %error, "watch broke off"),
                }
            }
        };
        self.tasks.spawn(ended.clone().run_until_cancelled_owned(task));
        ended
    }

    /// Follows custom resources, as they are defined.
    fn definitions(&self) {
        let watches = self.clone();
        self.spawn(async move {
            let mut watched = HashMap::<String, CancellationToken>::new();
            let api = Api::<CustomResourceDefinition>::all(watches.client.clone());
            let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
            let mut events = events.boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::InitApply(definition) | Event::Apply(definition)) => {
                        let name = definition.name_any();
                        if let (false, Some(known)) = (watched.contains_key(&name), defined(&definition)) {
                            watched.insert(name, watches.metadata(known));
                        }
                    }
                    Ok(Event::Delete(definition)) => {
                        if let (Some(ended), Some(known)) =
                            (watched.remove(&definition.name_any()), defined(&definition))
                        {
                            ended.cancel();
                            watches.graph.forget(&known);
                        }
                    }
                    _ => {}
                }
            }
        });
    }
}

/// The kind of a definition, in its stored version.
fn defined(definition: &CustomResourceDefinition) -> Option<Known> {
    let spec = &definition.spec;
    let version = spec.versions.iter().find(|version| version.storage)?;
    let namespaced = spec.scope == "Namespaced";
    Some(Known::new(&spec.group, &version.name, &spec.names.kind, &spec.names.plural, namespaced))
}
