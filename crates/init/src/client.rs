//! The Consul servers over HTTP: any of them answers, and one that fails is passed over the next time.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::config::Config;
use ureq::http::{Response, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, RequestBuilder};

use crate::tls::Tls;

/// A text that is never printed, whatever else is.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text, to be sent to whom it is for.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

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
    pub token: Option<Secret>,
    /// User and password of HTTP's basic authentication, as `user:password`, if any.
    pub credentials: Option<Secret>,
    /// Query parameters that choose datacenter, partition and namespace, and more of the kind.
    pub scope: Vec<(&'static str, String)>,
    /// TLS, or else plain HTTP.
    pub tls: Option<Tls>,
}

/// Why the servers gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
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

/// What a server said.
#[derive(Debug)]
pub(crate) struct Reply {
    server: SocketAddr,
    /// Number of the moment that it speaks of, of a server that counts them.
    pub(crate) index: Option<u64>,
    body: String,
}

impl Reply {
    /// What it said, read as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        let server = self.server;
        serde_json::from_str(&self.body).map_err(|source| ClientError::Decode { server, source })
    }
}

/// Names and values of a query.
pub(crate) type Query<'q> = &'q [(&'q str, String)];

/// A client of the servers that turns to the next one when one fails.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    servers: &'a Servers,
    /// One for each server, because connections are kept by the name in the address, which servers may share.
    agents: Mutex<HashMap<SocketAddr, Agent>>,
    turn: AtomicUsize,
}

impl<'a> Client<'a> {
    /// Connects when asked.
    pub(crate) fn new(servers: &'a Servers) -> Self {
        Self { servers, agents: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    /// Asks a server for what is at `path`; `longer` is how much longer than usual it may take.
    pub(crate) fn get(&self, path: &str, query: Query<'_>, longer: Duration) -> Result<Reply, ClientError> {
        self.ask(|agent, base| self.prepared(agent.get(format!("{base}{path}")), query, longer).call())
    }

    /// Gives a server `body`.
    pub(crate) fn post(&self, path: &str, query: Query<'_>, body: &str) -> Result<Reply, ClientError> {
        self.ask(|agent, base| self.prepared(agent.post(format!("{base}{path}")), query, Duration::ZERO).send(body))
    }

    fn prepared<B>(&self, mut request: RequestBuilder<B>, query: Query<'_>, longer: Duration) -> RequestBuilder<B> {
        for (parameter, value) in query {
            request = request.query(*parameter, value);
        }
        if let Some(token) = &self.servers.token {
            request = request.header("X-Consul-Token", token.expose());
        }
        if let Some(credentials) = &self.servers.credentials {
            request =
                request.header("Authorization", format!("Basic {}", BASE64_STANDARD.encode(credentials.expose())));
        }
        request.config().timeout_global(Some(self.servers.timeout + longer)).build()
    }

    /// Has the server whose turn it is asked; after a failure it is another one's turn.
    fn ask(
        &self,
        send: impl FnOnce(&Agent, &str) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Reply, ClientError> {
        let (server, host) = self.server()?;
        let base = match &self.servers.tls {
            None => format!("http://{server}"),
            Some(tls) => format!("https://{}:{}", tls.server_name.as_deref().unwrap_or(&host), server.port()),
        };
        let answer = send(&self.agent(server), &base)
            .map_err(|error| ClientError::Request { server, source: Box::new(error) })
            .and_then(|response| read(server, response));
        if answer.is_err() {
            self.turn.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    fn agent(&self, server: SocketAddr) -> Agent {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let agent = agents.entry(server).or_insert_with(|| {
            let mut config = Agent::config_builder()
                .http_status_as_error(false)
                // the servers are in the cluster; a proxy variable meant for the outside would be in the way
                .proxy(None)
                .user_agent("pellucid")
                .timeout_connect(Some(self.servers.timeout));
            if let Some(tls) = &self.servers.tls {
                config = config.tls_config(tls.config.clone());
            }
            Agent::with_parts(config.build(), DefaultConnector::new(), Fixed(server))
        });
        agent.clone()
    }

    /// The server whose turn it is, and the name it was found by. Names are looked up every time, since servers come and go.
    fn server(&self) -> Result<(SocketAddr, String), ClientError> {
        let Servers { hosts, http_port, .. } = self.servers;
        let mut addresses = Vec::new();
        let mut failure = None;
        for host in hosts {
            match resolve(host, *http_port) {
                Ok(found) => addresses.extend(found.into_iter().map(|address| (address, host.clone()))),
                Err(source) => failure = Some(ClientError::Resolve { host: host.clone(), source }),
            }
        }
        let turn = self.turn.load(Ordering::Relaxed);
        match (addresses.get(turn % addresses.len().max(1)), failure) {
            (Some(server), _) => Ok(server.clone()),
            (None, Some(failure)) => {
                self.turn.fetch_add(1, Ordering::Relaxed);
                Err(failure)
            }
            (None, None) => Err(ClientError::Resolve { host: hosts.join(","), source: no_address() }),
        }
    }
}

/// The answer, if it is a success.
fn read(server: SocketAddr, mut response: Response<Body>) -> Result<Reply, ClientError> {
    let status = response.status().as_u16();
    let index = response.headers().get("X-Consul-Index").and_then(|value| value.to_str().ok()?.parse().ok());
    let body = response
        .body_mut()
        .read_to_string()
        .map_err(|error| ClientError::Request { server, source: Box::new(error) })?;
    if status != 200 {
        let body = body.trim().chars().take(200).collect();
        return Err(ClientError::Status { server, status, body });
    }
    Ok(Reply { server, index, body })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let servers = Servers {
            hosts: vec!["consul".into()],
            http_port: 8500,
            timeout: Duration::from_secs(5),
            token: Some("f00d".to_owned().into()),
            credentials: Some("a:b3ef".to_owned().into()),
            scope: Vec::new(),
            tls: None,
        };
        let printed = format!("{servers:?}");
        assert!(!printed.contains("f00d") && !printed.contains("b3ef"), "{printed}");
        assert_eq!(servers.token.as_ref().map(Secret::expose), Some("f00d"));
    }
}
