//! Consul's catalogue over HTTP: the services of a node, waiting for news where the server can.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::tls::Tls;

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
    /// User and password of HTTP's basic authentication, as `user:password`, if any.
    pub credentials: Option<String>,
    /// Query parameters that choose datacenter, partition and namespace, and more of the kind.
    pub scope: Vec<(&'static str, String)>,
    /// TLS, or else plain HTTP.
    pub tls: Option<Tls>,
}

/// Why the catalogue gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A server's name has no address.
    #[error("resolve {host:?}, the name of a Consul server")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's answer.
        source: std::io::Error,
    },
    /// No connection, or no answer on it.
    #[error("ask Consul server {server} (are the servers up, and is port {} reachable from here?)", server.port())]
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

/// A client of the servers that turns to the next one when one fails.
#[derive(Debug)]
pub struct Catalog<'a> {
    servers: &'a Servers,
    /// One for each server, because connections are kept by the name in the address, which servers may share.
    agents: Mutex<HashMap<SocketAddr, ureq::Agent>>,
    turn: AtomicUsize,
}

impl<'a> Catalog<'a> {
    /// A client; connects when asked.
    #[must_use]
    pub fn new(servers: &'a Servers) -> Self {
        Self { servers, agents: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    fn agent(&self, server: SocketAddr) -> ureq::Agent {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let agent = agents.entry(server).or_insert_with(|| {
            let mut config = ureq::Agent::config_builder()
                .http_status_as_error(false)
                // the servers are in the cluster; a proxy variable meant for the outside would be in the way
                .proxy(None)
                .user_agent("pellucid")
                .timeout_connect(Some(self.servers.timeout));
            if let Some(tls) = &self.servers.tls {
                config = config.tls_config(tls.config.clone());
            }
            ureq::Agent::with_parts(config.build(), DefaultConnector::new(), Fixed(server))
        });
        agent.clone()
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
        let (server, host) = self.server()?;
        let answer = self.request(server, &host, node, filter, after, wait);
        if answer.is_err() {
            self.turn.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    fn request(
        &self,
        server: SocketAddr,
        host: &str,
        node: &str,
        filter: &str,
        after: Option<u64>,
        wait: Duration,
    ) -> Result<Snapshot, CatalogError> {
        let base = match &self.servers.tls {
            None => format!("http://{server}"),
            Some(tls) => format!("https://{}:{}", tls.server_name.as_deref().unwrap_or(host), server.port()),
        };
        let mut request = self
            .agent(server)
            .get(format!("{base}/v1/catalog/node-services/{node}"))
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
        if let Some(credentials) = &self.servers.credentials {
            request = request.header("Authorization", format!("Basic {}", BASE64_STANDARD.encode(credentials)));
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

    /// The server whose turn it is, and the name it was found by. Names are looked up every time, since servers come and go.
    fn server(&self) -> Result<(SocketAddr, String), CatalogError> {
        let Servers { hosts, http_port, .. } = self.servers;
        let mut addresses = Vec::new();
        let mut failure = None;
        for host in hosts {
            match resolve(host, *http_port) {
                Ok(found) => addresses.extend(found.into_iter().map(|address| (address, host.clone()))),
                Err(source) => failure = Some(CatalogError::Resolve { host: host.clone(), source }),
            }
        }
        let turn = self.turn.load(Ordering::Relaxed);
        match (addresses.get(turn % addresses.len().max(1)), failure) {
            (Some(server), _) => Ok(server.clone()),
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

/// Leads every name to one address: which server is asked is decided before.
#[derive(Debug)]
struct Fixed(SocketAddr);

impl Resolver for Fixed {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        addresses.push(self.0);
        Ok(addresses)
    }
}

fn no_address() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address")
}
