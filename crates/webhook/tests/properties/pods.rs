//! Pods as JSON, from what people write to what nobody should, and settings of every mode.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use webhook::Settings;
use webhook::settings::{AclLogin, NamespaceMapping};

/// Annotations that injection reads, each with values of which some are wrong.
const ANNOTATIONS: &[(&str, &[&str])] = &[
    ("connect-inject", &["true", "true", "true", "1", "false", "yes", ""]),
    ("connect-inject-status", &["injected", ""]),
    ("transparent-proxy", &["true", "false", "on"]),
    ("consul-dns", &["true", "f", ""]),
    ("transparent-proxy-overwrite-probes", &["true", "false", "2"]),
    ("transparent-proxy-exclude-inbound-ports", &["80", "80, 81,80", "http", "1-2", ""]),
    ("transparent-proxy-exclude-outbound-ports", &["20000", "0", "65535,65536"]),
    ("transparent-proxy-exclude-outbound-cidrs", &["10.0.0.0/8", "::1", "10.0.0.0/33"]),
    ("transparent-proxy-exclude-uids", &["1000", "5995", "root"]),
    ("transparent-proxy-exclude-gids", &["1000", "-1"]),
    ("transparent-proxy-safeguards", &["none", "refuse-udp", "all"]),
    ("transparent-proxy-init-containers", &["blocked", "allowed", "maybe"]),
    ("transparent-proxy-allow-proxy-uids", &["true", "false"]),
    ("connect-service", &["web", "web,admin", "a b", " web "]),
    ("connect-service-port", &["http", "8080", "http,9090", "nobody"]),
    ("connect-service-upstreams", &["db:1234", "db:http,api:1", "db", "a:1 b:2", "x.svc.y.peer:9"]),
    ("use-proxy-health-check", &["true", "no"]),
    ("enable-metrics", &["true", "false"]),
    ("enable-metrics-merging", &["true", "x"]),
    ("service-metrics-port", &["http", "99999"]),
    ("prometheus-ca-file", &["/ca"]),
    ("enable-sidecar-proxy-lifecycle", &["true", "false"]),
    ("sidecar-proxy-lifecycle-graceful-port", &["20601", "80"]),
    ("enable-consul-dataplane-as-sidecar", &["true", "false"]),
    ("sidecar-proxy-cpu-limit", &["1", "1GB"]),
    ("consul-sidecar-user-volume", &["[]", r#"[{"name": "v"}]"#, "{}"]),
    ("envoy-extra-args", &["--log-level debug", "'open"]),
    ("proxy-config-map", &[r#"{"bind_port": 20001}"#, "{"]),
    ("original-pod", &["{}"]),
    ("redirect-traffic-config", &["{}"]),
    ("kubernetes-service", &["web"]),
    ("colour", &["blue"]),
];

/// One entry of a Pod's annotations.
fn annotation() -> impl Strategy<Value = (String, Value)> {
    let known = select(ANNOTATIONS).prop_flat_map(|(key, values)| {
        select(values).prop_map(move |value| (format!("consul.hashicorp.com/{key}"), json!(value)))
    });
    let other = ("[a-z./~]{1,12}", ".{0,8}").prop_map(|(key, value)| (key, json!(value)));
    prop_oneof![8 => known, 1 => other]
}

fn probe() -> impl Strategy<Value = Value> {
    let port = || prop_oneof![Just(json!(8080)), Just(json!("http")), Just(json!("nobody")), Just(json!(-1))];
    prop_oneof![
        port().prop_map(|port| json!({"httpGet": {"port": port, "path": "/"}})),
        port().prop_map(|port| json!({"httpGet": {"port": port, "scheme": "HTTPS"}})),
        port().prop_map(|port| json!({"tcpSocket": {"port": port}})),
        Just(json!({"grpc": {"port": 9090}})),
        Just(json!({"exec": {"command": ["true"]}})),
    ]
}

fn container() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        8 => "[a-d]",
        1 => Just("consul-dataplane".to_owned()),
        1 => Just("consul-connect-inject-init".to_owned()),
    ];
    let user = prop_oneof![Just(json!(null)), Just(json!(1000)), Just(json!(5995)), Just(json!(5996)), Just(json!(-1))];
    let ports = prop_oneof![Just(json!(null)), Just(json!([])), Just(json!([{"name": "http", "containerPort": 8080}]))];
    (name, user, ports, proptest::option::of(probe()), proptest::option::of(probe()), any::<bool>()).prop_map(
        |(name, user, ports, liveness, startup, future)| {
            let mut container =
                json!({"name": name, "image": "app:1", "ports": ports, "securityContext": {"runAsUser": user}});
            if let Some(probe) = liveness {
                container["livenessProbe"] = probe;
            }
            if let Some(probe) = startup {
                container["startupProbe"] = probe;
            }
            if future {
                container["fieldOfTheFuture"] = json!({"a": [1]});
            }
            container
        },
    )
}

/// Something that is put in the place of a field: mostly nothing at all.
fn damage() -> impl Strategy<Value = Option<(&'static str, Value)>> {
    const PLACES: [&str; 11] = [
        "/metadata",
        "/metadata/annotations",
        "/metadata/labels",
        "/spec",
        "/spec/containers",
        "/spec/initContainers",
        "/spec/volumes",
        "/spec/containers/0",
        "/spec/containers/0/env",
        "/spec/containers/0/name",
        "/spec/dnsConfig",
    ];
    let value = prop_oneof![Just(json!(null)), Just(json!([])), Just(json!({})), Just(json!("x")), Just(json!(1))];
    proptest::option::weighted(0.2, (select(PLACES.to_vec()), value))
}

/// A Pod.
pub(crate) fn pod() -> impl Strategy<Value = Value> {
    let annotations = proptest::collection::vec(annotation(), 0..6);
    let containers = proptest::collection::vec(container(), 0..4);
    let init_containers = proptest::option::of(proptest::collection::vec(container(), 0..3));
    let switches = any::<(bool, bool, bool, bool)>();
    (annotations, containers, init_containers, switches, damage()).prop_map(
        |(annotations, containers, init_containers, (asked, host_network, resolver, future), damage)| {
            let mut pod = json!({
                "metadata": {"generateName": "app-", "annotations": {}, "creationTimestamp": null},
                "spec": {"containers": containers, "volumes": [{"name": "v", "emptyDir": {}}]},
            });
            for (key, value) in annotations {
                pod["metadata"]["annotations"][key] = value;
            }
            if asked {
                pod["metadata"]["annotations"]["consul.hashicorp.com/connect-inject"] = json!("true");
            }
            if let Some(init_containers) = init_containers {
                pod["spec"]["initContainers"] = json!(init_containers);
            }
            if host_network && future {
                pod["spec"]["hostNetwork"] = json!(true);
            }
            if resolver {
                pod["spec"]["dnsConfig"] = json!({"options": [{"name": "ndots", "value": "2"}]});
            }
            if future {
                pod["spec"]["fieldOfTheFuture"] = json!(true);
            }
            if let Some((place, value)) = damage
                && let Some(field) = pod.pointer_mut(place)
            {
                *field = value;
            }
            pod
        },
    )
}

/// The settings of a cluster; a new one is one line.
pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    (any::<[bool; 12]>()).prop_map(|on| {
        let mut settings = Settings {
            default_inject: on[0],
            default_transparent_proxy: on[1],
            default_overwrite_probes: on[2],
            cni: on[3],
            consul_dns: on[4],
            dual_stack: on[5],
            openshift: on[9],
            acl: (on[10] && on[11]).then(|| AclLogin { auth_method: "k8s".to_owned() }),
            namespaces: on[11].then(|| NamespaceMapping::Mirror { prefix: String::new() }),
            ..Settings::default()
        };
        settings.metrics.enabled = on[6];
        settings.lifecycle.enabled = on[7];
        settings.native_sidecar.enabled = on[8];
        settings
    })
}
