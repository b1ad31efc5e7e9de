//! Kubernetes objects as the webhook, the kubelet and the controllers leave them.

use serde_json::{Value, json};

/// A Pod that was injected, as the webhook and the kubelet leave it.
pub(crate) fn pod(name: &str, address: &str, transparent: bool) -> Value {
    let mut annotations = json!({
        "consul.hashicorp.com/connect-inject-status": "injected", "consul.hashicorp.com/connect-service-port": "http",
    });
    if transparent {
        annotations["consul.hashicorp.com/transparent-proxy-status"] = json!("enabled");
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default", "annotations": annotations,
            "labels": {"consul.hashicorp.com/connect-inject-managed-by": "consul-k8s-endpoints-controller"},
        },
        "spec": {
            "nodeName": "node-0",
            "containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}],
        },
        "status": {"podIP": address, "hostIP": "172.18.0.2"},
    })
}

/// A Service with one port, 80 to `http`.
pub(crate) fn service(name: &str, cluster_ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": cluster_ip, "ipFamilies": ["IPv4"], "ports": [{"port": 80, "targetPort": "http"}]},
    })
}

/// A slice with one endpoint.
pub(crate) fn slice(service: &str, pod: &str, address: &str, ready: bool) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-1"), "namespace": "default", "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": [address], "conditions": {"ready": ready},
            "targetRef": {"kind": "Pod", "name": pod, "namespace": "default"},
        }],
    })
}
