//! The objects that an installer makes: nodes, and the Service of the cluster's DNS.

use std::net::IpAddr;

use anyhow::Context;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;

use crate::net::{Network, Plan};
use crate::{NodeInfo, Station};

/// Version that the nodes claim.
const KUBELET_VERSION: &str = "v1.35.0";

pub(super) async fn create(client: &Client, network: &Network, plan: Plan, dns: &Station) -> anyhow::Result<()> {
    let nodes = network.nodes().iter().zip(0..).map(|(info, number)| node(client, info, plan, number));
    futures::future::try_join(try_join_all(nodes), cluster_dns(client, plan, dns)).await?;
    Ok(())
}

async fn node(client: &Client, info: &NodeInfo, plan: Plan, number: u8) -> anyhow::Result<()> {
    let now = Timestamp::now().to_string();
    let cidrs: Vec<_> = plan.announced_pod_cidrs(number).iter().map(ToString::to_string).collect();
    let mut addresses: Vec<_> =
        info.addresses.iter().map(|ip| json!({ "type": "InternalIP", "address": ip.to_string() })).collect();
    addresses.push(json!({ "type": "Hostname", "address": info.name }));
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let room = json!({ "cpu": "8", "memory": "16Gi", "pods": "250", "ephemeral-storage": "64Gi" });
    let mut node: Node = serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": info.name,
            "labels": {
                "kubernetes.io/hostname": info.name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": arch,
            },
        },
        "spec": { "podCIDR": cidrs.first(), "podCIDRs": cidrs },
        "status": {
            "addresses": addresses,
            "capacity": room,
            "allocatable": room,
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady",
                "message": "kubelet is posting ready status",
                "lastHeartbeatTime": now, "lastTransitionTime": now,
            }],
            "nodeInfo": {
                "architecture": arch, "operatingSystem": "linux", "kubeletVersion": KUBELET_VERSION,
                "kubeProxyVersion": "", "containerRuntimeVersion": "pellucid://0", "osImage": "Pellucid",
                "kernelVersion": kernel(), "machineID": "", "systemUUID": "", "bootID": "",
            },
        },
    }))
    .context("describe a node")?;
    let failed = || format!("create node {}", info.name);
    let nodes: Api<Node> = Api::all(client.clone());
    let made = nodes.create(&PostParams::default(), &node).await.with_context(failed)?;
    let conditions = made.status.and_then(|status| status.conditions).unwrap_or_default();
    if conditions.is_empty() {
        node.metadata.resource_version = made.metadata.resource_version;
        nodes.replace_status(&info.name, &PostParams::default(), &node).await.with_context(failed)?;
    }
    Ok(())
}

async fn cluster_dns(client: &Client, plan: Plan, station: &Station) -> anyhow::Result<()> {
    let ips: Vec<_> = plan.dns_service().iter().map(ToString::to_string).collect();
    let families: Vec<_> = plan.dns_service().iter().map(family).collect();
    let ports = |target: &str| {
        json!([
            { "name": "dns", "port": 53, target: 53, "protocol": "UDP" },
            { "name": "dns-tcp", "port": 53, target: 53, "protocol": "TCP" },
        ])
    };
    let service: Service = serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "kube-dns", "namespace": "kube-system", "labels": { "k8s-app": "kube-dns" } },
        "spec": {
            "clusterIP": ips.first(), "clusterIPs": ips, "ipFamilies": families,
            "ipFamilyPolicy": if ips.len() > 1 { "RequireDualStack" } else { "SingleStack" },
            "ports": ports("targetPort"),
        },
    }))
    .context("describe the cluster's DNS")?;
    let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
    services.create(&PostParams::default(), &service).await.context("create the Service kube-dns")?;

    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "kube-system");
    for address in &station.addresses {
        let family = family(address);
        let slice: EndpointSlice = serde_json::from_value(json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("kube-dns-{}", family.to_lowercase()),
                "namespace": "kube-system",
                "labels": { "kubernetes.io/service-name": "kube-dns" },
            },
            "addressType": family,
            "endpoints": [{ "addresses": [address.to_string()], "conditions": { "ready": true } }],
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP" },
                { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
            ],
        }))
        .context("describe the cluster's DNS")?;
        slices.create(&PostParams::default(), &slice).await.context("create the EndpointSlice of kube-dns")?;
    }
    Ok(())
}

fn family(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}
