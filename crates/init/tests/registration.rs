//! Waiting for the registration, against a catalogue that changes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fake::{Consul, DEADLINE, REGISTERED};
use init::catalog::Catalog;
use init::client::Servers;
use init::registration::{Patience, Pod, RegistrationError, wait};
use nix::sys::signal::{Signal, kill};
use rstest::rstest;

#[expect(dead_code, reason = "there is no TLS in these tests")]
mod fake;

fn pod() -> Pod {
    Pod {
        name: "web-0".into(),
        namespace: "shop".into(),
        node: "node-0-virtual".into(),
        service: None,
        gateway: None,
        account: None,
    }
}

fn servers(consul: &Consul, hosts: &[&str]) -> Servers {
    Servers {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        http_port: consul.address.port(),
        timeout: Duration::from_secs(2),
        token: None,
        credentials: None,
        scope: Vec::new(),
        tls: None,
    }
}

fn patience(total: Duration) -> Patience {
    Patience { total, poll: Duration::from_millis(50), ..Patience::default() }
}

#[rstest]
#[case::at_the_moment_it_appears(true)]
#[case::by_polling(false)]
fn returns_the_proxy_once_it_is_registered(#[case] blocking: bool) {
    let consul = Consul::start("null", blocking);
    let servers = servers(&consul, &["127.0.0.1"]);
    let registrar = std::thread::spawn({
        let consul = consul.clone();
        move || {
            consul.until(|requests| requests.len() == 2);
            consul.set(REGISTERED);
            Instant::now()
        }
    });
    let proxy = wait(&Catalog::new(&servers), &pod(), &patience(DEADLINE)).expect("registered");
    let late = registrar.join().expect("registered").elapsed();
    assert_eq!(proxy.id, "web-0-web-sidecar-proxy");
    assert!(late < Duration::from_secs(1), "returned {late:?} after the registration");

    let requests = consul.requests();
    if blocking {
        assert_eq!(
            requests.len(),
            3,
            "one answer held back until it is registered, one while that stands: {requests:?}"
        );
        assert!(requests[1].contains("index=7&wait="), "{requests:?}");
    } else {
        assert!(requests.iter().all(|target| !target.contains("index=")), "{requests:?}");
    }
}

#[test]
fn a_service_that_comes_after_the_first_is_not_missed() {
    let consul = Consul::start(REGISTERED, true);
    let servers = servers(&consul, &["127.0.0.1"]);
    let patience = Patience { stand: DEADLINE, ..patience(Duration::from_secs(1)) };
    let registrar = std::thread::spawn({
        let consul = consul.clone();
        move || {
            consul.until(|requests| requests.len() == 2);
            consul.set(TWO_SERVICES);
        }
    });
    let error = wait(&Catalog::new(&servers), &pod(), &patience).expect_err("two services");
    registrar.join().expect("registered");
    assert!(error.to_string().contains("found: 4"), "{error}");
}

#[test]
fn asks_for_this_pods_services_on_its_node_only() {
    let consul = Consul::start(REGISTERED, true);
    let pod = Pod { service: Some("web".into()), ..pod() };
    let servers = Servers { scope: vec![("dc", "dc2".into())], ..servers(&consul, &["127.0.0.1"]) };
    wait(&Catalog::new(&servers), &pod, &patience(DEADLINE)).expect("registered");
    let target = consul.requests().remove(0);
    let (path, query) = target.split_once('?').expect("a query");
    assert_eq!(path, "/v1/catalog/node-services/node-0-virtual");
    let filter = query.split('&').find_map(|pair| pair.strip_prefix("filter=")).expect("a filter");
    assert_eq!(
        decoded(filter),
        r#"Meta["pod-name"] == "web-0" and Meta["k8s-namespace"] == "shop" and (Service == "web" or Service == "web-sidecar-proxy")"#
    );
    assert!(query.contains("merge-central-config") && query.contains("dc=dc2"), "{query}");
}

fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().replace('+', " ").into_bytes();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("hexadecimal"));
        bytes.extend(part[2..].replace('+', " ").bytes());
    }
    String::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn a_server_that_is_down_is_passed_over() {
    let consul = Consul::start(REGISTERED, true);
    // no one listens on the first one
    let servers = servers(&consul, &["127.0.0.2", "127.0.0.1"]);
    wait(&Catalog::new(&servers), &pod(), &patience(DEADLINE)).expect("the second server answers");
}

const GATEWAY: &str = r#"[{"ID": "mesh-gateway-7f", "Service": "mesh-gateway", "Kind": "mesh-gateway"}]"#;

fn gateway(kind: &str) -> Pod {
    Pod { gateway: Some(kind.into()), ..pod() }
}

#[test]
fn of_a_gateway_there_is_one_service() {
    let consul = Consul::start(GATEWAY, true);
    let servers = servers(&consul, &["127.0.0.1"]);
    let found = wait(&Catalog::new(&servers), &gateway("mesh-gateway"), &patience(DEADLINE)).expect("registered");
    assert_eq!(found.id, "mesh-gateway-7f");
}

#[rstest]
#[case::another_kind(
    GATEWAY,
    "terminating-gateway",
    "no terminating-gateway is registered for this Pod alone, found: 1, services: [mesh-gateway]"
)]
#[case::an_application(REGISTERED, "mesh-gateway", "no mesh-gateway is registered for this Pod alone, found: 2")]
#[case::nothing("[]", "mesh-gateway", "services: []: check that one Kubernetes service")]
fn a_gateway_gives_up_saying_what_to_check(#[case] services: &str, #[case] kind: &str, #[case] expected: &str) {
    let consul = Consul::start(services, true);
    let servers = servers(&consul, &["127.0.0.1"]);
    let error = wait(&Catalog::new(&servers), &gateway(kind), &patience(Duration::from_millis(100))).expect_err("none");
    assert!(error.to_string().contains(expected), "{error}");
}

const TWO_SERVICES: &str = r#"[
    {"ID": "a", "Service": "a", "Kind": ""}, {"ID": "a-p", "Service": "a-sidecar-proxy", "Kind": "connect-proxy"},
    {"ID": "b", "Service": "b", "Kind": ""}, {"ID": "b-p", "Service": "b-sidecar-proxy", "Kind": "connect-proxy"}
]"#;

#[rstest]
#[case::none("[]", &["found: 0, services: []", "Kubernetes service", "selector"])]
#[case::application_only(r#"[{"ID": "a", "Service": "a"}]"#, &["found: 1, services: [a]", "not both registered yet"])]
#[case::several(TWO_SERVICES, &["found: 4, services: [a, a-sidecar-proxy, b, b-sidecar-proxy]", r#"consul.hashicorp.com/service-ignore: "true""#])]
#[case::no_proxy(r#"[{"ID": "a", "Service": "a"}, {"ID": "b", "Service": "b"}]"#, &["services a and b", "neither is a sidecar proxy"])]
fn gives_up_saying_what_to_check(#[case] services: &str, #[case] expected: &[&str]) {
    let consul = Consul::start(services, true);
    let servers = servers(&consul, &["127.0.0.1"]);
    let error = wait(&Catalog::new(&servers), &pod(), &patience(Duration::from_millis(200))).expect_err("never usable");
    for part in expected {
        assert!(error.to_string().contains(part), "{error} does not say {part:?}");
    }
}

#[test]
fn an_unreachable_server_is_named_in_the_end() {
    let consul = Consul::start(REGISTERED, true);
    let servers = servers(&consul, &["127.0.0.2"]);
    let error = wait(&Catalog::new(&servers), &pod(), &patience(Duration::from_millis(300))).expect_err("refused");
    let RegistrationError::Catalog { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains(&format!("ask Consul server 127.0.0.2:{}", servers.http_port)), "{source}");
}

/// The program itself, without anything to redirect.
fn program(consul: &Consul, proxy_id_file: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_connect-init"));
    command
        .args(["connect-init", "-pod-name=web-0", "-pod-namespace=shop", "-log-level=info", "-log-json=false"])
        .arg(format!("-proxy-id-file={}", proxy_id_file.display()))
        .env_clear()
        .env("CONSUL_ADDRESSES", "127.0.0.1")
        .env("CONSUL_HTTP_PORT", consul.address.port().to_string())
        .env("CONSUL_NODE_NAME", "node-0-virtual")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn says_early_what_it_is_waiting_for() {
    let consul = Consul::start("[]", true);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("proxyid");
    let mut child = program(&consul, &file).spawn().expect("starts");
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    log.read_line(&mut line).expect("a line");
    assert!(line.contains("WARN") && line.contains("Kubernetes service") && line.contains("shop/web-0"), "{line}");
    assert!(!file.exists());
    consul.set(REGISTERED);
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("the rest");
    assert!(child.wait().expect("ends").success(), "{line}{rest}");
    assert_eq!(std::fs::read_to_string(&file).expect("written"), "web-0-web-sidecar-proxy");
}

#[test]
fn sigterm_ends_the_wait_at_once() {
    let consul = Consul::start("[]", true);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("proxyid");
    let child = program(&consul, &file).spawn().expect("starts");
    // the second request is held back by the server: the program waits
    consul.until(|requests| requests.len() == 2);
    let told = Instant::now();
    kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    assert_eq!(output.status.code(), Some(143), "a status, not the signal's default action");
    let lines = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(lines.matches("connect-init: ended by SIGTERM before it was done: ").count(), 1, "{lines}");
    assert!(!file.exists());
}

#[rstest]
#[case::json("{\"ProxyUserID\": 5995}", &["CONSUL_REDIRECT_TRAFFIC_CONFIG", "ProxyUserID = 5995", "must be a string"])]
#[case::values(
    r#"{"ProxyUserID":"5995","ProxyInboundPort":20000,"ExcludeOutboundPorts":["80","65536"],"ExcludeUIDs":["root"]}"#,
    &["CONSUL_REDIRECT_TRAFFIC_CONFIG", "ExcludeOutboundPorts entry 2 \"65536\"", "from 1 to 65535", "ExcludeUIDs entry 1 \"root\""]
)]
fn a_wrong_redirect_configuration_fails_before_the_wait(#[case] json: &str, #[case] expected: &[&str]) {
    let consul = Consul::start("[]", true);
    let directory = tempfile::tempdir().expect("a directory");
    let output = program(&consul, &directory.path().join("proxyid"))
        .env("CONSUL_REDIRECT_TRAFFIC_CONFIG", json)
        .output()
        .expect("runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.starts_with("connect-init: failed to "), "{told}");
    for part in expected {
        assert!(told.contains(part), "{told} does not say {part:?}");
    }
    assert_eq!(consul.requests(), Vec::<String>::new());
}
