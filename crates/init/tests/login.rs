//! Logging in to ACLs, against a server that has them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fake::{Consul, DEADLINE, REGISTERED};
use init::client::Servers;
use init::login::{Login, log_in};
use init::registration::Patience;
use nix::sys::signal::{Signal, kill};
use rstest::rstest;
use serde_json::json;

#[expect(dead_code, reason = "there is no TLS in these tests, and the catalogue is as it is")]
mod fake;

const BEARER: &str = "header.claims.signature";
const REFUSED: (u16, &str) = (403, "Permission denied");

/// A server with ACLs, and the directory with the files of a Pod.
fn bed(services: &str, bearer: &str) -> (Consul, tempfile::TempDir) {
    let consul = Consul::start(services, true);
    consul.demand_logins_with(BEARER, REFUSED);
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("token"), format!("{bearer}\n")).expect("written");
    (consul, directory)
}

/// The program as the webhook has it run, and as talkative as can be.
fn program(consul: &Consul, directory: &Path, account: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_connect-init"));
    command
        .args(["-pod-name=web-0", "-pod-namespace=shop", "-log-level=trace", "-service-name="])
        .arg(format!("-service-account-name={account}"))
        .arg(format!("-proxy-id-file={}", directory.join("proxyid").display()))
        .env_clear()
        .env("CONSUL_ADDRESSES", "127.0.0.1")
        .env("CONSUL_HTTP_PORT", consul.address.port().to_string())
        .env("CONSUL_NODE_NAME", "node-0-virtual")
        .env("CONSUL_LOGIN_AUTH_METHOD", "consul-k8s-auth-method")
        .env("CONSUL_LOGIN_BEARER_TOKEN_FILE", directory.join("token"))
        .env("CONSUL_LOGIN_META", "pod=shop/web-0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn log_of(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream).into_owned()).concat()
}

fn paths(consul: &Consul) -> Vec<String> {
    let path = |target: &String| target.split('?').next().unwrap_or_default().to_owned();
    consul.requests().iter().map(path).collect()
}

#[test]
fn a_token_is_fetched_used_given_back_and_never_told() {
    let (consul, directory) = bed(REGISTERED, BEARER);
    let output = program(&consul, directory.path(), "web")
        .env("CONSUL_NAMESPACE", "shop")
        .env("CONSUL_LOGIN_NAMESPACE", "default")
        .env("CONSUL_LOGIN_PARTITION", "east")
        .output()
        .expect("runs");
    let log = log_of(&output);
    assert!(output.status.success(), "{log}");
    let registration = "/v1/catalog/node-services/node-0-virtual";
    assert_eq!(paths(&consul), ["/v1/acl/login", registration, registration, "/v1/acl/logout"]);
    assert_eq!(consul.requests()[0], "/v1/acl/login?ns=default&partition=east");
    assert!(consul.requests()[1].contains("ns=shop"), "{:?}", consul.requests());
    let acls = consul.acls();
    let meta = json!({"pod": "shop/web-0"});
    assert_eq!(acls.logins, [json!({"AuthMethod": "consul-k8s-auth-method", "BearerToken": BEARER, "Meta": meta})]);
    assert_eq!(acls.tokens, Vec::<String>::new());
    assert!(!log.contains("secret-") && !log.contains(BEARER), "{log}");
}

#[test]
fn a_refused_login_is_tried_again_with_the_token_that_is_there_then() {
    let (consul, directory) = bed(REGISTERED, "expired");
    let child = program(&consul, directory.path(), "web").spawn().expect("starts");
    consul.until(|requests| requests.len() == 2);
    // as the kubelet does it
    std::fs::write(directory.path().join("next"), BEARER).expect("written");
    std::fs::rename(directory.path().join("next"), directory.path().join("token")).expect("renamed");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", log_of(&output));
    let logins = consul.acls().logins;
    assert_eq!(logins[0]["BearerToken"], "expired");
    assert_eq!(logins.last().map(|login| &login["BearerToken"]), Some(&json!(BEARER)));
}

#[rstest]
#[case::acls_are_off((401, "ACL support disabled"), "(do the servers have ACLs?): ask Consul server")]
#[case::the_request_is_wrong((400, "Bad request"), "HTTP 400: Bad request")]
fn what_waiting_does_not_help_against_fails_at_once(#[case] refusal: (u16, &'static str), #[case] expected: &str) {
    let (consul, directory) = bed(REGISTERED, "expired");
    consul.demand_logins_with(BEARER, refusal);
    let output = program(&consul, directory.path(), "web").output().expect("runs");
    let log = log_of(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(log.contains(expected) && log.contains("auth method \"consul-k8s-auth-method\""), "{log}");
    assert_eq!(paths(&consul), ["/v1/acl/login"]);
}

#[test]
fn the_service_of_another_name_is_refused_and_the_token_given_back() {
    let (consul, directory) = bed(REGISTERED, BEARER);
    let output = program(&consul, directory.path(), "shop").output().expect("runs");
    let log = log_of(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(log.contains("service account name shop doesn't match Consul service name web"), "{log}");
    assert_eq!(consul.acls().tokens, Vec::<String>::new());
    assert!(!directory.path().join("proxyid").exists());
}

#[test]
fn who_is_ended_gives_its_token_back() {
    let (consul, directory) = bed("[]", BEARER);
    let child = program(&consul, directory.path(), "web").spawn().expect("starts");
    // the third request is held back by the server: the program waits
    consul.until(|requests| requests.len() == 3);
    let told = Instant::now();
    kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    assert_eq!(output.status.code(), Some(143), "{}", log_of(&output));
    assert_eq!(consul.acls().tokens, Vec::<String>::new());
}

#[rstest]
#[case::refused("token", &["\"k8s\" (does one of its binding rules select", "HTTP 403: Permission denied"])]
#[case::no_file("nowhere", &["read the service account's token from ", "nowhere (is it mounted", "No such file"])]
#[case::an_empty_file("empty", &["empty (is it mounted", "the file is empty"])]
fn gives_up_saying_what_to_check(#[case] file: &str, #[case] expected: &[&str]) {
    let (consul, directory) = bed(REGISTERED, "expired");
    std::fs::write(directory.path().join("empty"), "\n").expect("written");
    let servers = Servers {
        hosts: vec!["127.0.0.1".into()],
        http_port: consul.address.port(),
        timeout: DEADLINE,
        token: None,
        credentials: None,
        scope: Vec::new(),
        tls: None,
    };
    let login = Login {
        auth_method: "k8s".into(),
        bearer_token_file: directory.path().join(file),
        meta: BTreeMap::new(),
        scope: Vec::new(),
    };
    let patience = Patience { total: Duration::from_millis(120), ..Patience::default() };
    let error = log_in(&servers, &login, &patience).expect_err("never");
    let told = format!("{:#}", anyhow::Error::new(error));
    for part in expected {
        assert!(told.contains(part), "{told} does not say {part:?}");
    }
}
