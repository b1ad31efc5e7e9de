//! What is legal and surely not wanted.

use crate::pods::{annotated, namespace, with};
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::Arc;
use webhook::surroundings::AccessLogs;
use webhook::{Settings, Surroundings, admit};

fn warnings(annotations: &[(&str, &str)], spec: Value, settings: &Settings) -> Vec<String> {
    let surroundings = Surroundings::of(namespace(&[]));
    admit(&with(annotations, spec), &surroundings, settings).expect("a Pod that can be injected").warnings
}

fn plain() -> Value {
    json!({"containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}]})
}

fn probed(probe: Value) -> Value {
    json!({"containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080}], "readinessProbe": probe}]})
}

#[rstest]
#[case::own_inbound(&[("transparent-proxy-exclude-inbound-ports", "20000")], plain(), "exclude-inbound-ports excludes 20000, a port of the proxy itself")]
#[case::others_proxies(&[("transparent-proxy-exclude-outbound-ports", "20000")], plain(), "dial other pods' proxies past its own")]
#[case::exempt_user(
    &[("transparent-proxy-exclude-uids", "1000")],
    json!({"containers": [{"name": "app", "securityContext": {"runAsUser": 1000}}]}),
    "container app runs as user 1000, which annotation consul.hashicorp.com/transparent-proxy-exclude-uids excludes"
)]
#[case::exempt_user_of_the_pod(
    &[("transparent-proxy-exclude-uids", "1000")],
    json!({"securityContext": {"runAsUser": 1000}, "containers": [{"name": "app"}]}),
    "container app runs as user 1000"
)]
#[case::net_admin(
    &[],
    json!({"containers": [{"name": "app", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]}),
    "container app has NET_ADMIN: it can remove the redirection"
)]
#[case::privileged(
    &[],
    json!({"containers": [{"name": "app", "securityContext": {"privileged": true}}]}),
    "container app is privileged"
)]
#[case::init_containers(
    &[],
    json!({"containers": [{"name": "app"}], "initContainers": [{"name": "migrate"}]}),
    "what init container migrate sends goes past the proxy; set annotation consul.hashicorp.com/transparent-proxy-init-containers"
)]
#[case::upstreams(&[("connect-service-upstreams", "a:1234,b:1234")], plain(), "upstreams a and b have the same port 1234")]
#[case::misspelt(&[("transparent-proxy-exclude-inbound-port", "80")], plain(), "is consul.hashicorp.com/transparent-proxy-exclude-inbound-ports meant?")]
#[case::without_effect(&[("transparent-proxy", "false"), ("consul-dns", "true")], plain(), "consul-dns has no effect: transparent proxy is off")]
#[case::proxy_config(&[("proxy-config-map", "{")], plain(), "proxy-config-map is passed over: it is no JSON object")]
#[case::http_probe_not_overwritten(
    &[("transparent-proxy-overwrite-probes", "false")],
    probed(json!({"httpGet": {"port": "http"}})),
    "readinessProbe of container app fails always under transparent proxy"
)]
fn one_warning(#[case] annotations: &[(&str, &str)], #[case] spec: Value, #[case] part: &str) {
    let warnings = warnings(annotations, spec, &Settings::default());
    assert!(warnings.len() == 1 && warnings[0].contains(part), "{part} in {warnings:?}");
    // the API server cuts longer ones off
    assert!(warnings[0].len() < 256, "{} characters: {}", warnings[0].len(), warnings[0]);
}

#[rstest]
#[case::plain(&[], plain())]
#[case::http_probe(&[], probed(json!({"httpGet": {"port": "http"}})))]
#[case::exec_probe(&[], probed(json!({"exec": {"command": ["true"]}})))]
#[case::port_excluded(&[("transparent-proxy-exclude-inbound-ports", "8080")], probed(json!({"tcpSocket": {"port": "http"}})))]
#[case::upstreams(&[("connect-service-upstreams", "a:1234,b:1234:local_bind_address=127.0.0.2")], plain())]
#[case::native_sidecar(
    &[("enable-consul-dataplane-as-sidecar", "true")],
    json!({"containers": [{"name": "app"}], "initContainers": [{"name": "migrate"}]})
)]
#[case::decided(
    &[("transparent-proxy-init-containers", "allowed")],
    json!({"containers": [{"name": "app"}], "initContainers": [{"name": "migrate"}]})
)]
#[case::without_transparent_proxy(
    &[("transparent-proxy", "false")],
    json!({"containers": [{"name": "app", "readinessProbe": {"tcpSocket": {"port": 80}}}], "initContainers": [{"name": "migrate"}]})
)]
fn nothing_to_say(#[case] annotations: &[(&str, &str)], #[case] spec: Value) {
    assert_eq!(warnings(annotations, spec, &Settings::default()), Vec::<String>::new());
}

#[rstest]
#[case::two(&["a", "b"], &[], true)]
#[case::one(&["a"], &[], false)]
#[case::decided(&["a", "b"], &[("kubernetes-service", "a")], false)]
fn services_that_select_the_pod(#[case] services: &[&str], #[case] annotations: &[(&str, &str)], #[case] warned: bool) {
    let surroundings = Surroundings {
        services: services.iter().map(|name| (*name).to_owned()).collect(),
        ..Surroundings::of(namespace(&[]))
    };
    let warnings = admit(&annotated(annotations), &surroundings, &Settings::default()).expect("a Pod").warnings;
    assert_eq!(
        warnings.iter().any(|warning| warning.starts_with("Services a, b select the pod")),
        warned,
        "{warnings:?}"
    );
}

#[test]
fn with_a_cni_plugin_init_containers_have_no_network() {
    let spec = json!({"containers": [{"name": "app"}], "initContainers": [{"name": "migrate"}]});
    let warnings = warnings(&[], spec, &Settings { cni: true, ..Settings::default() });
    assert!(warnings[0].contains("has no network before the proxy is up"), "{warnings:?}");
}

#[test]
fn access_logs_without_a_directory() {
    let mut surroundings = Surroundings::of(namespace(&[]));
    let logs = AccessLogs { enabled: true, sink: "file".to_owned(), path: "access.log".to_owned() };
    Arc::make_mut(&mut surroundings.proxy_defaults).access_logs = logs;
    let warnings = admit(&annotated(&[]), &surroundings, &Settings::default()).expect("a Pod").warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("\"access.log\""), "{warnings:?}");
}

#[test]
fn not_more_than_can_be_read() {
    let keys: Vec<_> = (0..1000).map(|i| format!("colour-{i}")).collect();
    let annotations: Vec<_> = keys.iter().map(|key| (key.as_str(), "blue")).collect();
    assert_eq!(warnings(&annotations, plain(), &Settings::default()).len(), 20);
}
