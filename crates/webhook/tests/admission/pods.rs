//! Pods and Namespaces to try things on.

use k8s_openapi::api::core::v1::{Container, Namespace, Pod};
use serde_json::{Value, json};

/// A Namespace with labels.
pub(crate) fn namespace(labels: &[(&str, &str)]) -> Namespace {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("web".to_owned());
    namespace.metadata.labels = Some(labels.iter().map(|(key, value)| (prefixed(key), (*value).to_owned())).collect());
    namespace
}

/// A Pod with one container that wants to be injected, and further annotations (short names).
pub(crate) fn annotated(annotations: &[(&str, &str)]) -> Pod {
    with(
        annotations,
        json!({"containers": [{"name": "app", "image": "app:1", "ports": [{"name": "http", "containerPort": 8080}]}]}),
    )
}

/// A Pod that wants to be injected, with further annotations (short names) and this specification.
pub(crate) fn with(annotations: &[(&str, &str)], spec: Value) -> Pod {
    let mut pod: Pod = serde_json::from_value(json!({"metadata": {"name": "app"}, "spec": spec})).expect("a Pod");
    let wish = [("connect-inject", "true")];
    let all = wish.iter().chain(annotations).map(|(key, value)| (prefixed(key), (*value).to_owned()));
    pod.metadata.annotations = Some(all.collect());
    pod
}

/// A key with the prefix of all keys.
pub(crate) fn prefixed(key: &str) -> String {
    format!("{}{key}", redirect::contract::PREFIX)
}

/// The annotation of this short name.
pub(crate) fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(&prefixed(key)).map(String::as_str)
}

/// The container or init container of this name.
pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> &'a Container {
    let spec = pod.spec.as_ref().expect("a specification");
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.find(|container| container.name == name).unwrap_or_else(|| panic!("no container {name}"))
}

/// The value of an environment variable that has one.
pub(crate) fn variable<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    container.env.iter().flatten().find(|variable| variable.name == name)?.value.as_deref()
}

/// The configuration of the rules that the init container gets.
pub(crate) fn redirection(pod: &Pod) -> Option<Value> {
    let init = container(pod, redirect::contract::INIT_CONTAINER);
    variable(init, redirect::contract::REDIRECT_TRAFFIC_CONFIG_ENV)
        .map(|text| serde_json::from_str(text).expect("JSON"))
}
