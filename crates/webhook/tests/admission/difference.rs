//! The difference of two JSON documents, for snapshots of what injection changes: list elements are told apart by their `name`, so
//! that what is inserted hides nothing of what is changed behind it.

use rstest::rstest;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// One operation of a JSON Patch.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Operation {
    /// Sets a member, or inserts a list element.
    Add {
        /// JSON pointer.
        path: String,
        /// The new value.
        value: Value,
    },
    /// Takes a member away.
    Remove {
        /// JSON pointer.
        path: String,
    },
    /// Replaces what is there.
    Replace {
        /// JSON pointer.
        path: String,
        /// The new value.
        value: Value,
    },
}

/// The operations that turn `before` into `after`.
pub(crate) fn diff(before: &Value, after: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    values(&mut String::new(), before, after, &mut operations);
    operations
}

fn values(path: &mut String, before: &Value, after: &Value, out: &mut Vec<Operation>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => objects(path, before, after, out),
        (Value::Array(before), Value::Array(after)) if is_insertion(before, after) => lists(path, before, after, out),
        _ if before == after => {}
        _ => out.push(Operation::Replace { path: path.clone(), value: after.clone() }),
    }
}

fn objects(path: &mut String, before: &Map<String, Value>, after: &Map<String, Value>, out: &mut Vec<Operation>) {
    let gone: Vec<_> = before.keys().filter(|key| !after.contains_key(*key)).collect();
    for key in gone {
        below(path, key, |path| out.push(Operation::Remove { path: path.clone() }));
    }
    for (key, value) in after {
        below(path, key, |path| match before.get(key) {
            Some(old) => values(path, old, value, out),
            None => out.push(Operation::Add { path: path.clone(), value: value.clone() }),
        });
    }
}

/// Walks both lists; the document is patched in this order, so an index always counts what was inserted before.
fn lists(path: &mut String, before: &[Value], after: &[Value], out: &mut Vec<Operation>) {
    let mut old = before.iter().peekable();
    for (index, value) in after.iter().enumerate() {
        below(path, &index.to_string(), |path| match old.next_if(|old| same(old, value)) {
            Some(old) => values(path, old, value, out),
            None => out.push(Operation::Add { path: path.clone(), value: value.clone() }),
        });
    }
}

/// Whether the longer list is the shorter one with elements put in.
fn is_insertion(before: &[Value], after: &[Value]) -> bool {
    let mut old = before.iter().peekable();
    for value in after {
        old.next_if(|old| same(old, value));
    }
    old.peek().is_none()
}

/// Whether two list elements are the same thing, changed or not.
fn same(before: &Value, after: &Value) -> bool {
    match (name(before), name(after)) {
        (Some(before), Some(after)) => before == after,
        _ => before == after,
    }
}

fn name(value: &Value) -> Option<&str> {
    value.get("name")?.as_str()
}

fn below(path: &mut String, key: &str, work: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push('/');
    path.push_str(&key.replace('~', "~0").replace('/', "~1"));
    work(path);
    path.truncate(length);
}

#[rstest]
#[case::equal(json!({"a": 1}), json!({"a": 1}), 0)]
#[case::member(json!({"a": {}}), json!({"a": {"b/c~d": 1}}), 1)]
#[case::removed(json!({"a": 1, "b": 2}), json!({"b": 2}), 1)]
#[case::replaced(json!({"a": 1}), json!({"a": "1"}), 1)]
#[case::prepended(json!([{"name": "a", "x": 1}]), json!([{"name": "s"}, {"name": "a", "x": 1}]), 1)]
#[case::prepended_and_changed(json!([{"name": "a", "x": 1}]), json!([{"name": "s"}, {"name": "a", "x": 2}]), 2)]
#[case::appended(json!([{"name": "a"}]), json!([{"name": "a"}, {"name": "s"}]), 1)]
#[case::between(json!([1, 3]), json!([1, 2, 3]), 1)]
#[case::shortened(json!([1, 2, 3]), json!([1, 3]), 1)]
#[case::reordered(json!([{"name": "a"}, {"name": "b"}]), json!([{"name": "b"}, {"name": "a"}]), 1)]
#[case::twice_the_name(json!([{"name": "a", "x": 1}, {"name": "a", "x": 2}]), json!([{"name": "a", "x": 2}]), 1)]
#[case::kinds(json!({"a": []}), json!({"a": {}}), 1)]
fn the_patch_leads_there(
    #[case] before: Value,
    #[case] after: Value,
    #[case] operations: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let patch = diff(&before, &after);
    let mut document = before;
    json_patch::patch(&mut document, &serde_json::from_value::<json_patch::Patch>(serde_json::to_value(&patch)?)?)?;
    assert_eq!(document, after);
    assert_eq!(patch.len(), operations, "{patch:?}");
    Ok(())
}

#[test]
fn unknown_fields_stay_where_they_were() -> Result<(), Box<dyn std::error::Error>> {
    let patch = diff(&json!([{"name": "a"}]), &json!([{"name": "s"}, {"name": "a"}]));
    let mut received = json!([{"name": "a", "fieldOfTheFuture": true}]);
    json_patch::patch(&mut received, &serde_json::from_value::<json_patch::Patch>(serde_json::to_value(&patch)?)?)?;
    assert_eq!(received, json!([{"name": "s"}, {"name": "a", "fieldOfTheFuture": true}]));
    Ok(())
}
