//! Reads objects as the Kubernetes types say, so that a wrong value is refused with the path of its field.

use k8s_openapi::serde::de::DeserializeOwned;
use serde::Serialize;
use serde_json::Value;

/// Reads an object as a type and gives it back without what the type does not know.
pub(crate) type Codec = fn(&Value) -> Result<Value, Mismatch>;

/// A value that does not fit its field.
#[derive(Debug, Clone)]
pub(crate) struct Mismatch {
    /// `spec.template.metadata.annotations.x`, list positions as `[0]`.
    path: String,
    /// JSON's name of what was found.
    found: &'static str,
    why: String,
}

impl Mismatch {
    /// The message of the API server, which names the field of the list or map and not the entry.
    pub(crate) fn message(&self, kind: &str, version: &str) -> String {
        let Self { path, found, why } = self;
        for (map, of) in [("metadata.annotations", "ObjectMeta"), ("metadata.labels", "ObjectMeta")] {
            if let Some(at) = path.find(map) {
                let path = &path[..at + map.len()];
                return format!(
                    "{kind} in version \"{version}\" cannot be handled as a {kind}: json: cannot unmarshal {found} into Go struct field {of}.{path} of type string"
                );
            }
        }
        format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {path}: {why} (found {found})")
    }
}

/// The codec of a Kubernetes type.
pub(crate) fn typed<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, Mismatch> {
    let decoded = match T::deserialize(object) {
        Ok(decoded) => decoded,
        Err(_) => serde_path_to_error::deserialize::<_, T>(object).map_err(|error| {
            let path = error.path().to_string();
            let found = match lookup(object, &path) {
                None | Some(Value::Null) => "null",
                Some(Value::Bool(_)) => "bool",
                Some(Value::Number(_)) => "number",
                Some(Value::String(_)) => "string",
                Some(Value::Array(_)) => "array",
                Some(Value::Object(_)) => "object",
            };
            Mismatch { path, found, why: error.into_inner().to_string() }
        })?,
    };
    serde_json::to_value(decoded).map_err(|error| Mismatch {
        path: ".".to_owned(),
        found: "object",
        why: error.to_string(),
    })
}

/// Follows a path as `serde_path_to_error` prints it. A key with dots in it is tried as a whole, longest first.
fn lookup<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() || path == "." {
        return Some(value);
    }
    if let Some(rest) = path.strip_prefix('[') {
        let (index, rest) = rest.split_once(']')?;
        return lookup(value.get(index.parse::<usize>().ok()?)?, rest.strip_prefix('.').unwrap_or(rest));
    }
    let object = value.as_object()?;
    let ends = path.char_indices().filter(|(_, c)| matches!(c, '.' | '[')).map(|(at, _)| at);
    let mut ends: Vec<_> = ends.chain([path.len()]).collect();
    ends.reverse();
    let (end, found) = ends.into_iter().find_map(|end| Some((end, object.get(&path[..end])?)))?;
    let rest = &path[end..];
    lookup(found, rest.strip_prefix('.').unwrap_or(rest))
}

/// Turns numbers where Kubernetes takes a quantity (`cpu: 1`) into text, which is how the types have it.
pub(crate) fn quantities_to_text(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let quantities = matches!(key.as_str(), "limits" | "requests" | "capacity" | "allocatable" | "hard");
                if quantities && let Value::Object(entries) = value {
                    for entry in entries.values_mut().filter(|entry| entry.is_number()) {
                        *entry = entry.to_string().into();
                    }
                } else if key == "sizeLimit" && value.is_number() {
                    *value = value.to_string().into();
                } else {
                    quantities_to_text(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(quantities_to_text),
        _ => {}
    }
}

/// Paths of fields that were given and that the type does not know.
pub(crate) fn unknown_fields(given: &Value, known: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    compare(given, known, "", &mut unknown);
    unknown
}

fn compare(given: &Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (key, value) in given {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match known.get(key) {
                    Some(known) => compare(value, known, &path, unknown),
                    // An empty map or list may be left out by the type; it is no unknown field.
                    None if value.is_null() || is_empty(value) => {}
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (index, (given, known)) in given.iter().zip(known).enumerate() {
                compare(given, known, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
    use serde_json::json;

    #[test]
    fn annotation_that_is_a_number() {
        let pod = json!({"metadata": {"annotations": {"consul.hashicorp.com/x": 8080}}});
        let message = typed::<Pod>(&pod).expect_err("a number").message("Pod", "v1");
        assert_eq!(
            message,
            "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field \
             ObjectMeta.metadata.annotations of type string"
        );
        let template = json!({"metadata": {"annotations": {"a/b.c": true}}, "spec": {"containers": []}});
        let deployment = json!({"spec": {"selector": {}, "template": template}});
        let message = typed::<Deployment>(&deployment).expect_err("a bool").message("Deployment", "v1");
        assert!(message.contains("unmarshal bool into Go struct field ObjectMeta.spec.template.metadata.annotations"));
    }

    #[test]
    fn other_mismatches_name_the_path() {
        let pod = json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": "http"}]}]}});
        let message = typed::<Pod>(&pod).expect_err("text").message("Pod", "v1");
        assert!(message.contains("spec.containers[0].ports[0].containerPort"), "{message}");
        assert!(message.contains("found string"), "{message}");
    }

    #[test]
    fn unknown_fields_are_named() {
        let given = json!({"spec": {"containers": [{"name": "a", "imagee": "x"}]}, "metadata": {"labels": {}}});
        let known = typed::<Pod>(&given).expect("a Pod");
        assert_eq!(unknown_fields(&given, &known), ["spec.containers[0].imagee"]);
    }

    #[test]
    fn numbers_as_quantities() {
        let mut value = json!({"resources": {"limits": {"cpu": 1, "memory": "1Gi"}}});
        quantities_to_text(&mut value);
        assert_eq!(value["resources"]["limits"]["cpu"], "1");
    }
}
