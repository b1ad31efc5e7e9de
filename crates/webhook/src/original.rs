//! The Pod as it was received, for its annotation `original-pod`, bounded in size.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use redirect::contract::ORIGINAL_POD;
use std::collections::HashSet;

/// All annotations of a Pod together may have 256 KiB; this leaves most of them to others.
const LIMIT: usize = 64 * 1024;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The Pod as JSON; one that is too long loses bookkeeping first, and then all but its identity, ports and HTTP probes.
///
/// Of the containers `without`, the endpoints controller must not find the probes, see [`crate::probes`].
pub(crate) fn json(pod: &Pod, without: &HashSet<String>) -> String {
    let annotations = pod.metadata.annotations.as_ref();
    if without.is_empty() && annotations.is_none_or(|annotations| !annotations.contains_key(ORIGINAL_POD)) {
        let whole = text(pod);
        if whole.len() <= LIMIT {
            return whole;
        }
    }
    let mut copy = pod.clone();
    if let Some(spec) = &mut copy.spec {
        for container in spec.containers.iter_mut().filter(|container| without.contains(&container.name)) {
            (container.liveness_probe, container.readiness_probe, container.startup_probe) = (None, None, None);
        }
    }
    if let Some(annotations) = &mut copy.metadata.annotations {
        annotations.remove(ORIGINAL_POD);
    }
    let whole = text(&copy);
    if whole.len() <= LIMIT {
        return whole;
    }
    copy.metadata.managed_fields = None;
    if let Some(annotations) = &mut copy.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    let shorter = text(&copy);
    if shorter.len() <= LIMIT {
        return shorter;
    }
    let ObjectMeta { name, generate_name, namespace, owner_references, .. } = copy.metadata;
    let containers = copy.spec.unwrap_or_default().containers.into_iter().map(essence).collect();
    text(&Pod {
        metadata: ObjectMeta { name, generate_name, namespace, owner_references, ..ObjectMeta::default() },
        spec: Some(PodSpec { containers, ..PodSpec::default() }),
        ..Pod::default()
    })
}

/// What the endpoints controller reads: where the overwritten probes led before.
fn essence(container: Container) -> Container {
    let Container { name, ports, liveness_probe, readiness_probe, startup_probe, .. } = container;
    let http = |probe: Option<Probe>| probe.filter(|probe| probe.http_get.is_some());
    Container {
        name,
        ports,
        liveness_probe: http(liveness_probe),
        readiness_probe: http(readiness_probe),
        startup_probe: http(startup_probe),
        ..Container::default()
    }
}

fn text(pod: &Pod) -> String {
    // most Pods, in one piece
    let mut text = Vec::with_capacity(16 * 1024);
    // Kubernetes objects have string keys only, the one thing that JSON could choke on.
    serde_json::to_writer(&mut text, pod).ok();
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with_annotation(key: &str, size: usize) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "big", "annotations": {key: "x".repeat(size)}},
            "spec": {"containers": [{
                "name": "c",
                "image": "i",
                "ports": [{"name": "api", "containerPort": 80}],
                "livenessProbe": {"httpGet": {"path": "/", "port": "api"}},
                "readinessProbe": {"exec": {"command": ["true"]}},
            }]},
        }))
        .expect("a Pod")
    }

    #[test]
    fn a_usual_pod_is_kept_whole() {
        let pod = with_annotation("note", 10);
        let back: Pod = serde_json::from_str(&json(&pod, &HashSet::new())).expect("JSON");
        assert_eq!(back, pod);
    }

    #[test]
    fn bookkeeping_goes_first() {
        let text = json(&with_annotation(LAST_APPLIED, LIMIT), &HashSet::new());
        assert!(text.len() < 1024 && text.contains("\"image\""), "{text}");
    }

    #[test]
    fn what_the_controller_reads_stays() {
        let text = json(&with_annotation("note", LIMIT), &HashSet::new());
        let spec = json!({"containers": [{
            "name": "c",
            "ports": [{"name": "api", "containerPort": 80}],
            "livenessProbe": {"httpGet": {"path": "/", "port": "api"}},
        }]});
        let expected = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "big"}, "spec": spec});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).ok(), Some(expected));
    }

    #[test]
    fn it_does_not_nest() {
        let text = json(&with_annotation(ORIGINAL_POD, 10), &HashSet::new());
        assert!(!text.contains(ORIGINAL_POD), "{text}");
    }
}
