//! The CNI plugin on the nodes: the DaemonSet of its agent, put there and taken away as an operator does.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{NAMESPACE, apply, objects};
use crate::cluster::{Cluster, identity};
use crate::pods::{Pods, has_condition, is_going};
use crate::settings::Settings;

const MANIFEST: &str = include_str!("../../../../clusters/consul-cni/consul-cni.yaml");
const POLICY: &str = include_str!("../../../../clusters/consul-cni/policy.yaml");
/// Name of the DaemonSet, of its rights and of the plugin.
pub const NAME: &str = "consul-cni";
/// No node has it.
const NOWHERE: &str = "pellucid.dev/nowhere";

/// The plugin on all nodes of a cluster.
pub struct Cni<'a> {
    /// Where it is installed.
    pub cluster: &'a Cluster,
    /// The Pods there.
    pub pods: &'a Pods,
    /// How many nodes there are.
    pub nodes: usize,
    /// How long anything may take.
    pub patience: Duration,
}

impl Cni<'_> {
    /// Installs it and waits until the next Pod on any node will be redirected.
    ///
    /// # Errors
    /// What the API server says, or why an agent is not ready.
    pub async fn install(&self, settings: &Settings) -> Result<()> {
        apply(self.cluster, &configured(settings)?).await?;
        self.ready(&[]).await
    }

    /// Whether it is installed.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn is_installed(&self) -> Result<bool> {
        Ok(self.cluster.get("DaemonSet", NAMESPACE, NAME).await?.is_some())
    }

    /// Takes it away, and waits until its agents have ended.
    ///
    /// # Errors
    /// What the API server says, or which agent does not end.
    pub async fn remove(&self) -> Result<()> {
        if !self.is_installed().await? {
            return Ok(());
        }
        self.cluster.delete("DaemonSet", NAMESPACE, NAME, None).await?;
        self.gone().await
    }

    /// Ends its agents in order, until they are wanted again.
    ///
    /// # Errors
    /// As [`Self::remove`].
    pub async fn stop(&self) -> Result<()> {
        self.select(&json!({NOWHERE: ""})).await?;
        self.gone().await
    }

    /// Starts the agents that were stopped.
    ///
    /// # Errors
    /// As [`Self::install`].
    pub async fn start(&self) -> Result<()> {
        self.select(&json!({NOWHERE: null})).await?;
        self.ready(&[]).await
    }

    /// Replaces the agents one after the other, as an upgrade does.
    ///
    /// # Errors
    /// As [`Self::install`].
    pub async fn roll(&self) -> Result<()> {
        let old = self.names();
        let mark = json!({"spec": {"template": {"metadata": {"annotations": {
            "kubectl.kubernetes.io/restartedAt": format!("{:?}", std::time::SystemTime::now()),
        }}}}});
        self.cluster.merge("DaemonSet", NAMESPACE, NAME, &mark).await.context("restart the CNI plugin's agents")?;
        self.ready(&old).await
    }

    /// Kills the agents. Others take their place.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn kill(&self) -> Result<()> {
        for name in self.names() {
            self.cluster.delete("Pod", NAMESPACE, &name, Some(0)).await?;
        }
        Ok(())
    }

    /// Takes the agents' rights away and lets them start without.
    ///
    /// # Errors
    /// As [`Self::install`].
    pub async fn dispossess(&self) -> Result<()> {
        self.cluster.delete("ClusterRoleBinding", "", NAME, None).await?;
        let old = self.names();
        self.kill().await?;
        self.ready(&old).await
    }

    /// Gives the rights back.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn repossess(&self, settings: &Settings) -> Result<()> {
        let all = configured(settings)?;
        let binding: Vec<Value> = all.into_iter().filter(|object| object["kind"] == "ClusterRoleBinding").collect();
        apply(self.cluster, &binding).await
    }

    async fn select(&self, nodes: &Value) -> Result<()> {
        let patch = json!({"spec": {"template": {"spec": {"nodeSelector": nodes}}}});
        self.cluster.merge("DaemonSet", NAMESPACE, NAME, &patch).await.context("move the CNI plugin's agents")?;
        Ok(())
    }

    fn names(&self) -> Vec<String> {
        let agents = self.pods.all().into_iter().filter(|pod| is_agent(pod));
        agents.filter_map(|pod| pod.metadata.name.clone()).collect()
    }

    /// Waits until every node has an agent that is ready, and none of the old ones.
    async fn ready(&self, old: &[String]) -> Result<()> {
        let deadline = std::time::Instant::now() + self.patience;
        loop {
            let all = self.pods.all();
            let agents: Vec<_> = all.iter().filter(|pod| is_agent(pod)).collect();
            let left = agents.iter().any(|pod| pod.metadata.name.as_ref().is_some_and(|name| old.contains(name)));
            let ready = agents.iter().filter(|pod| has_condition(pod, "Ready") && !is_going(pod)).count();
            if !left && ready == self.nodes {
                return Ok(());
            }
            if std::time::Instant::now() >= deadline {
                let mut said = String::new();
                for pod in &agents {
                    let name = pod.metadata.name.as_deref().unwrap_or_default();
                    said.push_str(&serde_json::to_string(&pod.status).unwrap_or_default());
                    said.push_str(&self.cluster.log(NAMESPACE, name, "install-cni", false).await.unwrap_or_default());
                }
                for event in self.cluster.list("Event", NAMESPACE, "").await.unwrap_or_default() {
                    said.push_str(&format!("\n{}: {}", event["reason"], event["message"]));
                }
                bail!("wait for the CNI plugin's agents to be ready; seen last: {said}");
            }
            self.pods.changed(Duration::from_millis(200)).await;
        }
    }

    async fn gone(&self) -> Result<()> {
        crate::wait::until("the end of the CNI plugin's agents", self.patience, async || {
            let left = self.names();
            if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
        })
        .await
    }
}

/// Whether a Pod is one of the agents.
pub(super) fn is_agent(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    pod.metadata.namespace.as_deref() == Some(NAMESPACE)
        && labels.is_some_and(|labels| labels.get("component").is_some_and(|component| component == "cni"))
}

fn configured(settings: &Settings) -> Result<Vec<Value>> {
    let mut all = objects(MANIFEST)?;
    all.extend(objects(POLICY)?);
    for object in &mut all {
        if identity(object).0 != "DaemonSet" {
            continue;
        }
        let repair = settings.get("repair").unwrap_or("redirect");
        let args = object.pointer_mut("/spec/template/spec/containers/0/args").and_then(Value::as_array_mut);
        super::values::set(args.context("find the agent's arguments in its manifest")?, "repair", &[repair.to_owned()]);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_of_objects_that_are_found_again() {
        let all = configured(&Settings::default()).expect("manifests");
        let named = |kind: &str| all.iter().any(|object| identity(object).0 == kind && identity(object).2 == NAME);
        for kind in ["DaemonSet", "ClusterRole", "ClusterRoleBinding", "ServiceAccount", "ResourceQuota"] {
            assert!(named(kind), "{kind}");
        }
    }
}
