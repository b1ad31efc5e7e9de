//! Consul's catalogue: the services of a node, waiting for news where the server can.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::client::{Client, ClientError, Servers};

/// One service of a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Service {
    /// Id, unique on the node.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name.
    pub service: String,
    /// `connect-proxy` for a sidecar, `mesh-gateway` and the like for a gateway, empty for an application.
    pub kind: String,
    /// Port it listens on.
    pub port: i64,
    /// The proxy's part, of sidecars.
    pub proxy: Option<Proxy>,
}

/// What a sidecar's registration says of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Proxy {
    /// Free-form settings, merged with the central configuration.
    pub config: Option<Map<String, Value>>,
    /// Settings of transparent proxy.
    pub transparent_proxy: Option<TransparentProxy>,
    /// What is reachable without the mesh.
    pub expose: Option<Expose>,
}

/// Paths that the proxy serves to anyone.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Expose {
    /// Each with a listener of its own.
    pub paths: Option<Vec<ExposedPath>>,
}

/// A path that the proxy serves to anyone.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExposedPath {
    /// Where; 0 when not set.
    pub listener_port: i64,
}

/// Settings of transparent proxy in a registration.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TransparentProxy {
    /// Port of the outbound listener; 0 when not set.
    pub outbound_listener_port: i64,
}

/// The services of a node at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The services that passed the filter.
    pub services: Vec<Service>,
    /// Number of the moment, by which a later request can wait for news; `None` from a server that cannot wait.
    pub index: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    services: Option<Vec<Service>>,
}

/// The catalogue, as the servers have it.
#[derive(Debug)]
pub struct Catalog<'a> {
    client: Client<'a>,
    scope: &'a [(&'static str, String)],
}

impl<'a> Catalog<'a> {
    /// Connects when asked.
    #[must_use]
    pub fn new(servers: &'a Servers) -> Self {
        Self { client: Client::new(servers), scope: &servers.scope }
    }

    /// The services of `node` that pass `filter`. With an `after` index the server holds the answer back until something
    /// has changed since, or `wait` is over.
    ///
    /// # Errors
    /// [`ClientError`]; the next call goes to another server.
    pub fn services(
        &self,
        node: &str,
        filter: &str,
        after: Option<u64>,
        wait: Duration,
    ) -> Result<Snapshot, ClientError> {
        let mut query = vec![("filter", filter.to_owned()), ("merge-central-config", String::new())];
        query.extend_from_slice(self.scope);
        let mut longer = Duration::ZERO;
        if let Some(index) = after {
            // no shorter than was asked for: to Consul, nothing means five minutes
            let milliseconds = wait.as_micros().div_ceil(1000).max(1);
            query.extend([("index", index.to_string()), ("wait", format!("{milliseconds}ms"))]);
            // a server spreads the end of the wait by up to a sixteenth
            longer = wait + wait / 16;
        }
        let reply = self.client.get(&format!("/v1/catalog/node-services/{node}"), &query, longer)?;
        // a node that does not exist yet is `null`
        let answer: Option<Answer> = reply.json()?;
        let services = answer.and_then(|answer| answer.services).unwrap_or_default();
        Ok(Snapshot { services, index: reply.index })
    }
}
