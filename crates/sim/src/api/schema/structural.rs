//! Whether a definition's schemas are structural: every field has a type, so that unknown fields can be told.

use serde_json::Value;

use crate::api::status::FieldError;

/// Checks the schemas of every version of a definition.
pub(crate) fn definition(spec: &Value, mistakes: &mut Vec<FieldError>) {
    for (index, version) in spec["versions"].as_array().into_iter().flatten().enumerate() {
        let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
        match &version["schema"]["openAPIV3Schema"] {
            Value::Null => mistakes.push(required(&path, "schemas are required")),
            schema if schema["type"] != "object" => {
                let why = "must be object at the root";
                mistakes.push(FieldError::invalid(format!("{path}.type"), &schema["type"], why));
            }
            schema => inside(schema, &path, mistakes),
        }
    }
}

fn inside(schema: &Value, path: &str, mistakes: &mut Vec<FieldError>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        node(field, &format!("{path}.properties[{name}]"), "object fields", mistakes);
    }
    if schema["type"] == "array" {
        let path = format!("{path}.items");
        match &schema["items"] {
            Value::Null => mistakes.push(required(&path, "must be specified")),
            items => node(items, &path, "array items", mistakes),
        }
    }
    if schema["additionalProperties"].is_object() {
        node(&schema["additionalProperties"], &format!("{path}.additionalProperties"), "object fields", mistakes);
    }
}

fn node(schema: &Value, path: &str, what: &str, mistakes: &mut Vec<FieldError>) {
    let free =
        ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"].iter().any(|k| schema[*k] == true);
    if schema["type"].as_str().is_none_or(str::is_empty) && !free {
        mistakes.push(required(&format!("{path}.type"), &format!("must not be empty for specified {what}")));
    }
    inside(schema, path, mistakes);
}

fn required(field: &str, why: &str) -> FieldError {
    let mut mistake = FieldError::required(field);
    mistake.message = format!("Required value: {why}");
    mistake
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({}), &["schema.openAPIV3Schema: Required value: schemas are required"])]
    #[case(json!({"openAPIV3Schema": {"type": "array"}}),
        &["schema.openAPIV3Schema.type: Invalid value: \"array\": must be object at the root"])]
    #[case(json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {}, "ports": {"type": "array"}}}}), &[
        "schema.openAPIV3Schema.properties[ports].items: Required value: must be specified",
        "schema.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields",
    ])]
    #[case(json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"x-kubernetes-preserve-unknown-fields": true},
        "map": {"type": "object", "additionalProperties": {"type": "array", "items": {"x-kubernetes-int-or-string": true}}},
    }}}), &[])]
    fn structural(#[case] schema: Value, #[case] expected: &[&str]) {
        let mut mistakes = Vec::new();
        definition(&json!({"versions": [{"name": "v1", "schema": schema}]}), &mut mistakes);
        let said: Vec<_> = mistakes.iter().map(|m| format!("{}: {}", m.field, m.message)).collect();
        let expected: Vec<_> = expected.iter().map(|text| format!("spec.versions[0].{text}")).collect();
        assert_eq!(said, expected);
    }
}
