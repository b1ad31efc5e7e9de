//! Which Pods are registered, and as what.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::objects::{pod, service, slice};

/// Registers one Pod by one Service, after `edit` changed them.
fn registered(edit: impl Fn(&mut Value, &mut Value, &mut Value)) -> (Vec<Instance>, Vec<Refused>) {
    let mut objects =
        (pod("web-1", "10.244.0.7", true), service("web", "10.96.0.5"), slice("web", "web-1", "10.244.0.7", true));
    edit(&mut objects.0, &mut objects.1, &mut objects.2);
    let pod: Pod = serde_json::from_value(objects.0).expect("a Pod");
    let service: Service = serde_json::from_value(objects.1).expect("a Service");
    let slice: EndpointSlice = serde_json::from_value(objects.2).expect("a slice");
    let pods = BTreeMap::from([(("default".to_owned(), "web-1".to_owned()), pod)]);
    register(&Scope { cluster: 0, tenancy: &Tenancy::default(), service: &service, slices: vec![&slice], pods: &pods })
}

fn annotate(pod: &mut Value, key: &str, value: &str) {
    pod["metadata"]["annotations"][format!("consul.hashicorp.com/{key}")] = json!(value);
}

#[test]
fn a_ready_pod_is_a_passing_instance() {
    let (instances, refused) = registered(|_, _, _| {});
    assert_eq!(refused, []);
    let [instance] = instances.as_slice() else { panic!("one instance, not {instances:?}") };
    assert_eq!(instance.id, "web-1-web");
    assert_eq!(instance.proxy_id, "web-1-web-sidecar-proxy");
    assert_eq!((instance.node.as_str(), instance.node_address.as_str()), ("node-0-virtual", "172.18.0.2"));
    assert_eq!((instance.address.to_string().as_str(), instance.port), ("10.244.0.7", 8080));
    assert_eq!(instance.cluster_ip, Some(("10.96.0.5".parse().expect("an address"), 80)));
    assert!(instance.transparent);
    assert_eq!(instance.health, Health::Passing);
    assert_eq!(instance.meta["k8s-namespace"], "default");
}

#[rstest]
#[case::not_injected("connect-inject-status", "")]
#[case::another_service_wins("kubernetes-service", "other")]
fn pods_that_are_not_ours(#[case] annotation: &str, #[case] value: &str) {
    let (instances, refused) = registered(|pod, _, _| annotate(pod, annotation, value));
    assert_eq!((instances.len(), refused.len()), (0, 0));
}

#[rstest]
#[case("true", 0)]
#[case("1", 0)]
#[case("false", 1)]
#[case("yes", 1)]
fn a_service_can_be_ignored(#[case] label: &str, #[case] count: usize) {
    let (instances, _) = registered(|_, service, _| {
        service["metadata"]["labels"] = json!({"consul.hashicorp.com/service-ignore": label})
    });
    assert_eq!(instances.len(), count);
}

#[rstest]
#[case(json!({"ready": false}), Health::NotReady)]
#[case(json!({"ready": false, "terminating": true}), Health::Terminating)]
#[case(json!({}), Health::Passing)]
fn health_is_readiness(#[case] conditions: Value, #[case] health: Health) {
    let (instances, _) = registered(|_, _, slice| slice["endpoints"][0]["conditions"] = conditions.clone());
    assert_eq!(instances[0].health, health);
}

#[rstest]
#[case::name_of_the_service("connect-service", " , api", "api", 8080)]
#[case::number("connect-service-port", "9090", "web", 9090)]
#[case::name("connect-service-port", "http,9090", "web", 8080)]
#[case::default("connect-service-default-port", "9091", "web", 9091)]
fn annotations_name_service_and_port(#[case] key: &str, #[case] value: &str, #[case] service: &str, #[case] port: u16) {
    let (instances, _) = registered(|pod, _, _| annotate(pod, key, value));
    assert_eq!((instances[0].service.as_str(), instances[0].port), (service, port));
}

/// The second of two services of one Pod.
#[test]
fn a_pod_of_several_services_has_a_proxy_for_each() {
    let (instances, refused) = registered(|pod, _, _| {
        annotate(pod, "connect-service", "api, web");
        annotate(pod, "connect-service-port", "9090,http");
        annotate(pod, "connect-service-upstreams", "db:1234");
    });
    assert_eq!(refused, []);
    let [web] = instances.as_slice() else { panic!("one instance, not {instances:?}") };
    assert_eq!((web.service.as_str(), web.proxy_id.as_str()), ("web", "web-1-web-sidecar-proxy"));
    assert_eq!((web.port, web.proxy_port), (8080, 20001));
    assert!(web.upstreams.is_empty() && web.more_ports.is_empty(), "{web:?}");
}

#[rstest]
#[case(r#"{"bind_port": 21000}"#, json!({"bind_port": 21000}))]
#[case("not JSON", json!({}))]
fn a_pod_configures_its_proxy(#[case] annotation: &str, #[case] expected: Value) {
    let (instances, refused) = registered(|pod, _, _| annotate(pod, "proxy-config-map", annotation));
    assert_eq!(refused, []);
    assert_eq!(Value::from(instances[0].proxy_config.clone()), expected);
}

#[rstest]
#[case("connect-service-port", "nope", "nope in annotation")]
#[case("connect-service-upstreams", "db:x", "invalid upstream local bind port \"x\" in \"db:x\"")]
fn mistakes_name_the_pod(#[case] key: &str, #[case] value: &str, #[case] message: &str) {
    let (instances, refused) = registered(|pod, _, _| annotate(pod, key, value));
    assert!(instances.is_empty());
    assert_eq!(refused[0].0, "Pod default/web-1");
    assert!(refused[0].1.contains(message), "{}", refused[0].1);
}

#[test]
fn without_transparent_proxy_there_is_no_virtual_address() {
    let (instances, _) = registered(|pod, _, _| annotate(pod, "transparent-proxy", "false"));
    assert!(!instances[0].transparent);
    assert_eq!(instances[0].cluster_ip, None);
}

#[test]
fn a_headless_service_has_no_cluster_ip() {
    let (instances, _) = registered(|_, service, _| service["spec"]["clusterIP"] = json!("None"));
    assert!(instances[0].transparent);
    assert_eq!(instances[0].cluster_ip, None);
}

#[test]
fn overwritten_probes_are_exposed() {
    let probe = |port: Value| json!({"httpGet": {"path": "/healthz", "port": port}});
    let (instances, _) = registered(|pod, _, _| {
        let mut original = pod.clone();
        original["spec"]["containers"][0]["readinessProbe"] = probe(json!("http"));
        original["spec"]["containers"][0]["livenessProbe"] = probe(json!(9090));
        annotate(pod, "original-pod", &original.to_string());
        pod["spec"]["containers"][0]["readinessProbe"] = probe(json!(20400));
        pod["spec"]["containers"][0]["livenessProbe"] = probe(json!(20300));
    });
    let path = |listener_port, local_path_port| ExposePath {
        listener_port,
        local_path_port,
        path: "/healthz".to_owned(),
        protocol: None,
    };
    assert_eq!(instances[0].expose, [path(20300, 9090), path(20400, 8080)]);
}

#[rstest]
#[case::on(&[("scrape", "true"), ("port", "20200"), ("path", "/metrics")], Some((20200, "/metrics")))]
#[case::written_by_hand(&[("port", "9102"), ("path", "/metrics")], None)]
#[case::no_port(&[("scrape", "true"), ("port", "many"), ("path", "/metrics")], None)]
fn metrics_are_where_the_webhook_says(#[case] annotations: &[(&str, &str)], #[case] expected: Option<(u16, &str)>) {
    let (instances, _) = registered(|pod, _, _| {
        for (key, value) in annotations {
            pod["metadata"]["annotations"][format!("prometheus.io/{key}")] = json!(value);
        }
    });
    assert_eq!(instances[0].metrics, expected.map(|(port, path)| (port, path.to_owned())));
}

#[test]
fn in_dual_stack_both_families_are_known() {
    let (instances, _) = registered(|pod, service, _| {
        pod["status"]["podIPs"] = json!([{"ip": "10.244.0.7"}, {"ip": "fd00::7"}]);
        service["spec"]["clusterIPs"] = json!(["10.96.0.5", "fd00:96::5"]);
        annotate(pod, "dual-stack", "true");
    });
    let [instance] = instances.as_slice() else { panic!("one instance, not {instances:?}") };
    let shown = |addresses: Vec<IpAddr>| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(instance.addresses().collect()), ["10.244.0.7", "fd00::7"]);
    assert_eq!(shown(instance.loopbacks().collect()), ["127.0.0.1", "::1"]);
    assert_eq!(shown(instance.cluster_ips.clone()), ["10.96.0.5", "fd00:96::5"]);
    assert_eq!(instance.sidecar.to_string(), "::1");
}

#[rstest]
#[case::one("http", &[])]
#[case::named_by_the_service("http,metrics,9092", &["stats:9091<-9091", "port-9092:9092"])]
#[case::named_by_the_container("http, debug", &["debug:9093"])]
#[case::what_is_listed_twice("http,http,metrics,9091", &["stats:9091<-9091"])]
#[case::datagrams_are_not_of_the_mesh("http,dns", &[])]
fn further_ports_have_names(#[case] listed: &str, #[case] expected: &[&str]) {
    let (instances, _) = registered(|pod, service, _| {
        annotate(pod, "connect-service-port", listed);
        pod["spec"]["containers"][0]["ports"] = json!([
            {"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9091},
            {"name": "debug", "containerPort": 9093}, {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        ]);
        service["spec"]["ports"] = json!([
            {"name": "web", "port": 80, "targetPort": "http"}, {"name": "stats", "port": 9091, "targetPort": "metrics"},
        ]);
    });
    let shown = |p: &NamedPort| {
        let in_front = p.service_port.map(|port| format!("<-{port}")).unwrap_or_default();
        format!("{}:{}{in_front}", p.name, p.port)
    };
    assert_eq!(instances[0].more_ports.iter().map(shown).collect::<Vec<_>>(), expected);
    assert_eq!((instances[0].port_name.as_str(), instances[0].port), ("web", 8080));
}

/// A gateway with these annotations, behind a Service of `kind`: where it is reached from inside and from outside.
fn gateway(annotations: &[(&str, &str)], kind: &str) -> Result<(String, String), String> {
    let (instances, refused) = registered(|pod, service, _| {
        annotate(pod, "gateway-kind", "mesh-gateway");
        annotations.iter().for_each(|(key, value)| annotate(pod, key, value));
        service["spec"]["type"] = json!(kind);
        service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}});
    });
    match (instances.as_slice(), refused.as_slice()) {
        ([one], []) => {
            let shown = |at: Option<std::net::SocketAddr>| at.map(|at| at.to_string()).unwrap_or_default();
            assert_eq!((one.id.as_str(), one.service.as_str()), ("web-1", "mesh-gateway"));
            Ok((shown(one.lan()), shown(one.wan())))
        }
        ([], [(_, why)]) => Err(why.clone()),
        other => panic!("{other:?}"),
    }
}

const SOURCE: &str = "gateway-wan-address-source";

#[rstest]
#[case::inside_only(&[], "ClusterIP", "10.244.0.7:8443", "")]
#[case::port(&[("mesh-gateway-container-port", "9443")], "ClusterIP", "10.244.0.7:9443", "")]
#[case::node(&[(SOURCE, "NodeIP"), ("gateway-wan-port", "30443")], "NodePort", "10.244.0.7:8443", "172.18.0.2:30443")]
#[case::fixed(&[(SOURCE, "Static"), ("gateway-wan-address-static", "198.51.100.1")], "ClusterIP", "10.244.0.7:8443",
    "198.51.100.1:443")]
#[case::node_port(&[(SOURCE, "Service"), ("gateway-wan-port", "30443")], "NodePort", "10.244.0.7:8443", "172.18.0.2:30443")]
#[case::load_balancer(&[(SOURCE, "Service")], "LoadBalancer", "10.244.0.7:8443", "203.0.113.7:443")]
#[case::cluster_ip(&[(SOURCE, "Service")], "ClusterIP", "10.244.0.7:8443", "10.96.0.5:443")]
fn where_gateways_are(
    #[case] annotations: &[(&str, &str)],
    #[case] kind: &str,
    #[case] inside: &str,
    #[case] outside: &str,
) {
    assert_eq!(gateway(annotations, kind), Ok((inside.to_owned(), outside.to_owned())));
}

#[rstest]
#[case(&[("gateway-kind", "ingress-gateway")], "\"ingress-gateway\" in annotation consul.hashicorp.com/gateway-kind is no gateway")]
#[case(&[(SOURCE, "DNS")], "\"DNS\" in annotation consul.hashicorp.com/gateway-wan-address-source is none of NodeIP")]
#[case(&[("gateway-wan-port", "0")], "\"0\" in annotation consul.hashicorp.com/gateway-wan-port is no port")]
fn gateways_that_cannot_be_registered(#[case] annotations: &[(&str, &str)], #[case] why: &str) {
    let refused = gateway(annotations, "ClusterIP").expect_err("refused");
    assert!(refused.starts_with(why), "{refused}");
}
