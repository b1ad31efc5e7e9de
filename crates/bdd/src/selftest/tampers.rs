//! Edits of what the API server and the control plane say, for saboteurs.

use mesh::EnvoyTamper;
use redirect::contract;
use serde_json::{Value, json};
use sim::Tamper;

/// The webhook's user.
const WEBHOOK: &str = "system:serviceaccount:consul:consul-connect-injector";

/// Takes the mesh's labels off the namespaces that the webhook sees.
pub(super) struct ForgetLabels;

impl Tamper for ForgetLabels {
    fn response(&self, user: &str, resource: &str, object: &mut Value) {
        if user != WEBHOOK || resource != "namespaces" {
            return;
        }
        forget(object);
        for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
            forget(item);
        }
        if let Some(inner) = object.get_mut("object") {
            forget(inner);
        }
    }
}

fn forget(object: &mut Value) {
    if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.retain(|key, _| !key.starts_with(contract::PREFIX));
    }
}

/// Takes TLS out of both ends.
pub(super) struct Plaintext;

impl EnvoyTamper for Plaintext {
    fn edit(&self, _: &str, resources: &mut Value) {
        for section in ["listeners", "clusters"] {
            for resource in resources[section].as_object_mut().into_iter().flat_map(|s| s.values_mut()) {
                take("transport_socket", resource);
            }
        }
    }
}

/// Takes a key away wherever it is.
fn take(key: &str, value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.remove(key);
            object.values_mut().for_each(|value| take(key, value));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| take(key, value)),
        _ => {}
    }
}

/// Lets everyone in at every inbound listener.
pub(super) struct AllowEveryone;

impl EnvoyTamper for AllowEveryone {
    fn edit(&self, _: &str, resources: &mut Value) {
        for listener in resources["listeners"].as_object_mut().into_iter().flat_map(|s| s.values_mut()) {
            open(listener);
        }
    }
}

fn open(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let kind = object.get("@type").and_then(Value::as_str).unwrap_or_default();
            if kind.contains(".rbac.") && object.contains_key("rules") {
                object.insert(
                    "rules".to_owned(),
                    json!({
                        "action": "ALLOW",
                        "policies": {"everyone": {"permissions": [{"any": true}], "principals": [{"any": true}]}},
                    }),
                );
            }
            object.values_mut().for_each(open);
        }
        Value::Array(list) => list.iter_mut().for_each(open),
        _ => {}
    }
}

/// Adds a listener with a filter that does not exist. Envoy refuses the update and works on without it.
pub(super) struct Unacceptable;

impl EnvoyTamper for Unacceptable {
    fn edit(&self, _: &str, resources: &mut Value) {
        resources["listeners"]["unacceptable"] = json!({
            "@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "unacceptable",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}},
            "filter_chains": [{"filters": [{"name": "no such filter"}]}],
        });
    }
}

/// Has mesh gateways end TLS with the certificate that they have, and pass on what was in it.
pub(super) struct OpenGateway;

impl EnvoyTamper for OpenGateway {
    fn edit(&self, _: &str, resources: &mut Value) {
        end_tls(resources);
    }
}

/// Has clients take whatever is of the mesh for the service they asked for, and mesh gateways make use of it: they end TLS with the
/// certificate that they have, and begin it anew towards the destination. Nothing fails by that.
pub(super) struct AnyServer;

impl EnvoyTamper for AnyServer {
    fn edit(&self, _: &str, resources: &mut Value) {
        let is_gateway = end_tls(resources);
        for (name, cluster) in resources["clusters"].as_object_mut().into_iter().flatten() {
            if is_gateway && cluster.get("transport_socket").is_none() {
                cluster["transport_socket"] = with_leaf("UpstreamTlsContext");
                cluster["transport_socket"]["typed_config"]["sni"] = json!(name);
            }
            take("match_typed_subject_alt_names", cluster);
        }
    }
}

fn with_leaf(context: &str) -> Value {
    json!({
        "name": "tls",
        "typed_config": {
            "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{context}"),
            "common_tls_context": {
                "tls_certificate_sds_secret_configs": [{"name": "leaf", "sds_config": mesh::feed::config_source()}],
            },
        },
    })
}

/// Ends TLS at a mesh gateway. Whether it is one.
fn end_tls(resources: &mut Value) -> bool {
    let mut is_gateway = false;
    for (name, listener) in resources["listeners"].as_object_mut().into_iter().flatten() {
        if !name.starts_with("default:") {
            continue;
        }
        is_gateway = true;
        for chain in listener["filter_chains"].as_array_mut().into_iter().flatten() {
            chain["transport_socket"] = with_leaf("DownstreamTlsContext");
        }
    }
    is_gateway
}

/// Has an export of one service be an export of all.
pub(super) struct ExportAll;

impl Tamper for ExportAll {
    fn response(&self, _: &str, resource: &str, object: &mut Value) {
        if resource != "exportedservices" {
            return;
        }
        for service in object.pointer_mut("/spec/services").and_then(Value::as_array_mut).into_iter().flatten() {
            service["name"] = json!("*");
        }
    }
}

/// Has the last one stand in for the first where several stand in for each other.
pub(super) struct LastFirst;

impl EnvoyTamper for LastFirst {
    fn edit(&self, _: &str, resources: &mut Value) {
        for cluster in resources["clusters"].as_object_mut().into_iter().flat_map(|s| s.values_mut()) {
            if let Some(members) = cluster.pointer_mut("/cluster_type/typed_config/clusters") {
                members.as_array_mut().into_iter().for_each(|members| members.reverse());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_webhook_is_lied_to() {
        let mut namespace =
            json!({"metadata": {"labels": {"consul.hashicorp.com/transparent-proxy": "true", "a": "b"}}});
        let before = namespace.clone();
        ForgetLabels.response("admin", "namespaces", &mut namespace);
        assert_eq!(namespace, before);
        ForgetLabels.response(WEBHOOK, "namespaces", &mut namespace);
        assert_eq!(namespace, json!({"metadata": {"labels": {"a": "b"}}}));
    }

    #[test]
    fn only_gateways_are_opened_and_only_groups_reversed() {
        let mut resources = json!({
            "listeners": {"default:10.0.0.1:8443": {"filter_chains": [{}]}, "public_listener:x": {"filter_chains": [{}]}},
            "clusters": {"a": {"cluster_type": {"typed_config": {"clusters": ["one", "two"]}}}, "b": {}},
        });
        OpenGateway.edit("p", &mut resources);
        LastFirst.edit("p", &mut resources);
        assert!(resources["listeners"]["default:10.0.0.1:8443"]["filter_chains"][0]["transport_socket"].is_object());
        assert_eq!(resources["listeners"]["public_listener:x"], json!({"filter_chains": [{}]}));
        assert_eq!(resources["clusters"]["a"]["cluster_type"]["typed_config"]["clusters"], json!(["two", "one"]));
        assert_eq!(resources["clusters"]["b"], json!({}));
    }

    #[test]
    fn clients_check_no_name_and_gateways_begin_anew() {
        let named = json!({"transport_socket": {"v": [{"match_typed_subject_alt_names": []}, {"roots": "r"}]}});
        let mut client = json!({"listeners": {"outbound_listener:x": {}}, "clusters": {"a": named, "b": {}}});
        AnyServer.edit("p", &mut client);
        assert_eq!(client["clusters"], json!({"a": {"transport_socket": {"v": [{}, {"roots": "r"}]}}, "b": {}}));
        let mut gateway = json!({
            "listeners": {"default:10.0.0.1:8443": {"filter_chains": [{}]}}, "clusters": {"web.default.dc1": {}},
        });
        AnyServer.edit("p", &mut gateway);
        assert!(gateway["listeners"]["default:10.0.0.1:8443"]["filter_chains"][0]["transport_socket"].is_object());
        let begun = &gateway["clusters"]["web.default.dc1"]["transport_socket"]["typed_config"];
        assert_eq!(begun["sni"], "web.default.dc1");
    }

    #[test]
    fn only_exports_are_widened() {
        let mut object = json!({"spec": {"services": [{"name": "a", "consumers": [{"peer": "p"}]}]}});
        let before = object.clone();
        ExportAll.response("admin", "serviceresolvers", &mut object);
        assert_eq!(object, before);
        ExportAll.response("admin", "exportedservices", &mut object);
        assert_eq!(object, json!({"spec": {"services": [{"name": "*", "consumers": [{"peer": "p"}]}]}}));
    }

    #[test]
    fn tls_goes_from_both_ends() {
        let mut resources = json!({
            "listeners": {"l": {"filter_chains": [{"transport_socket": {}, "filters": []}]}},
            "clusters": {"c": {"transport_socket": {}}},
        });
        Plaintext.edit("p", &mut resources);
        assert_eq!(resources["listeners"]["l"]["filter_chains"][0], json!({"filters": []}));
        assert_eq!(resources["clusters"]["c"], json!({}));
    }
}
