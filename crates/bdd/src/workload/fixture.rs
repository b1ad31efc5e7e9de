//! The fixture library: what each name of the catalogue stands for before a step's table changes it.

use std::collections::BTreeMap;

use redirect::contract;
use serde_json::Value;

use super::spec::{
    Bind, Container, Controller, Listen, Probe, ProbeAction, ProbeKind, Role, ServicePort, ServiceShape, Workload,
};

/// The user that applications run as unless they say otherwise.
const APP_UID: u32 = 1000;
/// Node port of `static-server`.
const NODE_PORT: u16 = 30080;

fn listen(protocol: &str, port: u16) -> Listen {
    Listen { protocol: protocol.to_owned(), port }
}

fn container(name: &str, uid: u32, role: Role) -> Container {
    Container { name: name.to_owned(), uid, role }
}

fn server(name: &str) -> Workload {
    Workload {
        cluster: None,
        name: name.to_owned(),
        namespace: "default".to_owned(),
        controller: Controller::Deployment,
        replicas: 1,
        service: ServiceShape::Named(name.to_owned()),
        service_ports: Vec::new(),
        node_port: None,
        listens: vec![listen("http", 8080)],
        binds: Bind::Wildcard,
        annotations: BTreeMap::from([(contract::CONNECT_INJECT.to_owned(), Value::from("true"))]),
        containers: vec![container(name, APP_UID, Role::Server)],
        probes: vec![unhealthy_file()],
        init: Vec::new(),
        init_sidecar: None,
        command: None,
        dns_server: None,
        resolver: None,
        host_network: false,
        link: None,
        farewell: None,
    }
}

fn client(name: &str) -> Workload {
    Workload {
        listens: Vec::new(),
        containers: vec![container(name, APP_UID, Role::Client)],
        probes: Vec::new(),
        ..server(name)
    }
}

fn unhealthy_file() -> Probe {
    let command = ["test", "!", "-f", "/tmp/unhealthy"].map(str::to_owned).to_vec();
    Probe { kind: ProbeKind::Readiness, action: ProbeAction::Exec(command) }
}

fn bare(workload: Workload) -> Workload {
    Workload { controller: Controller::Pod, ..workload }
}

/// The workload that a name stands for. A name of no fixture is a server like `static-server`, so that a feature may
/// name its own.
#[must_use]
pub fn fixture(name: &str) -> Workload {
    match name {
        "static-client" | "caller" | "explicit" | "far-client" | "late" | "early" | "eager" | "new-client" => {
            client(name)
        }
        "outsider" => {
            let mut outsider = client(name);
            outsider.annotations.insert(contract::CONNECT_INJECT.to_owned(), Value::from("false"));
            outsider
        }
        "group" => Workload { replicas: 3, ..client(name) },
        "static-server" => Workload { node_port: Some(NODE_PORT), ..server(name) },
        "plain" => {
            let mut plain = server(name);
            plain.annotations.clear();
            plain
        }
        "multi-user" => Workload {
            containers: [1000, 444, 4444, 44444, 1234]
                .map(|uid| container(&format!("user-{uid}"), uid, Role::Client))
                .to_vec(),
            ..bare(client(name))
        },
        "probed" => Workload { probes: Vec::new(), ..server(name) },
        "vault" => Workload { listens: [8080, 8200, 8201].map(|p| listen("http", p)).to_vec(), ..server(name) },
        "echo" => Workload { listens: vec![listen("tcp", 9000)], ..server(name) },
        "greeter" => Workload { listens: vec![listen("server-first", 5432)], ..server(name) },
        "multiport" => Workload {
            listens: [9090, 9091, 9092].map(|p| listen("http", p)).to_vec(),
            service_ports: [("api", 9090), ("metrics", 9091), ("admin", 9092)]
                .map(|(name, port)| ServicePort { name: name.to_owned(), port, target: port })
                .to_vec(),
            ..server(name)
        },
        "metered" => {
            let mut metered = server(name);
            metered.listens.push(listen("http", 9102));
            metered.annotations.insert(contract::ENABLE_METRICS.to_owned(), Value::from("true"));
            metered
        }
        "db" => Workload {
            controller: Controller::StatefulSet,
            replicas: 3,
            service: ServiceShape::Headless,
            listens: vec![listen("tcp", 5432)],
            ..server(name)
        },
        "api" => Workload { replicas: 2, ..server(name) },
        "job-client" => Workload { controller: Controller::Job, ..client(name) },
        "migrator" | "mixed" | "tinkerer" | "masquerader" | "sly" | "attacker" | "typo" | "odd" | "intruder"
        | "stranger" => bare(client(name)),
        _ => server(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_serve_nothing_and_the_outsider_is_not_injected() {
        assert!(fixture("static-client").listens.is_empty());
        assert_eq!(fixture("outsider").annotation(contract::CONNECT_INJECT), Some("false"));
        assert_eq!(fixture("anything").listens, fixture("static-server").listens);
    }
}
