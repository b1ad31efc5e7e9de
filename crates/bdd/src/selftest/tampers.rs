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
                without_tls(resource);
            }
        }
    }
}

fn without_tls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.remove("transport_socket");
            object.values_mut().for_each(without_tls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_tls),
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
        for (name, listener) in resources["listeners"].as_object_mut().into_iter().flatten() {
            if !name.starts_with("default:") {
                continue;
            }
            for chain in listener["filter_chains"].as_array_mut().into_iter().flatten() {
                chain["transport_socket"] = json!({
                    "name": "tls",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                        "common_tls_context": {
                            "tls_certificate_sds_secret_configs": [{"name": "leaf", "sds_config": mesh::feed::config_source()}],
                        },
                    },
                });
            }
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
