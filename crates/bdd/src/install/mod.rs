//! Installs the product as an operator does: the manifests of `clusters/consul`, with what the Helm values change.

pub mod cni;
pub mod gateway;
pub mod peering;
mod values;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::pods::{Pods, has_condition, is_going};
use crate::settings::Settings;

/// Where the webhook is installed.
pub const NAMESPACE: &str = "consul";
/// Name of the webhook's Service, its Deployment and its registration.
pub const WEBHOOK: &str = "consul-connect-injector";
const MANIFESTS: [&str; 3] = [
    include_str!("../../../../clusters/consul/00-namespace.yaml"),
    include_str!("../../../../clusters/consul/crds.yaml"),
    include_str!("../../../../clusters/consul/connect-injector.yaml"),
];
const REGISTRATION: &str = include_str!("../../../../clusters/consul/mutating-webhook.yaml");

/// What the product in a cluster is told of its mesh.
#[derive(Debug, Clone, Copy)]
pub struct Home<'a> {
    /// Where the servers are.
    pub servers: &'a str,
    /// The cluster's admin partition, where there are any.
    pub partition: Option<&'a str>,
}

/// The objects of a manifest.
fn objects(manifest: &str) -> Result<Vec<Value>> {
    let documents = serde_yaml_ng::Deserializer::from_str(manifest);
    documents
        .map(|document| Value::deserialize(document).context("read a manifest"))
        .filter(|value| !matches!(value, Ok(Value::Null)))
        .collect()
}

/// Makes the kinds of the mesh known, which the control plane follows from its start.
///
/// # Errors
/// What the API server says.
pub async fn kinds(cluster: &Cluster) -> Result<()> {
    apply(cluster, &objects(MANIFESTS[0])?).await?;
    apply(cluster, &objects(MANIFESTS[1])?).await
}

async fn apply(cluster: &Cluster, all: &[Value]) -> Result<()> {
    try_join_all(all.iter().map(|object| async move {
        let (kind, _, name) = crate::cluster::identity(object);
        cluster.apply(object).await.with_context(|| format!("install {kind} {name}"))
    }))
    .await?;
    Ok(())
}

/// Installs the webhook and waits until it answers: it is ready once its configuration trusts the certificate it made.
///
/// # Errors
/// When the API server refuses an object, a Helm value cannot be read, or the webhook does not come up.
pub async fn webhook(
    cluster: &Cluster,
    pods: &Pods,
    settings: &Settings,
    home: Home<'_>,
    patience: Duration,
) -> Result<()> {
    let mut all = configured(settings, home)?;
    let registration = if settings.injector()? { objects(REGISTRATION)? } else { Vec::new() };
    let registered = !registration.is_empty();
    all.extend(registration);
    apply(cluster, &all).await?;
    rolled_out(cluster, pods, patience).await?;
    if registered { trusted(cluster, patience).await } else { Ok(()) }
}

/// Waits until API servers trust the webhook. It is ready without, as long as it has not seen that it is registered.
async fn trusted(cluster: &Cluster, patience: Duration) -> Result<()> {
    crate::wait::until("the webhook's authority in its configuration", patience, async || {
        let configuration = cluster.get("MutatingWebhookConfiguration", "", WEBHOOK).await?.unwrap_or_default();
        let bundle = configuration.pointer("/webhooks/0/clientConfig/caBundle").and_then(Value::as_str);
        bundle.filter(|bundle| !bundle.is_empty()).map(|_| ()).context("find it there")
    })
    .await
}

/// Changes the running webhook to these settings and waits until only the changed one answers.
///
/// # Errors
/// As [`webhook`].
pub async fn reconfigure(
    cluster: &Cluster,
    pods: &Pods,
    settings: &Settings,
    home: Home<'_>,
    patience: Duration,
) -> Result<()> {
    for object in objects(REGISTRATION)? {
        let (kind, _, name) = crate::cluster::identity(&object);
        let registered = cluster.get(kind, "", name).await?.is_some();
        match settings.injector()? {
            false if registered => cluster.delete(kind, "", name, None).await?,
            true if !registered => anyhow::bail!(
                "change connectInject.enabled to \"true\": a mesh that was set up without its injector stays without"
            ),
            _ => {}
        }
    }
    let old: Vec<String> = names(pods);
    let changed: Vec<Value> = configured(settings, home)?.into_iter().filter(|o| o["kind"] == "Deployment").collect();
    let mut differs = false;
    for object in &changed {
        let (_, _, name) = crate::cluster::identity(object);
        let before = cluster.get("Deployment", NAMESPACE, name).await?.context("find the webhook")?;
        let container = "/spec/template/spec/containers/0";
        let same =
            |field: &str| object.pointer(container).map(|c| &c[field]) == before.pointer(container).map(|c| &c[field]);
        differs |= !same("args") || !same("env");
    }
    if !differs {
        return Ok(());
    }
    apply(cluster, &changed).await?;
    let awaited = "the earlier webhook to go";
    crate::wait::until(awaited, patience, async || {
        let left: Vec<String> = names(pods).into_iter().filter(|n| old.contains(n)).collect();
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    })
    .await?;
    rolled_out(cluster, pods, patience).await
}

/// How many Pods of the webhook its manifest asks for.
///
/// # Errors
/// The manifest does not say.
pub fn replicas() -> Result<u32> {
    let all = objects(MANIFESTS[2])?;
    let deployment =
        all.iter().find(|object| object["kind"] == "Deployment").context("find the webhook's Deployment")?;
    let said = deployment["spec"]["replicas"].as_u64().context("find the webhook's replicas in its manifest")?;
    Ok(u32::try_from(said)?)
}

/// Scales the webhook, and waits until all of its Pods are gone, or all that there are to be are ready.
///
/// # Errors
/// As [`webhook`].
pub async fn scale(cluster: &Cluster, pods: &Pods, replicas: u32, patience: Duration) -> Result<()> {
    let patch = json!({"spec": {"replicas": replicas}});
    cluster.merge("Deployment", NAMESPACE, WEBHOOK, &patch).await.context("scale the webhook")?;
    if replicas > 0 {
        return rolled_out(cluster, pods, patience).await;
    }
    crate::wait::until("the webhook's end", patience, async || {
        let left = names(pods);
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    })
    .await
}

fn names(pods: &Pods) -> Vec<String> {
    let found = pods.all().into_iter().filter(|p| is_webhook(p));
    found.filter_map(|p| p.metadata.name.clone()).collect()
}

fn is_webhook(pod: &Pod) -> bool {
    let component = pod.metadata.labels.as_ref().and_then(|labels| labels.get("component"));
    pod.metadata.namespace.as_deref() == Some(NAMESPACE) && component.is_some_and(|c| c == "connect-injector")
}

fn configured(settings: &Settings, home: Home<'_>) -> Result<Vec<Value>> {
    let mut all = objects(MANIFESTS[2])?;
    for object in &mut all {
        if object["kind"] == "Deployment" {
            values::change(object, settings, home)?;
        }
    }
    Ok(all)
}

/// Waits until the webhook's Pod is ready and its Service leads to it.
async fn rolled_out(cluster: &Cluster, pods: &Pods, patience: Duration) -> Result<()> {
    let deadline = std::time::Instant::now() + patience;
    loop {
        let all = pods.all();
        let mut own = all.iter().filter(|p| is_webhook(p) && !is_going(p));
        if own.clone().count() > 0 && own.all(|p| has_condition(p, "Ready")) {
            break;
        }
        if std::time::Instant::now() >= deadline {
            let mut said = String::new();
            for pod in all.iter().filter(|p| is_webhook(p)) {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                said.push_str(&serde_json::to_string(&pod.status).unwrap_or_default());
                said.push_str(&cluster.log(NAMESPACE, name, "sidecar-injector", false).await.unwrap_or_default());
            }
            for event in cluster.list("Event", NAMESPACE, "").await.unwrap_or_default() {
                said.push_str(&format!("\n{}: {}", event["reason"], event["message"]));
            }
            bail!("wait for the webhook to be ready; seen last: {said}");
        }
        pods.changed(Duration::from_millis(200)).await;
    }
    let selector = format!("kubernetes.io/service-name={WEBHOOK}");
    crate::wait::until("the webhook's Service to lead to it", patience, async || {
        let slices = cluster.list("EndpointSlice", NAMESPACE, &selector).await?;
        let mut endpoints = slices.iter().flat_map(|s| s["endpoints"].as_array().into_iter().flatten());
        let ready = endpoints.any(|e| e["conditions"]["ready"] != false);
        if ready { Ok(()) } else { Err(anyhow::anyhow!("it has no ready endpoint")) }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_are_objects_of_known_kinds() {
        for manifest in MANIFESTS.into_iter().chain([REGISTRATION]) {
            for object in objects(manifest).expect("YAML") {
                assert!(object["kind"].is_string() && object["metadata"]["name"].is_string(), "{object}");
            }
        }
    }

    #[test]
    fn settings_become_arguments() {
        let mut settings = Settings::default();
        let rows = [("connectInject.transparentProxy.defaultEnabled".to_owned(), "false".to_owned())];
        settings.merge(&rows).expect("a Helm value");
        let all = configured(&settings, Home { servers: "192.0.2.1", partition: Some("ap1") }).expect("manifests");
        let deployment = all.iter().find(|o| o["kind"] == "Deployment").expect("a Deployment");
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let args: Vec<&str> = container["args"].as_array().expect("args").iter().filter_map(Value::as_str).collect();
        assert!(args.contains(&"-default-enable-transparent-proxy=false"), "{args:?}");
        for wanted in ["-enable-partitions=true", "-partition=ap1", "-enable-namespaces=true"] {
            assert!(args.contains(&wanted), "{args:?}");
        }
        assert!(container["env"].as_array().expect("env").iter().any(|e| e["value"] == "192.0.2.1"));
    }
}
