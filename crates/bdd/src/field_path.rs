//! Field paths of custom resources, `routes[0].match.http.pathPrefix`, and the objects a table of them describes.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Field(String),
    Index(usize),
}

fn parts(path: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for piece in path.split('.') {
        let (name, mut rest) = match piece.find('[') {
            Some(at) => piece.split_at(at),
            None => (piece, ""),
        };
        if name.is_empty() {
            bail!("read the field path {path:?}: a field has no name");
        }
        parts.push(Part::Field(name.to_owned()));
        while let Some(inner) = rest.strip_prefix('[') {
            let Some((index, after)) = inner.split_once(']') else {
                bail!("read the field path {path:?}: `[` without `]`");
            };
            let Ok(index) = index.parse() else {
                bail!("read the field path {path:?}: {index:?} is no index");
            };
            parts.push(Part::Index(index));
            rest = after;
        }
        if !rest.is_empty() {
            bail!("read the field path {path:?}: {rest:?} follows an index");
        }
    }
    Ok(parts)
}

/// The value a cell means: a truth value, a whole number, `[a, b]` as a list, and a string otherwise. Quotes keep a
/// number a string.
#[must_use]
pub fn scalar(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => {
            if let Ok(number) = text.parse::<i64>() {
                Value::from(number)
            } else if let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
                Value::from(inner)
            } else {
                Value::from(text)
            }
        }
    }
}

/// Puts `value` at `path`, making objects and lists on the way.
///
/// # Errors
/// When the path is malformed or contradicts what is there already.
pub fn set(root: &mut Value, path: &str, value: Value) -> Result<()> {
    let mut at = root;
    for part in parts(path)? {
        at = match part {
            Part::Field(name) => {
                if at.is_null() {
                    *at = Value::Object(Map::new());
                }
                let Some(object) = at.as_object_mut() else {
                    bail!("set {path}: {name:?} is wanted in something that is no object");
                };
                object.entry(name).or_insert(Value::Null)
            }
            Part::Index(index) => {
                if at.is_null() {
                    *at = Value::Array(Vec::new());
                }
                let Some(list) = at.as_array_mut() else {
                    bail!("set {path}: element {index} is wanted of something that is no list");
                };
                if index > list.len() {
                    bail!("set {path}: element {index} is written before element {}", list.len());
                }
                if index == list.len() {
                    list.push(Value::Null);
                }
                &mut list[index]
            }
        };
    }
    *at = value;
    Ok(())
}

/// The object that rows of path and value describe.
///
/// # Errors
/// As [`set`].
pub fn object(rows: &[(String, String)]) -> Result<Value> {
    let mut root = Value::Object(Map::new());
    for (path, text) in rows {
        set(&mut root, path, scalar(text))?;
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(&[("protocol", "http")], json!({"protocol": "http"}))]
    #[case(
        &[("routes[0].match.http.pathPrefix", "/"), ("routes[0].destination.prefixRewrite", "/v2/")],
        json!({"routes": [{"match": {"http": {"pathPrefix": "/"}}, "destination": {"prefixRewrite": "/v2/"}}]})
    )]
    #[case(
        &[("failover.*.targets[0].datacenter", "dc2")],
        json!({"failover": {"*": {"targets": [{"datacenter": "dc2"}]}}})
    )]
    #[case(
        &[("expose.paths[0].listenerPort", "22000"), ("transparentProxy.dialedDirectly", "true")],
        json!({"expose": {"paths": [{"listenerPort": 22000}]}, "transparentProxy": {"dialedDirectly": true}})
    )]
    fn tables_become_objects(#[case] rows: &[(&str, &str)], #[case] expected: Value) {
        let rows: Vec<_> = rows.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(object(&rows).expect("a good table"), expected);
    }

    #[rstest]
    #[case("a[1].b", "element 1 is written before element 0")]
    #[case("a[x].b", "\"x\" is no index")]
    #[case("a..b", "a field has no name")]
    #[case("a[0", "`[` without `]`")]
    fn bad_paths_say_why(#[case] path: &str, #[case] message: &str) {
        let error = object(&[(path.to_owned(), "1".to_owned())]).expect_err("a bad path");
        assert!(error.to_string().contains(message), "{error}");
    }
}
