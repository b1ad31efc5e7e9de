//! The patch from one Pod to the other, where all that differs is what injection may change, written as it is found.
//!
//! What is equal is found out without writing it down, and what differs is written once, straight into the patch: a typical Pod
//! costs a third of what it costs through [`serde_json::Value`].

use super::{Operation, escaped, text, values};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe, Volume};
use serde::Serialize;
use serde_json::Result;
use std::collections::BTreeMap;

/// Bytes that most patches have no more of.
const USUAL: usize = 32 * 1024;

/// The JSON of the patch.
///
/// # Errors
/// A part of the Pod that differs cannot be written as JSON.
pub(crate) fn of_pods(before: &Pod, after: &Pod) -> Result<Vec<u8>> {
    let mut patch = Patch { text: Vec::with_capacity(USUAL), path: String::new() };
    patch.text.push(b'[');
    let (metadata, changed) = (&before.metadata, &after.metadata);
    patch.below("metadata", |patch| {
        patch.below("annotations", |p| p.texts(metadata.annotations.as_ref(), changed.annotations.as_ref()))?;
        patch.below("labels", |p| p.texts(metadata.labels.as_ref(), changed.labels.as_ref()))
    })?;
    if let Some(changed) = &after.spec {
        let nothing = PodSpec::default();
        patch.below("spec", |patch| patch.spec(before.spec.as_ref().unwrap_or(&nothing), changed))?;
    }
    patch.text.push(b']');
    Ok(patch.text)
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

type Texts = BTreeMap<String, String>;

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

    fn spec(&mut self, before: &PodSpec, after: &PodSpec) -> Result<()> {
        self.below("dnsConfig", |p| p.member(before.dns_config.as_ref(), after.dns_config.as_ref()))?;
        self.below("dnsPolicy", |p| p.member(before.dns_policy.as_ref(), after.dns_policy.as_ref()))?;
        self.below("containers", |p| p.named(Some(&before.containers), Some(&after.containers)))?;
        self.below("initContainers", |p| p.named(before.init_containers.as_ref(), after.init_containers.as_ref()))?;
        self.below("volumes", |p| p.named(before.volumes.as_ref(), after.volumes.as_ref()))
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

    /// A list of things with names.
    fn named<T: Named>(&mut self, before: Option<&Vec<T>>, after: Option<&Vec<T>>) -> Result<()> {
        // a list of required elements that was null reads like an empty one, and nothing can be put into it
        let before = before.filter(|before| !before.is_empty());
        let after = after.filter(|after| before.is_some() || !after.is_empty());
        let (Some(before), Some(after)) = (before, after) else { return self.member(before, after) };
        let same = |old: &&T, new: &T| old.name() == new.name();
        let mut old = before.iter().peekable();
        for new in after {
            old.next_if(|old| same(old, new));
        }
        if old.peek().is_some() {
            return self.member(Some(before), Some(after));
        }
        let mut old = before.iter().peekable();
        for (index, new) in after.iter().enumerate() {
            match old.next_if(|old| same(old, new)) {
                Some(old) if old == new => {}
                Some(old) => self.below(&index.to_string(), |p| old.changed(new, p))?,
                None => self.below(&index.to_string(), |p| p.write("add", Some(new)))?,
            }
        }
        Ok(())
    }

    /// A list that only grows at its end; any other is replaced.
    fn grown<T: Serialize + PartialEq>(&mut self, before: Option<&Vec<T>>, after: Option<&Vec<T>>) -> Result<()> {
        let (Some(old), Some(new)) = (before, after) else { return self.member(before, after) };
        let Some(added) = new.strip_prefix(old.as_slice()) else { return self.member(before, after) };
        for (index, one) in added.iter().enumerate() {
            self.below(&(old.len() + index).to_string(), |p| p.write("add", Some(one)))?;
        }
        Ok(())
    }

    /// Probes change their port, and seldom anything else.
    fn probe(&mut self, before: Option<&Probe>, after: Option<&Probe>) -> Result<()> {
        let (Some(old), Some(new)) = (before, after) else { return self.member(before, after) };
        if old == new {
            return Ok(());
        }
        let mut restored = new.clone();
        if let (Some(was), Some(is)) = (&old.http_get, &mut restored.http_get) {
            is.port = was.port.clone();
        }
        match &new.http_get {
            Some(get) if *old == restored => {
                // not "replace": a port that is absent reads like 0
                self.below("httpGet", |p| p.below("port", |p| p.write("add", Some(&get.port))))
            }
            _ => self.anything(old, new),
        }
    }

    /// Whatever it is, member by member.
    fn anything<T: Serialize>(&mut self, before: &T, after: &T) -> Result<()> {
        let mut found = Vec::new();
        let (before, after) = (serde_json::to_value(before)?, serde_json::to_value(after)?);
        values(&mut String::new(), &before, &after, &mut found);
        for operation in found {
            let (op, path, value) = match &operation {
                Operation::Add { path, value } => ("add", path, Some(value)),
                Operation::Remove { path } => ("remove", path, None),
                Operation::Replace { path, value } => ("replace", path, Some(value)),
            };
            let length = self.path.len();
            self.path.push_str(path);
            let written = self.write(op, value);
            self.path.truncate(length);
            written?;
        }
        Ok(())
    }
}

/// An element of a list that is told apart by its name.
trait Named: Serialize + PartialEq {
    fn name(&self) -> &str;

    /// Writes how `self` becomes `new`.
    fn changed(&self, new: &Self, patch: &mut Patch) -> Result<()>;
}

impl Named for Volume {
    fn name(&self) -> &str {
        &self.name
    }

    fn changed(&self, new: &Self, patch: &mut Patch) -> Result<()> {
        patch.anything(self, new)
    }
}

impl Named for Container {
    fn name(&self) -> &str {
        &self.name
    }

    fn changed(&self, new: &Self, patch: &mut Patch) -> Result<()> {
        if !differs_as_usual(self, new) {
            return patch.anything(self, new);
        }
        patch.below("env", |p| p.grown(self.env.as_ref(), new.env.as_ref()))?;
        patch.below("volumeMounts", |p| p.grown(self.volume_mounts.as_ref(), new.volume_mounts.as_ref()))?;
        patch.below("livenessProbe", |p| p.probe(self.liveness_probe.as_ref(), new.liveness_probe.as_ref()))?;
        patch.below("readinessProbe", |p| p.probe(self.readiness_probe.as_ref(), new.readiness_probe.as_ref()))?;
        patch.below("startupProbe", |p| p.probe(self.startup_probe.as_ref(), new.startup_probe.as_ref()))
    }
}

/// Whether nothing differs but variables, mounts and probes. A field that Kubernetes adds does not compile here, so that none
/// is passed over.
fn differs_as_usual(before: &Container, after: &Container) -> bool {
    let Container {
        name,
        args,
        command,
        env: _,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe: _,
        ports,
        readiness_probe: _,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe: _,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts: _,
        working_dir,
    } = before;
    *name == after.name
        && *args == after.args
        && *command == after.command
        && *env_from == after.env_from
        && *image == after.image
        && *image_pull_policy == after.image_pull_policy
        && *lifecycle == after.lifecycle
        && *ports == after.ports
        && *resize_policy == after.resize_policy
        && *resources == after.resources
        && *restart_policy == after.restart_policy
        && *restart_policy_rules == after.restart_policy_rules
        && *security_context == after.security_context
        && *stdin == after.stdin
        && *stdin_once == after.stdin_once
        && *termination_message_path == after.termination_message_path
        && *termination_message_policy == after.termination_message_policy
        && *tty == after.tty
        && *volume_devices == after.volume_devices
        && *working_dir == after.working_dir
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
    #[case::nothing(container(json!({})), container(json!({})), json!([]))]
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
    #[case::unusual(
        container(json!({"livenessProbe": get(80)})),
        container(json!({"image": "j", "livenessProbe": get(20300)})),
        json!([
            {"op": "replace", "path": "/spec/containers/0/image", "value": "j"},
            {"op": "replace", "path": "/spec/containers/0/livenessProbe/httpGet/port", "value": 20300},
        ])
    )]
    fn of_a_container(#[case] before: Value, #[case] after: Value, #[case] expected: Value) {
        let pod = |container: &Value| -> Pod {
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [container]}})).expect("a Pod")
        };
        let patch = of_pods(&pod(&before), &pod(&after)).expect("JSON");
        let patch: Value = serde_json::from_slice(&patch).expect("JSON");
        assert_eq!(patch, expected);
    }
}
