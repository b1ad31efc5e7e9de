//! The difference of two JSON documents as a JSON Patch (RFC 6902) that inserts into lists of named things.
//!
//! A patch by position would rewrite every container when one is put in front, and would carry fields that it does not
//! know from one container to another. Here list elements are told apart by their `name`.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One operation of a JSON Patch.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
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

/// The operations that turn one Pod into the other, where all that differs is what injection may change.
///
/// What is equal is found out without writing it down: comparing values costs a tenth of that.
///
/// # Errors
/// A part of the Pod that differs cannot be written as JSON.
pub(crate) fn of_pods(before: &Pod, after: &Pod) -> serde_json::Result<Vec<Operation>> {
    let mut out = Vec::new();
    let (metadata, changed) = (&before.metadata, &after.metadata);
    texts("/metadata/annotations", metadata.annotations.as_ref(), changed.annotations.as_ref(), &mut out);
    texts("/metadata/labels", metadata.labels.as_ref(), changed.labels.as_ref(), &mut out);
    let Some(changed) = &after.spec else { return Ok(out) };
    let nothing = PodSpec::default();
    let spec = before.spec.as_ref().unwrap_or(&nothing);
    member("/spec/dnsConfig", spec.dns_config.as_ref(), changed.dns_config.as_ref(), &mut out)?;
    member("/spec/dnsPolicy", spec.dns_policy.as_ref(), changed.dns_policy.as_ref(), &mut out)?;
    named("/spec/containers", Some(&spec.containers), Some(&changed.containers), |c| &c.name, &mut out)?;
    let (old, new) = (spec.init_containers.as_ref(), changed.init_containers.as_ref());
    named("/spec/initContainers", old, new, |c| &c.name, &mut out)?;
    named("/spec/volumes", spec.volumes.as_ref(), changed.volumes.as_ref(), |v| &v.name, &mut out)?;
    Ok(out)
}

type Texts = BTreeMap<String, String>;

fn texts(path: &str, before: Option<&Texts>, after: Option<&Texts>, out: &mut Vec<Operation>) {
    let (Some(before), Some(after)) = (before, after) else {
        // no text fails to be written
        member(path, before, after, out).ok();
        return;
    };
    let mut path = path.to_owned();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        below(&mut path, key, |path| out.push(Operation::Remove { path: path.clone() }));
    }
    for (key, value) in after {
        let operation = match before.get(key) {
            Some(old) if old == value => continue,
            Some(_) => |path, value| Operation::Replace { path, value },
            None => |path, value| Operation::Add { path, value },
        };
        below(&mut path, key, |path| out.push(operation(path.clone(), Value::String(value.clone()))));
    }
}

fn member<T>(path: &str, before: Option<&T>, after: Option<&T>, out: &mut Vec<Operation>) -> serde_json::Result<()>
where
    T: Serialize + PartialEq,
{
    let path = path.to_owned();
    match (before, after) {
        (None, None) => {}
        (Some(_), None) => out.push(Operation::Remove { path }),
        (None, Some(after)) => out.push(Operation::Add { path, value: serde_json::to_value(after)? }),
        (Some(before), Some(after)) if before == after => {}
        (Some(_), Some(after)) => out.push(Operation::Replace { path, value: serde_json::to_value(after)? }),
    }
    Ok(())
}

/// A list of things with names.
fn named<T>(
    path: &str,
    before: Option<&Vec<T>>,
    after: Option<&Vec<T>>,
    name: fn(&T) -> &String,
    out: &mut Vec<Operation>,
) -> serde_json::Result<()>
where
    T: Serialize + PartialEq,
{
    // a list of required elements that was null reads like an empty one, and nothing can be put into it
    let before = before.filter(|before| !before.is_empty());
    let after = after.filter(|after| before.is_some() || !after.is_empty());
    let (Some(before), Some(after)) = (before, after) else { return member(path, before, after, out) };
    let same = |old: &&T, new: &T| name(old) == name(new);
    let mut old = before.iter().peekable();
    for new in after {
        old.next_if(|old| same(old, new));
    }
    if old.peek().is_some() {
        return member(path, Some(before), Some(after), out);
    }
    let mut path = path.to_owned();
    let mut old = before.iter().peekable();
    for (index, new) in after.iter().enumerate() {
        match old.next_if(|old| same(old, new)) {
            Some(old) if old == new => {}
            Some(old) => {
                let (old, new) = (serde_json::to_value(old)?, serde_json::to_value(new)?);
                below(&mut path, &index.to_string(), |path| values(path, &old, &new, out));
            }
            None => {
                let value = serde_json::to_value(new)?;
                below(&mut path, &index.to_string(), |path| out.push(Operation::Add { path: path.clone(), value }));
            }
        }
    }
    Ok(())
}

/// The operations that turn `before` into `after`.
#[must_use]
pub fn diff(before: &Value, after: &Value) -> Vec<Operation> {
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
    for character in key.chars() {
        match character {
            '~' => path.push_str("~0"),
            '/' => path.push_str("~1"),
            other => path.push(other),
        }
    }
    work(path);
    path.truncate(length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

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
}
