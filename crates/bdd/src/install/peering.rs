//! Peers two clusters as an operator does: an acceptor in the one, its token brought to the other, a dialer there.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::world::API_VERSION;

/// Key of the token in its Secret.
const KEY: &str = "data";
const NAMESPACE: &str = "default";

/// A cluster by its name.
pub struct Side<'a> {
    /// What the other side calls it.
    pub name: &'a str,
    /// Its API.
    pub cluster: &'a Cluster,
}

/// Has `accepting` and `dialling` peered; returns when both control planes have taken that over.
///
/// # Errors
/// When an API server refuses an object, or a control plane says that it cannot.
pub async fn peer(accepting: &Side<'_>, dialling: &Side<'_>, patience: Duration) -> Result<()> {
    let secret = format!("peering-token-{}", dialling.name);
    accepting.cluster.apply(&resource("PeeringAcceptor", dialling.name, &secret)).await.context("accept a peering")?;
    let token = crate::wait::until("the token of a peering", patience, async || {
        let found = accepting.cluster.get("Secret", NAMESPACE, &secret).await?.context("there is no Secret")?;
        found["data"][KEY].as_str().map(str::to_owned).context("there is no token in the Secret")
    })
    .await?;
    let brought = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "namespace": NAMESPACE},
        "data": {KEY: token},
    });
    dialling.cluster.apply(&brought).await.context("bring the token of a peering")?;
    dialling.cluster.apply(&resource("PeeringDialer", accepting.name, &secret)).await.context("dial a peer")?;
    for (side, kind, name) in
        [(accepting, "PeeringAcceptor", dialling.name), (dialling, "PeeringDialer", accepting.name)]
    {
        crate::wait::until(&format!("the {kind} {name}"), patience, async || {
            let found = side.cluster.get(kind, NAMESPACE, name).await?.unwrap_or_default();
            let condition = found.pointer("/status/conditions/0").cloned().unwrap_or_default();
            if condition["status"] == "True" { Ok(()) } else { bail!("it says {condition}") }
        })
        .await?;
    }
    Ok(())
}

fn resource(kind: &str, name: &str, secret: &str) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"peer": {"secret": {"name": secret, "key": KEY, "backend": "kubernetes"}}},
    })
}
