//! What exists from the start, and what follows at once from the existence of something.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::create;
use super::defaults;
use super::kinds::{self, Kind};
use super::status::{ApiError, Result};
use super::store::Stored;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates the first objects of a cluster.
pub(crate) fn objects(cluster: &Arc<Cluster>, advertise: &[SocketAddr]) -> Result<()> {
    for name in NAMESPACES {
        make(cluster, "", "namespaces", json!({ "metadata": { "name": name } }))?;
    }
    api_service(cluster, advertise)
}

fn make(cluster: &Arc<Cluster>, group: &str, plural: &str, mut object: Value) -> Result<()> {
    let kind = cluster.registry.get(group, "v1", plural).ok_or_else(ApiError::path_not_found)?;
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.clone().into();
    defaults::fill(&kind, &mut object);
    defaults::initial_status(&kind, &mut object);
    create::commit(cluster, &kind, object).map(|_| ())
}

/// The Service by which Pods reach this server.
fn api_service(cluster: &Arc<Cluster>, advertise: &[SocketAddr]) -> Result<()> {
    let Some(first) = cluster.allocator.api_address() else { return Ok(()) };
    let reachable: Vec<_> = advertise.iter().filter(|address| !address.ip().is_loopback()).collect();
    let reachable = if reachable.is_empty() { advertise.iter().collect() } else { reachable };
    let endpoints: Vec<_> = reachable.iter().filter(|address| address.is_ipv4() == first.is_ipv4()).collect();
    let Some(port) = reachable.first().map(|address| address.port()) else { return Ok(()) };
    let labels = json!({ "component": "apiserver", "provider": "kubernetes" });
    make(
        cluster,
        "",
        "services",
        json!({
            "metadata": { "name": "kubernetes", "namespace": "default", "labels": labels },
            "spec": {
                "clusterIP": first.to_string(),
                "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": port }],
            },
        }),
    )?;
    let Some(port) = endpoints.first().map(|address| address.port()) else { return Ok(()) };
    let mut addresses: Vec<_> = endpoints.iter().map(|address| address.ip().to_string()).collect();
    addresses.dedup();
    make(
        cluster,
        "discovery.k8s.io",
        "endpointslices",
        json!({
            "metadata": {
                "name": "kubernetes", "namespace": "default", "labels": { "kubernetes.io/service-name": "kubernetes" },
            },
            "addressType": if first.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": [{ "addresses": addresses, "conditions": { "ready": true, "serving": true, "terminating": false } }],
            "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        }),
    )?;
    make(
        cluster,
        "",
        "endpoints",
        json!({
            "metadata": { "name": "kubernetes", "namespace": "default" },
            "subsets": [{
                "addresses": addresses.iter().map(|ip| json!({ "ip": ip })).collect::<Vec<_>>(),
                "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
            }],
        }),
    )
}

/// A namespace gets its default account and the authority's certificate; a definition is served.
pub(crate) fn after_create(cluster: &Arc<Cluster>, kind: &Kind, object: &Stored) -> Result<()> {
    if kind.is("", "namespaces") {
        let name = &object.value["metadata"]["name"];
        make(cluster, "", "serviceaccounts", json!({ "metadata": { "name": "default", "namespace": name } }))?;
        make(
            cluster,
            "",
            "configmaps",
            json!({
                "metadata": { "name": "kube-root-ca.crt", "namespace": name },
                "data": { "ca.crt": cluster.ca_pem },
            }),
        )?;
    }
    if is_definition(kind) {
        cluster.registry.define(&object.value);
    }
    Ok(())
}

pub(crate) fn after_update(cluster: &Cluster, kind: &Kind, object: &Stored) {
    if is_definition(kind) {
        cluster.registry.define(&object.value);
    }
}

/// A Service's addresses are free again; a definition's resources go with it.
pub(crate) fn after_remove(cluster: &Cluster, kind: &Kind, object: &Stored) {
    if kind.is("", "services") {
        cluster.allocator.release(&object.value);
    }
    if is_definition(kind) {
        let spec = &object.value["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let shelf = kinds::shelf(&text(&spec["group"]), &text(&spec["names"]["plural"]));
        for resource in cluster.store.list(&shelf, None).1 {
            let metadata = &resource.value["metadata"];
            let _ = cluster.store.remove(&shelf, &text(&metadata["namespace"]), &text(&metadata["name"]), None);
        }
        cluster.registry.forget(&object.value);
    }
}

fn is_definition(kind: &Kind) -> bool {
    kind.is("apiextensions.k8s.io", "customresourcedefinitions")
}
