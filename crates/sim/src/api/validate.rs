//! What the types cannot say: names, required fields, what may not change.

use serde_json::{Value, json};

use super::kinds::Kind;
use super::schema;
use super::status::{ApiError, FieldError, Result};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const POD_UPDATE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks a new object.
pub(crate) fn new(kind: &Kind, object: &Value) -> Result<()> {
    let mut mistakes = Vec::new();
    name(kind, object, &mut mistakes);
    labels("metadata.labels", &object["metadata"]["labels"], &mut mistakes);
    content(kind, object, &mut mistakes);
    if let Some(schema) = &kind.schema {
        schema::check(schema, object, "", &mut mistakes);
    }
    finish(kind, object, &mistakes)
}

/// Checks a change.
pub(crate) fn update(kind: &Kind, subresource: Option<&str>, before: &Value, after: &Value) -> Result<()> {
    let mut mistakes = Vec::new();
    labels("metadata.labels", &after["metadata"]["labels"], &mut mistakes);
    let immutable = |field: &str, value: &Value| FieldError::invalid(field, value, "field is immutable");
    match (kind.group.as_str(), kind.plural.as_str(), subresource) {
        ("", "pods", None) if fixed_pod_spec(&before["spec"]) != fixed_pod_spec(&after["spec"]) => {
            mistakes.push(FieldError::forbidden("spec", POD_UPDATE));
        }
        ("", "pods", Some("ephemeralcontainers")) => {
            let list = |pod: &Value| pod["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or_default();
            let (before, after) = (list(before), list(after));
            if !after.starts_with(&before) {
                let why = "existing ephemeral containers may not be removed or changed";
                mistakes.push(FieldError::forbidden("spec.ephemeralContainers", why));
            }
        }
        ("", "services", None) => {
            let (old, new) = (&before["spec"]["clusterIP"], &after["spec"]["clusterIP"]);
            let kept_type = before["spec"]["type"] != "ExternalName" && after["spec"]["type"] != "ExternalName";
            if kept_type && !old.is_null() && !new.is_null() && new != "" && old != new {
                mistakes.push(FieldError::invalid("spec.clusterIPs[0]", new, "may not change once set"));
            }
        }
        ("apps", "deployments" | "replicasets" | "daemonsets" | "statefulsets", None) | ("batch", "jobs", None)
            if before["spec"]["selector"] != after["spec"]["selector"] =>
        {
            mistakes.push(immutable("spec.selector", &after["spec"]["selector"]));
        }
        ("", "secrets" | "configmaps", None)
            if before["immutable"] == true && ["data", "binaryData"].iter().any(|key| before[*key] != after[*key]) =>
        {
            mistakes.push(FieldError::forbidden("data", "field is immutable when `immutable` is set"));
        }
        _ => {}
    }
    if subresource.is_none() && !kind.is_pod() {
        content(kind, after, &mut mistakes);
    }
    if let Some(schema) = &kind.schema {
        schema::check(schema, after, "", &mut mistakes);
        // what a status says is no reason to refuse it for what the spec has said all the time
        mistakes.retain(|mistake| subresource != Some("status") || !mistake.field.starts_with("spec"));
    }
    finish(kind, after, &mistakes)
}

fn finish(kind: &Kind, object: &Value, mistakes: &[FieldError]) -> Result<()> {
    if mistakes.is_empty() {
        return Ok(());
    }
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()).unwrap_or_default();
    Err(ApiError::invalid(&kind.group, &kind.kind, name, mistakes))
}

fn name(kind: &Kind, object: &Value, mistakes: &mut Vec<FieldError>) {
    let metadata = &object["metadata"];
    let (field, name) = match (metadata["name"].as_str(), metadata["generateName"].as_str()) {
        (Some(name), _) if !name.is_empty() => ("metadata.name", name),
        (_, Some(prefix)) if !prefix.is_empty() => ("metadata.generateName", prefix),
        _ => {
            let mut mistake = FieldError::required("metadata.name");
            mistake.message = "Required value: name or generateName is required".to_owned();
            mistakes.push(mistake);
            return;
        }
    };
    // Roles and their bindings have the names of paths: `system:node`.
    if kind.group == "rbac.authorization.k8s.io" {
        return;
    }
    let name = if field == "metadata.generateName" { name.trim_end_matches(['-', '.']) } else { name };
    let label = matches!(kind.plural.as_str(), "services" | "namespaces") && kind.group.is_empty();
    let (legal, why) =
        if label { (is_label(name), LABEL) } else { (name.len() <= 253 && name.split('.').all(is_word), SUBDOMAIN) };
    if !legal {
        mistakes.push(FieldError::invalid(field, &json!(name), why));
    }
}

fn is_word(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    !text.is_empty() && text.chars().all(|c| inner(c) || c == '-') && text.starts_with(inner) && text.ends_with(inner)
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_word(text)
}

fn labels(field: &str, labels: &Value, mistakes: &mut Vec<FieldError>) {
    for (_, value) in labels.as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        let outer = |c: char| c.is_ascii_alphanumeric();
        let legal = text.is_empty()
            || (text.starts_with(outer)
                && text.ends_with(outer)
                && text.chars().all(|c| outer(c) || "-_.".contains(c)));
        if text.len() > 63 {
            mistakes.push(FieldError::invalid(field, value, "must be no more than 63 bytes"));
        } else if !legal {
            mistakes.push(FieldError::invalid(
                field,
                value,
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            ));
        }
    }
}

fn content(kind: &Kind, object: &Value, mistakes: &mut Vec<FieldError>) {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => pod_spec("spec", &object["spec"], mistakes),
        ("", "services") => service(&object["spec"], mistakes),
        ("apps", _) | ("batch", "jobs") => {
            let spec = &object["spec"];
            pod_spec("spec.template.spec", &spec["template"]["spec"], mistakes);
            if kind.group == "apps" {
                template_labels(spec, mistakes);
            }
            if let Some(count) = spec["replicas"].as_i64().filter(|&count| count < 0) {
                mistakes.push(FieldError::invalid(
                    "spec.replicas",
                    &json!(count),
                    "must be greater than or equal to 0",
                ));
            }
        }
        ("apiextensions.k8s.io", _) => {
            let spec = &object["spec"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let wanted = format!("{}.{}", text(&spec["names"]["plural"]), text(&spec["group"]));
            if object["metadata"]["name"] != wanted.as_str() {
                let why = format!("must be spec.names.plural+\".\"+spec.group ({wanted})");
                mistakes.push(FieldError::invalid("metadata.name", &object["metadata"]["name"], &why));
            }
            schema::definition(spec, mistakes);
        }
        _ => {}
    }
}

fn template_labels(spec: &Value, mistakes: &mut Vec<FieldError>) {
    let labels = &spec["template"]["metadata"]["labels"];
    let selector = spec["selector"]["matchLabels"].as_object();
    if spec["selector"].as_object().is_none_or(serde_json::Map::is_empty) {
        mistakes.push(FieldError::required("spec.selector"));
    }
    if selector.into_iter().flatten().any(|(key, value)| labels[key] != *value) {
        mistakes.push(FieldError::invalid(
            "spec.template.metadata.labels",
            labels,
            "`selector` does not match template `labels`",
        ));
    }
}

fn pod_spec(path: &str, spec: &Value, mistakes: &mut Vec<FieldError>) {
    let list = |key: &str| spec[key].as_array().into_iter().flatten();
    if list("containers").next().is_none() {
        mistakes.push(FieldError::required(format!("{path}.containers")));
    }
    let volumes: Vec<_> = list("volumes").filter_map(|volume| volume["name"].as_str()).collect();
    let mut names = Vec::new();
    for kind in ["initContainers", "containers"] {
        for (index, container) in list(kind).enumerate() {
            let at = format!("{path}.{kind}[{index}]");
            match container["name"].as_str() {
                None | Some("") => mistakes.push(FieldError::required(format!("{at}.name"))),
                Some(name) if !is_label(name) => {
                    mistakes.push(FieldError::invalid(format!("{at}.name"), &json!(name), LABEL));
                }
                Some(name) if names.contains(&name) => mistakes.push(FieldError {
                    reason: "FieldValueDuplicate",
                    field: format!("{at}.name"),
                    message: format!("Duplicate value: \"{name}\""),
                }),
                Some(name) => names.push(name),
            }
            if container["image"].as_str().is_none_or(str::is_empty) {
                mistakes.push(FieldError::required(format!("{at}.image")));
            }
            for (number, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
                let name = mount["name"].as_str().unwrap_or_default();
                // A StatefulSet's own claims become volumes later.
                if path == "spec" && !volumes.contains(&name) {
                    mistakes.push(FieldError {
                        reason: "FieldValueNotFound",
                        field: format!("{at}.volumeMounts[{number}].name"),
                        message: format!("Not found: \"{name}\""),
                    });
                }
            }
            for (number, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
                if !port["containerPort"].as_i64().is_some_and(|port| (1..=65535).contains(&port)) {
                    mistakes.push(FieldError::invalid(
                        format!("{at}.ports[{number}].containerPort"),
                        &port["containerPort"],
                        "must be between 1 and 65535, inclusive",
                    ));
                }
            }
        }
    }
}

fn service(spec: &Value, mistakes: &mut Vec<FieldError>) {
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let headless = spec["clusterIP"] == "None";
    if ports.is_empty() && !headless && spec["type"] != "ExternalName" {
        mistakes.push(FieldError::required("spec.ports"));
    }
    for (index, port) in ports.iter().enumerate() {
        if ports.len() > 1 && port["name"].as_str().is_none_or(str::is_empty) {
            mistakes.push(FieldError::required(format!("spec.ports[{index}].name")));
        }
        if !port["port"].as_i64().is_some_and(|port| (1..=65535).contains(&port)) {
            mistakes.push(FieldError::invalid(
                format!("spec.ports[{index}].port"),
                &port["port"],
                "must be between 1 and 65535, inclusive",
            ));
        }
    }
}

/// A Pod spec without what may change.
fn fixed_pod_spec(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["image"] = Value::Null;
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations", "ephemeralContainers", "schedulingGates"] {
        spec[key] = Value::Null;
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::Registry;
    use rstest::rstest;

    #[rstest]
    #[case("web-1", true)]
    #[case("a.b", true)]
    #[case("Web", false)]
    #[case("-a", false)]
    #[case("a_b", false)]
    fn names(#[case] name: &str, #[case] legal: bool) {
        let kind = Registry::new().get("", "v1", "configmaps").expect("built in");
        let result = new(&kind, &json!({"metadata": {"name": name}}));
        assert_eq!(result.is_ok(), legal, "{result:?}");
        if let Err(error) = result {
            assert_eq!(error.code(), 422);
            assert!(
                error.message().starts_with(&format!("ConfigMap \"{name}\" is invalid: metadata.name: Invalid value"))
            );
        }
    }

    #[test]
    fn a_running_pod_keeps_its_spec_but_for_images() {
        let kind = Registry::new().get("", "v1", "pods").expect("built in");
        let pod = |image: &str, command: &str| json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": image, "command": [command]}]}});
        assert!(update(&kind, None, &pod("a", "x"), &pod("b", "x")).is_ok());
        let error = update(&kind, None, &pod("a", "x"), &pod("a", "y")).expect_err("a command");
        assert!(error.message().contains("spec: Forbidden: pod updates may not change fields other than"));
    }
}
