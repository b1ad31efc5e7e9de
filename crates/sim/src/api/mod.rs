//! A Kubernetes API server in this process: HTTPS for real clients, a direct client for the lab's own parts.
//!
//! What it is to a client: discovery, the usual verbs, patches, watches, selectors, subresources, exec and logs,
//! admission webhooks, Pod Security levels, tokens, RBAC, custom resources checked against their schemas. What it is not:
//! server-side apply is a create or a merge without field owners.

mod admission;
mod allocate;
mod auth;
mod body;
mod bootstrap;
mod call;
mod cluster;
mod codec;
mod create;
mod defaults;
mod delete;
mod discovery;
mod disruption;
mod exec;
mod in_process;
mod intake;
mod kinds;
mod kubeconfig;
mod logs;
mod metadata;
mod patch;
mod pki;
mod rbac;
mod read;
mod route;
mod schema;
mod selector;
mod server;
mod status;
mod store;
mod subresource;
mod update;
mod validate;
mod watch;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use ipnet::IpNet;
use tokio_util::task::TaskTracker;

use crate::{Dial, NodeAgent, Tamper};
use cluster::Cluster;

/// What an API server needs to start.
pub struct ApiOptions {
    /// The kubeconfig is written here.
    pub artifacts: PathBuf,
    /// Sockets to serve HTTPS on, bound and listening.
    pub listeners: Vec<std::net::TcpListener>,
    /// Addresses under which clients reach the listeners: names of the certificate, endpoints of the `kubernetes`
    /// Service (those that are not loopback, unless there are no others), and the first is the kubeconfig's server.
    pub advertise: Vec<SocketAddr>,
    /// How the server reaches admission webhooks.
    pub dial: Arc<dyn Dial>,
    /// Edits responses; `None` in every honest run.
    pub tamper: Option<Arc<dyn Tamper>>,
    /// Ranges of Service addresses, the cluster's primary family first.
    pub service_cidrs: Vec<IpNet>,
}

/// Why an API server did not start, or why a client of it could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No address was given.
    #[error("start the API server: no address to advertise and no listener to take one from")]
    NoAddress,
    /// Keys or certificates.
    #[error("make the API server's certificate")]
    Certificate(#[from] rcgen::Error),
    /// The TLS configuration.
    #[error("set up TLS for the API server")]
    Tls(#[from] rustls::Error),
    /// A listener could not be taken over.
    #[error("serve on the API server's listener")]
    Listener(#[source] io::Error),
    /// The kubeconfig could not be written.
    #[error("write the kubeconfig {}", .0.display())]
    Kubeconfig(PathBuf, #[source] io::Error),
    /// The first objects were refused.
    #[error("create the cluster's first objects: {0}")]
    Bootstrap(String),
    /// The client could not be made.
    #[error("make a client from the kubeconfig")]
    Client(#[from] Box<kube::Error>),
}

/// A running API server. Dropping it stops it.
pub struct ApiServer {
    cluster: Arc<Cluster>,
    router: axum::Router,
    client: kube::Client,
    kubeconfig: PathBuf,
    ca_pem: &'static str,
    server: SocketAddr,
    connections: TaskTracker,
}

impl ApiServer {
    /// Starts serving. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// When the certificate cannot be made, the kubeconfig not written or a listener not used.
    pub async fn start(options: ApiOptions) -> Result<Self, StartError> {
        let ApiOptions { artifacts, listeners, mut advertise, dial, tamper, service_cidrs } = options;
        if advertise.is_empty() {
            advertise = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        }
        let server = *advertise.first().ok_or(StartError::NoAddress)?;
        let authority = pki::authority()?;
        let mut addresses: Vec<IpAddr> = advertise.iter().map(SocketAddr::ip).collect();
        addresses.push(Ipv4Addr::LOCALHOST.into());
        addresses.extend(service_cidrs.iter().filter_map(|cidr| allocate::first_address(*cidr)));
        let tls = authority.server_config(addresses)?;

        let cluster = Arc::new(Cluster::new(dial, tamper, service_cidrs, authority.pem().to_owned()));
        bootstrap::objects(&cluster, &advertise).map_err(|error| StartError::Bootstrap(error.message().to_owned()))?;
        let router = route::router(cluster.clone());

        let kubeconfig = artifacts.join("kubeconfig");
        let failed = |error| StartError::Kubeconfig(kubeconfig.clone(), error);
        fs::create_dir_all(&artifacts).map_err(failed)?;
        kubeconfig::write(&kubeconfig, server, authority.pem(), cluster.auth.admin_token()).map_err(failed)?;

        let connections = TaskTracker::new();
        for listener in listeners {
            listener.set_nonblocking(true).map_err(StartError::Listener)?;
            let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::Listener)?;
            let accept =
                server::accept(listener, tls.clone(), router.clone(), cluster.stop.clone(), connections.clone());
            connections.spawn(accept);
        }
        let client = in_process::client(router.clone(), cluster.auth.admin(), cluster.stop.clone());
        Ok(Self { cluster, router, client, kubeconfig, ca_pem: authority.pem(), server, connections })
    }

    /// A client of the cluster's administrator that calls the server directly, without sockets.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// A client like [`client`](Self::client) that the server knows under another name, for a lab part whose writes
    /// are to be told apart (`system:node:node-0`).
    #[must_use]
    pub fn client_as(&self, user: &str) -> kube::Client {
        in_process::client(self.router.clone(), auth::User::component(user), self.cluster.stop.clone())
    }

    /// A client of the cluster's administrator over HTTPS, as the kubeconfig says.
    ///
    /// # Errors
    /// When no TLS set-up for it can be made.
    pub fn https_client(&self) -> Result<kube::Client, StartError> {
        kubeconfig::client(self.server, self.ca_pem, self.cluster.auth.admin_token())
            .map_err(|error| StartError::Client(Box::new(error)))
    }

    /// The kubeconfig file; its mode is 0600.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The certificate of the authority that signed the server's, as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.ca_pem
    }

    /// A token for a service account, as the kubelet puts it into a Pod (`pod`: name and uid).
    #[must_use]
    pub fn issue_token(&self, namespace: &str, service_account: &str, pod: Option<(&str, &str)>) -> String {
        let found = pod.and_then(|(name, _)| self.cluster.store.get("pods", namespace, name));
        let node = found.as_ref().and_then(|pod| pod.value["spec"]["nodeName"].as_str()).unwrap_or_default();
        let pod = pod.map(|(pod, uid)| auth::Bound { pod, uid, node });
        self.cluster.auth.issue(namespace, service_account, pod, &[]).token
    }

    /// Says who serves exec and logs of the Pods of a node.
    pub fn register_agent(&self, node: &str, agent: Arc<dyn NodeAgent>) {
        self.cluster.agents.write().unwrap_or_else(PoisonError::into_inner).insert(node.to_owned(), agent);
    }

    /// Ends every watch and connection and waits for that.
    pub async fn stop(&self) {
        self.cluster.stop.cancel();
        self.cluster.agents.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.connections.close();
        self.connections.wait().await;
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.cluster.stop.cancel();
        // A kubelet holds a client of the server, and the server the kubelet: one link must go.
        self.cluster.agents.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
