//! Who a container runs as: the Pod's and the container's security contexts together.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::Image;
use crate::runtime::capability_set;

/// The merged outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) capabilities: BTreeSet<String>,
    pub(super) privileged: bool,
    pub(super) read_only_root: bool,
    pub(super) no_new_privileges: bool,
}

/// Merges; the container's word counts before the Pod's. An error is a kubelet's refusal, in its words.
pub(super) fn identity(pod: &Pod, container: &Container, image: &Image) -> Result<Identity, String> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let asked = own.run_as_user.or(of_pod.run_as_user);
    let uid = asked.map_or(Ok(image.user.unwrap_or(0)), |uid| id(uid, "runAsUser"))?;
    if own.run_as_non_root.or(of_pod.run_as_non_root).unwrap_or(false) && uid == 0 {
        let meta = &pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let who = format!(
            "(pod: \"{}_{}({})\", container: {})",
            text(&meta.name),
            text(&meta.namespace),
            text(&meta.uid),
            container.name
        );
        return Err(match asked {
            Some(_) => format!("container's runAsUser breaks non-root policy {who}"),
            None => format!("container has runAsNonRoot and image will run as root {who}"),
        });
    }
    let gid = own.run_as_group.or(of_pod.run_as_group).map_or(Ok(0), |gid| id(gid, "runAsGroup"))?;
    let extra = of_pod.supplemental_groups.iter().flatten().chain(of_pod.fs_group.iter());
    let mut groups = vec![gid];
    for group in extra {
        let group = id(*group, "supplementalGroups")?;
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let privileged = own.privileged.unwrap_or(false);
    let capabilities = own.capabilities.unwrap_or_default();
    let (add, drop) = (capabilities.add.unwrap_or_default(), capabilities.drop.unwrap_or_default());
    Ok(Identity {
        uid,
        gid,
        groups,
        capabilities: capability_set(&add, &drop, privileged),
        privileged,
        read_only_root: own.read_only_root_filesystem.unwrap_or(false),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
    })
}

fn id(value: i64, field: &str) -> Result<u32, String> {
    u32::try_from(value).map_err(|_| format!("securityContext.{field}: {value} is no id"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn merged(pod: Value, container: Value, user: Option<u32>) -> Result<Identity, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": pod, "containers": []},
        }))
        .expect("a pod");
        let container: Container =
            serde_json::from_value(json!({"name": "c", "securityContext": container})).expect("a container");
        identity(&pod, &container, &Image { user, ..Image::default() })
    }

    #[rstest]
    #[case::nothing_said(json!({}), json!({}), None, 0, 0, vec![0])]
    #[case::user_of_the_image(json!({}), json!({}), Some(100), 100, 0, vec![0])]
    #[case::the_pods_user(json!({"runAsUser": 7, "runAsGroup": 8}), json!({}), Some(100), 7, 8, vec![8])]
    #[case::the_containers_user(json!({"runAsUser": 7, "fsGroup": 9}), json!({"runAsUser": 5995}), None, 5995, 0, vec![0, 9])]
    fn the_container_counts_before_the_pod_before_the_image(
        #[case] pod: Value,
        #[case] container: Value,
        #[case] user: Option<u32>,
        #[case] uid: u32,
        #[case] gid: u32,
        #[case] groups: Vec<u32>,
    ) {
        let identity = merged(pod, container, user).expect("allowed");
        assert_eq!((identity.uid, identity.gid, identity.groups), (uid, gid, groups));
    }

    #[rstest]
    #[case(json!({}), "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)")]
    #[case(json!({"runAsUser": 0}), "container's runAsUser breaks non-root policy (pod: \"p_n(u)\", container: c)")]
    fn root_is_refused_in_the_kubelets_words(#[case] container: Value, #[case] message: &str) {
        assert_eq!(merged(json!({"runAsNonRoot": true}), container, None), Err(message.into()));
    }
}
