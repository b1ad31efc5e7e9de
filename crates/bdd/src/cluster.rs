//! The Kubernetes API as steps use it: whole objects as JSON, by kind.

use anyhow::{Context as _, Result};
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::api::AttachParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Kinds that steps and installers use: kind, path before the namespace, plural name, namespaced.
const KINDS: &[(&str, &str, &str, bool)] = &[
    ("Namespace", "/api/v1", "namespaces", false),
    ("Node", "/api/v1", "nodes", false),
    ("Pod", "/api/v1", "pods", true),
    ("Service", "/api/v1", "services", true),
    ("ServiceAccount", "/api/v1", "serviceaccounts", true),
    ("ConfigMap", "/api/v1", "configmaps", true),
    ("Secret", "/api/v1", "secrets", true),
    ("Event", "/api/v1", "events", true),
    ("ResourceQuota", "/api/v1", "resourcequotas", true),
    ("Deployment", "/apis/apps/v1", "deployments", true),
    ("ReplicaSet", "/apis/apps/v1", "replicasets", true),
    ("StatefulSet", "/apis/apps/v1", "statefulsets", true),
    ("DaemonSet", "/apis/apps/v1", "daemonsets", true),
    ("Job", "/apis/batch/v1", "jobs", true),
    ("EndpointSlice", "/apis/discovery.k8s.io/v1", "endpointslices", true),
    ("ClusterRole", "/apis/rbac.authorization.k8s.io/v1", "clusterroles", false),
    ("ClusterRoleBinding", "/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings", false),
    ("Role", "/apis/rbac.authorization.k8s.io/v1", "roles", true),
    ("RoleBinding", "/apis/rbac.authorization.k8s.io/v1", "rolebindings", true),
    ("MutatingWebhookConfiguration", "/apis/admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", false),
    ("ValidatingAdmissionPolicy", "/apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicies", false),
    (
        "ValidatingAdmissionPolicyBinding",
        "/apis/admissionregistration.k8s.io/v1",
        "validatingadmissionpolicybindings",
        false,
    ),
    ("CustomResourceDefinition", "/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", false),
    ("PodDisruptionBudget", "/apis/policy/v1", "poddisruptionbudgets", true),
    ("ServiceDefaults", CONSUL, "servicedefaults", true),
    ("ProxyDefaults", CONSUL, "proxydefaults", true),
    ("Mesh", CONSUL, "meshes", true),
    ("ServiceResolver", CONSUL, "serviceresolvers", true),
    ("ServiceRouter", CONSUL, "servicerouters", true),
    ("ServiceSplitter", CONSUL, "servicesplitters", true),
    ("ServiceIntentions", CONSUL, "serviceintentions", true),
    ("SamenessGroup", CONSUL, "samenessgroups", true),
    ("ExportedServices", CONSUL, "exportedservices", true),
    ("PeeringAcceptor", CONSUL, "peeringacceptors", true),
    ("PeeringDialer", CONSUL, "peeringdialers", true),
];

const CONSUL: &str = "/apis/consul.hashicorp.com/v1alpha1";

/// What came of a command in a container.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit status.
    pub code: i32,
}

/// A cluster's API.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// The cluster that `client` talks to.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client itself.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The object, when it exists.
    ///
    /// # Errors
    /// What the API server says, other than that there is none.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<Value>> {
        match self.send("GET", &path(kind, namespace, Some(name))?, None, "").await {
            Ok(value) => Ok(Some(value)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error).with_context(|| format!("get {kind} {namespace}/{name}")),
        }
    }

    /// All objects of a kind in a namespace, or in all when it is empty, that carry the label selector.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn list(&self, kind: &str, namespace: &str, selector: &str) -> Result<Vec<Value>> {
        let mut path = path(kind, namespace, None)?;
        if !selector.is_empty() {
            path = format!("{path}?labelSelector={}", selector.replace('=', "%3D").replace('/', "%2F"));
        }
        let mut list =
            self.send("GET", &path, None, "").await.with_context(|| format!("list {kind} in {namespace:?}"))?;
        Ok(match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        })
    }

    /// Creates the object.
    ///
    /// # Errors
    /// What the API server says, admission's refusal among it.
    pub async fn create(&self, object: &Value) -> Result<Value, kube::Error> {
        let (kind, namespace, _) = identity(object);
        let path = path(kind, namespace, None).map_err(build)? + STRICT;
        self.send("POST", &path, Some(object), "application/json").await
    }

    /// Creates the object, or changes it to what is given (JSON merge patch).
    ///
    /// # Errors
    /// What the API server says, admission's refusal among it.
    pub async fn apply(&self, object: &Value) -> Result<Value, kube::Error> {
        match self.create(object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let (kind, namespace, name) = identity(object);
                self.merge(kind, namespace, name, object).await
            }
            other => other,
        }
    }

    /// Changes the object by a JSON merge patch.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn merge(&self, kind: &str, namespace: &str, name: &str, patch: &Value) -> Result<Value, kube::Error> {
        let path = path(kind, namespace, Some(name)).map_err(build)? + STRICT;
        self.send("PATCH", &path, Some(patch), "application/merge-patch+json").await
    }

    /// Adds an ephemeral container to a Pod.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn add_ephemeral(&self, namespace: &str, pod: &str, containers: &Value) -> Result<(), kube::Error> {
        let path = path("Pod", namespace, Some(pod)).map_err(build)?;
        let patch = json!({"spec": {"ephemeralContainers": containers}});
        let path = format!("{path}/ephemeralcontainers");
        self.send("PATCH", &path, Some(&patch), "application/strategic-merge-patch+json").await.map(|_| ())
    }

    /// Deletes the object; no error when there is none.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str, grace: Option<u32>) -> Result<()> {
        let options = grace.map(|seconds| json!({"gracePeriodSeconds": seconds}));
        let path = path(kind, namespace, Some(name))?;
        match self.send("DELETE", &path, options.as_ref(), "application/json").await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error).with_context(|| format!("delete {kind} {namespace}/{name}")),
        }
    }

    /// The last lines of a container's log.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn log(&self, namespace: &str, pod: &str, container: &str, previous: bool) -> Result<String> {
        let path = path("Pod", namespace, Some(pod))?;
        let previous = if previous { "&previous=true" } else { "" };
        let request = Request::get(format!("{path}/log?container={container}&tailLines=400{previous}"))
            .body(Vec::new())
            .context("build a log request")?;
        Ok(self.client.request_text(request).await?)
    }

    /// Runs a command in a container, with `stdin` when there is something to say.
    ///
    /// # Errors
    /// When the command could not be run; its own failure is in the answer.
    pub async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        command: &[String],
        stdin: Option<&[u8]>,
    ) -> Result<Ran> {
        let api: Api<Pod> = Api::namespaced(self.client(), namespace);
        let params = AttachParams::default().container(container).stdin(stdin.is_some()).stdout(true).stderr(true);
        let what = || format!("run {} in {namespace}/{pod}/{container}", command.join(" "));
        let mut process = api.exec(pod, command.iter().cloned(), &params).await.with_context(what)?;
        if let (Some(bytes), Some(mut pipe)) = (stdin, process.stdin()) {
            pipe.write_all(bytes).await.with_context(what)?;
            pipe.shutdown().await.with_context(what)?;
        }
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let out = process.stdout();
        let err = process.stderr();
        let status = process.take_status();
        let read = async {
            let out =
                async { if let Some(mut out) = out { out.read_to_end(&mut stdout).await.map(|_| ()) } else { Ok(()) } };
            let err =
                async { if let Some(mut err) = err { err.read_to_end(&mut stderr).await.map(|_| ()) } else { Ok(()) } };
            tokio::try_join!(out, err)
        };
        read.await.with_context(what)?;
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let code = status.as_ref().map_or(0, exit_code);
        process.join().await.or_else(|error| if code == 0 { Err(error) } else { Ok(()) }).with_context(what)?;
        Ok(Ran {
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            code,
        })
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        content_type: &str,
    ) -> Result<Value, kube::Error> {
        let mut request = Request::builder().method(method).uri(path);
        let bytes = match body {
            Some(body) => {
                request = request.header("content-type", content_type);
                serde_json::to_vec(body).map_err(kube::Error::SerdeError)?
            }
            None => Vec::new(),
        };
        self.client.request(request.body(bytes).map_err(kube::Error::HttpError)?).await
    }
}

/// As kubectl asks: otherwise the API server drops a misspelt field and only warns.
const STRICT: &str = "?fieldValidation=Strict";

fn build(error: anyhow::Error) -> kube::Error {
    kube::Error::Service(error.into())
}

/// The exit status in the last message of the exec protocol.
fn exit_code(status: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Status) -> i32 {
    if status.status.as_deref() == Some("Success") {
        return 0;
    }
    status
        .details
        .iter()
        .flat_map(|d| d.causes.iter().flatten())
        .find(|c| c.reason.as_deref() == Some("ExitCode"))
        .and_then(|c| c.message.as_deref()?.parse().ok())
        .unwrap_or(-1)
}

/// Kind, namespace and name of an object.
#[must_use]
pub fn identity(object: &Value) -> (&str, &str, &str) {
    (
        object["kind"].as_str().unwrap_or_default(),
        object["metadata"]["namespace"].as_str().unwrap_or("default"),
        object["metadata"]["name"].as_str().unwrap_or_default(),
    )
}

fn path(kind: &str, namespace: &str, name: Option<&str>) -> Result<String> {
    let (_, root, plural, namespaced) =
        KINDS.iter().find(|(k, ..)| *k == kind).with_context(|| format!("find the API of the kind {kind:?}"))?;
    let mut path = (*root).to_owned();
    if *namespaced && !namespace.is_empty() {
        path = format!("{path}/namespaces/{namespace}");
    }
    path = format!("{path}/{plural}");
    if let Some(name) = name {
        path = format!("{path}/{name}");
    }
    Ok(path)
}
