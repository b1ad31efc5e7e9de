//! Defaults of Pods and Pod templates.

use serde_json::{Value, json};

use super::{default, each};

pub(crate) fn pod(pod: &mut Value) {
    spec(&mut pod["spec"]);
    default(&mut pod["spec"], "enableServiceLinks", true);
}

/// Defaults that hold in templates as well.
pub(crate) fn spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    default(spec, "restartPolicy", "Always");
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "securityContext", json!({}));
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, list).for_each(container);
    }
    each(spec, "volumes").for_each(volume);
    if spec["serviceAccountName"].is_null() && spec["serviceAccount"].is_string() {
        spec["serviceAccountName"] = spec["serviceAccount"].clone();
    }
}

fn container(container: &mut Value) {
    let latest = image_is_latest(container["image"].as_str().unwrap_or_default());
    default(container, "imagePullPolicy", if latest { "Always" } else { "IfNotPresent" });
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    default(container, "resources", json!({}));
    let limits = container["resources"]["limits"].clone();
    for (resource, limit) in limits.as_object().into_iter().flatten() {
        default(&mut container["resources"]["requests"], resource, limit.clone());
    }
    each(container, "ports").for_each(|port| default(port, "protocol", "TCP"));
    for probe_name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = container.get_mut(probe_name) {
            probe(found);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(get) = container.pointer_mut(&format!("/lifecycle/{hook}/httpGet")) {
            http_get(get);
        }
    }
    for variable in each(container, "env") {
        if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
            default(field, "apiVersion", "v1");
        }
    }
}

/// Whether an image has no tag or `:latest`, which is pulled every time.
fn image_is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn probe(probe: &mut Value) {
    if !probe.is_object() {
        return;
    }
    default(probe, "timeoutSeconds", 1);
    default(probe, "periodSeconds", 10);
    default(probe, "successThreshold", 1);
    default(probe, "failureThreshold", 3);
    if let Some(get) = probe.get_mut("httpGet") {
        http_get(get);
    }
    if let Some(grpc) = probe.get_mut("grpc") {
        default(grpc, "service", "");
    }
}

fn http_get(get: &mut Value) {
    default(get, "path", "/");
    default(get, "scheme", "HTTP");
}

fn volume(volume: &mut Value) {
    for source in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(found) = volume.get_mut(source) {
            default(found, "defaultMode", 0o644);
        }
    }
    if let Some(host) = volume.get_mut("hostPath") {
        default(host, "type", "");
    }
    if let Some(downward) = volume.get_mut("downwardAPI") {
        downward_items(downward);
    }
    if let Some(projected) = volume.get_mut("projected") {
        for source in each(projected, "sources") {
            if let Some(token) = source.get_mut("serviceAccountToken") {
                default(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = source.get_mut("downwardAPI") {
                downward_items(downward);
            }
        }
    }
}

fn downward_items(downward: &mut Value) {
    for item in each(downward, "items") {
        if let Some(field) = item.get_mut("fieldRef") {
            default(field, "apiVersion", "v1");
        }
    }
}

/// A new Pod's status.
pub(crate) fn initial_status(pod: &Value) -> Value {
    json!({ "phase": "Pending", "qosClass": quality_of_service(&pod["spec"]) })
}

fn quality_of_service(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    let all = ["containers", "initContainers"].map(|list| spec[list].as_array().into_iter().flatten());
    for container in all.into_iter().flatten() {
        let resources = &container["resources"];
        for resource in ["cpu", "memory"] {
            let (limit, request) = (&resources["limits"][resource], &resources["requests"][resource]);
            any |= !limit.is_null() || !request.is_null();
            guaranteed &= !limit.is_null() && limit == request;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("nginx", true)]
    #[case("nginx:latest", true)]
    #[case("nginx:1.2", false)]
    #[case("registry:5000/nginx", true)]
    #[case("nginx@sha256:0", false)]
    fn pull_policy(#[case] image: &str, #[case] latest: bool) {
        assert_eq!(image_is_latest(image), latest);
    }

    #[test]
    fn twice_is_once() {
        let mut first = json!({"spec": {"containers": [{
            "name": "a", "image": "b", "ports": [{"containerPort": 1}],
            "livenessProbe": {"httpGet": {"port": 1}}, "resources": {"limits": {"cpu": "1", "memory": "1"}},
        }]}});
        pod(&mut first);
        let mut second = first.clone();
        pod(&mut second);
        assert_eq!(first, second);
        let container = &first["spec"]["containers"][0];
        assert_eq!(container["livenessProbe"]["failureThreshold"], 3);
        assert_eq!(container["livenessProbe"]["httpGet"]["scheme"], "HTTP");
        assert_eq!(container["ports"][0]["protocol"], "TCP");
        assert_eq!(initial_status(&first)["qosClass"], "Guaranteed");
    }
}
