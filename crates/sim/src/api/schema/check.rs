//! Whether values are what a schema says, with a cause for each that is not.

use regex::Regex;
use serde_json::Value;

use crate::api::status::FieldError;

/// Checks a value at `path` against its schema.
pub(crate) fn check(schema: &Value, value: &Value, path: &str, mistakes: &mut Vec<FieldError>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    if schema["x-kubernetes-int-or-string"] == true {
        if !(is(value, "integer") || value.is_string()) {
            mistakes.push(mistyped(path, "integer,string", value));
        }
        return;
    }
    if let Some(wanted) = schema["type"].as_str()
        && !is(value, wanted)
    {
        mistakes.push(mistyped(path, wanted, value));
        return;
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        let values: Vec<String> = values.iter().map(Value::to_string).collect();
        mistakes.push(FieldError {
            reason: "FieldValueNotSupported",
            field: path.to_owned(),
            message: format!("Unsupported value: {value}: supported values: {}", values.join(", ")),
        });
    }
    match value {
        Value::Number(_) => number(schema, value, path, mistakes),
        Value::String(found) => text(schema, found, path, mistakes),
        Value::Array(items) => list(schema, items, path, mistakes),
        Value::Object(fields) => {
            for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(required) {
                    mistakes.push(FieldError::required(join(path, required)));
                }
            }
            for (name, field) in fields {
                let known = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                check(known, field, &join(path, name), mistakes);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        _ => true,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is(value, "integer") => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn mistyped(path: &str, wanted: &str, value: &Value) -> FieldError {
    let found = kind(value);
    FieldError {
        reason: "FieldValueTypeInvalid",
        field: path.to_owned(),
        message: format!("Invalid value: \"{found}\": {path} in body must be of type {wanted}: \"{found}\""),
    }
}

/// A mistake worded as the validator of Kubernetes words it.
fn should(path: &str, value: &Value, what: &str) -> FieldError {
    FieldError::invalid(path, value, &format!("{path} in body should {what}"))
}

fn number(schema: &Value, value: &Value, path: &str, mistakes: &mut Vec<FieldError>) {
    let Some(found) = value.as_f64() else { return };
    let bound = |key: &str| schema[key].as_f64();
    if let Some(least) = bound("minimum") {
        match schema["exclusiveMinimum"] == true {
            true if found <= least => mistakes.push(should(path, value, &format!("be greater than {least}"))),
            false if found < least => {
                mistakes.push(should(path, value, &format!("be greater than or equal to {least}")));
            }
            _ => {}
        }
    }
    if let Some(most) = bound("maximum") {
        match schema["exclusiveMaximum"] == true {
            true if found >= most => mistakes.push(should(path, value, &format!("be less than {most}"))),
            false if found > most => mistakes.push(should(path, value, &format!("be less than or equal to {most}"))),
            _ => {}
        }
    }
}

fn text(schema: &Value, found: &str, path: &str, mistakes: &mut Vec<FieldError>) {
    let value = Value::from(found);
    let length = found.chars().count() as u64;
    if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
        mistakes.push(should(path, &value, &format!("be at least {least} chars long")));
    }
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        mistakes.push(FieldError {
            reason: "FieldValueTooLong",
            field: path.to_owned(),
            message: format!("Too long: may not be more than {most} bytes"),
        });
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(found))
    {
        mistakes.push(should(path, &value, &format!("match '{pattern}'")));
    }
    if schema["format"] == "date-time" && found.parse::<jiff::Timestamp>().is_err() {
        mistakes.push(FieldError::invalid(
            path,
            &value,
            &format!("{path} in body must be of type date-time: \"{found}\""),
        ));
    }
}

fn list(schema: &Value, items: &[Value], path: &str, mistakes: &mut Vec<FieldError>) {
    let length = items.len() as u64;
    if let Some(least) = schema["minItems"].as_u64().filter(|least| length < *least) {
        mistakes.push(should(path, &items.into(), &format!("have at least {least} items")));
    }
    if let Some(most) = schema["maxItems"].as_u64().filter(|most| length > *most) {
        mistakes.push(FieldError {
            reason: "FieldValueTooMany",
            field: path.to_owned(),
            message: format!("Too many: {length}: must have at most {most} items"),
        });
    }
    for (index, item) in items.iter().enumerate() {
        check(&schema["items"], item, &format!("{path}[{index}]"), mistakes);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::right(json!({"type": "string"}), json!("x"), &[])]
    #[case::mistyped(json!({"type": "string"}), json!(1),
        &["FieldValueTypeInvalid x: Invalid value: \"integer\": x in body must be of type string: \"integer\""])]
    #[case::whole_number(json!({"type": "integer"}), json!(1.0), &[])]
    #[case::fraction(json!({"type": "integer"}), json!(1.5),
        &["FieldValueTypeInvalid x: Invalid value: \"number\": x in body must be of type integer: \"number\""])]
    #[case::null(json!({"type": "string"}), json!(null),
        &["FieldValueTypeInvalid x: Invalid value: \"null\": x in body must be of type string: \"null\""])]
    #[case::nullable(json!({"type": "string", "nullable": true}), json!(null), &[])]
    #[case::either(json!({"x-kubernetes-int-or-string": true}), json!("http"), &[])]
    #[case::neither(json!({"x-kubernetes-int-or-string": true}), json!(true),
        &["FieldValueTypeInvalid x: Invalid value: \"boolean\": x in body must be of type integer,string: \"boolean\""])]
    #[case::other(json!({"type": "string", "enum": ["a", "b"]}), json!("c"),
        &["FieldValueNotSupported x: Unsupported value: \"c\": supported values: \"a\", \"b\""])]
    #[case::too_small(json!({"type": "integer", "minimum": 1}), json!(0),
        &["FieldValueInvalid x: Invalid value: 0: x in body should be greater than or equal to 1"])]
    #[case::too_large(json!({"type": "number", "maximum": 100}), json!(100.5),
        &["FieldValueInvalid x: Invalid value: 100.5: x in body should be less than or equal to 100"])]
    #[case::pattern(json!({"type": "string", "pattern": "^/"}), json!("a"),
        &["FieldValueInvalid x: Invalid value: \"a\": x in body should match '^/'"])]
    #[case::no_time(json!({"type": "string", "format": "date-time"}), json!("soon"),
        &["FieldValueInvalid x: Invalid value: \"soon\": x in body must be of type date-time: \"soon\""])]
    #[case::too_few(json!({"type": "array", "minItems": 1}), json!([]),
        &["FieldValueInvalid x: Invalid value: []: x in body should have at least 1 items"])]
    #[case::all_at_once(
        json!({"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"port": {"type": "integer"}}}}),
        json!([{"name": "a"}, {"port": "http"}]),
        &["FieldValueRequired x[1].name: Required value",
          "FieldValueTypeInvalid x[1].port: Invalid value: \"string\": x[1].port in body must be of type integer: \"string\""])]
    #[case::in_maps(json!({"type": "object", "additionalProperties": {"type": "string"}}), json!({"k": 1}),
        &["FieldValueTypeInvalid x.k: Invalid value: \"integer\": x.k in body must be of type string: \"integer\""])]
    fn checking(#[case] schema: Value, #[case] value: Value, #[case] expected: &[&str]) {
        let mut mistakes = Vec::new();
        check(&schema, &value, "x", &mut mistakes);
        let said: Vec<_> = mistakes.iter().map(|m| format!("{} {}: {}", m.reason, m.field, m.message)).collect();
        assert_eq!(said, expected);
    }
}
