//! The filter expressions of Consul's HTTP API, over JSON values.
//!
//! `selector == value`, `!=`, `in`, `not in`, `contains`, `not contains`, `matches`, `not matches`, `is empty`,
//! `is not empty`, joined by `and`, `or`, `not` and parentheses. A selector is `Meta.key` or `Meta["any key"]`.

use serde_json::Value;

mod parse;

/// A parsed expression; the empty one accepts everything.
#[derive(Debug, Clone)]
pub(crate) struct Filter(Option<Expression>);

/// Why an expression was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parse filter {text:?} at character {at}: expected {expected}")]
pub(crate) struct FilterError {
    pub(super) text: String,
    pub(super) at: usize,
    pub(super) expected: &'static str,
}

#[derive(Debug, Clone)]
enum Expression {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Match(Vec<String>, Operator),
}

#[derive(Debug, Clone)]
enum Operator {
    Equal(String),
    /// The selected list, map or text contains the value.
    Contains(String),
    Matches(regex::Regex),
    Empty,
}

impl Filter {
    /// Parses `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        if text.trim().is_empty() {
            return Ok(Self(None));
        }
        parse::expression(text).map(|e| Self(Some(e)))
    }

    /// Whether `value` satisfies the expression. A field that is absent is empty.
    pub(crate) fn accepts(&self, value: &Value) -> bool {
        self.0.as_ref().is_none_or(|e| holds(e, value))
    }
}

fn holds(expression: &Expression, value: &Value) -> bool {
    match expression {
        Expression::And(a, b) => holds(a, value) && holds(b, value),
        Expression::Or(a, b) => holds(a, value) || holds(b, value),
        Expression::Not(inner) => !holds(inner, value),
        Expression::Match(path, operator) => {
            let found = path.iter().try_fold(value, |value, key| value.get(key)).unwrap_or(&Value::Null);
            applies(operator, found)
        }
    }
}

fn applies(operator: &Operator, found: &Value) -> bool {
    match operator {
        Operator::Equal(wanted) => text(found) == *wanted,
        Operator::Contains(wanted) => match found {
            Value::Array(items) => items.iter().any(|i| text(i) == *wanted),
            Value::Object(fields) => fields.contains_key(wanted),
            other => text(other).contains(wanted.as_str()),
        },
        Operator::Matches(pattern) => pattern.is_match(&text(found)),
        Operator::Empty => match found {
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            other => text(other).is_empty(),
        },
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(r#"Meta["pod-name"] == "web-1" and Meta["k8s-namespace"] == "default" "#, true)]
    #[case(r#"Meta["pod-name"] == "web-1" and Meta["k8s-namespace"] == "other""#, false)]
    #[case(r#"Meta["pod-name"] == "web-1" and (Service == "web" or Service == "web-sidecar-proxy")"#, true)]
    #[case(r#"Meta["pod-name"] == "web-1" and (Service == "x" or Service == "y")"#, false)]
    #[case(r#"ID == "web-1-web""#, true)]
    #[case("ID==`web-1-web`", true)]
    #[case("Meta.synthetic-node == true", true)]
    #[case(r#"ID != "web-1-web""#, false)]
    #[case(r#""v1" in Tags"#, true)]
    #[case(r#""v2" not in Tags"#, true)]
    #[case("Tags contains v1", true)]
    #[case("Kind is empty", true)]
    #[case("Tags is not empty", true)]
    #[case(r#"Service matches "^w.b$""#, true)]
    #[case(r#"not Service == "web""#, false)]
    #[case("Port == 20000", true)]
    #[case("", true)]
    fn accepts(#[case] expression: &str, #[case] expected: bool) -> Result<(), FilterError> {
        let value = json!({
            "ID": "web-1-web", "Service": "web", "Port": 20000, "Tags": ["v1"], "Kind": "",
            "Meta": {"pod-name": "web-1", "k8s-namespace": "default", "synthetic-node": "true"},
        });
        assert_eq!(Filter::parse(expression)?.accepts(&value), expected);
        Ok(())
    }

    #[rstest]
    #[case("ID ==", "a value")]
    #[case("ID", "an operator")]
    #[case("(ID == a", "\")\"")]
    #[case("ID == a b", "the end, \"and\" or \"or\"")]
    #[case("ID == \"a", "a closing quote")]
    #[case("ID matches \"(\"", "a regular expression")]
    fn refuses(#[case] expression: &str, #[case] expected: &str) {
        let error = Filter::parse(expression).expect_err("malformed");
        assert_eq!(error.expected, expected, "{error}");
    }
}
