//! A server for a test, and how to wait for something in it.

use std::fmt::Debug;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sim::api::{ApiOptions, ApiServer};
use sim::{Dial, Tamper};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    /// The administrator, over HTTPS.
    pub(crate) client: Client,
    _artifacts: tempfile::TempDir,
}

/// Dials as this process does.
pub(crate) struct Direct;

#[async_trait]
impl Dial for Direct {
    async fn dial(&self, peer: std::net::SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
        tokio::net::TcpStream::connect(peer).await
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::with(Arc::new(Direct), None).await
    }

    pub(crate) async fn with(dial: Arc<dyn Dial>, tamper: Option<Arc<dyn Tamper>>) -> Self {
        let artifacts = tempfile::tempdir().expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = ApiServer::start(ApiOptions {
            artifacts: artifacts.path().to_owned(),
            listeners: vec![listener],
            advertise: vec![address],
            dial,
            tamper,
            service_cidrs: ["10.96.0.0/16", "fd00:10:96::/112"].map(|cidr| cidr.parse().expect("a range")).to_vec(),
        })
        .await
        .expect("the server starts");
        let client = server.https_client().expect("a client");
        Self { server, client, _artifacts: artifacts }
    }

    /// Gives the default service account of a namespace rights in it.
    pub(crate) async fn grant(&self, namespace: &str, verbs: &[&str], resource: &str) {
        let role = json!({
            "metadata": {"name": resource},
            "rules": [{"verbs": verbs, "apiGroups": [""], "resources": [resource]}],
        });
        let binding = json!({
            "metadata": {"name": resource},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": resource},
            "subjects": [{"kind": "ServiceAccount", "name": "default"}],
        });
        let roles: Api<Role> = Api::namespaced(self.client.clone(), namespace);
        roles.create(&PostParams::default(), &object(role)).await.expect("a role");
        let bindings: Api<RoleBinding> = Api::namespaced(self.client.clone(), namespace);
        bindings.create(&PostParams::default(), &object(binding)).await.expect("a binding");
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn namespace(&self, name: &str, labels: Value) {
        let namespace: Namespace = object(json!({ "metadata": { "name": name, "labels": labels } }));
        Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await.expect("a new namespace");
    }

    /// Posts JSON as it is, for objects that no type allows.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, kube::Error> {
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(body.to_string().into_bytes())
            .expect("a request");
        self.client.request(request).await
    }
}

/// An object from JSON.
pub(crate) fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("fits the type")
}

/// A Pod with one container.
pub(crate) fn pod(name: &str) -> Pod {
    object(json!({ "metadata": { "name": name, "labels": { "app": name } }, "spec": {
        "containers": [{ "name": "main", "image": "pellucid/workload:1" }] } }))
}

/// The status of a refusal.
pub(crate) fn refusal<T: Debug>(result: Result<T, kube::Error>) -> (u16, String, String) {
    match result.expect_err("should have been refused") {
        kube::Error::Api(status) => (status.code, status.reason, status.message),
        other => panic!("not an API error: {other}"),
    }
}

/// Waits until an object of a collection is as wanted: looks, then watches.
pub(crate) async fn eventually<K>(api: &Api<K>, wanted: impl Fn(&K) -> bool) -> K
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let search = async {
        let stream = api.watch(&WatchParams::default(), "0").await.expect("a watch");
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.try_next().await.expect("the watch goes on") {
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event
                && wanted(&object)
            {
                return object;
            }
        }
        panic!("the watch ended");
    };
    match tokio::time::timeout(PATIENCE, search).await {
        Ok(found) => found,
        Err(_) => {
            panic!("never as wanted; last seen: {:#?}", api.list(&Default::default()).await.expect("a list").items)
        }
    }
}

/// Waits until something is so; asks again and again.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < end, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
