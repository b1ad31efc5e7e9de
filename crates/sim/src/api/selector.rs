//! Label selectors (as query text and as objects) and field selectors.

use serde_json::{Map, Value};

use super::status::{ApiError, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// Which labels an object must have. The default matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<Requirement>);

impl Labels {
    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut requirements = Vec::new();
        for term in split_terms(text) {
            let term = term.trim();
            if term.is_empty() {
                continue;
            }
            requirements.push(parse_term(term).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "unable to parse requirement: {term:?} is none of key=value, key!=value, key in (a,b), key notin (a,b), key, !key"
                ))
            })?);
        }
        Ok(Self(requirements))
    }

    /// Reads a `LabelSelector`. `None` where its text is not one.
    pub(crate) fn from_object(selector: &Value) -> Option<Self> {
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            requirements.push(Requirement::In(key.clone(), vec![value.as_str()?.to_owned()]));
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = expression["key"].as_str()?.to_owned();
            let values = || {
                expression["values"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect()
            };
            requirements.push(match expression["operator"].as_str()? {
                "In" => Requirement::In(key, values()),
                "NotIn" => Requirement::NotIn(key, values()),
                "Exists" => Requirement::Exists(key),
                "DoesNotExist" => Requirement::Absent(key),
                _ => return None,
            });
        }
        Some(Self(requirements))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object's `metadata.labels` satisfy every requirement.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.match_labels(object["metadata"]["labels"].as_object())
    }

    fn match_labels(&self, labels: Option<&Map<String, Value>>) -> bool {
        let get = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => get(key).is_some_and(|found| values.iter().any(|v| v == found)),
            Requirement::NotIn(key, values) => get(key).is_none_or(|found| values.iter().all(|v| v != found)),
            Requirement::Exists(key) => get(key).is_some(),
            Requirement::Absent(key) => get(key).is_none(),
        })
    }
}

/// Splits at commas that are not inside parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut depth, mut start) = (0_u32, 0);
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn parse_term(term: &str) -> Option<Requirement> {
    let key = |text: &str| {
        let text = text.trim();
        let legal = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        legal.then(|| text.to_owned())
    };
    if let Some(name) = term.strip_prefix('!') {
        return Some(Requirement::Absent(key(name)?));
    }
    if let Some((name, value)) = term.split_once("!=") {
        return Some(Requirement::NotIn(key(name)?, vec![value.trim().to_owned()]));
    }
    if let Some((name, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Some(Requirement::In(key(name)?, vec![value.trim().to_owned()]));
    }
    if let Some(open) = term.find('(') {
        let values = term[open + 1..].strip_suffix(')')?.split(',').map(|v| v.trim().to_owned()).collect();
        let mut words = term[..open].split_whitespace();
        let (name, operator) = (words.next()?, words.next()?);
        return match (operator, words.next()) {
            ("in", None) => Some(Requirement::In(key(name)?, values)),
            ("notin", None) => Some(Requirement::NotIn(key(name)?, values)),
            _ => None,
        };
    }
    Some(Requirement::Exists(key(term)?))
}

/// Which fields an object must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(Vec<String>, String, bool)>);

/// Fields that can be selected by; the resource in front where only one kind has it.
const SELECTABLE: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.unschedulable",
    "status.phase",
    "status.podIP",
    "status.successful",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.uid",
    "reason",
    "type",
];

impl Fields {
    /// Reads `metadata.name=x,status.phase!=Running`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut requirements = Vec::new();
        for term in text.split(',').map(str::trim).filter(|term| !term.is_empty()) {
            let (path, value, equal) = match term.split_once("!=") {
                Some((path, value)) => (path, value, false),
                None => match term.split_once("==").or_else(|| term.split_once('=')) {
                    Some((path, value)) => (path, value, true),
                    None => {
                        return Err(ApiError::bad_request(format!(
                            "invalid selector: '{term}'; can't understand '{term}'"
                        )));
                    }
                },
            };
            let path = path.trim();
            if !SELECTABLE.contains(&path) {
                return Err(ApiError::bad_request(format!("field label not supported: {path}")));
            }
            requirements.push((path.split('.').map(str::to_owned).collect(), value.trim().to_owned(), equal));
        }
        Ok(Self(requirements))
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(path, wanted, equal)| {
            let found = path.iter().fold(object, |value, key| &value[key]);
            let same = match found {
                Value::String(text) => text == wanted,
                Value::Bool(flag) => (if *flag { "true" } else { "false" }) == wanted,
                Value::Number(number) => number.to_string() == *wanted,
                _ => wanted.is_empty() || (wanted == "false" && found.is_null()),
            };
            same == *equal
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("", true)]
    #[case("app=web", true)]
    #[case("app==web,tier", true)]
    #[case("app=db", false)]
    #[case("app!=db", true)]
    #[case("missing!=x", true)]
    #[case("app in (web, db),tier notin (back)", true)]
    #[case("app in (db)", false)]
    #[case("!tier", false)]
    #[case("!missing", true)]
    #[case("missing", false)]
    fn labels(#[case] selector: &str, #[case] expected: bool) {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "front"}}});
        assert_eq!(Labels::parse(selector).expect("legal").matches(&object), expected);
    }

    #[rstest]
    #[case("app in web")]
    #[case("app near (web)")]
    #[case("a b")]
    fn bad_labels(#[case] selector: &str) {
        assert_eq!(Labels::parse(selector).expect_err("illegal").code(), 400);
    }

    #[test]
    fn label_selector_objects() {
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "NotIn", "values": ["d"]}, {"key": "e", "operator": "DoesNotExist"}]});
        let selector = Labels::from_object(&selector).expect("legal");
        assert!(selector.matches(&json!({"metadata": {"labels": {"a": "b"}}})));
        assert!(!selector.matches(&json!({"metadata": {"labels": {"a": "b", "e": "x"}}})));
        assert!(Labels::from_object(&Value::Null).expect("empty").is_empty());
    }

    #[rstest]
    #[case("metadata.name=x", true)]
    #[case("metadata.name!=x", false)]
    #[case("spec.nodeName=", true)]
    #[case("status.phase!=Failed,metadata.name=x", true)]
    fn fields(#[case] selector: &str, #[case] expected: bool) {
        let object = json!({"metadata": {"name": "x"}, "status": {"phase": "Running"}});
        assert_eq!(Fields::parse(selector).expect("legal").matches(&object), expected);
    }
}
