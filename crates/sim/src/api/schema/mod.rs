//! The schemas of custom resources: what is pruned, what is filled in, what is refused, as a Kubernetes API server does it.
//!
//! Value validations are understood, logical ones (`anyOf` and its like) and rules in CEL are not.

mod check;
mod structural;

use serde_json::{Map, Value};

pub(crate) use check::check;
pub(crate) use structural::definition;

/// Fields of every object that no schema needs to mention.
const COMMON: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Takes away what the schema does not know, nulls where it wants none, and puts its defaults where nothing is.
/// Returns the paths of the fields that it did not know.
pub(crate) fn fit(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    let common: Vec<_> = COMMON.iter().filter_map(|field| Some((*field, object.get_mut(field)?.take()))).collect();
    walk(schema, object, "", &mut unknown);
    for (field, value) in common {
        object[field] = value;
    }
    unknown.retain(|path| !COMMON.contains(&path.as_str()));
    unknown
}

fn walk(schema: &Value, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            defaults(schema, fields);
            let mut strange = Vec::new();
            for (name, field) in fields.iter_mut() {
                let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match of_field(schema, name) {
                    Known::As(known) if field.is_null() && known["nullable"] != true => strange.push(name.clone()),
                    Known::As(known) => walk(known, field, &at, unknown),
                    Known::Anything => {}
                    Known::Not => {
                        strange.push(name.clone());
                        unknown.push(at);
                    }
                }
            }
            for name in strange {
                fields.remove(&name);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(&schema["items"], item, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

fn defaults(schema: &Value, fields: &mut Map<String, Value>) {
    for (name, known) in schema["properties"].as_object().into_iter().flatten() {
        let Some(default) = known.get("default").filter(|default| !default.is_null()) else { continue };
        if fields.get(name).is_none_or(|found| found.is_null() && known["nullable"] != true) {
            fields.insert(name.clone(), default.clone());
        }
    }
}

/// What a schema says of a field of an object.
enum Known<'a> {
    As(&'a Value),
    Anything,
    Not,
}

fn of_field<'a>(schema: &'a Value, name: &str) -> Known<'a> {
    if let Some(known) = schema["properties"].get(name) {
        return Known::As(known);
    }
    match &schema["additionalProperties"] {
        Value::Object(_) => Known::As(&schema["additionalProperties"]),
        Value::Bool(true) => Known::Anything,
        _ if schema["x-kubernetes-preserve-unknown-fields"] == true => Known::Anything,
        _ => Known::Not,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "protocol": {"type": "string", "default": "tcp"},
            "nothing": {"type": "string", "nullable": true},
            "config": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "failover": {"type": "object", "additionalProperties": {"type": "object", "properties": {
                "service": {"type": "string"}, "targets": {"type": "array", "items": {"type": "object", "properties": {
                    "service": {"type": "string"},
                }}},
            }}},
        }}}})
    }

    #[rstest]
    #[case::defaults(json!({}), json!({"protocol": "tcp"}), &[])]
    #[case::what_is_set_stays(json!({"protocol": "http"}), json!({"protocol": "http"}), &[])]
    #[case::unknown(json!({"protocol": "http", "colour": 1}), json!({"protocol": "http"}), &["spec.colour"])]
    #[case::null_is_unset(json!({"protocol": null, "failover": null}), json!({"protocol": "tcp"}), &[])]
    #[case::null_is_a_value(json!({"nothing": null}), json!({"protocol": "tcp", "nothing": null}), &[])]
    #[case::preserved(json!({"protocol": "http", "config": {"x": {"y": 1}}}),
        json!({"protocol": "http", "config": {"x": {"y": 1}}}), &[])]
    #[case::in_maps_and_lists(
        json!({"protocol": "http", "failover": {"v1": {"service": "a", "x": 1, "targets": [{"service": "b"}, {"y": 1}]}}}),
        json!({"protocol": "http", "failover": {"v1": {"service": "a", "targets": [{"service": "b"}, {}]}}}),
        &["spec.failover.v1.targets[1].y", "spec.failover.v1.x"])]
    fn fitting(#[case] given: Value, #[case] fits: Value, #[case] unknown: &[&str]) {
        let mut object = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"labels": {"a": "b"}}, "spec": given});
        let mut found = fit(&schema(), &mut object);
        found.sort();
        assert_eq!(found, unknown);
        assert_eq!(object["spec"], fits);
        assert_eq!(object["metadata"]["labels"]["a"], "b");
        assert_eq!(fit(&schema(), &mut object), Vec::<String>::new(), "twice is once");
    }
}
