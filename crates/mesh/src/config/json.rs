//! Entries in the JSON of Consul's HTTP API: the fields of the resources under Go's names.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Config;
use crate::intentions::precedence;

/// Kinds of resources and what Consul calls their entries.
const KINDS: [(&str, &str); 9] = [
    ("ServiceIntentions", "service-intentions"),
    ("ServiceDefaults", "service-defaults"),
    ("ProxyDefaults", "proxy-defaults"),
    ("Mesh", "mesh"),
    ("ServiceResolver", "service-resolver"),
    ("ServiceRouter", "service-router"),
    ("ServiceSplitter", "service-splitter"),
    ("ExportedServices", "exported-services"),
    ("SamenessGroup", "sameness-group"),
];

/// Kinds of Consul that have no entries here.
const OTHERS: [&str; 9] = [
    "api-gateway",
    "control-plane-request-limit",
    "http-route",
    "ingress-gateway",
    "inline-certificate",
    "jwt-provider",
    "rate-limit",
    "tcp-route",
    "terminating-gateway",
];

/// Names that are not the field's with a capital in front.
const NAMES: [(&str, &str); 8] = [
    ("enforcing_consecutive_5xx", "EnforcingConsecutive5xx"),
    ("http", "HTTP"),
    ("jsonFormat", "JSONFormat"),
    ("jwt", "JWT"),
    ("tls", "TLS"),
    ("tlsMaxVersion", "TLSMaxVersion"),
    ("tlsMinVersion", "TLSMinVersion"),
    ("ttl", "TTL"),
];

/// Maps whose keys are the author's.
const MAPS: [&str; 6] = ["subsets", "failover", "config", "arguments", "add", "set"];

/// What Consul calls the entries of a kind of resource.
pub(crate) fn consul_kind(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|(resource, _)| *resource == kind).map(|(_, consul)| *consul)
}

/// The entries of a kind, by name; `None` when Consul has no such kind.
pub(crate) fn entries(config: &Config, kind: &str, datacenter: &str, index: u64) -> Option<BTreeMap<String, Value>> {
    if !OTHERS.contains(&kind) && KINDS.iter().all(|(_, consul)| *consul != kind) {
        return None;
    }
    let of_kind = config.entries.get(kind).into_iter().flatten();
    Some(of_kind.map(|(name, spec)| (name.clone(), entry(kind, name, spec, datacenter, index))).collect())
}

fn entry(kind: &str, name: &str, spec: &Value, datacenter: &str, index: u64) -> Value {
    let mut entry = renamed(spec);
    if kind == "service-intentions" {
        if let Some(fields) = entry.as_object_mut() {
            // it has become the name
            fields.remove("Destination");
        }
        for source in entry["Sources"].as_array_mut().into_iter().flatten() {
            source["Precedence"] = precedence(name, source["Name"].as_str().unwrap_or_default()).into();
            source["Type"] = "consul".into();
        }
        if let Some(sources) = entry["Sources"].as_array_mut() {
            sources.sort_by_key(|source| std::cmp::Reverse(source["Precedence"].as_u64()));
        }
    }
    if matches!(kind, "service-defaults" | "proxy-defaults") {
        for block in ["TransparentProxy", "MeshGateway", "Expose"] {
            if entry[block].is_null() {
                entry[block] = json!({});
            }
        }
    }
    entry["Kind"] = kind.into();
    if kind != "mesh" {
        entry["Name"] = name.into();
    }
    entry["Meta"] = json!({"external-source": "kubernetes", "consul.hashicorp.com/source-datacenter": datacenter});
    entry["CreateIndex"] = index.into();
    entry["ModifyIndex"] = index.into();
    entry
}

fn renamed(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(name, field): (&String, &Value)| {
                let inner = match field {
                    Value::Object(entries) if MAPS.contains(&name.as_str()) => {
                        let keep = matches!(name.as_str(), "config" | "arguments");
                        let entry = |v: &Value| if keep { v.clone() } else { renamed(v) };
                        Value::Object(entries.iter().map(|(key, v)| (key.clone(), entry(v))).collect())
                    }
                    field => renamed(field),
                };
                (go_name(name), inner)
            };
            Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(renamed).collect()),
        other => other.clone(),
    }
}

fn go_name(field: &str) -> String {
    if let Some((_, name)) = NAMES.iter().find(|(known, _)| *known == field) {
        return (*name).to_owned();
    }
    let mut letters = field.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}
