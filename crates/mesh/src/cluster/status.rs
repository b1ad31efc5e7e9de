//! Tells the author of a custom resource what became of it: its condition `Synced`.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::config::accept::{Resource, Verdict, without_effect};

/// The reason that consul-k8s gives when the servers refuse an entry.
const REFUSED: &str = "ConsulAgentError";

/// Patches conditions from a task of its own, so that the mesh waits for nobody.
pub(super) struct Writer {
    queue: mpsc::UnboundedSender<(ApiResource, Resource, Value)>,
    /// By uid: the last condition and the generation that it is about, so that each is said once.
    said: Mutex<HashMap<String, (i64, bool, String)>>,
}

impl Writer {
    /// Starts the task; it ends with the value.
    pub(super) fn start(client: Client) -> Self {
        let (queue, mut incoming) = mpsc::unbounded_channel::<(ApiResource, Resource, Value)>();
        tokio::spawn(async move {
            while let Some((api, resource, status)) = incoming.recv().await {
                if let Err(error) = write(&client, &api, &resource, &status).await {
                    tracing::debug!(kind = resource.kind, name = resource.name, %error, "no status written");
                }
            }
        });
        Self { queue, said: Mutex::default() }
    }

    /// Writes the condition, unless that is what it was written last.
    pub(super) fn say(&self, api: &ApiResource, resource: &Resource, verdict: &Verdict) {
        let said = what(resource, verdict);
        let message = said.join("; ");
        let news = (resource.generation, verdict.is_ok(), message.clone());
        let mut before = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if before.insert(resource.uid.clone(), news.clone()).is_some_and(|last| last == news) {
            return;
        }
        let (kind, name) = (&resource.kind, &resource.name);
        for what in &said {
            tracing::warn!(%kind, %name, %what, "not everything that the resource asks for is done");
        }
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut status = json!({
            "conditions": [{
                "type": "Synced",
                "status": if verdict.is_ok() { "True" } else { "False" },
                "reason": if verdict.is_ok() { "" } else { REFUSED },
                "message": message,
                "observedGeneration": resource.generation,
                "lastTransitionTime": now,
            }],
        });
        if verdict.is_ok() {
            status["lastSyncedTime"] = json!(now);
        }
        let _ = self.queue.send((api.clone(), resource.clone(), status));
    }
}

/// What there is to say about a resource: why it was refused, or what of it has no effect though it was not.
fn what(resource: &Resource, verdict: &Verdict) -> Vec<String> {
    verdict.as_ref().err().cloned().unwrap_or_else(|| without_effect(resource))
}

async fn write(client: &Client, api: &ApiResource, resource: &Resource, status: &Value) -> Result<(), kube::Error> {
    let api: Api<DynamicObject> = match resource.namespace.as_str() {
        "" => Api::all_with(client.clone(), api),
        namespace => Api::namespaced_with(client.clone(), namespace, api),
    };
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(&resource.name, &PatchParams::default(), &patch).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_effect_is_said_of_what_was_accepted() {
        let resource = Resource {
            kind: "ProxyDefaults".to_owned(),
            namespace: "default".to_owned(),
            name: "global".to_owned(),
            uid: String::new(),
            generation: 1,
            spec: json!({"config": {"protocol": "http", "envoy_tracing_json": "{}"}}),
        };
        let [idle] = &what(&resource, &Ok(()))[..] else { panic!("one thing has no effect") };
        assert!(idle.starts_with("spec.config.envoy_tracing_json has no effect"), "{idle}");
        assert_eq!(what(&resource, &Err(vec!["no".to_owned()])), ["no"]);
    }
}
