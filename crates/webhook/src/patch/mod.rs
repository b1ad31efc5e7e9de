//! The patch (RFC 6902) from a Pod to the injected one, written as it is found: only what injection may change is looked at, what it was
//! before is known by little more than names and lengths, and what differs is written once, straight into the patch.
//!
//! A patch by position would rewrite every container when one is put in front, and would carry fields that it does not know from
//! one container to another. Here list elements are told apart by their `name`.
//!
//! That the patch leads to the injected Pod, whatever the Pod, is what `tests/properties` hold.

mod text;

use k8s_openapi::api::core::v1::{Container, Pod, PodDNSConfig, PodSpec, Probe, Volume};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use serde_json::Result;
use std::collections::BTreeMap;

/// Bytes that most patches have no more of.
const USUAL: usize = 32 * 1024;

type Texts = BTreeMap<String, String>;

/// What injection may change of a Pod, as it is before that.
#[derive(Default)]
pub(crate) struct Before {
    annotations: Option<Texts>,
    labels: Option<Texts>,
    dns_config: Option<PodDNSConfig>,
    dns_policy: Option<String>,
    containers: Vec<Outline>,
    init_containers: Vec<Outline>,
    /// Names.
    volumes: Vec<String>,
}

/// What injection may change of a container that is there already.
struct Outline {
    name: String,
    /// How many there are; nothing is said of an absent list.
    env: Option<usize>,
    volume_mounts: Option<usize>,
    /// Ports of the HTTP probes.
    liveness: Option<IntOrString>,
    readiness: Option<IntOrString>,
    startup: Option<IntOrString>,
}

impl Before {
    /// To be called before anything is changed.
    pub(crate) fn of(pod: &Pod) -> Self {
        let (annotations, labels) = (pod.metadata.annotations.clone(), pod.metadata.labels.clone());
        let Some(spec) = &pod.spec else { return Self { annotations, labels, ..Self::default() } };
        Self {
            annotations,
            labels,
            dns_config: spec.dns_config.clone(),
            dns_policy: spec.dns_policy.clone(),
            containers: spec.containers.iter().map(Outline::of).collect(),
            init_containers: spec.init_containers.iter().flatten().map(Outline::of).collect(),
            volumes: spec.volumes.iter().flatten().map(|volume| volume.name.clone()).collect(),
        }
    }

    /// The JSON of the patch that makes it `after`.
    ///
    /// # Errors
    /// A part of the Pod that differs cannot be written as JSON.
    pub(crate) fn patch(&self, after: &Pod) -> Result<Vec<u8>> {
        let mut patch = Patch { text: Vec::with_capacity(USUAL), path: String::new() };
        patch.text.push(b'[');
        patch.below("metadata", |patch| {
            let metadata = &after.metadata;
            patch.below("annotations", |p| p.texts(self.annotations.as_ref(), metadata.annotations.as_ref()))?;
            patch.below("labels", |p| p.texts(self.labels.as_ref(), metadata.labels.as_ref()))
        })?;
        if let Some(after) = &after.spec {
            patch.below("spec", |patch| patch.spec(self, after))?;
        }
        patch.text.push(b']');
        Ok(patch.text)
    }
}

impl Outline {
    fn of(container: &Container) -> Self {
        Self {
            name: container.name.clone(),
            env: container.env.as_ref().map(Vec::len),
            volume_mounts: container.volume_mounts.as_ref().map(Vec::len),
            liveness: http_port(container.liveness_probe.as_ref()).cloned(),
            readiness: http_port(container.readiness_probe.as_ref()).cloned(),
            startup: http_port(container.startup_probe.as_ref()).cloned(),
        }
    }
}

fn http_port(probe: Option<&Probe>) -> Option<&IntOrString> {
    Some(&probe?.http_get.as_ref()?.port)
}

/// A patch that grows.
struct Patch {
    text: Vec<u8>,
    /// JSON pointer to where the difference is looked for.
    path: String,
}

#[derive(Serialize)]
struct One<'a, T: ?Sized> {
    op: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a T>,
}

impl Patch {
    fn write<T: Serialize + ?Sized>(&mut self, op: &str, value: Option<&T>) -> Result<()> {
        if self.text.len() > 1 {
            self.text.push(b',');
        }
        serde_json::to_writer(&mut self.text, &One { op, path: &self.path, value })
    }

    /// As [`Self::write`]; a text may be as long as the Pod, and is JSON itself.
    fn write_text(&mut self, op: &str, value: &str) -> Result<()> {
        self.write::<()>(op, None)?;
        self.text.pop();
        self.text.extend_from_slice(br#","value":"#);
        text::write(&mut self.text, value);
        self.text.push(b'}');
        Ok(())
    }

    fn below(&mut self, key: &str, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let length = self.path.len();
        escaped(&mut self.path, key);
        let done = work(self);
        self.path.truncate(length);
        done
    }

    fn spec(&mut self, before: &Before, after: &PodSpec) -> Result<()> {
        self.below("dnsConfig", |p| p.member(before.dns_config.as_ref(), after.dns_config.as_ref()))?;
        self.below("dnsPolicy", |p| p.member(before.dns_policy.as_ref(), after.dns_policy.as_ref()))?;
        self.below("containers", |p| p.named(&before.containers, &after.containers))?;
        self.below("initContainers", |p| {
            p.named(&before.init_containers, after.init_containers.as_deref().unwrap_or(&[]))
        })?;
        self.below("volumes", |p| p.named(&before.volumes, after.volumes.as_deref().unwrap_or(&[])))
    }

    fn texts(&mut self, before: Option<&Texts>, after: Option<&Texts>) -> Result<()> {
        let (Some(before), Some(after)) = (before, after) else { return self.member(before, after) };
        for key in before.keys().filter(|key| !after.contains_key(*key)) {
            self.below(key, |p| p.write::<()>("remove", None))?;
        }
        for (key, value) in after {
            match before.get(key) {
                Some(old) if old == value => {}
                Some(_) => self.below(key, |p| p.write_text("replace", value))?,
                None => self.below(key, |p| p.write_text("add", value))?,
            }
        }
        Ok(())
    }

    fn member<T: Serialize + PartialEq>(&mut self, before: Option<&T>, after: Option<&T>) -> Result<()> {
        match (before, after) {
            (None, None) => Ok(()),
            (Some(_), None) => self.write::<()>("remove", None),
            (None, Some(after)) => self.write("add", Some(after)),
            (Some(before), Some(after)) if before == after => Ok(()),
            (Some(_), Some(after)) => self.write("replace", Some(after)),
        }
    }

    /// A list of things with names, into which others are put.
    fn named<T: Named>(&mut self, before: &[T::Before], after: &[T]) -> Result<()> {
        // a list that was absent, and one of required elements that was null, read like an empty one, and nothing can be put
        // into those
        if before.is_empty() {
            return if after.is_empty() { Ok(()) } else { self.write("add", Some(after)) };
        }
        let mut old = before.iter().peekable();
        for (index, new) in after.iter().enumerate() {
            match old.next_if(|old| new.is(old)) {
                Some(old) => self.below(&index.to_string(), |p| new.changed(old, p))?,
                None => self.below(&index.to_string(), |p| p.write("add", Some(new)))?,
            }
        }
        Ok(())
    }

    /// A list that had so many elements, and only grows at its end.
    fn grown<T: Serialize>(&mut self, before: Option<usize>, after: Option<&Vec<T>>) -> Result<()> {
        let Some(after) = after else { return Ok(()) };
        let Some(before) = before else { return self.write("add", Some(after)) };
        for (index, one) in after.iter().enumerate().skip(before) {
            self.below(&index.to_string(), |p| p.write("add", Some(one)))?;
        }
        Ok(())
    }

    /// The port of an HTTP probe.
    fn port(&mut self, before: Option<&IntOrString>, after: Option<&Probe>) -> Result<()> {
        match http_port(after) {
            // not "replace": a port that is absent reads like 0
            Some(port) if before != Some(port) => {
                self.below("httpGet", |p| p.below("port", |p| p.write("add", Some(port))))
            }
            _ => Ok(()),
        }
    }
}

/// An element of a list that is told apart by its name.
trait Named: Serialize {
    /// What is known of it as it was.
    type Before;

    /// Whether it is the same, changed or not.
    fn is(&self, before: &Self::Before) -> bool;

    /// Writes how it became what it is.
    fn changed(&self, before: &Self::Before, patch: &mut Patch) -> Result<()>;
}

impl Named for Volume {
    type Before = String;

    fn is(&self, before: &String) -> bool {
        self.name == *before
    }

    fn changed(&self, _: &String, _: &mut Patch) -> Result<()> {
        Ok(())
    }
}

impl Named for Container {
    type Before = Outline;

    fn is(&self, before: &Outline) -> bool {
        self.name == before.name
    }

    fn changed(&self, before: &Outline, patch: &mut Patch) -> Result<()> {
        patch.below("env", |p| p.grown(before.env, self.env.as_ref()))?;
        patch.below("volumeMounts", |p| p.grown(before.volume_mounts, self.volume_mounts.as_ref()))?;
        patch.below("livenessProbe", |p| p.port(before.liveness.as_ref(), self.liveness_probe.as_ref()))?;
        patch.below("readinessProbe", |p| p.port(before.readiness.as_ref(), self.readiness_probe.as_ref()))?;
        patch.below("startupProbe", |p| p.port(before.startup.as_ref(), self.startup_probe.as_ref()))
    }
}

/// Makes a JSON pointer lead to a member.
fn escaped(path: &mut String, key: &str) {
    path.push('/');
    for character in key.chars() {
        match character {
            '~' => path.push_str("~0"),
            '/' => path.push_str("~1"),
            other => path.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn container(more: Value) -> Value {
        let mut container = json!({"name": "a", "image": "i", "futureField": 1});
        container.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        container
    }

    fn get(port: u16) -> Value {
        json!({"httpGet": {"path": "/", "port": port}, "futureField": 1})
    }

    #[rstest]
    #[case::nothing(
        container(json!({"livenessProbe": get(80), "readinessProbe": get(81), "startupProbe": get(82)})),
        container(json!({"livenessProbe": get(80), "readinessProbe": get(81), "startupProbe": get(82)})),
        json!([])
    )]
    #[case::port_of_a_probe(
        container(json!({"livenessProbe": get(80)})),
        container(json!({"livenessProbe": get(20300)})),
        json!([{"op": "add", "path": "/spec/containers/0/livenessProbe/httpGet/port", "value": 20300}])
    )]
    #[case::a_probe_without_port(
        container(json!({"livenessProbe": {"httpGet": {"path": "/"}, "futureField": 1}})),
        container(json!({"livenessProbe": get(20300)})),
        json!([{"op": "add", "path": "/spec/containers/0/livenessProbe/httpGet/port", "value": 20300}])
    )]
    #[case::first_variable(
        container(json!({})),
        container(json!({"env": [{"name": "A"}]})),
        json!([{"op": "add", "path": "/spec/containers/0/env", "value": [{"name": "A"}]}])
    )]
    #[case::further_mount(
        container(json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}]})),
        container(json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]})),
        json!([{"op": "add", "path": "/spec/containers/0/volumeMounts/1", "value": {"name": "v", "mountPath": "/b"}}])
    )]
    fn of_a_container(#[case] before: Value, #[case] after: Value, #[case] expected: Value) {
        let pod = |container: &Value| -> Pod {
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [container]}})).expect("a Pod")
        };
        let patch = Before::of(&pod(&before)).patch(&pod(&after)).expect("JSON");
        let patch: Value = serde_json::from_slice(&patch).expect("JSON");
        assert_eq!(patch, expected);
    }
}
