//! The Pod as it was received, for its annotation `original-pod`, bounded in size.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use redirect::contract::ORIGINAL_POD;
use std::collections::HashSet;
use std::io::{self, Write};

/// All annotations of a Pod together may have 256 KiB; this leaves most of them to others.
pub(crate) const LIMIT: usize = 64 * 1024;

/// Bytes that most Pods have no more of.
const USUAL: usize = 16 * 1024;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The Pod as JSON; one that is too long loses bookkeeping first, and then all but its identity, ports and HTTP probes.
///
/// `as_received` is its text, where somebody has it. Of the containers `without`, the endpoints controller must not find the
/// probes, see [`crate::probes`].
pub(crate) fn json(pod: &Pod, as_received: Option<String>, without: &HashSet<String>) -> String {
    let annotations = pod.metadata.annotations.as_ref();
    let has_none = annotations.is_none_or(|annotations| !annotations.contains_key(ORIGINAL_POD));
    let is_whole = without.is_empty() && has_none;
    let short = as_received.filter(|text| text.len() <= LIMIT);
    if is_whole && let Some(text) = short.or_else(|| bounded(pod)) {
        return text;
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
    // that a whole one is too long is known by now
    if !is_whole && let Some(text) = bounded(&copy) {
        return text;
    }
    copy.metadata.managed_fields = None;
    if let Some(annotations) = &mut copy.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    if let Some(text) = bounded(&copy) {
        return text;
    }
    let ObjectMeta { name, generate_name, namespace, owner_references, .. } = copy.metadata;
    let containers = copy.spec.unwrap_or_default().containers.into_iter().map(essence).collect();
    let mut text = Vec::new();
    // objects of Kubernetes have string keys only, the one thing that JSON could choke on
    let essence = Pod {
        metadata: ObjectMeta { name, generate_name, namespace, owner_references, ..ObjectMeta::default() },
        spec: Some(PodSpec { containers, ..PodSpec::default() }),
        ..Pod::default()
    };
    serde_json::to_writer(&mut text, &essence).ok();
    String::from_utf8(text).unwrap_or_default()
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

/// The JSON, unless it is too long, which is found out without writing more than that.
fn bounded(pod: &Pod) -> Option<String> {
    let mut text = Bounded(Vec::with_capacity(USUAL));
    serde_json::to_writer(&mut text, pod).ok()?;
    String::from_utf8(text.0).ok()
}

/// What is written, up to the limit.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.0.len() + part.len() > LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
        let back: Pod = serde_json::from_str(&json(&pod, None, &HashSet::new())).expect("JSON");
        assert_eq!(back, pod);
    }

    #[test]
    fn its_own_text_is_kept_as_it_is() {
        let pod = with_annotation("note", 10);
        let text = r#"{ "spec": "whatever it was" }"#;
        let received = || Some(text.to_owned());
        assert_eq!(json(&pod, received(), &HashSet::new()), text);
        let without: HashSet<String> = ["c".to_owned()].into();
        assert!(
            !json(&pod, received(), &without).contains("livenessProbe"),
            "but not with probes that must not be found"
        );
        let long = format!("{{}}{}", " ".repeat(LIMIT));
        let shorter = json(&pod, Some(long), &HashSet::new());
        assert_eq!(serde_json::from_str::<Pod>(&shorter).ok(), Some(pod));
    }

    #[test]
    fn bookkeeping_goes_first() {
        let text = json(&with_annotation(LAST_APPLIED, LIMIT), None, &HashSet::new());
        assert!(text.len() < 1024 && text.contains("\"image\""), "{text}");
    }

    #[test]
    fn what_the_controller_reads_stays() {
        let text = json(&with_annotation("note", LIMIT), None, &HashSet::new());
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
        let text = json(&with_annotation(ORIGINAL_POD, 10), None, &HashSet::new());
        assert!(!text.contains(ORIGINAL_POD), "{text}");
    }
}
