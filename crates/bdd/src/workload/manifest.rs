//! The Kubernetes objects that a workload becomes. Pure: from the description to JSON.

use serde_json::{Map, Value, json};

use super::program;
use super::spec::{
    Command, Controller, InitSidecar, Listen, Placement, Probe, ProbeAction, Role, ServicePort, ServiceShape, Workload,
};

/// A Pod that is asked to end does so at once; what happens while one ends is said by the features that need it.
const GRACE_SECONDS: u32 = 1;
/// How often a probe runs, in a real kubelet's seconds.
const PROBE_PERIOD: u32 = 5;
/// The user of an init container that goes on beside the application.
const SIDECAR_UID: u32 = 1001;
/// Namespaces that a cluster has from the start.
pub(crate) const BUILT_IN: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// What an address function in a command resolved to; see [`crate::address`].
pub type Resolved = String;

/// All objects of a workload, in the order they are to be applied. `command` is the workload's command with its
/// addresses resolved, and `init` the same for the init containers' URLs.
#[must_use]
pub fn objects(workload: &Workload, command: Option<&Command>, init: &[Resolved]) -> Vec<Value> {
    let mut objects = Vec::new();
    if !BUILT_IN.contains(&workload.namespace.as_str()) {
        objects.push(namespace(&workload.namespace, None));
    }
    objects.push(json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": workload.name, "namespace": workload.namespace},
    }));
    objects.extend(services(workload));
    objects.push(controller(workload, command, init));
    objects
}

/// A Namespace, perhaps with one label.
#[must_use]
pub fn namespace(name: &str, label: Option<(&str, &str)>) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    if let Some((key, value)) = label {
        object["metadata"]["labels"] = json!({ (key): value });
    }
    object
}

/// Has the Pods of a controller, or a Pod, ask for nothing that Pod Security level `restricted` refuses. Others may switch users
/// and more, which scenarios use.
pub fn restrict(object: &mut Value) {
    let spec = match object.pointer("/spec/template/spec") {
        Some(_) => object.pointer_mut("/spec/template/spec"),
        None if object["kind"] == "Pod" => object.pointer_mut("/spec"),
        None => None,
    };
    let Some(spec) = spec else { return };
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let context = &mut container["securityContext"];
            context["allowPrivilegeEscalation"] = json!(false);
            context["capabilities"] = json!({"drop": ["ALL"]});
            context["runAsNonRoot"] = json!(true);
            context["seccompProfile"] = json!({"type": "RuntimeDefault"});
        }
    }
}

fn services(workload: &Workload) -> Vec<Value> {
    let selector = json!({"app": workload.name});
    match &workload.service {
        ServiceShape::None => Vec::new(),
        ServiceShape::Named(name) => vec![service(workload, name, &selector, false)],
        ServiceShape::Headless => vec![service(workload, &workload.name, &selector, true)],
        ServiceShape::Mismatch => {
            vec![service(workload, &workload.name, &json!({"app": format!("{}-nobody", workload.name)}), false)]
        }
        ServiceShape::Two(a, b) => [a, b].into_iter().map(|name| service(workload, name, &selector, false)).collect(),
    }
}

/// Ports of the Service: what the step said, or one per port the application serves, with 80 in front of 8080.
fn ports(workload: &Workload) -> Vec<ServicePort> {
    if !workload.service_ports.is_empty() {
        return workload.service_ports.clone();
    }
    if workload.listens.is_empty() {
        return vec![ServicePort { name: "http".into(), port: 80, target: 8080 }];
    }
    workload
        .listens
        .iter()
        .map(|l| ServicePort { name: port_name(l), port: if l.port == 8080 { 80 } else { l.port }, target: l.port })
        .collect()
}

fn port_name(listen: &Listen) -> String {
    let protocol = if listen.protocol == "server-first" { "tcp" } else { &listen.protocol };
    format!("{protocol}-{}", listen.port)
}

fn transport(workload: &Workload, port: u16) -> &'static str {
    let udp = workload.listens.iter().any(|l| l.port == port && l.protocol == "udp");
    if udp { "UDP" } else { "TCP" }
}

fn service(workload: &Workload, name: &str, selector: &Value, headless: bool) -> Value {
    let mut ports: Vec<Value> = ports(workload)
        .iter()
        .map(|p| {
            json!({
                "name": p.name, "port": p.port, "targetPort": p.target, "protocol": transport(workload, p.target),
            })
        })
        .collect();
    // the primary family, and the other where the cluster has it
    let mut spec = json!({"selector": selector, "ipFamilyPolicy": "PreferDualStack"});
    if headless {
        spec["clusterIP"] = json!("None");
    } else if let Some(node_port) = workload.node_port {
        spec["type"] = json!("NodePort");
        ports[0]["nodePort"] = json!(node_port);
    }
    spec["ports"] = Value::Array(ports);
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": workload.namespace, "labels": {"app": workload.name}},
        "spec": spec,
    })
}

fn controller(workload: &Workload, command: Option<&Command>, init: &[Resolved]) -> Value {
    let labels = json!({"app": workload.name});
    let pod = pod_spec(workload, command, init);
    let metadata = json!({"name": workload.name, "namespace": workload.namespace, "labels": labels});
    let mut pod_metadata = json!({"labels": labels});
    if !workload.annotations.is_empty() {
        pod_metadata["annotations"] = Value::Object(workload.annotations.clone().into_iter().collect::<Map<_, _>>());
    }
    let template = json!({"metadata": pod_metadata, "spec": pod});
    match workload.controller {
        Controller::Deployment => json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"replicas": workload.replicas, "selector": {"matchLabels": labels}, "template": template},
        }),
        Controller::StatefulSet => json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata,
            "spec": {
                "replicas": workload.replicas, "serviceName": workload.name, "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": labels}, "template": template,
            },
        }),
        Controller::Job => json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
            "spec": {"backoffLimit": 0, "template": template},
        }),
        Controller::Pod => {
            let mut metadata = metadata;
            if let Some(annotations) = pod_metadata.get("annotations") {
                metadata["annotations"] = annotations.clone();
            }
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})
        }
    }
}

fn pod_spec(workload: &Workload, command: Option<&Command>, init: &[Resolved]) -> Value {
    let containers: Vec<Value> = workload
        .containers
        .iter()
        .enumerate()
        .map(|(i, c)| {
            let args = match (i, command) {
                (0, Some(command)) => program::command(command),
                _ if c.role == Role::Server => program::serve(workload),
                _ if workload.farewell.is_some() => program::unyielding(),
                _ => program::idle(),
            };
            let mut container = json!({
                "name": c.name, "image": program::IMAGE,
                "env": [
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ],
                "securityContext": {"runAsUser": c.uid},
            });
            let field = if args.shell { "command" } else { "args" };
            container[field] = json!(args.words);
            if i == 0 {
                let ports: Vec<Value> = workload
                    .listens
                    .iter()
                    .map(|l| {
                        json!({
                            "name": port_name(l), "containerPort": l.port,
                            "protocol": transport(workload, l.port),
                        })
                    })
                    .collect();
                if !ports.is_empty() {
                    container["ports"] = Value::Array(ports);
                }
                for p in &workload.probes {
                    container[p.kind.field()] = probe(p);
                }
            }
            container
        })
        .collect();
    let mut spec = json!({
        "serviceAccountName": workload.name,
        "terminationGracePeriodSeconds": workload.farewell.unwrap_or(GRACE_SECONDS),
        "containers": containers,
    });
    let sidecar = workload.init_sidecar.as_ref().map(init_sidecar);
    let init: Vec<Value> = sidecar.into_iter().chain(init_containers(workload, init)).collect();
    if !init.is_empty() {
        spec["initContainers"] = Value::Array(init);
    }
    if workload.controller == Controller::Job || matches!(command, Some(Command::RequestOnce(_))) {
        spec["restartPolicy"] = json!("Never");
    }
    if let Some(server) = &workload.dns_server {
        spec["dnsPolicy"] = json!("None");
        spec["dnsConfig"] = json!({"nameservers": [server]});
    }
    if workload.host_network {
        spec["hostNetwork"] = json!(true);
    }
    spec
}

fn init_containers(workload: &Workload, urls: &[Resolved]) -> Vec<Value> {
    let order = |p: Placement| match p {
        Placement::First => 0,
        Placement::Unsaid => 1,
        Placement::Last => 2,
    };
    let mut ordered: Vec<_> = workload.init.iter().zip(urls).enumerate().collect();
    ordered.sort_by_key(|(_, (init, _))| order(init.placement));
    ordered
        .into_iter()
        .map(|(i, (init, url))| {
            let mut container =
                json!({"name": format!("init-{i}"), "image": program::IMAGE, "args": program::request_once(url)});
            if let Some(uid) = init.uid {
                container["securityContext"] = json!({"runAsUser": uid});
            }
            container
        })
        .collect()
}

/// An init container that goes on beside the application.
fn init_sidecar(sidecar: &InitSidecar) -> Value {
    let args = program::serve_beside(sidecar);
    let mut container = json!({
        "name": "init-sidecar", "image": program::IMAGE, "restartPolicy": "Always",
        "securityContext": {"runAsUser": SIDECAR_UID},
    });
    container[if args.shell { "command" } else { "args" }] = json!(args.words);
    for p in &sidecar.probes {
        container[p.kind.field()] = probe(p);
    }
    container
}

fn probe(probe: &Probe) -> Value {
    let mut value = match &probe.action {
        ProbeAction::Http(port, path) => json!({"httpGet": {"port": port, "path": path}}),
        ProbeAction::Https(port, path) => json!({"httpGet": {"port": port, "path": path, "scheme": "HTTPS"}}),
        ProbeAction::Tcp(port) => json!({"tcpSocket": {"port": port}}),
        ProbeAction::Grpc(port) => json!({"grpc": {"port": port}}),
        ProbeAction::Exec(command) => json!({"exec": {"command": command}}),
    };
    value["periodSeconds"] = json!(PROBE_PERIOD);
    value
}
