//! Which processes a container may see: its own. What asks for more is refused.

use k8s_openapi::api::core::v1::Pod;

/// Refuses a container that would share another's process namespace. An error is a message for its status.
pub(super) fn are_its_own(pod: &Pod, container: &str) -> Result<(), String> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let ephemeral = spec.ephemeral_containers.iter().flatten().find(|ephemeral| ephemeral.name == container);
    let target = ephemeral.and_then(|ephemeral| ephemeral.target_container_name.as_deref()).unwrap_or_default();
    let fields = [
        (spec.share_process_namespace == Some(true)).then(|| "spec.shareProcessNamespace: true".to_owned()),
        (spec.host_pid == Some(true)).then(|| "spec.hostPID: true".to_owned()),
        (!target.is_empty()).then(|| format!("targetContainerName: {target} of ephemeral container {container}")),
    ];
    let fields: Vec<_> = fields.into_iter().flatten().collect();
    if fields.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} is not supported by the simulator, where every container has a process namespace of its own: remove the field, \
         or run this Pod in a cluster of real nodes",
        fields.join(" and ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case::nothing_said(json!({}), "c", None)]
    #[case::said_to_be_off(json!({"shareProcessNamespace": false, "hostPID": false}), "c", None)]
    #[case::shared(json!({"shareProcessNamespace": true}), "c", Some("spec.shareProcessNamespace: true is not"))]
    #[case::the_nodes(json!({"hostPID": true}), "c", Some("spec.hostPID: true is not"))]
    #[case::a_target(json!({"ephemeralContainers": [{"name": "e", "targetContainerName": "c"}]}), "e", Some("targetContainerName: c of ephemeral container e is not"))]
    #[case::anothers_target(json!({"ephemeralContainers": [{"name": "e", "targetContainerName": "c"}]}), "c", None)]
    #[case::no_target(json!({"ephemeralContainers": [{"name": "e", "targetContainerName": ""}]}), "e", None)]
    fn who_would_see_others_is_refused(#[case] spec: Value, #[case] container: &str, #[case] begins: Option<&str>) {
        let mut spec = spec;
        spec["containers"] = json!([{"name": "c"}]);
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
        let refusal = are_its_own(&pod, container).err();
        assert_eq!(refusal.is_some(), begins.is_some(), "{refusal:?}");
        assert!(refusal.unwrap_or_default().starts_with(begins.unwrap_or_default()));
    }
}
