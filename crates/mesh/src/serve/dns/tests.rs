//! Answers to names, by name and type.

use hickory_proto::op::{Edns, Query};
use rstest::rstest;

use super::*;
use crate::fixture::world;
use crate::intentions::Intention;

fn asked(name: &str, kind: RecordType, transport: Transport, edns: bool) -> Message {
    let mut world = world(&["web"], Intention::Allow, &[]);
    let many: Vec<Arc<Instance>> = (10..20)
        .map(|i| {
            Arc::new(Instance {
                address: IpAddr::from([10, 244, 1, i]),
                service: "many".into(),
                proxy_id: i.to_string(),
                ..(**crate::fixture::instance(&world, "web")).clone()
            })
        })
        .collect();
    let sick = Arc::new(Instance {
        service: "sick".into(),
        proxy_id: "sick".into(),
        health: Health::NotReady,
        ..(**crate::fixture::instance(&world, "web")).clone()
    });
    let web = crate::fixture::instance(&world, "web").clone();
    world.catalog = crate::catalog::Catalog::new(many.iter().chain([&sick, &web]));
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    if edns {
        let mut size = Edns::new();
        size.set_max_payload(1232);
        query.set_edns(size);
    }
    let reply = answer(&world, &query.to_vec().expect("a query"), transport).expect("an answer");
    Message::from_vec(&reply).expect("a message")
}

#[rstest]
#[case::virtual_address("web.virtual.consul.", RecordType::A, "NoError 240.0.0.1")]
#[case::case_does_not_matter("WEB.Virtual.CONSUL.", RecordType::A, "NoError 240.0.0.1")]
#[case::virtual_of_another_family("web.virtual.consul.", RecordType::AAAA, "NoError ; 240.0.0.1")]
#[case::virtual_of_nobody("nobody.virtual.consul.", RecordType::A, "NoError")]
#[case::a_peer("web.virtual.other.consul.", RecordType::A, "NXDomain ; SOA")]
#[case::instances("web.service.consul.", RecordType::A, "NoError 10.244.0.1")]
#[case::with_the_datacenter("web.service.dc1.consul.", RecordType::A, "NoError 10.244.0.1")]
#[case::with_the_datacenter_in_full("web.service.dc1.dc.consul.", RecordType::A, "NoError 10.244.0.1")]
#[case::proxies("web.connect.consul.", RecordType::A, "NoError 10.244.0.1")]
#[case::other_type("web.service.consul.", RecordType::AAAA, "NoError ; SOA")]
#[case::srv("web.service.consul.", RecordType::SRV, "NoError 8080 0af40001.addr.dc1.consul. ; 10.244.0.1")]
#[case::srv_of_proxies("web.connect.consul.", RecordType::SRV, "NoError 20000 0af40001.addr.dc1.consul. ; 10.244.0.1")]
#[case::rfc_2782("_web._tcp.service.consul.", RecordType::SRV, "NoError 8080 0af40001.addr.dc1.consul. ; 10.244.0.1")]
#[case::address("0af40001.addr.dc1.consul.", RecordType::A, "NoError 10.244.0.1")]
#[case::unknown("nobody.service.consul.", RecordType::A, "NXDomain ; SOA")]
#[case::not_ready("sick.service.consul.", RecordType::A, "NXDomain ; SOA")]
#[case::malformed("a.b.c.consul.", RecordType::A, "NXDomain ; SOA")]
#[case::not_ours("web.default.svc.cluster.local.", RecordType::A, "Refused")]
fn names(#[case] name: &str, #[case] kind: RecordType, #[case] expected: &str) {
    let reply = asked(name, kind, Transport::Udp, false);
    let show = |r: &Record| match &r.data {
        RData::A(a) => a.to_string(),
        RData::SRV(srv) => format!("{} {}", srv.port, srv.target),
        RData::SOA(_) => "SOA".to_owned(),
        other => other.to_string(),
    };
    let answers: Vec<String> = reply.answers.iter().map(show).collect();
    let others: Vec<String> = reply.authorities.iter().chain(&reply.additionals).map(show).collect();
    let mut shown = format!("{:?} {}", reply.metadata.response_code, answers.join(" ")).trim_end().to_owned();
    if !others.is_empty() {
        shown += &format!(" ; {}", others.join(" "));
    }
    assert_eq!(shown, expected);
}

#[rstest]
#[case(Transport::Udp, false, 3)]
#[case(Transport::Udp, true, 10)]
#[case(Transport::Tcp, false, 10)]
fn answers_are_cut_to_fit(#[case] transport: Transport, #[case] edns: bool, #[case] count: usize) {
    let reply = asked("many.service.consul.", RecordType::A, transport, edns);
    assert_eq!(reply.answers.len(), count);
    assert!(!reply.metadata.truncation, "Consul does not say that it cut");
    assert_eq!(reply.edns.is_some(), edns);
}

#[test]
fn what_is_no_query_gets_no_answer() {
    let world = world(&[], Intention::Allow, &[]);
    assert_eq!(answer(&world, b"nonsense", Transport::Udp), None);
}
