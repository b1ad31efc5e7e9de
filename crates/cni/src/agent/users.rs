//! Containers that run as the proxy's user because their image says so: what they send is not redirected. Who a Pod asks for by
//! `runAsUser` the webhook has seen; who an image makes a container the kubelet reports when it runs.

use super::events::Events;
use super::metrics::Metrics;
use super::pods::{self, Pods};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use redirect::contract::SIDECAR_CONTAINER;
use std::collections::HashSet;

/// Tells of each once, until it is dropped.
pub(super) async fn watch(pods: Pods, events: Events, metrics: Metrics) {
    let mut changes = pods.changes();
    let mut told: HashSet<(String, String)> = HashSet::new();
    while changes.changed().await.is_ok() {
        let all = pods.all();
        told.retain(|(uid, _)| all.iter().any(|pod| pod.metadata.uid.as_ref() == Some(uid)));
        for pod in all {
            let name = pods::name(&pod);
            for (container, user) in exempt(&pod) {
                if !told.insert((name.uid.clone(), container.clone())) {
                    continue;
                }
                metrics.exempt_containers.inc();
                let message = format!(
                    "container {container} runs as user {user}, which is the proxy's: nothing it sends is redirected. Give it \
                     another user, by runAsUser or in its image"
                );
                tracing::warn!(pod = %name, message);
                events.tell(&name, "ProxyUser", &message).await;
            }
        }
    }
}

/// Containers that run as the user of a proxy of this Pod.
fn exempt(pod: &Pod) -> Vec<(String, i64)> {
    let Some(status) = &pod.status else { return Vec::new() };
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let all = || lists.into_iter().flatten().flatten();
    let user = |status: &ContainerStatus| Some(status.user.as_ref()?.linux.as_ref()?.uid);
    let is_proxy = |status: &ContainerStatus| status.name.starts_with(SIDECAR_CONTAINER);
    let proxies: Vec<i64> = all().filter(|status| is_proxy(status)).filter_map(user).collect();
    let others = all().filter(|status| !is_proxy(status));
    others
        .filter_map(|status| Some((status.name.clone(), user(status).filter(|user| proxies.contains(user))?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn status(name: &str, user: i64) -> Value {
        json!({"name": name, "image": "", "imageID": "", "ready": true, "restartCount": 0,
               "user": {"linux": {"uid": user, "gid": 0}}})
    }

    #[rstest]
    #[case::the_proxy_alone(&[("consul-dataplane", 5995), ("app", 1000)], &[])]
    #[case::the_image(&[("consul-dataplane", 5995), ("app", 5995)], &["app"])]
    #[case::another_user_of_the_proxy(&[("consul-dataplane", 1_000_700_000), ("app", 5995)], &[])]
    #[case::two_services(&[("consul-dataplane-web", 5995), ("consul-dataplane-admin", 5996), ("app", 5996)], &["app"])]
    #[case::no_proxy(&[("app", 5995)], &[])]
    fn who_is_exempt(#[case] containers: &[(&str, i64)], #[case] expected: &[&str]) {
        let statuses: Vec<Value> = containers.iter().map(|(name, user)| status(name, *user)).collect();
        let pod: Pod = serde_json::from_value(json!({"status": {"containerStatuses": statuses}})).expect("a Pod");
        let names: Vec<String> = exempt(&pod).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, expected);
    }
}
