//! What is kept up to date is what would have been rendered anew, after every one of many random changes.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::{ApiResource, DynamicObject};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::abroad::{Abroad, Seen};
use crate::ca::Authority;
use crate::cluster::{self, Change, Reconciler, Touch};
use crate::config::{Config, Home, Protocol};
use crate::envoy;
use crate::feed::Update;
use crate::intentions::Intention;
use crate::names::Names;
use crate::objects::{pod, service, slice};
use crate::partition::{self, Told as Partition};
use crate::peering::{Exported, Told as Peer};
use crate::query::{Failover, Query, Request, Service as Asks};
use crate::tenancy::Tenancy;

const SERVICES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const KINDS: [&str; 8] = [
    "ServiceDefaults",
    "ServiceResolver",
    "ServiceRouter",
    "ServiceSplitter",
    "ServiceIntentions",
    "SamenessGroup",
    "ProxyDefaults",
    "Mesh",
];

/// A change to one object, as the watches of a cluster tell it.
#[derive(Clone)]
struct Step {
    cluster: usize,
    plural: String,
    object: Value,
    gone: bool,
}

fn parsed<T: DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).expect("an object of this kind")
}

impl Step {
    fn change(&self) -> cluster::Told {
        fn touch<T: DeserializeOwned>(step: &Step) -> Touch<T> {
            let object = Box::new(parsed(&step.object));
            if step.gone { Touch::Gone(object) } else { Touch::Set(object) }
        }
        let change = match self.plural.as_str() {
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
        };
        (self.cluster, change)
    }

    fn key(&self) -> Key {
        let text = |field: &str| self.object["metadata"][field].as_str().unwrap_or_default().to_owned();
        (self.cluster, self.plural.clone(), text("namespace"), text("name"))
    }
}

/// Cluster, plural, namespace and name.
type Key = (usize, String, String, String);

/// How many clusters there are.
const CLUSTERS: usize = 2;

/// Hears of everything in clusters in which nothing is yet.
fn whole(mut reconciler: Reconciler) -> Reconciler {
    for cluster in 0..CLUSTERS {
        reconciler.apply((cluster, Change::Pod(Touch::All(vec![]))));
        reconciler.apply((cluster, Change::Service(Touch::All(vec![]))));
        reconciler.apply((cluster, Change::Slice(Touch::All(vec![]))));
        reconciler.apply((cluster, Change::Defined(vec![])));
    }
    reconciler
}

/// Something that may happen in a cluster.
fn random(rng: &mut StdRng) -> Step {
    let mut any = |list: &[&'static str]| *list.choose(rng).expect("not empty");
    let (name, other, namespace) = (any(&SERVICES), any(&SERVICES), any(&["default", "default", "default", "other"]));
    let n = SERVICES.iter().position(|s| *s == name).unwrap_or_default() + 10 * usize::from(namespace == "other");
    let gone = rng.random_bool(0.2);
    // both give Services the same addresses, and Pods others
    let cluster = usize::from(rng.random_bool(0.25));
    let address = format!("10.{}.0.{n}", 244 + cluster);
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
            let mut pod = pod(name, &address, rng.random_bool(0.8));
            pod["spec"]["nodeName"] = json!(format!("node-{cluster}"));
            if rng.random_bool(0.3) {
                pod["metadata"]["annotations"]["consul.hashicorp.com/connect-service-port"] = json!("http,9091");
            }
            if rng.random_bool(0.6) {
                let forms = [
                    "N:1234:dc2",
                    "N.svc.default.ns.east.peer:1234",
                    "N:1234",
                    "N.default.ap1:1234",
                    "prepared_query:N:1234",
                    "prepared_query:N:1234",
                ];
                let upstreams = forms.choose(rng).expect("not empty").replace('N', other);
                pod["metadata"]["annotations"]["consul.hashicorp.com/connect-service-upstreams"] = json!(upstreams);
            }
            if rng.random_bool(0.2) {
                pod["metadata"]["annotations"]["consul.hashicorp.com/connect-service"] = json!(other);
                pod["metadata"]["annotations"]["consul.hashicorp.com/service-meta-version"] = json!("2");
            }
            ("pods".to_owned(), pod)
        }
        4 | 5 => ("endpointslices".to_owned(), slice(name, name, &address, rng.random_bool(0.7))),
        _ => entry(rng, name, other),
    };
    object["metadata"]["namespace"] = json!(namespace);
    object["metadata"]["uid"] = json!(format!("{cluster} {plural} {namespace} {}", object["metadata"]["name"]));
    Step { cluster, plural, object, gone }
}

fn entry(rng: &mut StdRng, name: &'static str, other: &'static str) -> (String, Value) {
    let kind = *KINDS.choose(rng).expect("not empty");
    let protocol = *["tcp", "http", "grpc"].choose(rng).expect("not empty");
    let yes = rng.random_bool(0.5);
    let spec = match kind {
        "ServiceDefaults" => {
            let mode = *["none", "local", "remote"].choose(rng).expect("not empty");
            let said = match rng.random_range(0..4) {
                0 => json!({"defaults": {"connectTimeoutMs": 250 + u64::from(yes)}}),
                1 => json!({"overrides": [{"name": other, "protocol": protocol, "limits": {"maxConnections": 1}}]}),
                2 => json!({"defaults": {"meshGateway": {"mode": mode}}, "overrides": [
                    {"name": other, "peer": "east", "passiveHealthCheck": {"maxFailures": 1}},
                ]}),
                _ => json!({}),
            };
            json!({
                "protocol": protocol, "transparentProxy": {"dialedDirectly": yes}, "meshGateway": {"mode": mode},
                "upstreamConfig": said,
            })
        }
        "ServiceResolver" => match rng.random_range(0..3) {
            0 if yes => json!({"redirect": {"service": other, "datacenter": "dc2"}}),
            0 => json!({"redirect": {"service": other}}),
            1 => json!({
                "connectTimeout": if yes { "2s" } else { "3s" }, "failover": {"*": {"targets": [{"service": other}]}},
            }),
            _ => json!({
                "defaultSubset": "two", "subsets": {"two": {"filter": "Service.Meta.version == 2"}},
            }),
        },
        "SamenessGroup" => json!({
            "defaultForFailover": yes, "members": [{"partition": "default"}, {"partition": "ap1"}, {"peer": "east"}],
        }),
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
        "SamenessGroup" => "group",
        _ => name,
    };
    let object = json!({
        "apiVersion": "consul.hashicorp.com/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    (kind.to_owned(), object)
}

fn random_peer(rng: &mut StdRng) -> Option<Peer> {
    let exported = |rng: &mut StdRng| Exported {
        protocol: (*["tcp", "http"].choose(rng).expect("not empty")).to_owned(),
        has_instances: rng.random_bool(0.8),
        passing: rng.random_bool(0.5),
        identities: vec!["spiffe://east/ns/default/dc/dc9/svc/x".to_owned()],
    };
    let services = SERVICES.iter().filter(|_| rng.random_bool(0.5)).map(|s| (*s).to_owned()).collect::<Vec<_>>();
    rng.random_bool(0.8).then(|| {
        let gateway = rng.random_range(2..4);
        peer(gateway, services.into_iter().map(|service| (service, exported(rng))).collect())
    })
}

fn peer(gateway: u8, services: BTreeMap<String, Exported>) -> Peer {
    Peer {
        your_name: "west".to_owned(),
        trust_domain: "east.consul".to_owned(),
        partition: "default".to_owned(),
        roots: "PEM".to_owned(),
        gateways: vec![std::net::SocketAddr::from(([172, 20, 0, gateway], 30443))],
        services,
    }
}

fn random_partition(rng: &mut StdRng) -> Partition {
    let exported = |rng: &mut StdRng| partition::Exported {
        protocol: *[Protocol::Tcp, Protocol::Http].choose(rng).expect("not empty"),
        gateway_mode: None,
        virtual_ip: Some(std::net::Ipv4Addr::new(241, 0, 0, rng.random_range(1..9))),
        instances: random_datacenter(rng).services.remove("a").unwrap_or_default(),
    };
    let services = SERVICES.iter().filter(|_| rng.random_bool(0.5)).map(|s| (*s).to_owned()).collect::<Vec<_>>();
    Partition {
        is_whole: true,
        gateways: vec![std::net::SocketAddr::from(([172, 21, 0, rng.random_range(2..4)], 30443))],
        services: services.into_iter().map(|service| (service, exported(rng))).collect(),
    }
}

fn random_datacenter(rng: &mut StdRng) -> Abroad {
    let mut seen = |last: u8| Seen {
        address: std::net::SocketAddr::from(([10, 245, 0, last], 20000)),
        passing: rng.random_bool(0.5),
        subsets: BTreeSet::new(),
        port: 8080,
        port_name: "http".to_owned(),
        tags: Vec::new(),
        ports: Vec::new(),
    };
    let services = SERVICES.iter().zip(1..).map(|(service, n)| ((*service).to_owned(), vec![seen(n)])).collect();
    Abroad { gateways: Vec::new(), services, resources: Vec::new() }
}

/// A request about the prepared query of a name.
fn random_query(rng: &mut StdRng) -> Change {
    let mut any = || (*SERVICES.choose(rng).expect("not empty")).to_owned();
    let (name, service) = (any(), any());
    let datacenters = rng.random_bool(0.5).then(|| "dc2".to_owned()).into_iter().collect();
    let failover = Failover { datacenters, ..Failover::default() };
    let query = Query { id: name.clone(), name: name.clone(), service: Asks { service, failover, ..Asks::default() } };
    let request = if rng.random_bool(0.7) { Request::Put(Box::new(query), true) } else { Request::Forget(name) };
    Change::Query(request, tokio::sync::oneshot::channel().0)
}

/// Resources by section and name.
type Flat = BTreeMap<(String, String), Value>;

/// Everything, kept by us and by a client, and nothing kept at all.
struct Bed {
    reconciler: Reconciler,
    objects: BTreeMap<Key, Step>,
    /// What the peer `east` tells, and the datacenter `dc2`.
    peer: Option<Peer>,
    abroad: Option<Abroad>,
    /// What the partition `ap1` tells.
    partition: Option<Arc<Partition>>,
    publish: watch::Sender<Arc<World>>,
    all: All,
    /// By proxy: the index that its client knows, and the resources.
    clients: HashMap<Asked, (u64, Flat)>,
}

/// The world before anything is known.
fn nothing(names: Names, default_intention: Intention) -> World {
    let tenancy = Tenancy::new("default", &["default".into(), "ap1".into()]);
    let config = Config { home: Home { tenancy, ..Home::new("dc1") }, ..Config::default() };
    World { clusters: CLUSTERS, config: Arc::new(config), ..World::empty(names, default_intention) }
}

impl Bed {
    fn new() -> Self {
        let names = Names::new("dc1", "td.consul");
        let world = Arc::new(nothing(names.clone(), Intention::Allow));
        let (publish, worlds) = watch::channel(world.clone());
        let authority = Authority::new(names).expect("a root");
        let shared = Arc::new(Shared::new(worlds, authority.clone(), authority, None));
        Self {
            reconciler: whole(Reconciler::new(CLUSTERS, None)),
            objects: BTreeMap::new(),
            peer: None,
            abroad: None,
            partition: None,
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

    fn hear_peer(&mut self, told: Option<Peer>) {
        self.peer = told.clone();
        self.reconciler.apply((0, Change::Peer("east".into(), told.map(Box::new))));
    }

    fn hear_datacenter(&mut self, told: Abroad) {
        self.abroad = Some(told.clone());
        self.reconciler.apply((0, Change::Abroad("dc2".into(), Box::new(told))));
    }

    fn hear_partition(&mut self, told: Partition) {
        let told = Arc::new(told);
        self.partition = Some(told.clone());
        self.reconciler.apply((0, Change::Partition("ap1".into(), told)));
    }

    fn publish(&mut self) -> Arc<World> {
        let before = self.publish.borrow().clone();
        let world = Arc::new(self.reconciler.after(&before, |_, _, _, _| {}));
        self.publish.send_replace(world.clone());
        world
    }

    /// The world is the one that these objects make, in whatever order they came.
    fn made_at_once(&self, world: &World) {
        let mut reconciler = whole(self.reconciler.heir());
        self.objects.values().for_each(|step| reconciler.apply(step.change()));
        if let Some(told) = &self.peer {
            reconciler.apply((0, Change::Peer("east".into(), Some(Box::new(told.clone())))));
        }
        if let Some(told) = &self.abroad {
            reconciler.apply((0, Change::Abroad("dc2".into(), Box::new(told.clone()))));
        }
        if let Some(told) = &self.partition {
            reconciler.apply((0, Change::Partition("ap1".into(), told.clone())));
        }
        let fresh = reconciler.after(&nothing(world.names.clone(), world.default_intention), |_, _, _, _| {});
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
                match rng.random_range(0..60) {
                    44.. => bed.reconciler.apply((0, random_query(&mut rng))),
                    40 | 41 => bed.hear_peer(random_peer(&mut rng)),
                    42 | 43 => bed.hear_datacenter(random_datacenter(&mut rng)),
                    38 | 39 => bed.hear_partition(random_partition(&mut rng)),
                    0 => bed.reconciler.apply((0, Change::Default(Intention::Allow))),
                    1 => bed.reconciler.apply((0, Change::Default(Intention::Deny))),
                    2 => {
                        bed.all.shared.forget_leaves();
                        bed.reconciler.apply((0, Change::Touch));
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

#[test]
fn the_entries_of_a_name_concern_what_a_peer_exports_by_it() {
    let (mut rng, mut bed) = (StdRng::seed_from_u64(0), Bed::new());
    let step = |plural: &str, object: Value| Step { cluster: 0, plural: plural.to_owned(), object, gone: false };
    let address = "10.244.0.1";
    bed.apply(step("services", service("a", "10.96.0.1")));
    bed.apply(step("pods", pod("a", address, true)));
    bed.apply(step("endpointslices", slice("a", "a", address, true)));
    let exported = Exported {
        protocol: "tcp".to_owned(),
        has_instances: true,
        passing: true,
        identities: vec!["spiffe://east/ns/default/dc/dc9/svc/b".to_owned()],
    };
    bed.hear_peer(Some(peer(2, [("b".to_owned(), exported)].into())));
    for mode in ["remote", "local", "remote"] {
        let world = bed.publish();
        bed.all.advance(world.clone());
        // a client misses some of them
        (0..20).for_each(|_| bed.rendered_at_once(&world, &mut rng));
        let spec = json!({"meshGateway": {"mode": mode}});
        bed.apply(step(
            "ServiceDefaults",
            json!({
                "apiVersion": "consul.hashicorp.com/v1alpha1", "kind": "ServiceDefaults",
                "metadata": {"name": "b", "namespace": "default", "uid": "b"}, "spec": spec,
            }),
        ));
    }
}

#[test]
fn a_proxy_is_told_nothing_until_everything_is_known() {
    let mut world = crate::fixture::world(&["web"], Intention::Allow, &[]);
    world.is_partial = true;
    let (_publish, worlds) = watch::channel(Arc::new(world.clone()));
    let authority = Authority::new(world.names.clone()).expect("a root");
    let mut all = All::new(Arc::new(Shared::new(worlds, authority.clone(), authority, None)), Arc::new(world.clone()));
    let desks = ["web-web-sidecar-proxy", "nobody"].map(|id| {
        let desk = Arc::new(watch::Sender::new(Known::Pending));
        all.begin((None, id.to_owned()), desk.clone());
        desk
    });
    let known = |desks: &[Arc<watch::Sender<Known>>; 2]| {
        desks.each_ref().map(|desk| match &*desk.borrow() {
            Known::Pending => "pending",
            Known::Unregistered => "unregistered",
            Known::Told(_) => "told",
        })
    };
    world.index += 1;
    all.advance(Arc::new(world.clone()));
    assert_eq!(known(&desks), ["pending", "pending"]);
    world.index += 1;
    world.is_partial = false;
    all.advance(Arc::new(world));
    assert_eq!(known(&desks), ["told", "unregistered"]);
}

/// Whether something is awaited still, after this change.
fn is_partial(reconciler: &mut Reconciler, change: Option<Change>) -> bool {
    let mut before = nothing(Names::new("dc1", crate::fixture::TRUST_DOMAIN), Intention::Allow);
    before.is_partial = true;
    change.into_iter().for_each(|change| reconciler.apply((0, change)));
    reconciler.after(&before, |_, _, _, _| {}).is_partial
}

/// What the other partition tells.
fn tells(is_whole: bool) -> Change {
    Change::Partition("ap1".into(), Arc::new(Partition { is_whole, ..Partition::default() }))
}

#[test]
fn everything_is_known_when_all_have_told_or_it_has_been_waited_for() {
    assert!(is_partial(&mut Reconciler::new(CLUSTERS, None), Some(tells(true))), "of the clusters nothing is known");
    let mut reconciler = whole(Reconciler::new(CLUSTERS, None));
    assert!(is_partial(&mut reconciler, None), "the other partition has not told");
    assert!(is_partial(&mut reconciler, Some(tells(false))), "it does not know everything itself");
    assert!(!is_partial(&mut reconciler, Some(tells(true))));
    assert!(!is_partial(&mut Reconciler::new(CLUSTERS, None), Some(Change::Enough)));
}

#[test]
fn datacenters_and_peers_are_awaited_as_well() {
    let told = |mut reconciler: Reconciler| {
        reconciler.apply((0, tells(true)));
        whole(reconciler)
    };
    let mut reconciler = told(Reconciler::new(CLUSTERS, None).awaiting(vec!["dc2".into()]));
    assert!(is_partial(&mut reconciler, Some(Change::Abroad("dc3".into(), Box::default()))), "dc2 has not told");
    assert!(!is_partial(&mut reconciler, Some(Change::Abroad("dc2".into(), Box::default()))));
    let mut reconciler = told(Reconciler::new(CLUSTERS, None));
    assert!(is_partial(&mut reconciler, Some(dialling("east"))), "the peer has not told");
    assert!(!is_partial(&mut reconciler, Some(Change::Peer("east".into(), Some(Box::default())))));
}

/// A resource that asks for a peering.
fn dialling(name: &str) -> Change {
    let object = json!({
        "apiVersion": "consul.hashicorp.com/v1alpha1", "kind": "PeeringDialer",
        "metadata": {"name": name, "namespace": "default", "uid": name}, "spec": {},
    });
    Step { cluster: 0, plural: "PeeringDialer".to_owned(), object, gone: false }.change().1
}

#[test]
fn addresses_of_what_a_peer_exports_are_kept_until_it_has_told() {
    let mut before = nothing(Names::new("dc1", crate::fixture::TRUST_DOMAIN), Intention::Allow);
    let id = crate::peering::id("b", "east");
    // alone, it would get the first one
    Arc::make_mut(&mut before.vips).assign(["gone", &id]);
    let address = before.vips.get(&id);
    let mut reconciler = whole(Reconciler::new(CLUSTERS, None));
    [tells(true), dialling("east")].into_iter().for_each(|change| reconciler.apply((0, change)));
    let world = reconciler.after(&before, |_, _, _, _| {});
    assert_eq!(world.vips.get(&id), address, "the peer has not told");
    let exported = Exported { protocol: "tcp".to_owned(), has_instances: true, passing: true, identities: vec![] };
    let told = peer(1, [("b".to_owned(), exported)].into());
    reconciler.apply((0, Change::Peer("east".into(), Some(Box::new(told)))));
    let world = reconciler.after(&world, |_, _, _, _| {});
    assert_eq!((world.vips.get(&id), world.vips.get("gone")), (address, None));
}
