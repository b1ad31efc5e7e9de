//! Questions and answers as they are on the wire.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;

use hickory_proto::rr::rdata::opt::ClientSubnet;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use rstest::rstest;
use serde_json::json;
use tower::ServiceExt;

use super::super::feed;
use super::*;
use crate::abroad::{Abroad, Seen};
use crate::ca::Authority;
use crate::config::{Protocol, SamenessGroup};
use crate::fixture::{tenant, world};
use crate::intentions::Intention;
use crate::partition;
use crate::peering::{Exported, Told};
use crate::query::{Failover, Query, Service};
use crate::registration::{Health, Instance};
use crate::tenancy::Tenancy;

/// One instance of `web`, a hundred of `many`, those of `sick` and `fading` critical, that of `six` with an IPv6 address.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let mut world = world(&["web"], Intention::Allow, &[]);
    let web = crate::fixture::instance(&world, "web").clone();
    let like = |service: &str, address: IpAddr, health| {
        let (service, proxy_id) = (service.to_owned(), format!("{service}-{address}"));
        Arc::new(Instance { address, service, proxy_id, health, ..(*web).clone() })
    };
    let mut all: Vec<_> = (1..=100).map(|i| like("many", IpAddr::from([10, 244, 1, i]), Health::Passing)).collect();
    all.push(like("sick", IpAddr::from([10, 244, 2, 1]), Health::NotReady));
    all.push(like("fading", IpAddr::from([10, 244, 2, 2]), Health::Terminating));
    all.push(like("six", "fd00::1".parse().expect("an address"), Health::Passing));
    all.push(Arc::new(Instance { tags: vec!["v1".into(), "a.b".into()], ..(*web).clone() }));
    world.catalog = crate::catalog::Catalog::new(&all);
    let services = [
        ("web".to_owned(), vec![seen(1, true), seen(2, false)]),
        ("lone".to_owned(), vec![seen(3, true), seen(4, false)]),
    ]
    .into();
    world.abroad = Arc::new([("dc2".into(), Arc::new(Abroad { services, ..Abroad::default() }))].into());
    let told = Told { services: [("db".to_owned(), exported())].into(), ..Told::default() };
    world.peers = Arc::new([("east".into(), Arc::new(told))].into());
    let mut config = (*world.config).clone();
    config.groups.insert("all".to_owned(), SamenessGroup { default_for_failover: true, ..SamenessGroup::default() });
    config.groups.insert("some".to_owned(), SamenessGroup::default());
    world.config = config.into();
    let asks = |name: &str, service: &str, connect| Query {
        name: name.to_owned(),
        service: Service {
            service: service.to_owned(),
            connect,
            failover: Failover { datacenters: vec!["dc2".to_owned()], ..Failover::default() },
            ..Service::default()
        },
        ..Query::default()
    };
    let queries = [
        asks("geo", "web", false),
        asks("proxies", "web", true),
        asks("far", "lone", false),
        asks("none", "sick", false),
    ];
    world.queries = Arc::new(queries.into_iter().map(|query| (query.name.clone(), query)).collect());
    // in this order: the first address is that of web
    Arc::make_mut(&mut world.vips).assign(["metrics.web", "db?peer=east"]);
    world
});

/// Partition `default` of two, with an instance of `web`; `ap1` exports `db`, of which one of two instances is healthy. The default group
/// tries ours first.
static TENANT: LazyLock<World> = LazyLock::new(|| {
    let tenancy = Tenancy::new("default", &["default".into(), "ap1".into()]);
    let group =
        json!({"defaultForFailover": true, "members": [{"partition": "default"}, {"partition": "ap1"}, {"peer": "p"}]});
    let mut world = tenant(&["web"], &tenancy, Intention::Allow, &[("SamenessGroup", "all", group)], &[]);
    let db = partition::Exported {
        protocol: Protocol::Tcp,
        gateway_mode: None,
        virtual_ip: Some([241, 0, 0, 1].into()),
        instances: vec![seen(1, true), seen(2, false)],
    };
    let told = partition::Told { services: [("db".to_owned(), db)].into(), ..partition::Told::default() };
    world.partitions = Arc::new([("ap1".into(), Arc::new(told))].into());
    world
});

/// An instance elsewhere.
fn seen(last: u8, passing: bool) -> Seen {
    Seen {
        address: std::net::SocketAddr::from(([10, 245, 0, last], 20000)),
        passing,
        subsets: BTreeSet::new(),
        port: 8080,
        port_name: "http".to_owned(),
        tags: vec!["v1".to_owned()],
        ports: Vec::new(),
    }
}

fn exported() -> Exported {
    let (protocol, identities) = ("tcp".to_owned(), Vec::new());
    Exported { protocol, has_instances: true, passing: true, identities }
}

/// A name, a type, and after that what is not usual: `tcp`, or the size that the client takes.
fn asked(question: &str) -> Message {
    asked_of(&WORLD, question)
}

fn asked_of(world: &World, question: &str) -> Message {
    let words: Vec<&str> = question.split(' ').collect();
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    let kind = match words[1] {
        "IXFR" => RecordType::IXFR,
        other => other.parse().expect("a type"),
    };
    query.add_query(hickory_proto::op::Query::query(Name::from_ascii(words[0]).expect("a name"), kind));
    if let Some(size) = words.last().and_then(|word| word.parse().ok()) {
        query.set_edns(Edns::new()).edns.as_mut().expect("EDNS").set_max_payload(size);
    }
    let transport = if words.contains(&"tcp") { Transport::Tcp } else { Transport::Udp };
    let bytes = answer(world, &Rights::All, &query.to_vec().expect("a query"), transport).expect("an answer");
    let reply = Message::from_vec(&bytes).expect("a message");
    assert_eq!((reply.metadata.id, &reply.queries), (query.metadata.id, &query.queries));
    assert!(reply.metadata.recursion_desired && !reply.metadata.recursion_available);
    assert!(!reply.metadata.truncation, "Consul does not say that it left something out");
    assert_eq!(reply.edns.as_ref().map(Edns::max_payload), query.edns.as_ref().map(Edns::max_payload));
    reply
}

fn shown(records: &[Record]) -> String {
    if let [first, _, _, ..] = records {
        return format!("{} {}", records.len(), first.record_type());
    }
    let show = |record: &Record| match &record.data {
        RData::SOA(_) => format!("{} SOA", record.name),
        data if record.name.to_ascii().contains(".addr.") => format!("{} {data}", record.name),
        data => data.to_string(),
    };
    // answers are shuffled
    let mut all: Vec<String> = records.iter().map(show).collect();
    all.sort_unstable();
    all.join(", ")
}

const NOBODY: &str = "NXDomain, authoritative; ; consul. SOA; ";
const NO_DATA: &str = "NoError, authoritative; ; consul. SOA; ";
const SRV: &str = "NoError, authoritative; 1 1 8080 0af40001.addr.dc1.consul.; ; 0af40001.addr.dc1.consul. 10.244.0.1";
const PROXY_SRV: &str =
    "NoError, authoritative; 1 1 20000 0af40001.addr.dc1.consul.; ; 0af40001.addr.dc1.consul. 10.244.0.1";
const WEB: &str = "NoError, authoritative; 10.244.0.1; ; ";
const VIRTUAL: &str = "NoError, authoritative; 240.0.0.1; ; ";

#[rstest]
#[case::virtual_address("web.virtual.consul. A", VIRTUAL)]
#[case::over_tcp("web.virtual.consul. A tcp", VIRTUAL)]
#[case::case_does_not_matter("WEB.Virtual.CONSUL. A", VIRTUAL)]
#[case::any_type("web.virtual.consul. ANY", VIRTUAL)]
#[case::virtual_of_another_family("web.virtual.consul. AAAA", "NoError, authoritative; ; ; 240.0.0.1")]
#[case::virtual_of_another_type("web.virtual.consul. SRV", "NoError, authoritative; ; ; 240.0.0.1")]
#[case::virtual_of_a_port("metrics.web.virtual.consul. A", "NoError, authoritative; 240.0.0.2; ; ")]
#[case::virtual_of_no_port("other.web.virtual.consul. A", VIRTUAL)]
#[case::virtual_of_nobody("nobody.virtual.consul. A", "NoError, authoritative; ; ; ")]
#[case::virtual_of_a_peer("web.virtual.other.consul. A", "NoError, authoritative; ; ; ")]
#[case::virtual_in_a_datacenter("web.virtual.dc1.dc.consul. A", NOBODY)]
#[case::instances("web.service.consul. A", WEB)]
#[case::with_the_datacenter("web.service.dc1.consul. A", WEB)]
#[case::with_the_datacenter_in_full("web.service.dc1.dc.consul. A", WEB)]
#[case::another_datacenter("web.service.dc2.consul. A", "NoError, authoritative; 10.245.0.1; ; ")]
#[case::another_datacenter_in_full("web.connect.dc2.dc.consul. A", "NoError, authoritative; 10.245.0.1; ; ")]
#[case::srv_of_another_datacenter(
    "v1.web.service.dc2.consul. SRV",
    "NoError, authoritative; 1 1 8080 0af50001.addr.dc2.consul.; ; 0af50001.addr.dc2.consul. 10.245.0.1"
)]
#[case::tagged_otherwise_there("v2.web.service.dc2.consul. A", NOBODY)]
#[case::nobody_there("nobody.service.dc2.consul. A", NOBODY)]
#[case::no_such_datacenter("web.service.dc9.consul. A", NOBODY)]
#[case::imported("db.virtual.east.consul. A", "NoError, authoritative; 240.0.0.3; ; ")]
#[case::imported_in_full("db.virtual.east.peer.consul. A", "NoError, authoritative; 240.0.0.3; ; ")]
#[case::not_imported("web.virtual.east.consul. A", "NoError, authoritative; ; ; ")]
#[case::in_the_default_group("web.virtual.all.sg.consul. A", VIRTUAL)]
#[case::in_another_group("web.virtual.some.sg.consul. A", NOBODY)]
#[case::in_no_group("web.virtual.none.sg.consul. A", NOBODY)]
#[case::of_a_peer("web.service.other.peer.consul. A", NOBODY)]
#[case::of_the_enterprise_edition("web.service.default.ns.consul. A", NOBODY)]
#[case::tagged("v1.web.service.consul. A", WEB)]
#[case::tagged_with_dots("A.B.web.service.consul. A", WEB)]
#[case::tagged_otherwise("v2.web.service.consul. A", NOBODY)]
#[case::proxies("web.connect.consul. A", WEB)]
#[case::proxies_by_their_own_name("web-sidecar-proxy.service.consul. SRV", PROXY_SRV)]
#[case::not_of_this_type("web.service.consul. AAAA", NO_DATA)]
#[case::ipv6("six.service.consul. AAAA", "NoError, authoritative; fd00::1; ; ")]
#[case::ipv6_only("six.service.consul. A", NO_DATA)]
#[case::srv("web.service.consul. SRV", SRV)]
#[case::srv_of_proxies("web.connect.consul. SRV", PROXY_SRV)]
#[case::srv_ipv6(
    "six.service.consul. SRV",
    "NoError, authoritative; 1 1 8080 fd000000000000000000000000000001.addr.dc1.consul.; ; \
     fd000000000000000000000000000001.addr.dc1.consul. fd00::1"
)]
#[case::rfc_2782("_web._tcp.service.consul. SRV", SRV)]
#[case::rfc_2782_with_a_tag("_web._v1.service.consul. SRV", SRV)]
#[case::rfc_2782_with_another_tag("_web._v2.service.consul. SRV", NOBODY)]
#[case::rfc_2782_in_short("_web._tcp.consul. SRV", SRV)]
#[case::rfc_2782_in_short_is_for_srv_only("_web._tcp.consul. A", NOBODY)]
#[case::address("0af40001.addr.dc1.consul. A", "NoError, authoritative; 0af40001.addr.dc1.consul. 10.244.0.1; ; ")]
#[case::address_of_another_family(
    "0af40001.addr.dc1.consul. AAAA",
    "NoError, authoritative; ; ; 0af40001.addr.dc1.consul. 10.244.0.1"
)]
#[case::node("node-0-virtual.node.consul. A", "NoError, authoritative; 172.18.0.2; ; synthetic-node=true")]
#[case::what_is_known_of_a_node("node-0-virtual.node.consul. TXT", "NoError, authoritative; synthetic-node=true; ; ")]
#[case::all_of_a_node("node-0-virtual.node.consul. ANY", "NoError, authoritative; 172.18.0.2, synthetic-node=true; ; ")]
#[case::nothing_is_known_of_a_service("web.service.consul. TXT", NO_DATA)]
#[case::node_without_ipv6("node-0-virtual.node.dc1.consul. AAAA", NO_DATA)]
#[case::no_node("node-9.node.consul. A", NOBODY)]
#[case::unknown("nobody.service.consul. A", NOBODY)]
#[case::not_ready("sick.service.consul. A", NOBODY)]
#[case::terminating("fading.service.consul. SRV", NOBODY)]
#[case::no_gateway("web.ingress.consul. A", NOBODY)]
#[case::query("geo.query.consul. A", WEB)]
#[case::query_of_our_datacenter("GEO.query.dc1.consul. A", WEB)]
#[case::query_for_ports("geo.query.consul. SRV", SRV)]
#[case::query_for_proxies("proxies.query.consul. SRV", PROXY_SRV)]
#[case::query_that_turns_elsewhere("far.query.consul. A", "NoError, authoritative; 10.245.0.3; ; ")]
#[case::query_that_turns_elsewhere_for_ports(
    "far.query.consul. SRV",
    "NoError, authoritative; 1 1 8080 0af50003.addr.dc2.consul.; ; 0af50003.addr.dc2.consul. 10.245.0.3"
)]
#[case::query_that_finds_nobody("none.query.consul. A", NOBODY)]
#[case::no_prepared_query("web.query.consul. A", NOBODY)]
#[case::malformed("a.b.c.consul. A", NOBODY)]
#[case::no_kind("web.consul. A", NOBODY)]
#[case::authority("consul. SOA", "NoError, authoritative; consul. SOA; ; ")]
#[case::servers("consul. NS", NO_DATA)]
#[case::transfer("consul. AXFR tcp", "NotImp, authoritative; ; ; ")]
#[case::difference("consul. IXFR tcp", "NotImp, authoritative; ; ; ")]
#[case::reverse("1.0.244.10.in-addr.arpa. PTR", "NoError, authoritative; web.service.dc1.consul.; ; ")]
#[case::reverse_of_a_node(
    "2.0.18.172.in-addr.arpa. PTR",
    "NoError, authoritative; node-0-virtual.node.dc1.consul.; ; "
)]
#[case::reverse_of_nobody("9.9.9.9.in-addr.arpa. PTR", "NXDomain, authoritative; ; ; ")]
#[case::reverse_of_a_network("244.10.in-addr.arpa. PTR", "NXDomain, authoritative; ; ; ")]
#[case::not_ours("web.default.svc.cluster.local. A", "Refused; ; ; ")]
#[case::not_ours_to_transfer("cluster.local. AXFR tcp", "Refused; ; ; ")]
#[case::not_quite_ours("web.service.notconsul. A", "Refused; ; ; ")]
#[case::three_in_a_plain_datagram("many.service.consul. A", "NoError, authoritative; 3 A; ; ")]
#[case::three_in_one_of_the_same_size("many.service.consul. A 512", "NoError, authoritative; 3 A; ; ")]
#[case::what_fits_in_a_longer_one("many.service.consul. A 1232", "NoError, authoritative; 74 A; ; ")]
#[case::all_in_a_long_one("many.service.consul. A 4096", "NoError, authoritative; 100 A; ; ")]
#[case::all_over_tcp("many.service.consul. A tcp", "NoError, authoritative; 100 A; ; ")]
#[case::additions_go_with_their_answers("many.service.consul. SRV", "NoError, authoritative; 3 SRV; ; 3 A")]
fn answers(#[case] question: &str, #[case] expected: &str) {
    assert_eq!(told(&asked(question)), expected);
}

fn told(reply: &Message) -> String {
    let code = format!(
        "{:?}{}",
        reply.metadata.response_code,
        [", authoritative", ""][usize::from(!reply.metadata.authoritative)]
    );
    let sections = [&reply.answers, &reply.authorities, &reply.additionals].map(|section| shown(section));
    format!("{code}; {}", sections.join("; "))
}

const OF_AP1: &str = "NoError, authoritative; 241.0.0.1; ; ";
const DB: &str = "NoError, authoritative; 10.245.0.1; ; ";
const EMPTY: &str = "NoError, authoritative; ; ; ";

#[rstest]
#[case::ours("web.virtual.consul. A", VIRTUAL)]
#[case::ours_in_full("web.virtual.default.ns.default.ap.consul. A", VIRTUAL)]
#[case::exported("db.virtual.default.ns.ap1.ap.consul. A", OF_AP1)]
#[case::not_exported("web.virtual.default.ns.ap1.ap.consul. A", EMPTY)]
#[case::of_a_partition_that_is_not_there("db.virtual.default.ns.ap9.ap.consul. A", EMPTY)]
#[case::of_a_namespace_that_is_not_there("web.virtual.shop.ns.consul. A", EMPTY)]
#[case::of_a_partition_and_a_datacenter("db.virtual.default.ns.ap1.ap.dc1.dc.consul. A", NOBODY)]
#[case::instances("db.service.default.ns.ap1.ap.consul. A", DB)]
#[case::tagged_instances("v1.db.service.default.ns.ap1.ap.dc1.dc.consul. A", DB)]
#[case::proxies("db.connect.ap1.ap.consul. A", DB)]
#[case::srv_of_instances(
    "db.service.default.ns.ap1.ap.consul. SRV",
    "NoError, authoritative; 1 1 8080 0af50001.addr.dc1.consul.; ; 0af50001.addr.dc1.consul. 10.245.0.1"
)]
#[case::instances_that_are_not_exported("web.service.default.ns.ap1.ap.consul. A", NOBODY)]
#[case::instances_of_a_partition_that_is_not_there("db.service.ap9.ap.consul. A", NOBODY)]
#[case::ours_of_the_group("web.service.default.ns.all.sg.default.ap.consul. A", WEB)]
#[case::others_of_the_group("db.service.default.ns.all.sg.default.ap.consul. A tcp", DB)]
#[case::nobody_of_the_group("api.service.default.ns.all.sg.default.ap.consul. A", NOBODY)]
#[case::of_no_group("db.service.default.ns.some.sg.default.ap.consul. A", NOBODY)]
#[case::virtual_of_the_group("web.virtual.all.sg.consul. A", VIRTUAL)]
fn answers_with_partitions(#[case] question: &str, #[case] expected: &str) {
    assert_eq!(told(&asked_of(&TENANT, question)), expected);
}

/// Every additional address is that of an answer that stayed.
#[test]
fn what_is_left_out_leaves_with_its_address() {
    let reply = asked("many.service.consul. SRV 1232");
    let targets: Vec<_> = reply.answers.iter().map(|answer| answer.data.to_string()).collect();
    assert!((4..100).contains(&targets.len()), "{targets:?}");
    assert_eq!(reply.additionals.len(), targets.len());
    assert!(reply.additionals.iter().all(|extra| targets.iter().any(|t| t.ends_with(&extra.name.to_string()))));
    assert!(reply.to_vec().expect("bytes").len() <= 1232);
}

#[test]
fn every_instance_is_named_at_some_time() {
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 100 {
        seen.extend(asked("many.service.consul. A").answers.iter().map(|answer| answer.data.to_string()));
    }
}

#[test]
fn the_subnet_of_a_client_is_said_again() {
    let mut query = Message::query();
    query.add_query(hickory_proto::op::Query::query(
        Name::from_ascii("web.service.consul.").expect("a name"),
        RecordType::A,
    ));
    let mut edns = Edns::new();
    edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(IpAddr::from([192, 0, 2, 0]), 24, 24)));
    edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8]));
    query.set_edns(edns);
    let reply = answer(&WORLD, &Rights::All, &query.to_vec().expect("a query"), Transport::Udp).expect("an answer");
    let edns = Message::from_vec(&reply).expect("a message").edns.expect("EDNS");
    let subnet = ClientSubnet::new(IpAddr::from([192, 0, 2, 0]), 24, 0);
    assert_eq!(edns.options().as_ref(), [(EdnsCode::Subnet, EdnsOption::Subnet(subnet))]);
}

#[rstest]
#[case::no_message(b"nonsense", None)]
#[case::a_response(b"\x12\x34\x80\0\0\0\0\0\0\0\0\0", None)]
#[case::no_question(b"\x12\x34\0\0\0\0\0\0\0\0\0\0", Some(ResponseCode::FormErr))]
#[case::a_question_that_breaks_off(b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x03we", Some(ResponseCode::FormErr))]
#[case::a_response_that_breaks_off(b"\x12\x34\x80\0\0\x01\0\0\0\0\0\0\x03we", None)]
#[case::a_notification(b"\x12\x34\x20\0\0\x01\0\0\0\0\0\0\0\0\x06\0\x01", Some(ResponseCode::NotImp))]
fn what_is_no_question(#[case] message: &[u8], #[case] expected: Option<ResponseCode>) {
    let reply = answer(&WORLD, &Rights::All, message, Transport::Udp)
        .map(|bytes| Message::from_vec(&bytes).expect("a message"));
    assert_eq!(reply.as_ref().map(|reply| reply.metadata.response_code), expected);
    assert!(reply.is_none_or(|reply| reply.metadata.id == 0x1234));
}

#[rstest]
#[case::virtual_name("web.virtual.consul. A", ResponseCode::ServFail)]
#[case::virtual_name_of_nothing("nothing.virtual.consul. A", ResponseCode::ServFail)]
#[case::instances("web.service.consul. A", ResponseCode::NXDomain)]
#[case::query("geo.query.consul. A", ResponseCode::NXDomain)]
#[case::elsewhere("example.org. A", ResponseCode::Refused)]
fn who_may_read_nothing_is_told_nothing(#[case] question: &str, #[case] code: ResponseCode) {
    let (name, kind) = question.split_once(' ').expect("a name and a type");
    let mut query = Message::query();
    let kind = kind.parse().expect("a type");
    query.add_query(hickory_proto::op::Query::query(Name::from_ascii(name).expect("a name"), kind));
    let message = query.to_vec().expect("a query");
    let reply = |rights| {
        let bytes = answer(&WORLD, &rights, &message, Transport::Udp).expect("an answer");
        Message::from_vec(&bytes).expect("a message")
    };
    let denied = reply(Rights::Anonymous { reads: false });
    assert_eq!((denied.metadata.response_code, denied.answers.len()), (code, 0));
    let allowed = |rights| reply(rights).answers.len();
    assert_eq!(allowed(Rights::Anonymous { reads: true }), allowed(Rights::All));
}

/// Servers that have just begun, and who tells them more.
fn just_begun() -> (tokio::sync::watch::Sender<Arc<World>>, Arc<Shared>) {
    let partial = World { is_partial: true, ..World::empty(WORLD.names.clone(), Intention::Allow) };
    let (publish, worlds) = tokio::sync::watch::channel(Arc::new(partial));
    let authority = Authority::new(WORLD.names.clone()).expect("an authority");
    (publish, Arc::new(Shared::new(worlds, authority.clone(), authority, None)))
}

/// A query for an address.
fn query(name: &str) -> Vec<u8> {
    let mut query = Message::query();
    let name = Name::from_ascii(name).expect("a name");
    query.add_query(hickory_proto::op::Query::query(name, RecordType::A));
    query.to_vec().expect("a query")
}

fn assert_found(reply: &[u8]) {
    let reply = Message::from_vec(reply).expect("a message");
    assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 1));
}

/// Resolvers try a name with all that they add to names before they try it as it is.
#[rstest]
#[case::a_service("web.service.consul.", true)]
#[case::in_capitals("web.service.CONSUL.", true)]
#[case::an_address("1.0.0.127.in-addr.arpa.", true)]
#[case::with_a_search_domain("web.service.consul.default.svc.cluster.local.", false)]
#[case::the_root(".", false)]
#[tokio::test]
async fn who_must_be_asked_instead_is_said_at_once(#[case] name: &str, #[case] waits: bool) {
    let (_publish, shared) = just_begun();
    let world = shared.world_to_answer(&query(name)).now_or_never();
    assert_eq!(world.is_none(), waits);
}

#[tokio::test]
async fn what_is_not_known_yet_is_not_denied_to_proxies() {
    let (publish, shared) = just_begun();
    let request =
        axum::http::Request::post(crate::feed::DNS_PATH).body(axum::body::Body::from(query("web.service.consul.")));
    let mut asked = std::pin::pin!(feed::router(shared).oneshot(request.expect("a request")));
    for _ in 0..10 {
        assert!(futures::poll!(asked.as_mut()).is_pending(), "answered before anything is known");
        tokio::task::yield_now().await;
    }
    publish.send_replace(Arc::new(WORLD.clone()));
    let body = asked.await.expect("an answer").into_body();
    assert_found(&axum::body::to_bytes(body, usize::MAX).await.expect("a body"));
}

#[rstest]
#[case::udp(Transport::Udp)]
#[case::tcp(Transport::Tcp)]
#[tokio::test]
async fn what_is_not_known_yet_is_not_denied(#[case] transport: Transport) {
    let (publish, shared) = just_begun();
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    udp.set_nonblocking(true).expect("a socket");
    tcp.set_nonblocking(true).expect("a socket");
    let (udp_address, tcp_address) = (udp.local_addr().expect("bound"), tcp.local_addr().expect("bound"));
    let (gate, tasks) = (Gate::default(), TaskTracker::new());
    start(udp, tcp, shared, &gate, &tasks).expect("a server");

    let query = query("web.service.consul.");
    let idle = publish.receiver_count();
    let ask = async {
        match transport {
            Transport::Udp => {
                let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
                client.send_to(&query, udp_address).await.expect("sent");
                let mut reply = vec![0; 512];
                let length = client.recv(&mut reply).await.expect("an answer");
                reply[..length].to_owned()
            }
            Transport::Tcp => {
                let mut client = tokio::net::TcpStream::connect(tcp_address).await.expect("a connection");
                client.write_u16(query.len() as u16).await.expect("sent");
                client.write_all(&query).await.expect("sent");
                let mut reply = vec![0; client.read_u16().await.expect("an answer").into()];
                client.read_exact(&mut reply).await.expect("an answer");
                reply
            }
        }
    };
    let mut ask = std::pin::pin!(ask);
    let waits = async {
        while publish.receiver_count() == idle {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        reply = ask.as_mut() => panic!("answered before anything is known: {:?}", Message::from_vec(&reply)),
        () = waits => {}
    }
    publish.send_replace(Arc::new(WORLD.clone()));
    assert_found(&ask.await);
    gate.stop();
}
