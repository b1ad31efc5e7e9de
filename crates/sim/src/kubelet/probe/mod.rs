//! Probes: what to ask, the asking, and what came of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as ContainerOfPod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use netns::NetNs;

use crate::ProbeResult;
use crate::runtime::Container;

mod command;
mod dial;
mod grpc;
mod http;
mod tls;

/// A probe with its names resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Check {
    Http(http::Get),
    Tcp(SocketAddr),
    Grpc { peer: SocketAddr, service: String },
    Exec(Vec<String>),
}

/// What one attempt gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) success: bool,
    pub(super) result: ProbeResult,
    /// In a kubelet's words, without "Readiness probe failed: ".
    pub(super) message: String,
    pub(super) peer: Option<SocketAddr>,
    pub(super) local_port: Option<u16>,
}

impl Check {
    /// Resolves ports by name and the address to ask: the Pod's unless a host is named.
    pub(super) fn of(probe: &Probe, container: &ContainerOfPod, address: Option<IpAddr>) -> Result<Self, String> {
        if let Some(exec) = &probe.exec {
            return Ok(Self::Exec(exec.command.clone().unwrap_or_default()));
        }
        let address = |host: Option<&str>| match host.filter(|host| !host.is_empty()) {
            Some(host) => {
                host.parse().map_err(|_| format!("host {host:?} is no IP address, and nodes have no resolver"))
            }
            None => address.ok_or_else(|| "the pod has no address".to_owned()),
        };
        if let Some(get) = &probe.http_get {
            let peer = SocketAddr::new(address(get.host.as_deref())?, port(&get.port, container)?);
            return Ok(Self::Http(http::Get::new(get, peer)));
        }
        if let Some(tcp) = &probe.tcp_socket {
            return Ok(Self::Tcp(SocketAddr::new(address(tcp.host.as_deref())?, port(&tcp.port, container)?)));
        }
        if let Some(grpc) = &probe.grpc {
            let peer = SocketAddr::new(address(None)?, port(&IntOrString::Int(grpc.port), container)?);
            return Ok(Self::Grpc { peer, service: grpc.service.clone().unwrap_or_default() });
        }
        Err("missing probe handler".into())
    }
}

fn port(port: &IntOrString, container: &ContainerOfPod) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0).ok_or_else(|| match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!("couldn't find port: {name:?} in container {}", container.name),
    })
}

/// Asks once, from the node.
pub(super) async fn run(check: &Check, node: &NetNs, container: Option<&Container>, timeout: Duration) -> Attempt {
    match check {
        Check::Http(get) => http::run(get, node, timeout).await,
        Check::Tcp(peer) => dial::run(*peer, node, timeout).await,
        Check::Grpc { peer, service } => grpc::run(*peer, service, node, timeout).await,
        Check::Exec(words) => command::run(words, container, timeout).await,
    }
}

impl Attempt {
    fn new(success: bool, result: ProbeResult, message: impl Into<String>) -> Self {
        Self { success, result, message: message.into(), peer: None, local_port: None }
    }

    fn between(self, local: Option<SocketAddr>, peer: SocketAddr) -> Self {
        Self { peer: Some(peer), local_port: local.map(|local| local.port()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case::number(json!({"tcpSocket": {"port": 80}}), Ok("10.244.0.5:80"))]
    #[case::name(json!({"tcpSocket": {"port": "web"}}), Ok("10.244.0.5:8080"))]
    #[case::number_as_text(json!({"tcpSocket": {"port": "81"}}), Ok("10.244.0.5:81"))]
    #[case::host(json!({"tcpSocket": {"port": 80, "host": "127.0.0.1"}}), Ok("127.0.0.1:80"))]
    #[case::unknown_name(json!({"tcpSocket": {"port": "no"}}), Err("couldn't find port: \"no\" in container c"))]
    #[case::nothing(json!({}), Err("missing probe handler"))]
    fn ports_and_hosts_are_resolved(#[case] probe: Value, #[case] expected: Result<&str, &str>) {
        let probe: Probe = serde_json::from_value(probe).expect("a probe");
        let container: ContainerOfPod =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}))
                .expect("a container");
        let check = Check::of(&probe, &container, Some("10.244.0.5".parse().expect("ip")));
        let expected = expected.map(|peer| Check::Tcp(peer.parse().expect("address"))).map_err(str::to_owned);
        assert_eq!(check, expected);
    }
}
