//! What is kept up to date is what would have been rendered anew, after every one of many random changes.

use std::collections::BTreeMap;

use kube::api::{ApiResource, DynamicObject};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::ca::Authority;
use crate::cluster::{Change, Reconciler, Touch};
use crate::envoy;
use crate::feed::Update;
use crate::intentions::Intention;
use crate::names::Names;
use crate::objects::{pod, service, slice};

const SERVICES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const KINDS: [&str; 7] = [
    "ServiceDefaults",
    "ServiceResolver",
    "ServiceRouter",
    "ServiceSplitter",
    "ServiceIntentions",
    "ProxyDefaults",
    "Mesh",
];

/// A change to one object, as the watches tell it.
#[derive(Clone)]
struct Step {
    plural: String,
    object: Value,
    gone: bool,
}

fn parsed<T: DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).expect("an object of this kind")
}

impl Step {
    fn change(&self) -> Change {
        fn touch<T: DeserializeOwned>(step: &Step) -> Touch<T> {
            let object = Box::new(parsed(&step.object));
            if step.gone { Touch::Gone(object) } else { Touch::Set(object) }
        }
        match self.plural.as_str() {
            "pods" => Change::Pod(touch(self)),
            "services" => Change::Service(touch(self)),
            "endpointslices" => Change::Slice(touch(self)),
            kind => {
                let api = ApiResource {
                    group: "consul.hashicorp.com".into(),
                    version: "v1alpha1".into(),
                    api_version: "consul.hashicorp.com/v1alpha1".into(),
                    kind: kind.into(),
                    plural: kind.to_lowercase(),
                };
                Change::Resource(api, touch::<DynamicObject>(self))
            }
        }
    }

    fn key(&self) -> (String, String, String) {
        let text = |field: &str| self.object["metadata"][field].as_str().unwrap_or_default().to_owned();
        (self.plural.clone(), text("namespace"), text("name"))
    }
}

/// Hears of everything in a cluster in which nothing is yet.
fn whole(mut reconciler: Reconciler) -> Reconciler {
    reconciler.apply(Change::Pod(Touch::All(vec![])));
    reconciler.apply(Change::Service(Touch::All(vec![])));
    reconciler.apply(Change::Slice(Touch::All(vec![])));
    reconciler.apply(Change::Defined(vec![]));
    reconciler
}

/// Something that may happen in a cluster.
fn random(rng: &mut StdRng) -> Step {
    let mut any = |list: &[&'static str]| *list.choose(rng).expect("not empty");
    let (name, other, namespace) = (any(&SERVICES), any(&SERVICES), any(&["default", "default", "default", "other"]));
    let n = SERVICES.iter().position(|s| *s == name).unwrap_or_default() + 10 * usize::from(namespace == "other");
    let gone = rng.random_bool(0.2);
    let (plural, mut object) = match rng.random_range(0..10) {
        0 | 1 => {
            let mut service = service(name, &format!("10.96.0.{}", n + rng.random_range(0..2)));
            if rng.random_bool(0.5) {
                let ports = service["spec"]["ports"].as_array_mut().expect("ports");
                ports.push(json!({"name": "metrics", "port": 9000 + rng.random_range(0..2), "targetPort": 9091}));
            }
            ("services".to_owned(), service)
        }
        2 | 3 => {
            let mut pod = pod(name, &format!("10.244.0.{n}"), rng.random_bool(0.8));
            if rng.random_bool(0.3) {
                pod["metadata"]["annotations"]["consul.hashicorp.com/connect-service-port"] = json!("http,9091");
            }
            if rng.random_bool(0.3) {
                let upstreams = format!("{other}:1234");
                pod["metadata"]["annotations"]["consul.hashicorp.com/connect-service-upstreams"] = json!(upstreams);
            }
            if rng.random_bool(0.2) {
                pod["metadata"]["annotations"]["consul.hashicorp.com/connect-service"] = json!(other);
                pod["metadata"]["annotations"]["consul.hashicorp.com/service-meta-version"] = json!("2");
            }
            ("pods".to_owned(), pod)
        }
        4 | 5 => {
            let address = format!("10.244.0.{n}");
            ("endpointslices".to_owned(), slice(name, name, &address, rng.random_bool(0.7)))
        }
        _ => entry(rng, name, other),
    };
    object["metadata"]["namespace"] = json!(namespace);
    object["metadata"]["uid"] = json!(format!("{plural} {namespace} {}", object["metadata"]["name"]));
    Step { plural, object, gone }
}

fn entry(rng: &mut StdRng, name: &'static str, other: &'static str) -> (String, Value) {
    let kind = *KINDS.choose(rng).expect("not empty");
    let protocol = *["tcp", "http", "grpc"].choose(rng).expect("not empty");
    let yes = rng.random_bool(0.5);
    let spec = match kind {
        "ServiceDefaults" => json!({"protocol": protocol, "transparentProxy": {"dialedDirectly": yes}}),
        "ServiceResolver" => match rng.random_range(0..3) {
            0 => json!({"redirect": {"service": other}}),
            1 => json!({
                "connectTimeout": if yes { "2s" } else { "3s" }, "failover": {"*": {"targets": [{"service": other}]}},
            }),
            _ => json!({
                "defaultSubset": "two", "subsets": {"two": {"filter": "Service.Meta.version == 2"}},
            }),
        },
        "ServiceRouter" => json!({"routes": [
            {"match": {"http": {"pathPrefix": "/x"}}, "destination": {"service": other}},
        ]}),
        "ServiceSplitter" => json!({"splits": [{"weight": 50, "service": other}, {"weight": 50}]}),
        "ServiceIntentions" => {
            let action = if rng.random_bool(0.5) { "allow" } else { "deny" };
            let destination = if rng.random_bool(0.1) { "*" } else { name };
            json!({"destination": {"name": destination}, "sources": [{"name": other, "action": action}]})
        }
        "ProxyDefaults" => json!({"config": {"protocol": protocol}}),
        _ => json!({"transparentProxy": {"meshDestinationsOnly": yes}}),
    };
    let name = match kind {
        "ProxyDefaults" => "global",
        "Mesh" => "mesh",
        _ => name,
    };
    let object = json!({
        "apiVersion": "consul.hashicorp.com/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    (kind.to_owned(), object)
}

/// Resources by section and name.
type Flat = BTreeMap<(String, String), Value>;

/// Everything, kept by us and by a client, and nothing kept at all.
struct Bed {
    reconciler: Reconciler,
    objects: BTreeMap<(String, String, String), Step>,
    publish: watch::Sender<Arc<World>>,
    all: All,
    /// By proxy: the index that its client knows, and the resources.
    clients: HashMap<Asked, (u64, Flat)>,
}

impl Bed {
    fn new() -> Self {
        let names = Names::new("dc1", "td.consul");
        let world = Arc::new(World::empty(names.clone(), Intention::Allow));
        let (publish, worlds) = watch::channel(world.clone());
        let authority = Authority::new(names).expect("a root");
        let shared = Arc::new(Shared::new(worlds, authority.clone(), authority, None));
        Self {
            reconciler: whole(Reconciler::default()),
            objects: BTreeMap::new(),
            publish,
            all: All::new(shared, world),
            clients: HashMap::new(),
        }
    }

    fn apply(&mut self, step: Step) {
        let key = step.key();
        // nobody is told that what is not there is gone
        if step.gone && self.objects.remove(&key).is_none() {
            return;
        }
        self.reconciler.apply(step.change());
        if !step.gone {
            self.objects.insert(key, step);
        }
    }

    fn publish(&mut self) -> Arc<World> {
        let before = self.publish.borrow().clone();
        let world = Arc::new(self.reconciler.after(&before, |_, _, _| {}));
        self.publish.send_replace(world.clone());
        world
    }

    /// The world is the one that these objects make, in whatever order they came.
    fn made_at_once(&self, world: &World) {
        let mut reconciler = whole(self.reconciler.heir());
        self.objects.values().for_each(|step| reconciler.apply(step.change()));
        let fresh = reconciler.after(&World::empty(world.names.clone(), world.default_intention), |_, _, _| {});
        assert_eq!(world.catalog, fresh.catalog);
        assert_eq!(format!("{:?}", world.config), format!("{:?}", fresh.config));
        assert_eq!((&world.manual_vips, &world.problems), (&fresh.manual_vips, &fresh.problems));
        for service in SERVICES {
            assert_eq!(world.vips.get(service).is_some(), fresh.vips.get(service).is_some(), "{service}");
        }
    }

    /// What every proxy's client has is what is rendered.
    fn rendered_at_once(&mut self, world: &World, rng: &mut StdRng) {
        let ids = SERVICES.iter().flat_map(|pod| SERVICES.map(|service| format!("{pod}-{service}-sidecar-proxy")));
        for id in ids {
            let asked = (None, id.clone());
            if !self.all.proxies.contains_key(&asked) {
                let desk = Arc::new(watch::Sender::new(Known::Pending));
                self.all.begin(asked.clone(), desk);
            }
            let known = self.all.proxies[&asked].1.subscribe();
            match (world.catalog.proxy(None, &id), &*known.borrow()) {
                (None, Known::Unregistered) => drop(self.clients.remove(&asked)),
                (Some(instance), Known::Told(told)) => {
                    // now and then a client misses some worlds
                    if rng.random_bool(0.3) {
                        continue;
                    }
                    let (index, resources) = self.clients.entry(asked).or_default();
                    if let Some(update) = told.update(*index) {
                        let update: Update = serde_json::from_str(&update.collect::<String>()).expect("an update");
                        *index = update.index;
                        take_in(resources, update);
                    }
                    let leaf = self.all.shared.leaf_for(instance).expect("a certificate");
                    let whole = envoy::render(world, instance, &leaf, &self.all.shared.authority.root_pem());
                    assert_eq!(*resources, flat(&whole), "{id}");
                }
                (instance, known) => panic!("{id}: {instance:?}, and {known:?}"),
            }
        }
    }
}

fn take_in(resources: &mut Flat, update: Update) {
    if update.full {
        resources.clear();
    }
    for (section, changes) in update.resources {
        for (name, value) in changes {
            match value {
                Some(value) => drop(resources.insert((section.clone(), name), value)),
                None => drop(resources.remove(&(section.clone(), name))),
            }
        }
    }
}

fn flat(whole: &Value) -> Flat {
    let sections = whole.as_object().into_iter().flatten();
    let resources = sections.flat_map(|(section, resources)| {
        resources.as_object().into_iter().flatten().map(move |(n, v)| ((section.clone(), n.clone()), v.clone()))
    });
    resources.collect()
}

#[test]
fn what_is_kept_is_what_is_rendered_at_once() {
    for seed in 0..12 {
        let (mut rng, mut bed) = (StdRng::seed_from_u64(seed), Bed::new());
        for step in 0..120 {
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                (0..rng.random_range(1..4)).for_each(|_| bed.apply(random(&mut rng)));
                match rng.random_range(0..40) {
                    0 => bed.reconciler.apply(Change::Default(Intention::Allow)),
                    1 => bed.reconciler.apply(Change::Default(Intention::Deny)),
                    2 => {
                        bed.all.shared.forget_leaves();
                        bed.reconciler.apply(Change::Touch);
                    }
                    _ => {}
                }
                let world = bed.publish();
                bed.made_at_once(&world);
                // who is slow sees some worlds only
                if rng.random_bool(0.8) {
                    bed.all.advance(world.clone());
                    bed.rendered_at_once(&world, &mut rng);
                }
            }));
            assert!(told.is_ok(), "seed {seed}, step {step}: see above");
        }
    }
}
