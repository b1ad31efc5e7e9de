//! Strategic merge: lists whose entries have a key are merged by it, others are replaced.

use serde_json::{Map, Value, json};

/// The field that identifies the entries of a list.
fn merge_key(list: &str, entries: &[Value]) -> Option<&'static str> {
    let has = |key: &str| entries.iter().all(|entry| entry.get(key).is_some());
    match list {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "webhooks"
        | "secrets" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "ports" if has("containerPort") => Some("containerPort"),
        // The ports of an EndpointSlice are one value: they may lack numbers, and names may be empty.
        "ports" if has("port") && (has("targetPort") || has("protocol") || has("nodePort")) => Some("port"),
        "conditions" => Some("type"),
        "hostAliases" | "podIPs" => Some("ip"),
        "ownerReferences" => Some("uid"),
        "topologySpreadConstraints" => Some("topologyKey"),
        _ => None,
    }
    .filter(|key| has(key) && entries.iter().all(Value::is_object))
}

/// Merges a patch into an object.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(object) = target.as_object_mut() else { return };
    if let Some("replace" | "delete") = patch.get("$patch").and_then(Value::as_str) {
        object.clear();
    }
    if let Some(keep) = patch.get("$retainKeys").and_then(Value::as_array) {
        object.retain(|key, _| keep.iter().any(|kept| kept == key));
    }
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(found)), Some(gone)) = (object.get_mut(list), value.as_array()) {
                found.retain(|entry| !gone.contains(entry));
            }
            continue;
        }
        if key.starts_with('$') {
            continue;
        }
        match value {
            Value::Null => {
                object.remove(key);
            }
            Value::Array(entries) => merge_list(object, key, entries),
            value => merge(object.entry(key.clone()).or_insert(Value::Null), value),
        }
    }
}

fn merge_list(object: &mut Map<String, Value>, list: &str, patch: &[Value]) {
    let directive = |entry: &Value, name: &str| entry["$patch"] == name;
    if patch.iter().any(|entry| directive(entry, "replace")) {
        let entries = patch.iter().filter(|entry| !directive(entry, "replace")).cloned().collect();
        object.insert(list.to_owned(), Value::Array(entries));
        return;
    }
    let found = object.entry(list.to_owned()).or_insert_with(|| json!([]));
    if !found.is_array() {
        *found = json!([]);
    }
    let Some(found) = found.as_array_mut() else { return };
    if list == "finalizers" {
        found.extend(patch.iter().filter(|entry| !found.contains(entry)).cloned().collect::<Vec<_>>());
        return;
    }
    let Some(key) = merge_key(list, patch) else {
        *found = patch.to_vec();
        return;
    };
    for entry in patch {
        // One port number may be there for TCP and for UDP.
        let same = |other: &Value| {
            other[key] == entry[key]
                && (list != "ports" || entry["protocol"].is_null() || protocol(other) == protocol(entry))
        };
        if directive(entry, "delete") {
            found.retain(|other| !same(other));
        } else if let Some(other) = found.iter_mut().find(|other| same(other)) {
            merge(other, entry);
        } else {
            let mut fresh = json!({});
            merge(&mut fresh, entry);
            found.push(fresh);
        }
    }
}

fn protocol(port: &Value) -> &str {
    port["protocol"].as_str().unwrap_or("TCP")
}

/// The patch that takes away what was in `before` and is not in `after`.
pub(super) fn removals(before: &Value, after: &Value) -> Value {
    let mut patch = Map::new();
    for (key, old) in before.as_object().into_iter().flatten() {
        match (old, after.get(key)) {
            (_, None | Some(Value::Null)) => {
                patch.insert(key.clone(), Value::Null);
            }
            (Value::Object(_), Some(new @ Value::Object(_))) => {
                let inner = removals(old, new);
                if inner.as_object().is_some_and(|inner| !inner.is_empty()) {
                    patch.insert(key.clone(), inner);
                }
            }
            (Value::Array(old), Some(Value::Array(new))) => {
                let entries = list_removals(key, old, new);
                if !entries.is_empty() {
                    patch.insert(key.clone(), Value::Array(entries));
                }
            }
            _ => {}
        }
    }
    Value::Object(patch)
}

fn list_removals(list: &str, old: &[Value], new: &[Value]) -> Vec<Value> {
    let Some(key) = merge_key(list, old) else { return Vec::new() };
    let mut entries = Vec::new();
    for old in old {
        match new.iter().find(|new| new[key] == old[key]) {
            None => entries.push(json!({ "$patch": "delete", key: old[key] })),
            Some(new) => {
                let mut inner = removals(old, new);
                if inner.as_object().is_some_and(|inner| !inner.is_empty()) {
                    inner[key] = old[key].clone();
                    entries.push(inner);
                }
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(json!({"env": [{"name": "A", "value": "1"}]}), json!({"env": [{"name": "B", "value": "2"}]}),
        json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}))]
    #[case(json!({"env": [{"name": "A"}, {"name": "B"}]}), json!({"env": [{"name": "A", "$patch": "delete"}]}),
        json!({"env": [{"name": "B"}]}))]
    #[case(json!({"args": ["a", "b"]}), json!({"args": ["c"]}), json!({"args": ["c"]}))]
    #[case(json!({"conditions": [{"type": "Ready", "status": "False"}]}),
        json!({"conditions": [{"type": "Ready", "status": "True"}]}),
        json!({"conditions": [{"type": "Ready", "status": "True"}]}))]
    #[case(json!({"finalizers": ["a"]}), json!({"finalizers": ["b"]}), json!({"finalizers": ["a", "b"]}))]
    #[case(json!({"finalizers": ["a", "b"]}), json!({"$deleteFromPrimitiveList/finalizers": ["a"]}),
        json!({"finalizers": ["b"]}))]
    #[case(json!({"a": {"b": 1}}), json!({"a": {"$patch": "replace", "c": 2}}), json!({"a": {"c": 2}}))]
    #[case(json!({"s": {"x": 1, "y": 2}}), json!({"s": {"$retainKeys": ["x"], "x": 3}}), json!({"s": {"x": 3}}))]
    #[case(json!({"ports": [{"containerPort": 1, "protocol": "TCP"}]}),
        json!({"ports": [{"containerPort": 1, "protocol": "UDP"}]}),
        json!({"ports": [{"containerPort": 1, "protocol": "TCP"}, {"containerPort": 1, "protocol": "UDP"}]}))]
    #[case(json!({"a": 1}), json!({"a": null}), json!({}))]
    fn merging(#[case] mut target: Value, #[case] patch: Value, #[case] expected: Value) {
        merge(&mut target, &patch);
        assert_eq!(target, expected);
    }

    #[test]
    fn what_is_no_longer_applied_goes() {
        let before = json!({"metadata": {"annotations": {"a": "1", "b": "2"}}, "env": [{"name": "A", "value": "1"}, {"name": "B"}]});
        let after = json!({"metadata": {"annotations": {"a": "1"}}, "env": [{"name": "A"}]});
        let mut object = before.clone();
        merge(&mut object, &removals(&before, &after));
        assert_eq!(object, after);
    }
}
