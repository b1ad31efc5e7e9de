//! Statements about synthetic packets: what the kernel tests cannot bring about at will.

use rstest::rstest;

use super::{Content, Query, Verdict};
use crate::scene::{Scene, Talk, address, evidence, hello, record, tcp, udp};
use crate::{Direction, Host, Place, Protocol, Timestamp};

const CANARY: &str = "c4n4ry";
const SNI: &str = "server.default.dc1.internal.example.consul";
const CLIENT: &str = "10.244.0.5:41000";
const SERVER: &str = "10.244.1.6:20000";
const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 70];

fn client() -> Host {
    Host::new("default/client", [address(CLIENT).ip()])
}

fn server() -> Host {
    Host::new("default/server", [address(SERVER).ip()])
}

fn why(verdict: Verdict) -> String {
    match verdict {
        Ok(proof) => format!("holds: {proof}"),
        Err(disproof) => disproof.to_string(),
    }
}

/// A connection between the two as both ends see it.
fn between(talk: &Talk<'_>) -> [Scene; 3] {
    let mut left = Scene::new("default/client", Place::Eth0);
    left.connection(Direction::Out, talk);
    let mut came = Scene::new("default/server", Place::Eth0);
    came.connection(Direction::In, talk);
    [left, came, Scene::new("default/server", Place::Loopback)]
}

#[rstest]
#[case::tls(&[hello(SNI, &[]), record(23, b"x")].concat(), &[record(22, b"hi"), record(23, b"y")].concat(), "holds")]
#[case::other_name(&[hello("other.internal", &[]), record(23, b"x")].concat(), b"", "asks for other.internal")]
#[case::no_greeting_back(&hello(SNI, &[]), ALERT, "did not greet back")]
#[case::not_finished(&hello(SNI, &[]), &record(22, b"hi"), "not finished")]
#[case::plaintext(b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200", "does not begin with a TLS greeting")]
#[case::plaintext_answer(&[hello(SNI, &[]), record(23, b"x")].concat(), &[&record(22, b"hi")[..], b"HTTP/1.1"].concat(), "not TLS all through")]
#[case::silent(b"", b"", "nothing was sent")]
fn mutual_tls(#[case] asked: &[u8], #[case] answered: &[u8], #[case] expected: &str) {
    let [left, came, _] = between(&Talk { asked, answered, ..Talk::new(CLIENT, SERVER) });
    let both = evidence(&[&left, &came]);
    let verdict = both.since(Timestamp::START).mtls(&client(), &server(), Some(20000), Some(SNI));
    assert!(why(verdict.clone()).contains(expected), "{}", why(verdict));
}

#[rstest]
#[case::forwarded_to_it(true, "holds")]
#[case::forwarded_elsewhere(false, "no packet between the two")]
fn plaintext_by_way_of_an_address_of_somebody_else(#[case] arrived: bool, #[case] expected: &str) {
    const NODE_PORT: &str = "203.0.113.9:30080";
    let mut sender = Scene::new("default/client", Place::Eth0);
    sender.connection(Direction::Out, &Talk { asked: CANARY.as_bytes(), ..Talk::new(CLIENT, NODE_PORT) });
    let mut receiver = Scene::new("default/server", Place::Eth0);
    if arrived {
        // masqueraded on its way
        receiver.connection(Direction::In, &Talk { asked: CANARY.as_bytes(), ..Talk::new("172.18.0.2:41000", SERVER) });
    }
    let both = evidence(&[&sender, &receiver]);
    let dialled = Some(address(NODE_PORT).ip());
    let verdict = both.since(Timestamp::START).plaintext(&client(), &server(), dialled, CANARY);
    assert!(why(verdict.clone()).contains(expected), "{}", why(verdict));
}

#[test]
fn tls_that_did_not_arrive_as_it_left_is_none_between_the_two() {
    let asked = [hello(SNI, &[]), record(23, b"x")].concat();
    let answered = [record(22, b"hi"), record(23, b"y")].concat();
    let [left, _, _] = between(&Talk { asked: &asked, answered: &answered, ..Talk::new(CLIENT, SERVER) });
    let [_, elsewhere, _] = between(&Talk::new("10.244.0.9:41000", SERVER));
    let evidence = evidence(&[&left, &elsewhere]);
    let verdict = evidence.since(Timestamp::START).mtls(&client(), &server(), None, None);
    assert!(why(verdict).contains("did not arrive"));
}

#[rstest]
#[case::rst(CANARY.as_bytes(), b"", "R", "holds")]
#[case::fin(CANARY.as_bytes(), b"", "F", "holds")]
#[case::alert(CANARY.as_bytes(), ALERT, "", "holds")]
#[case::answered(CANARY.as_bytes(), b"HTTP/1.1 200 OK", "F", "it was answered")]
#[case::answered_by_tls(CANARY.as_bytes(), &record(22, b"hi"), "F", "it was answered")]
#[case::still_open(CANARY.as_bytes(), b"", "", "neither answered nor ended")]
#[case::other_canary(b"another", b"", "R", "did not send the canary")]
#[case::tls(&hello(SNI, &[]), b"", "R", "did not send the canary")]
fn plaintext_is_reset(#[case] asked: &[u8], #[case] answered: &[u8], #[case] end: &str, #[case] expected: &str) {
    let [_, came, inner] = between(&Talk { asked, answered, end, ..Talk::new(CLIENT, SERVER) });
    let evidence = evidence(&[&came, &inner]);
    let verdict = evidence.since(Timestamp::START).reset(&server(), 20000, Some(CANARY));
    assert!(why(verdict.clone()).contains(expected), "{}", why(verdict));
}

#[test]
fn a_refused_syn_is_no_reset_of_plaintext() {
    let mut came = Scene::new("default/server", Place::Eth0);
    came.frame(Direction::In, &tcp(CLIENT, SERVER, "S", 1, 0, b""));
    came.frame(Direction::Out, &tcp(SERVER, CLIENT, "R.", 0, 2, b""));
    let evidence = evidence(&[&came, &Scene::new("default/server", Place::Loopback)]);
    let verdict = evidence.since(Timestamp::START).reset(&server(), 20000, None);
    assert!(why(verdict).contains("did not come up"));
}

#[test]
fn a_canary_on_the_loopback_is_no_reset_and_no_bypass() {
    let [_, came, mut inner] =
        between(&Talk { asked: CANARY.as_bytes(), answered: CANARY.as_bytes(), ..Talk::new(CLIENT, SERVER) });
    inner.connection(
        Direction::Within,
        &Talk { asked: CANARY.as_bytes(), ..Talk::new("127.0.0.1:5000", "127.0.0.1:8080") },
    );
    let evidence = evidence(&[&came, &inner]);
    let window = evidence.since(Timestamp::START);
    assert!(why(window.reset(&server(), 20000, Some(CANARY))).contains("the loopback saw the canary"));
    assert!(why(window.bypass_in(&server(), 20000, CANARY)).contains("the loopback saw it too"));
    assert!(why(window.in_proxy(&server(), Some(8080), Some(CANARY))).contains("holds"));
}

#[test]
fn what_came_before_the_window_is_not_in_it() {
    let mut left = Scene::new("default/client", Place::Eth0);
    left.connection(Direction::Out, &Talk { asked: b"early", ..Talk::new(CLIENT, SERVER) });
    let middle = Timestamp::from_capture(0, 50_000_000);
    left.at(60).frame(Direction::Out, &tcp(CLIENT, SERVER, "F.", 106, 501, b""));
    let quiet = evidence(&[&left]);
    quiet.since(middle).silent_at_sender(&client(), &server()).expect("an ending connection says nothing");
    assert!(why(quiet.since(Timestamp::START).silent_at_sender(&client(), &server())).contains("these did"));

    left.frame(Direction::Out, &tcp(CLIENT, SERVER, "P.", 106, 501, b"late"));
    let loud = evidence(&[&left]);
    assert!(why(loud.since(middle).silent_at_sender(&client(), &server())).contains("len 4"));
}

#[test]
fn the_veth_tells_on_a_pod_whose_own_interface_is_silent() {
    let own = Scene::new("default/client", Place::Eth0);
    let mut veth = Scene::new("default/client", Place::Veth);
    veth.frame(Direction::Out, &udp(CLIENT, SERVER, b"x"));
    let evidence = evidence(&[&own, &veth]);
    let verdict = evidence.since(Timestamp::START).silent_at_sender(&client(), &server());
    assert!(why(verdict).contains("default/client/veth udp"));
}

#[test]
fn each_redirected_connection_accounts_for_one_that_left() {
    let web = "198.51.100.10:80";
    let mut inner = Scene::new("default/client", Place::Loopback);
    inner.connection(Direction::Within, &Talk { answers: web, ..Talk::new(CLIENT, "127.0.0.1:15001") });
    let mut left = Scene::new("default/client", Place::Eth0);
    left.at(100).connection(Direction::Out, &Talk::new("10.244.0.5:50001", web));
    let count = |left: &Scene| {
        let (host, to) = (client(), [address(web)]);
        let place = Some(Place::Eth0);
        let content = Content::Unproxied;
        let query = Query { host: &host, place, direction: Some(Direction::Out), to: &to, port: None, content };
        evidence(&[&inner, left]).since(Timestamp::START).count(query).expect("recorded").number
    };
    assert_eq!(count(&left), 0);
    left.connection(Direction::Out, &Talk::new("10.244.0.5:50002", web));
    assert_eq!(count(&left), 1);
}

#[test]
fn going_around_over_the_loopback_is_told_from_going_through() {
    let mut inner = Scene::new("default/server", Place::Loopback);
    inner.connection(Direction::Within, &Talk::new("127.0.0.1:5000", "127.0.0.1:8080"));
    inner.connection(
        Direction::Within,
        &Talk { answers: "127.0.0.2:8080", ..Talk::new("127.0.0.1:5001", "127.0.0.1:15001") },
    );
    let evidence = evidence(&[&inner, &Scene::new("default/server", Place::Eth0)]);
    let window = evidence.since(Timestamp::START);
    let (exempt, other) = (address("127.0.0.1:8080"), address("127.0.0.2:8080"));
    window.bypass_out(&server(), Protocol::Tcp, Some(5000), exempt).expect("127.0.0.1 is exempt");
    window.out_proxy(&server(), Some(5001), Some(other)).expect("127.0.0.2 is not");
    assert!(why(window.out_proxy(&server(), Some(5000), Some(exempt))).contains("around the proxy"));
    assert!(why(window.bypass_out(&server(), Protocol::Tcp, Some(5001), other)).contains("redirected"));
}

#[test]
fn nothing_reached_an_application_only_if_no_canary_did() {
    let [_, mut came, mut inner] = between(&Talk::new(CLIENT, SERVER));
    let quiet = evidence(&[&came, &inner]);
    let window = quiet.since(Timestamp::START);
    window.no_proxy_leg(&server(), Some(CANARY), &[8080]).expect("nothing did");
    assert!(why(window.no_proxy_leg(&server(), None, &[])).contains("neither"));

    inner.connection(Direction::Within, &Talk::new("127.0.0.1:5000", "127.0.0.1:8080"));
    let dialled = evidence(&[&came, &inner]);
    let window = dialled.since(Timestamp::START);
    window.no_proxy_leg(&server(), Some(CANARY), &[8080]).expect("a bare handshake carries nothing");

    inner.connection(Direction::Within, &Talk { asked: b"GET /", ..Talk::new("127.0.0.1:5001", "127.0.0.1:8080") });
    let probed = evidence(&[&came, &inner]);
    let window = probed.since(Timestamp::START);
    window.no_proxy_leg(&server(), Some(CANARY), &[]).expect("a probe is not the canary");
    assert!(why(window.no_proxy_leg(&server(), Some(CANARY), &[8080])).contains("it did"));

    came.connection(
        Direction::In,
        &Talk { asked: CANARY.as_bytes(), answered: b"hello", ..Talk::new(CLIENT, "10.244.1.6:8080") },
    );
    let bypassed = evidence(&[&came, &Scene::new("default/server", Place::Loopback)]);
    assert!(why(bypassed.since(Timestamp::START).no_proxy_leg(&server(), Some(CANARY), &[])).contains("it did"));
}

/// A DNS message about a name: an identifier, flags with this code, counts, and the question.
fn dns(name: &str, rcode: u8) -> Vec<u8> {
    let mut message = vec![0, 7, 0x80, 0x80 | rcode, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a short label"));
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

const ASKED: &str = "app.virtual.consul";
const SEARCHED: &str = "app.virtual.consul.default.svc.cluster.local";

#[rstest]
#[case::of_another_name(SEARCHED, 0, "holds", "the sidecar was asked")]
#[case::of_this_name(ASKED, 0, "queries left the Pod", "the sidecar was asked")]
#[case::refused(ASKED, 5, "queries left the Pod", "holds")]
fn whom_a_resolver_asked(#[case] left: &str, #[case] rcode: u8, #[case] consul: &str, #[case] cluster: &str) {
    let (mut lo, mut eth0) = (Scene::new("default/client", Place::Loopback), Scene::new("default/client", Place::Eth0));
    lo.frame(Direction::Within, &udp("127.0.0.1:40000", "127.0.0.1:8600", &dns(ASKED, 0)));
    lo.frame(Direction::Within, &udp("127.0.0.1:53", "127.0.0.1:40000", &dns(ASKED, rcode)));
    eth0.frame(Direction::Out, &udp("10.244.0.5:40001", "10.96.0.10:53", &dns(left, 0)));
    let evidence = evidence(&[&lo, &eth0]);
    let window = evidence.since(Timestamp::START);
    let name = format!("{ASKED}.");
    let found = why(window.dns_proxy(&client(), Some(&name)));
    assert!(found.contains(consul), "{found}");
    let found = why(window.dns_cluster(&client(), address("10.96.0.10:53").ip(), Some(&name)));
    assert!(found.contains(cluster), "{found}");
}

fn gateway() -> Host {
    Host::new("consul/gateway", [address("10.244.0.9:1").ip()])
}

/// What a client's connection is at the client, and what comes to and leaves a gateway.
fn through(arrived: &[u8], passed_on: &[u8]) -> Vec<Scene> {
    let greeting = hello(SNI, &[]);
    let or = |bytes: &[u8]| if bytes.is_empty() { greeting.clone() } else { bytes.to_vec() };
    let answered = record(22, b"hi");
    let mut left = Scene::new("default/client", Place::Eth0);
    let talk = Talk { asked: &greeting, answered: &answered, ..Talk::new(CLIENT, "172.18.0.2:30443") };
    left.connection(Direction::Out, &talk);
    let mut passing = Scene::new("consul/gateway", Place::Eth0);
    // translated on its way, and begun anew by the gateway
    let came = Talk { asked: &or(arrived), answered: &answered, ..Talk::new("172.18.0.1:5000", "10.244.0.9:8443") };
    passing.connection(Direction::In, &came);
    let went = Talk { asked: &or(passed_on), answered: &answered, ..Talk::new("10.244.0.9:5001", SERVER) };
    passing.connection(Direction::Out, &went);
    vec![left, passing]
}

#[rstest]
#[case::unopened(b"", b"", "holds", "these did")]
#[case::another_connection(&hello(SNI, &[]), &hello(SNI, &[]), "did not arrive at the gateway", "holds")]
#[case::opened(b"", &hello(SNI, &[]), "its greeting did not leave the gateway again", "these did")]
#[case::opened_and_in_clear(b"", b"GET / HTTP/1.1\r\n", "its greeting did not leave the gateway again", "these did")]
fn what_crosses_a_gateway(
    #[case] arrived: &[u8],
    #[case] passed_on: &[u8],
    #[case] crossed: &str,
    #[case] did_not: &str,
) {
    let scenes = through(arrived, passed_on);
    let evidence = evidence(&scenes.iter().collect::<Vec<_>>());
    let window = evidence.since(Timestamp::START);
    let found = why(window.gateway(&client(), &gateway()));
    assert!(found.contains(crossed), "{found}");
    let found = why(window.no_gateway(&client(), &gateway()));
    assert!(found.contains(did_not), "{found}");
    let unseen = why(window.no_gateway(&client(), &Host::new("consul/other", [])));
    assert!(unseen.contains("nobody recorded"), "{unseen}");
}

#[rstest]
#[case::cut_off(b"", b"", true, "none was sent")]
#[case::something_was_sent(b"GET / HTTP/1.1", b"", true, "a capture without any proves nothing")]
#[case::not_recorded(b"", b"", false, "a capture without any proves nothing")]
#[case::readable(b"", CANARY.as_bytes(), true, "these packets carry one")]
fn a_canary_that_nobody_could_send(
    #[case] inside: &[u8],
    #[case] outside: &[u8],
    #[case] recorded: bool,
    #[case] expected: &str,
) {
    const UPSTREAM: &str = "127.0.0.1:1234";
    const LOCAL: &str = "127.0.0.1:40001";
    let mut lo = Scene::new("default/client", Place::Loopback);
    if recorded {
        lo.connection(Direction::Within, &Talk { asked: inside, end: "F", ..Talk::new(LOCAL, UPSTREAM) });
    }
    let mut eth0 = Scene::new("default/client", Place::Eth0);
    eth0.connection(Direction::Out, &Talk { asked: outside, ..Talk::new(CLIENT, SERVER) });
    let evidence = evidence(&[&lo, &eth0]);
    let carriers = [("default/client".to_owned(), Some(address(LOCAL))), ("default/client".to_owned(), None)];
    let found = why(evidence.canary_free(&[CANARY], &carriers));
    assert!(found.contains(expected), "{found}");
}
