//! Who may do what: Roles, ClusterRoles and their bindings, as the authorizer of Kubernetes reads them.
//!
//! Parts of the cluster (group `system:masters`) and kubelets may do everything; aggregated ClusterRoles are not followed.

use http::Method;
use serde_json::Value;

use super::auth::User;
use super::call::Call;
use super::cluster::Cluster;
use super::kinds::shelf;
use super::status::Result;

const GROUP: &str = "rbac.authorization.k8s.io";

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    /// With its subresource: `pods/eviction`.
    pub(crate) resource: &'a str,
    /// Empty for what is in none, and for reads of all namespaces.
    pub(crate) namespace: &'a str,
    /// Empty where none is named.
    pub(crate) name: &'a str,
}

/// Refuses a call that its user may not make.
pub(crate) fn authorize(call: &Call, method: &Method) -> Result<()> {
    let resource = match &call.subresource {
        Some(subresource) => format!("{}/{subresource}", call.kind.plural),
        None => call.kind.plural.clone(),
    };
    let selected = call.param("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
    let name = call.name.as_deref().or(selected).unwrap_or_default();
    let attempt = Attempt {
        verb: verb(method, call.name.is_some(), call.flag("watch")),
        group: &call.kind.group,
        resource: &resource,
        namespace: call.namespace(),
        name,
    };
    if allows(&call.cluster, &call.user, attempt) {
        return Ok(());
    }
    let place = match attempt.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let why = format!(
        "User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {place}",
        call.user.name, attempt.verb, attempt.resource, attempt.group
    );
    Err(call.forbidden(name, &why))
}

fn verb(method: &Method, named: bool, watches: bool) -> &'static str {
    match (method, named) {
        (&Method::GET, _) if watches => "watch",
        (&Method::GET, true) => "get",
        (&Method::GET, false) => "list",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, true) => "delete",
        (&Method::DELETE, false) => "deletecollection",
        _ => "create",
    }
}

/// Whether a user may do this.
pub(crate) fn allows(cluster: &Cluster, user: &User, attempt: Attempt<'_>) -> bool {
    if user.groups.iter().any(|group| group == "system:masters") {
        return true;
    }
    let list = |plural, namespace| cluster.store.list(&shelf(GROUP, plural), namespace).1;
    let everywhere = list("clusterrolebindings", None);
    let here = if attempt.namespace.is_empty() { Vec::new() } else { list("rolebindings", Some(attempt.namespace)) };
    everywhere.iter().chain(&here).any(|binding| {
        let binding = &binding.value;
        let namespace = binding["metadata"]["namespace"].as_str().unwrap_or_default();
        let subjects = binding["subjects"].as_array();
        subjects.into_iter().flatten().any(|subject| is_meant(subject, namespace, user))
            && rules(cluster, &binding["roleRef"], namespace).iter().any(|rule| covers(rule, attempt))
    })
}

fn is_meant(subject: &Value, namespace: &str, user: &User) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => user.name == name,
        Some("Group") => user.groups.iter().any(|group| group == name),
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or(namespace);
            user.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

fn rules(cluster: &Cluster, role: &Value, namespace: &str) -> Vec<Value> {
    let name = role["name"].as_str().unwrap_or_default();
    let found = match role["kind"].as_str() {
        Some("ClusterRole") => cluster.store.get(&shelf(GROUP, "clusterroles"), "", name),
        _ => cluster.store.get(&shelf(GROUP, "roles"), namespace, name),
    };
    found.and_then(|role| role.value["rules"].as_array().cloned()).unwrap_or_default()
}

fn covers(rule: &Value, attempt: Attempt<'_>) -> bool {
    let has = |key: &str, wanted: &str| {
        let list = rule[key].as_array();
        list.into_iter().flatten().any(|entry| entry == "*" || entry == wanted)
    };
    let any_subresource =
        attempt.resource.split_once('/').is_some_and(|(_, subresource)| has("resources", &format!("*/{subresource}")));
    let names = rule["resourceNames"].as_array().filter(|names| !names.is_empty());
    has("verbs", attempt.verb)
        && has("apiGroups", attempt.group)
        && (has("resources", attempt.resource) || any_subresource)
        && names.is_none_or(|names| names.iter().any(|name| name == attempt.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn attempt(words: &'static str) -> Attempt<'static> {
        let mut words = words.split(' ');
        let (verb, resource) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Attempt { verb, group: "", resource, namespace: "shop", name: words.next().unwrap_or_default() }
    }

    #[rstest]
    #[case::as_it_says(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), "get pods a", true)]
    #[case::another_verb(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), "list pods", false)]
    #[case::another_group(json!({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["pods"]}), "get pods a", false)]
    #[case::a_subresource(json!({"verbs": ["create"], "apiGroups": [""], "resources": ["pods"]}), "create pods/eviction a", false)]
    #[case::the_subresource(json!({"verbs": ["create"], "apiGroups": [""], "resources": ["pods/eviction"]}), "create pods/eviction a", true)]
    #[case::that_of_all(json!({"verbs": ["create"], "apiGroups": ["*"], "resources": ["*/eviction"]}), "create pods/eviction a", true)]
    #[case::by_name(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}), "get pods a", true)]
    #[case::another_name(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}), "get pods b", false)]
    #[case::no_name(json!({"verbs": ["create"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}), "create pods", false)]
    #[case::everything(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}), "delete pods a", true)]
    fn what_a_rule_covers(#[case] rule: Value, #[case] words: &'static str, #[case] expected: bool) {
        assert_eq!(covers(&rule, attempt(words)), expected);
    }

    #[rstest]
    #[case::account(json!({"kind": "ServiceAccount", "name": "web", "namespace": "shop"}), true)]
    #[case::account_of_the_binding(json!({"kind": "ServiceAccount", "name": "web"}), true)]
    #[case::anothers(json!({"kind": "ServiceAccount", "name": "web", "namespace": "other"}), false)]
    #[case::group(json!({"kind": "Group", "name": "system:serviceaccounts:shop"}), true)]
    #[case::user(json!({"kind": "User", "name": "system:serviceaccount:shop:web"}), true)]
    #[case::kind(json!({"kind": "Robot", "name": "web"}), false)]
    fn who_is_meant(#[case] subject: Value, #[case] expected: bool) {
        let user = User {
            name: "system:serviceaccount:shop:web".to_owned(),
            uid: String::new(),
            groups: vec!["system:serviceaccounts:shop".to_owned()],
            extra: serde_json::Map::new(),
        };
        assert_eq!(is_meant(&subject, "shop", &user), expected);
    }
}
