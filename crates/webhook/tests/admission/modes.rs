//! Each mode of injection as a snapshot: the usual one in full, every other one by what differs from it.

use crate::difference::diff;
use crate::pods::{namespace, prefixed, with};
use k8s_openapi::api::core::v1::Pod;
use rstest::{Context, rstest};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use webhook::settings::{AclLogin, NamespaceMapping, NativeSidecar, Resources, ServerTls};
use webhook::surroundings::AccessLogs;
use webhook::{Settings, Surroundings, admit};

/// A Pod with some of everything that injection looks at.
fn spec() -> Value {
    let token =
        json!({"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true});
    json!({
        "serviceAccountName": "web",
        "initContainers": [{"name": "migrate", "image": "migrate:1", "securityContext": {"runAsUser": 2000}}],
        "containers": [
            {
                "name": "web",
                "image": "web:1",
                "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 9090}],
                "volumeMounts": [token],
                "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}},
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
                "securityContext": {"runAsUser": 1000},
            },
            {
                "name": "helper",
                "image": "helper:1",
                "startupProbe": {"httpGet": {"path": "/", "port": 7070}},
                "securityContext": {"runAsUser": 1001},
            },
        ],
        "volumes": [{"name": "token", "projected": {"sources": []}}],
    })
}

fn admitted(annotations: &[(&str, &str)], settings: &Settings, surroundings: &Surroundings) -> Value {
    let pod = with(annotations, spec());
    let mut pod: Pod = admit(&pod, surroundings, settings).expect("a Pod that can be injected").pod;
    // what was received is known, and the version changes
    let annotations = pod.metadata.annotations.get_or_insert_default();
    for key in ["original-pod", "connect-k8s-version", "consul-k8s-version"] {
        assert!(annotations.remove(&prefixed(key)).is_some(), "{key} is written");
    }
    serde_json::to_value(pod).expect("JSON")
}

fn usual() -> Value {
    admitted(&[], &Settings::default(), &Surroundings::of(namespace(&[])))
}

#[test]
fn init_container() {
    insta::assert_yaml_snapshot!(usual());
}

fn acl() -> Option<AclLogin> {
    Some(AclLogin { auth_method: "consul-k8s-auth-method".to_owned() })
}

#[rstest]
#[case::transparent_proxy_off(&[("transparent-proxy", "false")], Settings::default())]
#[case::cni(&[], Settings { cni: true, ..Settings::default() })]
#[case::openshift(&[], Settings { openshift: true, ..Settings::default() })]
#[case::openshift_cni(&[], Settings { openshift: true, cni: true, ..Settings::default() })]
#[case::native_sidecar(&[], Settings { native_sidecar: NativeSidecar { enabled: true, ..NativeSidecar::default() }, ..Settings::default() })]
#[case::native_sidecar_by_annotation(&[
    ("enable-consul-dataplane-as-sidecar", "true"),
    ("sidecar-probe-period-seconds", "2"),
    ("sidecar-probe-failure-threshold", "30"),
    ("sidecar-proxy-liveness-failure-seconds", "5"),
], Settings::default())]
#[case::lifecycle_off(&[("enable-sidecar-proxy-lifecycle", "false")], Settings::default())]
#[case::lifecycle(&[
    ("enable-sidecar-proxy-lifecycle-shutdown-drain-listeners", "false"),
    ("sidecar-proxy-lifecycle-shutdown-grace-period-seconds", "5"),
    ("sidecar-proxy-lifecycle-startup-grace-period-seconds", "7"),
    ("sidecar-proxy-lifecycle-graceful-port", "20700"),
    ("sidecar-proxy-lifecycle-graceful-shutdown-path", "/down"),
    ("sidecar-proxy-lifecycle-graceful-startup-path", "/up"),
], Settings::default())]
#[case::metrics(&[("enable-metrics", "true")], Settings::default())]
#[case::metrics_merging(&[
    ("enable-metrics", "true"),
    ("enable-metrics-merging", "true"),
    ("service-metrics-port", "http"),
    ("service-metrics-path", "/stats"),
    ("prometheus-scrape-port", "22222"),
    ("prometheus-scrape-path", "/scrape"),
    ("prometheus-ca-file", "/certs/ca.crt"),
    ("prometheus-cert-file", "/certs/tls.crt"),
    ("prometheus-key-file", "/certs/tls.key"),
], Settings::default())]
#[case::tls(&[], tls())]
#[case::acl(&[("connect-service", "web")], Settings { acl: acl(), ..Settings::default() })]
#[case::one_consul_namespace(&[], Settings { acl: acl(), namespaces: Some(NamespaceMapping::Single("apps".to_owned())), ..Settings::default() })]
#[case::mirrored_consul_namespaces(&[], Settings {
    acl: acl(),
    namespaces: Some(NamespaceMapping::Mirror { prefix: "k8s-".to_owned() }),
    partition: Some("east".to_owned()),
    ..Settings::default()
})]
#[case::several_services(&[("connect-service", "web, admin"), ("transparent-proxy", "false")], Settings::default())]
#[case::several_services_acl(&[("connect-service", "web,admin"), ("transparent-proxy", "false")], Settings { acl: acl(), ..Settings::default() })]
#[case::dual_stack_and_dns(&[("connect-service-upstreams", "db:1234")], dual_stack())]
#[case::users_volumes_and_mounts(&[
    ("consul-sidecar-user-volume", r#"[{"name": "certs", "secret": {"secretName": "certs"}}]"#),
    ("consul-sidecar-user-volume-mount", r#"[{"name": "certs", "mountPath": "/certs"}]"#),
    ("connect-inject-mount-volume", "web"),
], Settings::default())]
#[case::envoy_and_resources(&[
    ("envoy-extra-args", "--log-level debug --component-log-level 'http:trace, upstream:debug'"),
    ("consul-envoy-proxy-concurrency", "4"),
    ("sidecar-proxy-cpu-limit", "500m"),
    ("sidecar-proxy-memory-limit", "1Gi"),
], Settings { sidecar_resources: Resources { cpu_request: Some("100m".to_owned()), ..Resources::default() }, ..Settings::default() })]
#[case::proxy_health_check(&[
    ("use-proxy-health-check", "true"),
    ("sidecar-proxy-startup-failure-seconds", "10"),
    ("sidecar-proxy-liveness-failure-seconds", "20"),
], Settings::default())]
#[case::init_containers_blocked(&[("transparent-proxy-init-containers", "blocked")], Settings::default())]
#[case::init_containers_allowed_cni(&[("transparent-proxy-init-containers", "allowed")], Settings { cni: true, ..Settings::default() })]
#[case::safeguards_and_backend(&[("transparent-proxy-safeguards", "refuse-udp"), ("transparent-proxy-exclude-gids", "3000")], Settings {
    rule_backend: redirect::Backend::Nftables,
    ..Settings::default()
})]
#[case::listeners_of_the_pod_cni(&[("proxy-config-map", r#"{"bind_port": 20010, "envoy_stats_bind_addr": "0.0.0.0:9102"}"#)], Settings { cni: true, ..Settings::default() })]
fn differs(#[context] context: Context, #[case] annotations: &[(&str, &str)], #[case] settings: Settings) {
    let mut namespace = namespace(&[]);
    namespace.metadata.annotations = Some(
        [
            ("openshift.io/sa.scc.uid-range".to_owned(), "1000700000/10000".to_owned()),
            ("openshift.io/sa.scc.supplemental-groups".to_owned(), "1000800000/10000".to_owned()),
        ]
        .into(),
    );
    let surroundings = Surroundings {
        token_secrets: Arc::new(HashMap::from([("admin".to_owned(), "admin-token".to_owned())])),
        ..Surroundings::of(namespace)
    };
    let name = context.description.unwrap_or("unnamed");
    let differences = diff(&usual(), &admitted(annotations, &settings, &surroundings));
    insta::assert_yaml_snapshot!(name, differences);
}

#[test]
fn access_logs_in_a_file() {
    let logs = AccessLogs { enabled: true, sink: "file".to_owned(), path: "/var/log/envoy/access.log".to_owned() };
    let mut surroundings = Surroundings::of(namespace(&[]));
    Arc::make_mut(&mut surroundings.proxy_defaults).access_logs = logs;
    let differences = diff(&usual(), &admitted(&[], &Settings::default(), &surroundings));
    insta::assert_yaml_snapshot!(differences);
}

fn tls() -> Settings {
    let mut settings = Settings::default();
    let (server_name, ca_pem) = (Some("server.dc1.consul".to_owned()), Some("PEM".to_owned()));
    settings.consul.tls = Some(ServerTls { server_name, ca_pem });
    settings.consul.skip_server_watch = true;
    settings
}

fn dual_stack() -> Settings {
    Settings {
        dual_stack: true,
        consul_dns: true,
        resolv: webhook::resolv::ResolvConf::parse(
            "search consul.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
        ),
        ..Settings::default()
    }
}
