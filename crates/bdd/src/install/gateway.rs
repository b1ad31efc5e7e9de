//! Installs mesh gateways: the manifest of `clusters/consul-mesh-gateway`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{Home, NAMESPACE, apply, objects};
use crate::cluster::Cluster;
use crate::pods::{PodRef, Pods, has_condition, is_going};
use crate::settings::Settings;
use crate::world::API_VERSION;

const MANIFEST: &str = include_str!("../../../../clusters/consul-mesh-gateway/mesh-gateway.yaml");
/// Name of the Deployment, and of the component in labels.
const NAME: &str = "consul-mesh-gateway";
const COMPONENT: &str = "mesh-gateway";
/// Pod annotation: the port at which others reach a gateway.
const WAN_PORT: &str = "consul.hashicorp.com/gateway-wan-port";

/// The gateways of one cluster.
pub struct Gateways<'a> {
    /// Its API.
    pub cluster: &'a Cluster,
    /// Its Pods.
    pub pods: &'a Pods,
    /// How long they may take to come up or to end.
    pub patience: Duration,
}

/// Whether a Pod is a gateway; its name says so to those who know nothing else of it.
#[must_use]
pub fn is_one(namespace: &str, pod: &str) -> bool {
    namespace == NAMESPACE && pod.starts_with(NAME)
}

/// Has proxies use gateways in this mode: the proxy defaults of the datacenter, or of a federation.
///
/// # Errors
/// What the API server says.
pub async fn mode(cluster: &Cluster, mode: &str) -> Result<()> {
    let defaults = json!({
        "apiVersion": API_VERSION, "kind": "ProxyDefaults",
        "metadata": {"name": "global", "namespace": "default"}, "spec": {"meshGateway": {"mode": mode}},
    });
    cluster.apply(&defaults).await.context("set the mode of mesh gateways")?;
    Ok(())
}

impl Gateways<'_> {
    /// Installs them, as many as [`Self::installed`] waits for.
    ///
    /// # Errors
    /// When the API server refuses an object, or a Helm value cannot be read.
    pub async fn install(&self, settings: &Settings, home: Home<'_>) -> Result<()> {
        apply(self.cluster, &configured(settings, home)?).await
    }

    /// Waits until those that were installed are ready.
    ///
    /// # Errors
    /// They do not come up; with what they said.
    pub async fn installed(&self) -> Result<()> {
        self.ready(1).await
    }

    /// Has so many of them, and waits until they are ready, or gone.
    ///
    /// # Errors
    /// The API server refuses it, or they do not come up.
    pub async fn scale(&self, replicas: u32) -> Result<()> {
        let patch = json!({"spec": {"replicas": replicas}});
        self.cluster.merge("Deployment", NAMESPACE, NAME, &patch).await.context("scale the mesh gateways")?;
        self.ready(usize::try_from(replicas)?).await
    }

    /// Ends those that are there, at once or with grace, and waits for others in their place.
    ///
    /// # Errors
    /// As [`Gateways::scale`].
    pub async fn replace(&self, grace: Option<u32>) -> Result<()> {
        let there = self.all();
        for pod in &there {
            self.cluster.delete("Pod", NAMESPACE, &pod.name, grace).await.context("end a mesh gateway")?;
        }
        let gone = || there.iter().all(|pod| self.pods.get(NAMESPACE, &pod.name).is_none());
        crate::wait::until("the end of the mesh gateways", self.patience, async || {
            gone().then_some(()).ok_or("one is still there")
        })
        .await?;
        self.ready(there.len()).await
    }

    /// Those that are there, and stay.
    #[must_use]
    pub fn all(&self) -> Vec<PodRef> {
        self.live().iter().map(|pod| self.pods.reference(pod)).collect()
    }

    fn live(&self) -> Vec<std::sync::Arc<Pod>> {
        let is_gateway = |pod: &Pod| pod.labels().get("component").is_some_and(|c| c == COMPONENT);
        self.pods.all().into_iter().filter(|pod| is_gateway(pod) && !is_going(pod)).collect()
    }

    async fn ready(&self, wanted: usize) -> Result<()> {
        let deadline = std::time::Instant::now() + self.patience;
        loop {
            let live = self.live();
            let gone = wanted > 0 || !self.pods.all().iter().any(|pod| is_one(NAMESPACE, &pod.name_any()));
            if gone && live.len() == wanted && live.iter().all(|pod| has_condition(pod, "Ready")) {
                return Ok(());
            }
            if std::time::Instant::now() >= deadline {
                let mut said = String::new();
                for pod in &live {
                    said.push_str(&serde_json::to_string(&pod.status).unwrap_or_default());
                    for container in ["mesh-gateway-init", "mesh-gateway"] {
                        let log = self.cluster.log(NAMESPACE, &pod.name_any(), container, false).await;
                        said.push_str(&log.unwrap_or_default());
                    }
                }
                bail!("wait for {wanted} mesh gateways to be ready; seen last: {said}");
            }
            self.pods.changed(Duration::from_millis(100)).await;
        }
    }
}

fn configured(settings: &Settings, home: Home<'_>) -> Result<Vec<Value>> {
    let mut all = objects(MANIFEST)?;
    let node_port = settings.gateway_port()?;
    for object in &mut all {
        match object["kind"].as_str() {
            Some("Service") => {
                if let Some(port) = node_port {
                    object["spec"]["ports"][0]["nodePort"] = json!(port);
                }
            }
            Some("Deployment") => {
                let template = &mut object["spec"]["template"];
                if let Some(port) = node_port {
                    template["metadata"]["annotations"][WAN_PORT] = json!(port.to_string());
                }
                if let (Some(partition), Some(args)) =
                    (home.partition, template["spec"]["containers"][0]["args"].as_array_mut())
                {
                    args.push(json!(format!("-service-partition={partition}")));
                }
                for list in ["initContainers", "containers"] {
                    for container in template["spec"][list].as_array_mut().into_iter().flatten() {
                        for variable in container["env"].as_array_mut().into_iter().flatten() {
                            if variable["name"] == redirect::contract::servers::ADDRESSES {
                                variable["value"] = json!(home.servers);
                            }
                        }
                        if let Some(partition) = home.partition {
                            let variable = json!({"name": redirect::contract::servers::PARTITION, "value": partition});
                            container["env"].as_array_mut().context("find a gateway's variables")?.push(variable);
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_told_where_they_are() {
        let mut settings = Settings::default();
        let rows = [("meshGateway.service.nodePort".to_owned(), "31000".to_owned())];
        settings.merge(&rows).expect("a Helm value");
        let all = configured(&settings, Home { servers: "192.0.2.1", partition: Some("ap1") }).expect("manifests");
        let of = |kind: &str| all.iter().find(|o| o["kind"] == kind).expect("one").clone();
        assert_eq!(of("Service")["spec"]["ports"][0]["nodePort"], 31000);
        let template = &of("Deployment")["spec"]["template"];
        assert_eq!(template["metadata"]["annotations"][WAN_PORT], "31000");
        for list in ["initContainers", "containers"] {
            let env = template["spec"][list][0]["env"].as_array().expect("variables");
            assert!(env.iter().any(|variable| variable["value"] == "192.0.2.1"), "{env:?}");
            assert!(env.contains(&json!({"name": "CONSUL_PARTITION", "value": "ap1"})), "{env:?}");
        }
    }
}
