//! Statements about real packets: namespaces, real redirection rules, a proxy of a few lines.
//!
//! Every statement is made of what it is about and of its opposite: a capture that proves both proves nothing.

mod mesh;
mod pods;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use capture::{
    Content, Direction, Disproof, Evidence, Host, Place, Proof, Protocol, Query, Recorder, Timestamp, Vantage,
};
use mesh::{APPLICATION, EXCLUDED, SERVER_NAME};
use pods::{CLIENT, PORTS, Pods, SERVER, blocking, client_host, server_host};

type Verdict = Result<Proof, Disproof>;

const CANARY: &str = "c4n4ry-7f3a";

/// Asks again until it holds.
async fn eventually(recorder: &Recorder, mut statement: impl FnMut(&Evidence) -> Verdict) -> Proof {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        recorder.settle().await;
        match statement(&recorder.snapshot()) {
            Ok(proof) => return proof,
            Err(disproof) => assert!(Instant::now() < deadline, "{disproof}"),
        }
    }
}

fn all(evidence: &Evidence) -> capture::Window<'_> {
    evidence.since(Timestamp::START)
}

fn reason(verdict: Verdict) -> String {
    match verdict {
        Ok(proof) => panic!("should not hold: {proof}"),
        Err(disproof) => disproof.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirected_connection_is_told_from_one_that_is_not() {
    let pods = Pods::new().await;
    let server = SocketAddr::from((SERVER, 9000));
    let excluded = SocketAddr::from((SERVER, EXCLUDED));
    let _proxy = mesh::outbound(&pods.client, None);
    let _direct = mesh::echo(&pods.server, excluded);
    let through = blocking(&pods.client, move || mesh::ask(server, CANARY)).await;
    let around = blocking(&pods.client, move || mesh::ask(excluded, CANARY)).await;
    let (through, around) = (through.local.port(), around.local.port());

    let c = client_host();
    eventually(&pods.recorder, |e| all(e).out_proxy(&c, Some(through), Some(server))).await;
    eventually(&pods.recorder, |e| all(e).bypass_out(&c, Protocol::Tcp, Some(around), excluded)).await;

    let evidence = pods.recorder.finish().await;
    let window = all(&evidence);
    assert!(reason(window.bypass_out(&c, Protocol::Tcp, Some(through), server)).contains("redirected"));
    assert!(reason(window.out_proxy(&c, Some(around), Some(excluded))).contains("around the proxy"));
    assert!(reason(window.out_proxy(&c, Some(through), Some(excluded))).contains("no answer from there"));
    let later = evidence.since(Timestamp::now());
    assert!(reason(later.out_proxy(&c, Some(through), Some(server))).contains("no SYN"));
    assert_eq!(evidence.dropped(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meshed_request_is_proven_at_both_ends() {
    let pods = Pods::new().await;
    let target = SocketAddr::from((SERVER, APPLICATION));
    let _outbound = mesh::outbound(&pods.client, Some(SocketAddr::from((SERVER, PORTS.inbound))));
    let _inbound = mesh::inbound(&pods.server);
    let _application = mesh::echo(&pods.server, SocketAddr::from((Ipv4Addr::LOCALHOST, APPLICATION)));
    let said = blocking(&pods.client, move || mesh::ask(target, CANARY)).await;
    assert!(said.answer.contains(CANARY), "{said:?}");

    let (c, s) = (client_host(), server_host());
    let sni = Some(SERVER_NAME);
    eventually(&pods.recorder, |e| all(e).out_proxy(&c, Some(said.local.port()), Some(target))).await;
    eventually(&pods.recorder, |e| all(e).mtls(&c, &s, Some(PORTS.inbound), sni)).await;
    eventually(&pods.recorder, |e| all(e).in_proxy(&s, Some(APPLICATION), Some(CANARY))).await;

    let evidence = pods.recorder.finish().await;
    let window = all(&evidence);
    evidence.canary_free(&[CANARY], &[]).expect("the canary was in TLS");
    window.uses_port(&c, &s, PORTS.inbound).expect("the inbound listener");
    assert!(reason(window.uses_port(&c, &s, APPLICATION)).contains("elsewhere"));
    assert!(reason(window.mtls(&c, &s, Some(PORTS.inbound), Some("other.internal"))).contains("asks for"));
    assert!(reason(window.mtls(&c, &s, Some(APPLICATION), sni)).contains("goes to port 20000"));
    assert!(reason(window.in_proxy(&s, Some(9999), Some(CANARY))).contains("none was handed"));
    assert!(reason(window.in_proxy(&s, Some(APPLICATION), Some("another"))).contains("carries it"));
    assert!(reason(window.plaintext(&c, &s, None, CANARY)).contains("no packet"));
    assert!(reason(window.no_proxy_leg(&s, Some(CANARY), &[])).contains("it did"));
    assert!(reason(window.no_proxy_leg(&s, None, &[APPLICATION])).contains("it did"));
    assert!(reason(window.silent_at_sender(&c, &s)).contains("these did"));
    assert!(reason(window.silent_at_receiver(&c, &s)).contains("these did"));

    let query = |host, place, direction, port, content| Query { host, place, direction, to: &[], port, content };
    let count = |query| window.count(query).expect("it was recorded").number;
    assert_eq!(count(query(&c, Some(Place::Loopback), None, Some(PORTS.outbound), Content::Any)), 1);
    assert_eq!(count(query(&c, Some(Place::Eth0), Some(Direction::Out), Some(PORTS.inbound), Content::Tls)), 1);
    assert_eq!(count(query(&c, Some(Place::Veth), Some(Direction::Out), Some(PORTS.inbound), Content::Tls)), 1);
    assert_eq!(count(query(&c, None, None, Some(PORTS.inbound), Content::Tls)), 1, "a link is counted once");
    assert_eq!(count(query(&c, Some(Place::Eth0), Some(Direction::In), None, Content::Any)), 0);
    assert_eq!(count(query(&s, Some(Place::Eth0), None, None, Content::Plaintext)), 0);
    assert_eq!(count(query(&c, Some(Place::Eth0), None, None, Content::Unproxied)), 0);
    assert_eq!(evidence.dropped(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_to_a_tls_listener_is_reset_and_an_excluded_port_is_not() {
    let pods = Pods::new().await;
    let (c, s) = (client_host(), server_host());
    let _inbound = mesh::inbound(&pods.server);
    let excluded = SocketAddr::from((SERVER, EXCLUDED));
    let _direct = mesh::echo(&pods.server, excluded);
    let target = SocketAddr::from((SERVER, APPLICATION));
    let refused = blocking(&pods.client, move || mesh::ask_unredirected(target, CANARY)).await;
    assert!(!refused.answer.contains(CANARY), "{refused:?}");
    eventually(&pods.recorder, |e| all(e).reset(&s, APPLICATION, Some(CANARY))).await;
    pods.recorder.settle().await;
    let middle = Timestamp::now();
    let evidence = pods.recorder.snapshot();
    all(&evidence).no_proxy_leg(&s, Some(CANARY), &[APPLICATION]).expect("the application got nothing");
    assert!(reason(evidence.canary_free(&[CANARY], &[])).contains("carry one"));
    assert!(reason(all(&evidence).bypass_in(&s, APPLICATION, CANARY)).contains("no connection to that port"));
    assert!(reason(all(&evidence).in_proxy(&s, None, Some(CANARY))).contains("none was handed"));

    let answered = blocking(&pods.client, move || mesh::ask(excluded, CANARY)).await;
    assert!(answered.answer.contains(CANARY));
    eventually(&pods.recorder, |e| e.since(middle).bypass_in(&s, EXCLUDED, CANARY)).await;
    let evidence = pods.recorder.finish().await;
    let window = evidence.since(middle);
    window.plaintext(&c, &s, None, CANARY).expect("it was in clear");
    assert!(reason(window.reset(&s, EXCLUDED, Some(CANARY))).contains("it was answered"));
    assert!(reason(window.reset(&s, APPLICATION, Some(CANARY))).contains("no connection to that port"));
    assert!(reason(window.no_proxy_leg(&s, Some(CANARY), &[])).contains("it did"));
    assert!(reason(window.mtls(&c, &s, None, None)).contains("TLS greeting"));
    let direct = Query {
        host: &c,
        place: Some(Place::Eth0),
        direction: Some(Direction::Out),
        to: &[excluded],
        port: None,
        content: Content::Unproxied,
    };
    assert_eq!(window.count(direct).expect("recorded").number, 1, "it had no leg through the proxy");
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_are_not_redirected_and_dns_is() {
    let pods = Pods::new().await;
    let (c, s) = (client_host(), server_host());
    let (resolver, plain) = (SocketAddr::from((Ipv4Addr::LOCALHOST, 53)), SocketAddr::from((SERVER, 9999)));
    let name = "web.virtual.consul";
    let query = mesh::query(name);
    let _dns = mesh::echo_datagrams(&pods.client, SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.dns)));
    let answer = blocking(&pods.client, move || mesh::exchange_datagrams(resolver, &query, true)).await;
    assert!(answer.is_some(), "the answer comes as from port 53");
    eventually(&pods.recorder, |e| all(e).dns_proxy(&c, Some(name))).await;
    let evidence = pods.recorder.snapshot();
    assert!(reason(all(&evidence).dns_proxy(&c, Some("other.consul"))).contains("no query"));
    assert!(reason(all(&evidence).dns_cluster(&c, SERVER.into(), Some(name))).contains("the sidecar was asked"));

    let middle = Timestamp::now();
    let query = mesh::query("web.default.svc.cluster.local");
    let cluster_dns = SocketAddr::from((SERVER, 53));
    blocking(&pods.client, move || mesh::exchange_datagrams(cluster_dns, &query, false)).await;
    eventually(&pods.recorder, |e| e.since(middle).dns_cluster(&c, SERVER.into(), Some("WEB.default.svc"))).await;
    assert!(reason(pods.recorder.snapshot().since(middle).dns_proxy(&c, None)).contains("left the Pod"));

    let sent = Timestamp::now();
    blocking(&pods.client, move || mesh::exchange_datagrams(plain, CANARY.as_bytes(), false)).await;
    let bypass = eventually(&pods.recorder, |e| e.since(sent).bypass_out(&c, Protocol::Udp, None, plain)).await;
    assert!(bypass.to_string().contains("udp 10.9.0.1:"), "{bypass}");
    let evidence = pods.recorder.finish().await;
    evidence.since(sent).plaintext(&c, &s, None, CANARY).expect("a datagram in clear");
    let later = evidence.since(Timestamp::now());
    later.silent_at_sender(&c, &s).expect("nothing since");
    later.silent_at_receiver(&c, &s).expect("nothing since");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_request_is_seen_going_around() {
    let pods = Pods::new().await;
    let (c, s) = (client_host(), server_host());
    blocking(&pods.client, || mesh::ping(SERVER, CANARY.as_bytes())).await;
    let target = SocketAddr::from((SERVER, 0));
    eventually(&pods.recorder, |e| all(e).bypass_out(&c, Protocol::Icmp, None, target)).await;
    eventually(&pods.recorder, |e| all(e).plaintext(&c, &s, None, CANARY)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_recorded_proves_nothing() {
    let pods = Pods::new().await;
    let stranger = Host::new("default/stranger", [SERVER.into()]);
    let evidence = pods.recorder.finish().await;
    let window = all(&evidence);
    for verdict in [
        window.silent_at_sender(&stranger, &client_host()),
        window.silent_at_receiver(&client_host(), &stranger),
        window.no_proxy_leg(&stranger, Some(CANARY), &[]),
        window.bypass_out(&stranger, Protocol::Tcp, None, SocketAddr::from((CLIENT, 1))),
        window.bypass_in(&stranger, 1, CANARY),
        evidence.canary_free(&[CANARY], &[]),
        evidence.canary_free(&[], &[]),
    ] {
        assert!(reason(verdict).contains("proves nothing"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stream_is_recorded_whole() {
    const LENGTH: u64 = 64 << 20;
    let pods = Pods::new().await;
    // as much as the stream and a half, so that it does not depend on what else the machine has to do
    let files = tempfile::tempdir().expect("a directory");
    let recorder = Recorder::new(files.path(), PORTS).expect("it starts").with_buffer(96 << 20);
    let vantage = Vantage { host: pods::SERVER_NAME.into(), place: Place::Loopback };
    recorder.tap(&pods.server, "lo", vantage).await.expect("it is recorded");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, APPLICATION));
    let _sink = mesh::sink(&pods.server, address);
    blocking(&pods.server, move || mesh::pour(address, LENGTH)).await;
    let evidence = recorder.finish().await;
    assert_eq!(evidence.dropped(), []);
    let log = &evidence.logs[0];
    let size = std::fs::metadata(&log.file).expect("its file").len();
    assert!(size > capture::STREAM_CAP as u64 && size < LENGTH / 8, "beginning and headers: {size}");
    let flow = log.flows.iter().find(|flow| flow.responder == address).expect("the stream");
    assert_eq!(flow.client.total(), LENGTH);
    assert!(flow.server.fin.is_some());
    let payload: usize = log.packets().map(|packet| packet.length).sum();
    assert!((LENGTH..LENGTH * 3 / 2).contains(&(payload as u64)), "each packet once, some sent again: {payload}");
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_that_were_not_recorded_are_counted() {
    let pods = Pods::with_buffer(256 * 1024).await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, APPLICATION));
    let deadline = Instant::now() + Duration::from_secs(20);
    while pods.recorder.dropped().is_empty() {
        assert!(Instant::now() < deadline, "a flood into the smallest of buffers must overflow it");
        blocking(&pods.server, move || mesh::flood(address, 2000)).await;
        pods.recorder.settle().await;
    }
    let dropped = pods.recorder.dropped();
    assert_eq!(dropped[0].0, Vantage { host: pods::SERVER_NAME.into(), place: Place::Loopback });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_no_longer_recorded_keeps_its_evidence_and_lets_its_namespace_go() {
    let pods = Pods::new().await;
    let excluded = SocketAddr::from((SERVER, EXCLUDED));
    let _direct = mesh::echo(&pods.server, excluded);
    blocking(&pods.client, move || mesh::ask(excluded, CANARY)).await;
    for tap in pods.taps.iter().filter(|tap| tap.vantage().host == pods::CLIENT_NAME) {
        tap.stop().await;
    }
    let evidence = pods.recorder.snapshot();
    all(&evidence).bypass_out(&client_host(), Protocol::Tcp, None, excluded).expect("it was seen before");
    let ended = evidence.logs.iter().filter(|log| log.ended).map(|log| log.vantage.host.as_str());
    assert_eq!(ended.collect::<Vec<_>>(), [pods::CLIENT_NAME; 3]);
    // the files are complete
    let log = evidence.logs.iter().find(|log| log.vantage.place == Place::Eth0).expect("the client's link");
    let file = std::fs::read(&log.file).expect("a file");
    assert!(file.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_late_in_a_long_stream_is_found() {
    let pods = Pods::with_buffer(16 << 20).await;
    let inner = SocketAddr::from((Ipv4Addr::LOCALHOST, APPLICATION));
    let outer = SocketAddr::from((SERVER, EXCLUDED));
    let _sinks = (mesh::sink(&pods.server, inner), mesh::sink(&pods.server, outer));
    blocking(&pods.server, move || mesh::pour(inner, 1 << 20)).await;
    blocking(&pods.server, move || mesh::ask(inner, CANARY)).await;
    blocking(&pods.client, move || mesh::pour(outer, 2 << 20)).await;
    pods.recorder.settle().await;
    pods.recorder.snapshot().canary_free(&[CANARY], &[]).expect("it was on the loopback only");
    blocking(&pods.client, move || mesh::pour_and_tell(outer, 2 << 20, CANARY)).await;
    let evidence = pods.recorder.finish().await;
    assert_eq!(evidence.dropped(), []);
    assert!(reason(evidence.canary_free(&[CANARY], &[])).contains("carry one"));
    let log = evidence.logs.iter().find(|log| log.vantage.place == Place::Eth0).expect("the client's link");
    let file = std::fs::read(&log.file).expect("a file");
    assert!(file.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()), "and is in the file");
}
