//! Consul's catalogue over HTTP: the services of a node, waiting for news where the server can.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Where the Consul servers are and how to talk to them.
#[derive(Debug, Clone)]
pub struct Servers {
    /// Addresses or DNS names.
    pub hosts: Vec<String>,
    /// Port of the HTTP API.
    pub http_port: u16,
    /// How long a request may take, not counting the time it was asked to wait for news.
    pub timeout: Duration,
    /// ACL token, if any.
    pub token: Option<String>,
    /// Query parameters that choose datacenter, partition and namespace.
    pub scope: Vec<(&'static str, String)>,
}

/// Why the catalogue gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A server's name has no address.
    #[error("resolve {host:?}, of CONSUL_ADDRESSES")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's answer.
        source: std::io::Error,
    },
    /// No connection, or no answer on it.
    #[error("ask Consul server {server} (are the servers up, and is port {} reachable from this Pod?)", server.port())]
    Request {
        /// Which server.
        server: SocketAddr,
        /// What happened.
        source: Box<ureq::Error>,
    },
    /// An answer that is not a success.
    #[error("ask Consul server {server}: HTTP {status}: {body}")]
    Status {
        /// Which server.
        server: SocketAddr,
        /// HTTP status code.
        status: u16,
        /// The beginning of what it said.
        body: String,
    },
    /// A success that is not the expected JSON.
    #[error("understand the answer of Consul server {server} (is it a Consul server's HTTP port?)")]
    Decode {
        /// Which server.
        server: SocketAddr,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// One service of a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Service {
    /// Id, unique on the node.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name.
    pub service: String,
    /// `connect-proxy` for a sidecar, empty for an application.
    pub kind: String,
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

/// A client of the servers that turns to the next one when one fails.
#[derive(Debug)]
pub struct Catalog<'a> {
    servers: &'a Servers,
    agent: ureq::Agent,
    turn: AtomicUsize,
}

impl<'a> Catalog<'a> {
    /// A client; connects when asked.
    #[must_use]
    pub fn new(servers: &'a Servers) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // the servers are in the cluster; a proxy variable meant for the outside would be in the way
            .proxy(None)
            .user_agent("connect-init")
            .timeout_connect(Some(servers.timeout))
            .build();
        Self { servers, agent: config.new_agent(), turn: AtomicUsize::new(0) }
    }

    /// The services of `node` that pass `filter`. With an `after` index the server holds the answer back until something
    /// has changed since, or `wait` is over.
    ///
    /// # Errors
    /// [`CatalogError`]; the next call goes to another server.
    pub fn services(
        &self,
        node: &str,
        filter: &str,
        after: Option<u64>,
        wait: Duration,
    ) -> Result<Snapshot, CatalogError> {
        let server = self.server()?;
        let answer = self.request(server, node, filter, after, wait);
        if answer.is_err() {
            self.turn.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    fn request(
        &self,
        server: SocketAddr,
        node: &str,
        filter: &str,
        after: Option<u64>,
        wait: Duration,
    ) -> Result<Snapshot, CatalogError> {
        let mut request = self
            .agent
            .get(format!("http://{server}/v1/catalog/node-services/{node}"))
            .query("filter", filter)
            .query("merge-central-config", "");
        for (parameter, value) in &self.servers.scope {
            request = request.query(parameter, value);
        }
        let mut patience = self.servers.timeout;
        if let Some(index) = after {
            request = request.query("index", index.to_string()).query("wait", format!("{}ms", wait.as_millis()));
            // a server spreads the end of the wait by up to a sixteenth
            patience += wait + wait / 16;
        }
        if let Some(token) = &self.servers.token {
            request = request.header("X-Consul-Token", token);
        }
        let failed = |error| CatalogError::Request { server, source: Box::new(error) };
        let mut response = request.config().timeout_global(Some(patience)).build().call().map_err(failed)?;
        let status = response.status().as_u16();
        let index = response.headers().get("X-Consul-Index").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = response.body_mut().read_to_string().map_err(failed)?;
        if status != 200 {
            let body = body.trim().chars().take(200).collect();
            return Err(CatalogError::Status { server, status, body });
        }
        // a node that does not exist yet is `null`
        let answer: Option<Answer> =
            serde_json::from_str(&body).map_err(|source| CatalogError::Decode { server, source })?;
        Ok(Snapshot { services: answer.and_then(|answer| answer.services).unwrap_or_default(), index })
    }

    /// The server whose turn it is. Names are looked up every time, since servers come and go.
    fn server(&self) -> Result<SocketAddr, CatalogError> {
        let Servers { hosts, http_port, .. } = self.servers;
        let mut addresses = Vec::new();
        let mut failure = None;
        for host in hosts {
            match resolve(host, *http_port) {
                Ok(found) => addresses.extend(found),
                Err(source) => failure = Some(CatalogError::Resolve { host: host.clone(), source }),
            }
        }
        let turn = self.turn.load(Ordering::Relaxed);
        match (addresses.get(turn % addresses.len().max(1)), failure) {
            (Some(server), _) => Ok(*server),
            (None, Some(failure)) => {
                self.turn.fetch_add(1, Ordering::Relaxed);
                Err(failure)
            }
            (None, None) => Err(CatalogError::Resolve { host: hosts.join(","), source: no_address() }),
        }
    }
}

fn resolve(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
        Err(_) => (host, port).to_socket_addrs().map(Iterator::collect),
    }
}

fn no_address() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address")
}
