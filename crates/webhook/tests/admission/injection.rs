//! What becomes of Pods that are injected.

use crate::pods::{annotated, annotation, container, namespace, redirection, variable, with};
use k8s_openapi::api::core::v1::Pod;
use redirect::contract::{INIT_CONTAINER, SIDECAR_CONTAINER};
use rstest::rstest;
use serde_json::{Value, json};
use webhook::{Refusal, Settings, inject};

type Tested = Result<(), Refusal>;

fn names(pod: &Pod) -> (Vec<&str>, Vec<&str>) {
    let spec = pod.spec.as_ref().expect("a specification");
    let init = spec.init_containers.iter().flatten().map(|container| container.name.as_str()).collect();
    (init, spec.containers.iter().map(|container| container.name.as_str()).collect())
}

fn json_of(value: impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("JSON")
}

#[test]
fn the_init_container_in_full() -> Tested {
    let pod = inject(&annotated(&[]), &namespace(&[]), &Settings::default())?;
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let config = r#"{"ConsulDNSIP":"","ConsulDNSPort":0,"ProxyUserID":"5995","ProxyInboundPort":20000,"ProxyOutboundPort":15001,"ExcludeInboundPorts":null,"ExcludeOutboundPorts":null,"ExcludeOutboundCIDRs":null,"ExcludeUIDs":["5996"],"NetNS":"","IptablesProvider":null}"#;
    assert_eq!(
        json_of(container(&pod, INIT_CONTAINER)),
        json!({
            "name": "consul-connect-inject-init",
            "image": "pellucid/consul-k8s-control-plane:dev",
            "command": ["/bin/sh", "-ec", "consul-k8s-control-plane connect-init -pod-name=${POD_NAME} -pod-namespace=${POD_NAMESPACE} \\\n  -log-level=info \\\n  -log-json=false \\\n"],
            "env": [
                field("POD_NAME", "metadata.name"),
                field("POD_NAMESPACE", "metadata.namespace"),
                field("NODE_NAME", "spec.nodeName"),
                {"name": "CONSUL_ADDRESSES", "value": "consul-server.consul.svc"},
                {"name": "CONSUL_GRPC_PORT", "value": "8502"},
                {"name": "CONSUL_HTTP_PORT", "value": "8500"},
                {"name": "CONSUL_API_TIMEOUT", "value": "5s"},
                {"name": "CONSUL_NODE_NAME", "value": "$(NODE_NAME)-virtual"},
                {"name": "CONSUL_DUAL_STACK", "value": "false"},
                {"name": "CONSUL_REDIRECT_TRAFFIC_CONFIG", "value": config},
            ],
            "volumeMounts": [{"name": "consul-connect-inject-data", "mountPath": "/consul/connect-inject"}],
            "resources": {"requests": {"cpu": "50m", "memory": "25Mi"}, "limits": {"cpu": "50m", "memory": "150Mi"}},
            "securityContext": {
                "runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false, "privileged": false,
                "capabilities": {"add": ["NET_ADMIN"]},
            },
        })
    );
    Ok(())
}

#[test]
fn the_sidecar_in_full() -> Tested {
    let pod = inject(&annotated(&[]), &namespace(&[]), &Settings::default())?;
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    assert_eq!(
        json_of(container(&pod, SIDECAR_CONTAINER)),
        json!({
            "name": "consul-dataplane",
            "image": "pellucid/consul-dataplane:dev",
            "args": [
                "-addresses", "consul-server.consul.svc",
                "-envoy-admin-bind-address=127.0.0.1",
                "-consul-dns-bind-addr=127.0.0.1",
                "-xds-bind-addr=127.0.0.1",
                "-grpc-port=8502",
                "-proxy-service-id-path=/consul/connect-inject/proxyid",
                "-log-level=info",
                "-log-json=false",
                "-envoy-concurrency=2",
                "-graceful-addr=127.0.0.1",
                "-tls-disabled",
                "-graceful-port=20600",
                "-shutdown-drain-listeners",
                "-shutdown-grace-period-seconds=30",
                "-graceful-shutdown-path=/graceful_shutdown",
                "-startup-grace-period-seconds=0",
                "-graceful-startup-path=/graceful_startup",
                "-telemetry-prom-scrape-path=/metrics",
            ],
            "env": [
                {"name": "TMPDIR", "value": "/consul/connect-inject"},
                field("NODE_NAME", "spec.nodeName"),
                {"name": "DP_SERVICE_NODE_NAME", "value": "$(NODE_NAME)-virtual"},
                field("POD_NAME", "metadata.name"),
                field("POD_NAMESPACE", "metadata.namespace"),
                field("POD_UID", "metadata.uid"),
                {"name": "DP_CREDENTIAL_LOGIN_META", "value": "pod=$(POD_NAMESPACE)/$(POD_NAME)"},
                {"name": "DP_CREDENTIAL_LOGIN_META1", "value": "pod=$(POD_NAMESPACE)/$(POD_NAME)"},
                {"name": "DP_CREDENTIAL_LOGIN_META2", "value": "pod-uid=$(POD_UID)"},
                field("HOST_IP", "status.hostIP"),
            ],
            "readinessProbe": {"tcpSocket": {"port": 20000}, "initialDelaySeconds": 1},
            "resources": {},
            "volumeMounts": [{"name": "consul-connect-inject-data", "mountPath": "/consul/connect-inject"}],
            "securityContext": {
                "runAsUser": 5995, "runAsGroup": 5995, "runAsNonRoot": true, "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
            },
        })
    );
    Ok(())
}

#[test]
fn annotations_labels_and_volume() -> Tested {
    let received = annotated(&[]);
    let pod = inject(&received, &namespace(&[]), &Settings::default())?;
    assert_eq!(annotation(&pod, "connect-inject-status"), Some("injected"));
    assert_eq!(annotation(&pod, "transparent-proxy-status"), Some("enabled"));
    assert_eq!(annotation(&pod, "connect-service-port"), Some("http"));
    assert_eq!(annotation(&pod, "dual-stack"), Some("false"));
    assert_eq!(annotation(&pod, "redirect-traffic-config"), None);
    let original: Pod =
        serde_json::from_str(annotation(&pod, "original-pod").unwrap_or_default()).expect("the Pod as received");
    assert_eq!(original, received);
    assert_eq!(
        json_of(&pod.metadata.labels),
        json!({
            "consul.hashicorp.com/connect-inject-status": "injected",
            "consul.hashicorp.com/connect-inject-managed-by": "consul-k8s-endpoints-controller",
        })
    );
    let volumes = pod.spec.and_then(|spec| spec.volumes);
    assert_eq!(json_of(volumes), json!([{"name": "consul-connect-inject-data", "emptyDir": {"medium": "Memory"}}]));
    Ok(())
}

#[rstest]
#[case::by_default(true, None, None, true)]
#[case::cluster_off(false, None, None, false)]
#[case::label_on(false, Some("true"), None, true)]
#[case::label_off(true, Some("false"), None, false)]
#[case::annotation_beats_label_on(false, Some("false"), Some("true"), true)]
#[case::annotation_beats_label_off(true, Some("true"), Some("false"), false)]
#[case::annotation_beats_bad_label(true, Some("perhaps"), Some("0"), false)]
fn transparent_proxy(
    #[case] default: bool,
    #[case] label: Option<&str>,
    #[case] wish: Option<&str>,
    #[case] on: bool,
) -> Tested {
    let labels: Vec<_> = label.map(|value| ("transparent-proxy", value)).into_iter().collect();
    let annotations: Vec<_> = wish.map(|value| ("transparent-proxy", value)).into_iter().collect();
    let settings = Settings { default_transparent_proxy: default, ..Settings::default() };
    let pod = inject(&annotated(&annotations), &namespace(&labels), &settings)?;
    assert_eq!(redirection(&pod).is_some(), on);
    assert_eq!(annotation(&pod, "transparent-proxy-status"), on.then_some("enabled"));
    let context = container(&pod, INIT_CONTAINER).security_context.clone().unwrap_or_default();
    assert_eq!(context.capabilities.and_then(|it| it.add), on.then(|| vec!["NET_ADMIN".to_owned()]));
    assert_eq!((context.run_as_user, context.run_as_non_root), (on.then_some(0), Some(!on)));
    Ok(())
}

#[rstest]
#[case::ports("transparent-proxy-exclude-inbound-ports", "8200, 8201", "ExcludeInboundPorts", json!(["8200", "8201"]))]
#[case::twice("transparent-proxy-exclude-inbound-ports", "8200,8200", "ExcludeInboundPorts", json!(["8200"]))]
#[case::outbound("transparent-proxy-exclude-outbound-ports", "8200,8201 ", "ExcludeOutboundPorts", json!(["8200", "8201"]))]
#[case::cidrs("transparent-proxy-exclude-outbound-cidrs", "3.3.3.3/24, 10.0.0.1", "ExcludeOutboundCIDRs", json!(["3.3.3.0/24", "10.0.0.1/32"]))]
#[case::uids("transparent-proxy-exclude-uids", "4444,44444", "ExcludeUIDs", json!(["5996", "4444", "44444"]))]
#[case::own_uid("transparent-proxy-exclude-uids", "4444,5996", "ExcludeUIDs", json!(["5996", "4444"]))]
fn exclusions(#[case] key: &str, #[case] value: &str, #[case] field: &str, #[case] expected: Value) -> Tested {
    let pod = inject(&annotated(&[(key, value)]), &namespace(&[]), &Settings::default())?;
    let config = redirection(&pod).unwrap_or_default();
    assert_eq!(config[field], expected);
    let config = redirect::Config::from_json(&config.to_string()).expect("a configuration");
    redirect::Policy::from_config(&config, false).expect("what is admitted can be made into rules");
    Ok(())
}

fn probed() -> Value {
    let http = |port: &str| json!({"httpGet": {"path": "/healthz", "port": port, "scheme": "HTTP"}});
    json!({"containers": [
        {"name": "a", "readinessProbe": http("api"), "livenessProbe": http("api")},
        {"name": "b", "readinessProbe": {"tcpSocket": {"port": 8081}}},
        {"name": "c", "startupProbe": http("api"), "livenessProbe": {"exec": {"command": ["true"]}}},
    ], "initContainers": [{"name": "i", "restartPolicy": "Always", "startupProbe": http("api")}]})
}

#[rstest]
#[case::by_default(true, &[], true)]
#[case::annotation_off(true, &[("transparent-proxy-overwrite-probes", "false")], false)]
#[case::annotation_on(false, &[("transparent-proxy-overwrite-probes", "true")], true)]
#[case::cluster_off(false, &[], false)]
#[case::without_transparent_proxy(true, &[("transparent-proxy", "false")], false)]
fn probes(#[case] default: bool, #[case] annotations: &[(&str, &str)], #[case] overwritten: bool) -> Tested {
    let settings = Settings { default_overwrite_probes: default, ..Settings::default() };
    let pod = inject(&with(annotations, probed()), &namespace(&[]), &settings)?;
    let port = |name: &str, probe: &str| json_of(container(&pod, name))[probe]["httpGet"]["port"].clone();
    let expected = |own: i32| if overwritten { json!(own) } else { json!("api") };
    assert_eq!(port("a", "livenessProbe"), expected(20300));
    assert_eq!(port("a", "readinessProbe"), expected(20400));
    assert_eq!(port("c", "startupProbe"), expected(20502));
    assert_eq!(port("i", "startupProbe"), json!("api"), "init containers keep theirs");
    assert_eq!(json_of(container(&pod, "b"))["readinessProbe"], json!({"tcpSocket": {"port": 8081}}));
    assert_eq!(json_of(container(&pod, "a"))["readinessProbe"]["httpGet"]["path"], json!("/healthz"));
    if let Some(config) = redirection(&pod) {
        let expected = if overwritten { json!(["20300", "20400", "20502"]) } else { Value::Null };
        assert_eq!(config["ExcludeInboundPorts"], expected);
        let expected = if overwritten { json!(["8081"]) } else { Value::Null };
        assert_eq!(config["ProbePorts"], expected);
    }
    let init = json_of(container(&pod, INIT_CONTAINER));
    let told = init["env"].as_array().is_some_and(|all| all.iter().any(|variable| variable["name"] == "HOST_IP"));
    assert_eq!(told, overwritten, "the node's address is there where it is used");
    Ok(())
}

/// What the endpoints controller finds, it makes listeners of.
#[test]
fn the_endpoints_controller_finds_no_probe_that_stays_as_it_is() -> Tested {
    let get = |port: u16, scheme: &str| json!({"httpGet": {"path": "/", "port": port, "scheme": scheme}});
    let spec = json!({"containers": [
        {"name": "a", "livenessProbe": get(8443, "HTTPS"), "readinessProbe": get(8443, "HTTPS")},
        {"name": "b", "readinessProbe": get(8080, "HTTP")},
    ]});
    let pod = inject(&with(&[], spec.clone()), &namespace(&[]), &Settings::default())?;
    let original: Pod = serde_json::from_str(annotation(&pod, "original-pod").unwrap_or_default()).expect("a Pod");
    assert_eq!(names(&original).1, ["a", "b"]);
    let probed = |name: &str| json_of(container(&original, name))["readinessProbe"].is_object();
    assert_eq!((probed("a"), probed("b")), (false, true));
    let a = json_of(container(&pod, "a"));
    assert_eq!((&a["livenessProbe"], &a["readinessProbe"]), (&get(8443, "HTTPS"), &get(8443, "HTTPS")));
    assert_eq!(json_of(container(&pod, "b"))["readinessProbe"]["httpGet"]["port"], 20401);
    let config = redirection(&pod).unwrap_or_default();
    assert_eq!((&config["ProbePorts"], &config["ExcludeInboundPorts"]), (&json!(["8443"]), &json!(["20401"])));
    Ok(())
}

#[test]
fn exclusions_come_in_order_and_once() -> Tested {
    let annotations = [
        ("enable-metrics", "true"),
        ("use-proxy-health-check", "true"),
        ("transparent-proxy-exclude-inbound-ports", "9000,20400,21000"),
    ];
    let pod = inject(&with(&annotations, probed()), &namespace(&[]), &Settings::default())?;
    let config = redirection(&pod).unwrap_or_default();
    assert_eq!(config["ExcludeInboundPorts"], json!(["20200", "21000", "20300", "20400", "20502", "9000"]));
    let sidecar = json_of(container(&pod, SIDECAR_CONTAINER));
    assert_eq!(sidecar["readinessProbe"]["httpGet"], json!({"path": "/ready", "port": 21000}));
    assert_eq!(sidecar["ports"][0], json!({"name": "proxy-health-0", "containerPort": 21000}));
    assert_eq!(sidecar["ports"][1]["name"], json!("prometheus"));
    assert_eq!(
        pod.metadata.annotations.as_ref().and_then(|all| all.get("prometheus.io/port")).map(String::as_str),
        Some("20200")
    );
    Ok(())
}

#[rstest]
#[case::first(true, &["consul-dataplane", "app"])]
#[case::last(false, &["app", "consul-dataplane"])]
fn placement(#[case] lifecycle: bool, #[case] order: &[&str]) -> Tested {
    let wish = [("enable-sidecar-proxy-lifecycle", if lifecycle { "true" } else { "false" })];
    let pod = inject(&annotated(&wish), &namespace(&[]), &Settings::default())?;
    assert_eq!(names(&pod), (vec![INIT_CONTAINER], order.to_vec()));
    Ok(())
}

#[test]
fn the_init_container_comes_after_the_users() -> Tested {
    let pod = with(&[], json!({"containers": [{"name": "app"}], "initContainers": [{"name": "migrate"}]}));
    let pod = inject(&pod, &namespace(&[]), &Settings::default())?;
    assert_eq!(names(&pod).0, ["migrate", INIT_CONTAINER]);
    Ok(())
}

#[test]
fn upstreams_are_in_the_environment() -> Tested {
    let wish = [("connect-service-upstreams", "my-db.svc.dc2.dc:1234, cache:http, prepared_query:geo:99")];
    let spec = json!({
        "containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}],
        "initContainers": [{"name": "migrate"}],
    });
    let pod = inject(&with(&wish, spec), &namespace(&[]), &Settings::default())?;
    for name in ["app", "migrate"] {
        let container = container(&pod, name);
        assert_eq!(variable(container, "MY_DB.SVC.DC2.DC_CONNECT_SERVICE_HOST"), Some("127.0.0.1"));
        assert_eq!(variable(container, "MY_DB.SVC.DC2.DC_CONNECT_SERVICE_PORT"), Some("1234"));
        assert_eq!(variable(container, "CACHE_CONNECT_SERVICE_PORT"), Some("8080"));
        assert_eq!(container.env.as_ref().map(Vec::len), Some(4), "a prepared query yields none");
    }
    assert_eq!(variable(container(&pod, SIDECAR_CONTAINER), "CACHE_CONNECT_SERVICE_PORT"), None);
    Ok(())
}

#[rstest]
#[case::by_annotation(&[("consul-dns", "true")], &[], false, true)]
#[case::by_label(&[], &[("consul-dns", "true")], false, true)]
#[case::by_default(&[], &[], true, true)]
#[case::declined(&[("consul-dns", "false")], &[("consul-dns", "true")], true, false)]
#[case::not_without_transparent_proxy(&[("consul-dns", "true"), ("transparent-proxy", "false")], &[], true, false)]
fn consul_dns(
    #[case] annotations: &[(&str, &str)],
    #[case] labels: &[(&str, &str)],
    #[case] default: bool,
    #[case] on: bool,
) -> Tested {
    let resolv = webhook::resolv::ResolvConf::parse(
        "search consul.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\nnameserver 10.96.0.11\n\
         nameserver 10.96.0.12\noptions ndots:5 timeout:5 attempts:3\n",
    );
    let settings = Settings { consul_dns: default, resolv, ..Settings::default() };
    let pod = inject(&annotated(annotations), &namespace(labels), &settings)?;
    let dns_args = container(&pod, SIDECAR_CONTAINER)
        .args
        .iter()
        .flatten()
        .filter(|arg| *arg == "-consul-dns-bind-port=8600")
        .count();
    assert_eq!(dns_args, usize::from(on));
    let spec = json_of(&pod)["spec"].clone();
    if on {
        assert_eq!(spec["dnsPolicy"], "None");
        assert_eq!(
            spec["dnsConfig"],
            json!({
                "nameservers": ["127.0.0.1", "10.96.0.10", "10.96.0.11"],
                "searches": ["web.svc.cluster.local", "svc.cluster.local", "cluster.local"],
                "options": [{"name": "ndots", "value": "5"}, {"name": "attempts", "value": "3"}],
            })
        );
        let config = redirection(&pod).unwrap_or_default();
        assert_eq!((&config["ConsulDNSIP"], &config["ConsulDNSPort"]), (&json!("127.0.0.1"), &json!(8600)));
    } else {
        assert_eq!((&spec["dnsPolicy"], &spec["dnsConfig"]), (&Value::Null, &Value::Null));
    }
    Ok(())
}

#[test]
fn with_a_cni_plugin_the_annotation_carries_the_configuration() -> Tested {
    let settings = Settings { cni: true, ..Settings::default() };
    let pod = inject(&annotated(&[("redirect-traffic-config", "{}")]), &namespace(&[]), &settings)?;
    assert_eq!(redirection(&pod), None);
    let config = redirect::Config::from_json(annotation(&pod, "redirect-traffic-config").unwrap_or_default())
        .expect("a configuration");
    assert_eq!(config.proxy_inbound_port, 20000);
    let context = json_of(container(&pod, INIT_CONTAINER))["securityContext"].clone();
    assert_eq!(
        context,
        json!({
            "runAsUser": 5996, "runAsGroup": 5996, "runAsNonRoot": true, "privileged": false, "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        })
    );
    Ok(())
}

#[test]
fn in_dual_stack_the_sidecar_is_on_the_other_loopback() -> Tested {
    let settings = Settings { dual_stack: true, consul_dns: true, ..Settings::default() };
    let wish =
        [("connect-service-upstreams", "db:1"), ("transparent-proxy-exclude-outbound-cidrs", "10.0.0.0/8,fd00::/8")];
    let pod = inject(&annotated(&wish), &namespace(&[]), &settings)?;
    assert_eq!(annotation(&pod, "dual-stack"), Some("true"));
    assert_eq!(variable(container(&pod, "app"), "DB_CONNECT_SERVICE_HOST"), Some("::1"));
    assert_eq!(redirection(&pod).unwrap_or_default()["ConsulDNSIP"], "::1");
    assert!(container(&pod, SIDECAR_CONTAINER).args.iter().flatten().any(|arg| arg == "-xds-bind-addr=::1"));
    Ok(())
}

#[test]
fn the_users_volumes_and_mounts() -> Tested {
    let wish = [
        ("connect-inject-mount-volume", "other, app"),
        ("consul-sidecar-user-volume", r#"[{"name": "extra", "emptyDir": {}}]"#),
        ("consul-sidecar-user-volume-mount", r#"[{"name": "extra", "mountPath": "/extra"}]"#),
    ];
    let pod = inject(&annotated(&wish), &namespace(&[]), &Settings::default())?;
    assert_eq!(json_of(container(&pod, "app"))["volumeMounts"][0]["mountPath"], "/consul/connect-inject");
    assert_eq!(
        json_of(container(&pod, SIDECAR_CONTAINER))["volumeMounts"][1],
        json!({"name": "extra", "mountPath": "/extra"})
    );
    assert_eq!(json_of(&pod)["spec"]["volumes"][1]["name"], "extra");
    Ok(())
}

#[test]
fn the_sidecars_own_settings() -> Tested {
    let wish = [
        ("consul-envoy-proxy-concurrency", "5"),
        ("sidecar-proxy-cpu-limit", "500m"),
        ("sidecar-proxy-startup-failure-seconds", "30"),
        ("envoy-extra-args", "--log-level=debug --log-format '%v here'"),
        ("enable-metrics", "true"),
        ("enable-metrics-merging", "true"),
        ("sidecar-proxy-lifecycle-shutdown-grace-period-seconds", "7"),
    ];
    let pod = inject(&annotated(&wish), &namespace(&[]), &Settings::default())?;
    let sidecar = json_of(container(&pod, SIDECAR_CONTAINER));
    let args: Vec<_> = container(&pod, SIDECAR_CONTAINER).args.iter().flatten().map(String::as_str).collect();
    for arg in [
        "-envoy-concurrency=5",
        "-shutdown-grace-period-seconds=7",
        "-telemetry-prom-merge-port=20100",
        "-telemetry-prom-service-metrics-url=http://127.0.0.1:8080/metrics",
    ] {
        assert!(args.contains(&arg), "{arg} in {args:?}");
    }
    assert_eq!(args[args.len() - 4..], ["--", "--log-level=debug", "--log-format", "\"%v here\""]);
    assert_eq!(sidecar["resources"], json!({"limits": {"cpu": "500m"}}));
    assert_eq!(
        sidecar["startupProbe"],
        json!({"tcpSocket": {"port": 20000}, "periodSeconds": 1, "failureThreshold": 30})
    );
    Ok(())
}

#[rstest]
#[case::plain(&[])]
#[case::upstreams(&[("connect-service-upstreams", "db:1234"), ("consul-dns", "true")])]
#[case::no_transparent_proxy(&[("transparent-proxy", "false")])]
#[case::sidecar_last(&[("enable-sidecar-proxy-lifecycle", "false")])]
fn injecting_twice_is_injecting_once(#[case] annotations: &[(&str, &str)]) -> Tested {
    let once = inject(&with(annotations, probed()), &namespace(&[]), &Settings::default())?;
    assert_eq!(inject(&once, &namespace(&[]), &Settings::default())?, once);
    Ok(())
}

#[test]
fn the_status_annotation_alone_is_no_way_out() -> Tested {
    let wish = [
        ("connect-inject-status", "injected"),
        ("transparent-proxy-status", "complete"),
        ("redirect-traffic-config", "{}"),
    ];
    let pod = inject(&annotated(&wish), &namespace(&[]), &Settings::default())?;
    assert!(redirection(&pod).is_some());
    assert_eq!(annotation(&pod, "transparent-proxy-status"), Some("enabled"));
    assert_eq!(annotation(&pod, "redirect-traffic-config"), None);
    Ok(())
}
