//! Whether a webhook wants to be asked.

use serde_json::Value;

use super::Operation;
use crate::api::call::Call;
use crate::api::selector::Labels;

/// Rules, then `namespaceSelector`, then `objectSelector`. See [`super::conditions`] for what comes after them.
pub(super) fn matches(
    call: &Call,
    webhook: &Value,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> bool {
    let rules = webhook["rules"].as_array().into_iter().flatten();
    rules.into_iter().any(|rule| rule_matches(call, rule, operation))
        && namespace_matches(call, &webhook["namespaceSelector"], object.or(old))
        && object_matches(&webhook["objectSelector"], object, old)
}

fn rule_matches(call: &Call, rule: &Value, operation: Operation) -> bool {
    let has = |key: &str, wanted: &str| {
        rule[key].as_array().into_iter().flatten().any(|entry| entry == wanted || entry == "*")
    };
    let kind = &call.kind;
    let scope = match rule["scope"].as_str() {
        Some("Namespaced") => kind.namespaced,
        Some("Cluster") => !kind.namespaced,
        _ => true,
    };
    let resources = rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str);
    scope
        && has("operations", operation.name())
        && has("apiGroups", &kind.group)
        && has("apiVersions", &kind.version)
        && resources.into_iter().any(|entry| resource_matches(entry, &kind.plural, call.subresource.as_deref()))
}

/// `pods`, `pods/status`, `pods/*`, `*`, `*/status`, `*/*`.
fn resource_matches(entry: &str, plural: &str, subresource: Option<&str>) -> bool {
    let (name, sub) = match entry.split_once('/') {
        Some((name, sub)) => (name, Some(sub)),
        None => (entry, None),
    };
    let sub_matches = match (sub, subresource) {
        (None, None) => true,
        (Some("*"), _) => true,
        (Some(wanted), Some(found)) => wanted == found,
        (None, Some(_)) | (Some(_), None) => false,
    };
    (name == "*" || name == plural) && sub_matches
}

fn namespace_matches(call: &Call, selector: &Value, object: Option<&Value>) -> bool {
    let Some(selector) = Labels::from_object(selector) else { return false };
    if selector.is_empty() {
        return true;
    }
    if call.kind.is("", "namespaces") {
        return object.is_some_and(|object| selector.matches(object));
    }
    let Some(namespace) = &call.namespace else { return true };
    call.cluster.store.get("namespaces", "", namespace).is_some_and(|found| selector.matches(&found.value))
}

fn object_matches(selector: &Value, object: Option<&Value>, old: Option<&Value>) -> bool {
    let Some(selector) = Labels::from_object(selector) else { return false };
    selector.is_empty() || [object, old].into_iter().flatten().any(|object| selector.matches(object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("pods", None, true)]
    #[case("pods", Some("status"), false)]
    #[case("pods/status", Some("status"), true)]
    #[case("pods/*", None, true)]
    #[case("*", None, true)]
    #[case("*", Some("status"), false)]
    #[case("*/*", Some("status"), true)]
    #[case("services", None, false)]
    fn resources(#[case] entry: &str, #[case] subresource: Option<&str>, #[case] expected: bool) {
        assert_eq!(resource_matches(entry, "pods", subresource), expected);
    }
}
