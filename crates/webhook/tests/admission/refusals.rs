//! Pods that are refused, and what they are told.

use crate::pods::{annotated, namespace, with};
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::LazyLock;
use webhook::{Settings, inject};

fn refusal(annotations: &[(&str, &str)], spec: Value) -> String {
    inject(&with(annotations, spec), &namespace(&[]), &Settings::default()).expect_err("a refusal").to_string()
}

fn plain() -> Value {
    json!({"containers": [{"name": "app"}]})
}

static MANY: LazyLock<String> = LazyLock::new(|| (0..51).map(|i| i.to_string()).collect::<Vec<_>>().join(","));

const PORTS_IN: &str = "transparent-proxy-exclude-inbound-ports";
const PORTS_OUT: &str = "transparent-proxy-exclude-outbound-ports";
const CIDRS: &str = "transparent-proxy-exclude-outbound-cidrs";
const UIDS: &str = "transparent-proxy-exclude-uids";

#[rstest]
#[case(PORTS_IN, "abc", "\"abc\"", "from 1 to 65535")]
#[case(PORTS_IN, "65536", "\"65536\"", "from 1 to 65535")]
#[case(PORTS_IN, "-1", "\"-1\"", "from 1 to 65535")]
#[case(PORTS_IN, "8200,,8201", "entry 2 \"\"", "from 1 to 65535")]
#[case(PORTS_IN, "", "\"\"", "leave the setting out")]
#[case(PORTS_OUT, "8200;8201", "\"8200;8201\"", "from 1 to 65535")]
#[case(PORTS_OUT, "8200-8300", "\"8200-8300\"", "from 1 to 65535")]
#[case(PORTS_OUT, "8201 x", "\"8201 x\"", "from 1 to 65535")]
#[case(CIDRS, "3.3.3.3/33", "\"3.3.3.3/33\"", "from 0 to 32")]
#[case(CIDRS, "3.3.3", "\"3.3.3\"", "10.0.0.0/8")]
#[case(CIDRS, "example.com", "\"example.com\"", "10.0.0.0/8")]
#[case(CIDRS, "::1/129", "\"::1/129\"", "from 0 to 128")]
#[case(CIDRS, "3.3.3.3/", "\"3.3.3.3/\"", "from 0 to 32")]
#[case(UIDS, "nosuchuser", "\"nosuchuser\"", "from 0 to 4294967294")]
#[case(UIDS, "root", "\"root\"", "from 0 to 4294967294")]
#[case(UIDS, "-1", "\"-1\"", "from 0 to 4294967294")]
#[case(UIDS, "4294967295", "\"4294967295\"", "from 0 to 4294967294")]
#[case(UIDS, "1000-2000", "\"1000-2000\"", "from 0 to 4294967294")]
#[case("transparent-proxy", "yes", "\"yes\"", "one of 1, t")]
#[case("transparent-proxy", "", "\"\"", "one of 1, t")]
#[case("transparent-proxy", "on", "\"on\"", "one of 1, t")]
#[case("connect-inject", "maybe", "\"maybe\"", "one of 1, t")]
#[case("consul-dns", "tRuE", "\"tRuE\"", "one of 1, t")]
#[case("transparent-proxy-overwrite-probes", "2", "\"2\"", "one of 1, t")]
#[case("use-proxy-health-check", "sure", "\"sure\"", "one of 1, t")]
#[case("enable-metrics", "yes", "\"yes\"", "one of 1, t")]
#[case("enable-sidecar-proxy-lifecycle", "yes", "\"yes\"", "one of 1, t")]
#[case("prometheus-scrape-port", "80", "\"80\"", "from 1024 to 65535")]
#[case("sidecar-proxy-lifecycle-graceful-port", "80", "\"80\"", "from 1024 to 65535")]
#[case("sidecar-proxy-lifecycle-shutdown-grace-period-seconds", "-5", "\"-5\"", "a whole number")]
#[case("consul-envoy-proxy-concurrency", "many", "\"many\"", "a whole number")]
#[case("sidecar-proxy-cpu-limit", "fast", "\"fast\"", "a quantity")]
#[case("consul-sidecar-user-volume", "{}", "not readable", "a JSON array")]
#[case("envoy-extra-args", "'open", "\"'open\"", "as a shell")]
#[case("connect-service-upstreams", "my-service", "\"my-service\"", "upstreams of the forms name:port")]
#[case("connect-service-upstreams", "ok:1,my-service:0", "\"my-service:0\"", "upstreams of the forms name:port")]
#[case("connect-service-upstreams", "prepared_query:geo", "\"prepared_query:geo\"", "upstreams of the forms name:port")]
fn a_wrong_annotation_is_named(#[case] key: &str, #[case] value: &str, #[case] quoted: &str, #[case] allowed: &str) {
    let message = refusal(&[(key, value)], plain());
    for part in [&format!("annotation consul.hashicorp.com/{key}: "), quoted, allowed] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[rstest]
#[case::host_network(&[], json!({"hostNetwork": true, "containers": []}), "host network")]
#[case::sidecars_user(&[], json!({"securityContext": {"runAsUser": 5995}, "containers": []}), "spec.securityContext.runAsUser is 5995")]
#[case::init_user(&[], json!({"securityContext": {"runAsUser": 5996}, "containers": []}), "spec.securityContext.runAsUser is 5996")]
#[case::container_user(&[], json!({"containers": [{"name": "app", "securityContext": {"runAsUser": 5995}}]}), "spec.containers[app].securityContext.runAsUser is 5995")]
#[case::init_containers_user(&[], json!({"containers": [], "initContainers": [{"name": "a", "securityContext": {"runAsUser": 5996}}]}), "spec.initContainers[a].securityContext.runAsUser is 5996")]
#[case::dns_config(&[("consul-dns", "true")], json!({"containers": [], "dnsConfig": {"nameservers": ["8.8.8.8"]}}), "DNSConfig")]
#[case::several_services(&[("connect-service", "one,two")], json!({"containers": []}), "multi protocol multi port services are not compatible with transparent proxy")]
#[case::several_services_with_metrics(&[("connect-service", "one,two"), ("transparent-proxy", "false"), ("enable-metrics", "true")], json!({"containers": []}), "not compatible with metrics")]
#[case::several_services_with_merging(&[("connect-service", "one,two"), ("transparent-proxy", "false"), ("enable-metrics-merging", "true")], json!({"containers": []}), "not compatible with metrics merging")]
#[case::a_service_without_a_name(&[("connect-service", "one,"), ("transparent-proxy", "false")], json!({"containers": []}), "connect-service: \"\" is not allowed")]
#[case::a_service_twice(&[("connect-service", "one,one"), ("transparent-proxy", "false")], json!({"containers": []}), "each service once")]
#[case::a_service_with_a_long_name(&[("connect-service", "one,a-name-that-has-more-than-those-36-letters"), ("transparent-proxy", "false")], json!({"containers": []}), "36 at most")]
#[case::many_services(&[("connect-service", &**MANY), ("transparent-proxy", "false")], json!({"containers": []}), "50 services at most")]
#[case::a_script_for_a_service(&[("connect-service", "\"; id; \"")], json!({"containers": []}), "a service name: letters, digits")]
#[case::port_of_nobody(&[("connect-service-port", "http,https")], json!({"containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 80}]}]}), "connect-service-port: \"https\" is not allowed")]
#[case::part_of_prometheus_tls(&[("prometheus-ca-file", "/certs/ca.crt")], json!({"containers": []}), "must set \"consul.hashicorp.com/prometheus-cert-file\" when providing prometheus TLS config")]
#[case::prometheus_tls_without_ca(&[("prometheus-cert-file", "/c"), ("prometheus-key-file", "/k")], json!({"containers": []}), "must set one of \"consul.hashicorp.com/prometheus-ca-file\" or \"consul.hashicorp.com/prometheus-ca-path\"")]
#[case::own_resolver(&[("consul-dns", "true")], json!({"containers": [], "dnsPolicy": "None"}), "DNSConfig")]
#[case::init_containers(&[("transparent-proxy-init-containers", "maybe")], json!({"containers": []}), "allowed is blocked or allowed")]
#[case::container_name(&[], json!({"containers": [{"name": "consul-dataplane", "image": "x"}]}), "\"consul-dataplane\" is reserved")]
#[case::forged(&[("connect-inject-status", "injected")], json!({"containers": [{"name": "consul-dataplane", "image": "x"}], "initContainers": [{"name": "consul-connect-inject-init", "image": "x"}]}), "\"consul-connect-inject-init\" is reserved")]
#[case::volume_name(&[], json!({"containers": [], "volumes": [{"name": "consul-connect-inject-data"}]}), "volume name \"consul-connect-inject-data\" is reserved")]
fn what_cannot_be_injected(#[case] annotations: &[(&str, &str)], #[case] spec: Value, #[case] part: &str) {
    let message = refusal(annotations, spec);
    assert!(message.contains(part), "{part} in {message}");
}

#[test]
fn a_wrong_label_is_named() {
    let labels = namespace(&[("transparent-proxy", "maybe")]);
    let message = inject(&annotated(&[]), &labels, &Settings::default()).expect_err("a refusal").to_string();
    assert!(message.contains("label consul.hashicorp.com/transparent-proxy of namespace web: \"maybe\""), "{message}");
}

#[test]
fn every_mistake_is_listed() {
    let annotations =
        [(PORTS_IN, "80,http,70000"), (UIDS, "root"), ("consul-dns", "yes"), ("connect-service-upstreams", "x")];
    let spec = json!({"hostNetwork": true, "containers": [{"name": "app", "securityContext": {"runAsUser": 5995}}]});
    let pod = with(&annotations, spec);
    let refusal = inject(&pod, &namespace(&[]), &Settings::default()).expect_err("a refusal");
    assert_eq!(refusal.mistakes().len(), 7, "{refusal}");
    let message = refusal.to_string();
    for part in ["\"http\"", "\"70000\"", "\"root\"", "\"yes\"", "\"x\"", "host network", "5995"] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[rstest]
#[case::as_many_as_there_are_listeners(100, true)]
#[case::one_more(101, false)]
fn many_containers(#[case] count: usize, #[case] admitted: bool) {
    let probe = json!({"httpGet": {"path": "/", "port": 80}});
    let containers: Vec<_> = (0..count).map(|i| json!({"name": format!("c{i}"), "livenessProbe": probe})).collect();
    let outcome = inject(&with(&[], json!({"containers": containers})), &namespace(&[]), &Settings::default());
    match outcome {
        Ok(_) => assert!(admitted),
        Err(refusal) => assert!(!admitted && refusal.to_string().contains(&format!("{count} containers")), "{refusal}"),
    }
}

#[test]
fn a_message_stays_readable() {
    let message = refusal(&[(PORTS_IN, &"x,".repeat(1000))], plain());
    assert!(message.ends_with("and 951 more mistakes") && message.len() < 20_000, "{} bytes: {message}", message.len());
}

#[test]
fn without_transparent_proxy_the_init_containers_user_is_free() {
    let spec = json!({"securityContext": {"runAsUser": 5996}, "containers": [{"name": "app"}]});
    let pod = with(&[("transparent-proxy", "false")], spec);
    assert!(inject(&pod, &namespace(&[]), &Settings::default()).is_ok());
}

#[test]
fn without_transparent_proxy_the_hosts_network_is_free() {
    let pod = with(&[("transparent-proxy", "false")], json!({"hostNetwork": true, "containers": [{"name": "app"}]}));
    assert!(inject(&pod, &namespace(&[]), &Settings::default()).is_ok());
}

#[test]
fn the_ids_of_injected_containers_can_be_allowed() {
    let spec = json!({"securityContext": {"runAsUser": 5995}, "containers": [{"name": "app"}]});
    let pod = with(&[("transparent-proxy-allow-proxy-uids", "true")], spec);
    assert!(inject(&pod, &namespace(&[]), &Settings::default()).is_ok());
}

#[rstest]
#[case::unset("", "needed")]
#[case::too_few("1000/1", "does not have enough available UIDs")]
#[case::not_a_range("1000", "ranges of the form first/count")]
fn openshift_needs_ids(#[case] range: &str, #[case] part: &str) {
    let mut namespace = namespace(&[]);
    namespace.metadata.annotations = Some([("openshift.io/sa.scc.uid-range".to_owned(), range.to_owned())].into());
    let settings = Settings { openshift: true, ..Settings::default() };
    let message = inject(&annotated(&[]), &namespace, &settings).expect_err("a refusal").to_string();
    let named = message.contains("annotation openshift.io/sa.scc.uid-range of namespace web");
    assert!(named && (message.contains(part) || part == "needed"), "{message}");
}

#[test]
fn acls_need_a_token() {
    let acl = Some(webhook::settings::AclLogin { auth_method: "k8s".to_owned() });
    let settings = Settings { acl, ..Settings::default() };
    let message = inject(&annotated(&[]), &namespace(&[]), &settings).expect_err("a refusal").to_string();
    assert!(message.contains("unable to find service account token volumeMount"), "{message}");
}

#[rstest]
#[case::none_of_its_own(json!({"containers": [{"name": "app"}], "initContainers": [{"name": "first"}]}))]
#[case::the_applications(json!({
    "containers": [{"name": "app", "securityContext": {"runAsUser": 1000}}],
    "initContainers": [{"name": "first", "securityContext": {"runAsUser": 1000}}],
}))]
#[case::the_pods(json!({"securityContext": {"runAsUser": 1000}, "containers": [{"name": "app"}], "initContainers": [{"name": "first"}]}))]
fn init_containers_pass_by_a_user_of_their_own(#[case] spec: Value) {
    let settings = Settings { cni: true, ..Settings::default() };
    let pod = with(&[("transparent-proxy-init-containers", "allowed")], spec);
    let message = inject(&pod, &namespace(&[]), &settings).expect_err("a refusal").to_string();
    assert!(message.contains("init container \"first\" has no user id of its own"), "{message}");
}
