//! Looks at every field of a spec: what this control plane makes of it, and what is wrong with it by itself.

use serde_json::{Map, Value};

use super::kinds::{KINDS, TIMES, WORDS};

/// What becomes of a field that says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It is acted on.
    Acts,
    /// It is one of Consul's and changes nothing here.
    Idle,
    /// It means something in another namespace, partition or cluster; the one of these that is ours may be named.
    Elsewhere,
    /// It names a partition, which may be ours or another one.
    Partition,
    /// To leave it out would be wrong, and it needs what is not there.
    Needs(&'static str),
}

/// A value that says something, by its path in the spec.
pub(super) struct Leaf<'a> {
    /// `sources[].name`
    pub(super) pattern: String,
    /// `sources[0].name`
    pub(super) path: String,
    pub(super) value: &'a Value,
}

/// What the field at `pattern` is to a kind; `None` when the kind has no such field.
pub(super) fn role(kind: &str, pattern: &str) -> Option<Role> {
    let (_, fields) = KINDS.iter().find(|(known, _)| *known == kind)?;
    fields.iter().find(|(_, patterns)| patterns.iter().any(|p| covers(p, pattern))).map(|(role, _)| *role)
}

/// Whether resources of this kind can be accepted.
pub(super) fn is_known(kind: &str) -> bool {
    KINDS.iter().any(|(known, _)| *known == kind)
}

/// What is wrong with the value of a field by itself.
pub(super) fn mistake(leaf: &Leaf<'_>) -> Option<String> {
    let text = leaf.value.as_str()?;
    if let Some((_, words)) = WORDS.iter().find(|(pattern, _)| covers(pattern, &leaf.pattern)) {
        return (!words.contains(&text))
            .then(|| format!("spec.{} is {text:?}; it must be one of {}", leaf.path, words.join(", ")));
    }
    (TIMES.contains(&leaf.pattern.as_str()) && crate::go::duration(text).is_none())
        .then(|| format!("spec.{} is {text:?}, which is not a duration such as \"5s\"", leaf.path))
}

/// Calls `visit` with every value that says something.
pub(super) fn leaves(spec: &Value, visit: &mut impl FnMut(&Leaf<'_>)) {
    walk(spec, String::new(), String::new(), visit);
}

fn walk(value: &Value, pattern: String, path: String, visit: &mut impl FnMut(&Leaf<'_>)) {
    let join = |parent: &str, name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, field) in fields {
                walk(field, join(&pattern, name), join(&path, name), visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, format!("{pattern}[]"), format!("{path}[{index}]"), visit);
            }
        }
        Value::String(text) if text.is_empty() => {}
        Value::Bool(false) => {}
        Value::Number(number) if number.as_f64() == Some(0.0) => {}
        _ => visit(&Leaf { pattern, path, value }),
    }
}

fn covers(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('.'), path.split('.'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) => return true,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// A spec without the texts that are empty, which is how Go says that a field is not set.
pub(super) fn set_only(spec: &Value) -> Value {
    match spec {
        Value::Object(fields) => {
            let set = fields.iter().filter(|(_, field)| !field.is_null() && field.as_str() != Some(""));
            Value::Object(set.map(|(name, field)| (name.clone(), set_only(field))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(set_only).collect()),
        other => other.clone(),
    }
}
