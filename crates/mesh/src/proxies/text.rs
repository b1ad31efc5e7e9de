//! Resources as JSON text, in pieces that proxies share.

use std::sync::Arc;

use serde_json::{Map, Value};

/// Section and name of a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// The last part of its xDS path: `listeners`.
    pub(crate) section: &'static str,
    pub(crate) name: Arc<str>,
}

/// A resource. A listener with a thousand chains is a thousand pieces, of which each is in memory once and for all proxies.
#[derive(Debug, Clone)]
pub(crate) struct Text(Arc<[Arc<str>]>);

impl Text {
    /// A resource in one piece.
    pub(crate) fn of(resource: &Value) -> Self {
        Self([Arc::from(resource.to_string())].into())
    }

    /// An object, and a field of it that is a list.
    pub(crate) fn with_list(body: &Map<String, Value>, field: &str, items: Vec<Arc<str>>) -> Self {
        let mut begin: String = Value::Object(body.clone()).to_string();
        begin.pop();
        let comma = if body.is_empty() { "" } else { "," };
        let mut pieces = Vec::with_capacity(2 * items.len() + 2);
        pieces.push(Arc::from(format!("{begin}{comma}{}:[", Value::from(field))));
        let comma: Arc<str> = ",".into();
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                pieces.push(comma.clone());
            }
            pieces.push(item);
        }
        pieces.push("]}".into());
        Self(pieces.into())
    }

    /// The text.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|piece| &**piece)
    }

    /// What the text says.
    pub(crate) fn value(&self) -> Value {
        let text: String = self.pieces().collect();
        serde_json::from_str(&text).expect("it was written as JSON")
    }
}

/// Whether the pieces are the same, which is quick where they are shared.
impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        let same = |(one, other): (&Arc<str>, &Arc<str>)| Arc::ptr_eq(one, other) || one == other;
        Arc::ptr_eq(&self.0, &other.0) || (self.0.len() == other.0.len() && self.0.iter().zip(&*other.0).all(same))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({}), &[], json!({"l": []}))]
    #[case(json!({"a": "b"}), &["1"], json!({"a": "b", "l": [1]}))]
    #[case(json!({"a": {}, "b": 2}), &["1", "{}"], json!({"a": {}, "b": 2, "l": [1, {}]}))]
    fn pieces_make_an_object(#[case] body: Value, #[case] items: &[&str], #[case] expected: Value) {
        let items = items.iter().map(|item| Arc::from(*item)).collect();
        assert_eq!(Text::with_list(body.as_object().expect("an object"), "l", items).value(), expected);
    }
}
