//! One node with an API server and a kubelet, and what tests ask of them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Node, Pod};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};
use sim::api::{ApiOptions, ApiServer};
use sim::kubelet::{Kubelet, KubeletApi, KubeletOptions};
use sim::net::Network;
use sim::{
    ExecRequest, Families, Image, ImageTable, LabOptions, LogRequest, Missing, NoObserver, NodeAgent, Ranges,
    SandboxInfo, SandboxObserver,
};
use tokio::io::AsyncReadExt;

/// Longer than anything here takes on a laden machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// One node, an API server and a kubelet.
pub(crate) struct Bed {
    pub(crate) network: Arc<Network>,
    pub(crate) server: ApiServer,
    pub(crate) kubelet: Arc<Kubelet>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) directory: tempfile::TempDir,
}

/// Sandboxes, as observed: name and whether it was made (or removed).
#[derive(Default)]
pub(crate) struct Seen(pub(crate) Mutex<Vec<(String, bool)>>);

#[async_trait]
impl SandboxObserver for Seen {
    async fn created(&self, sandbox: &SandboxInfo) {
        self.0.lock().expect("no panic").push((sandbox.pod.clone(), true));
    }
    async fn removed(&self, sandbox: &SandboxInfo) {
        self.0.lock().expect("no panic").push((sandbox.pod.clone(), false));
    }
}

impl Bed {
    pub(crate) async fn new(lacks: Vec<Missing>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (scratch, artifacts) = (directory.path().join("scratch"), directory.path().join("artifacts"));
        let shell = Image { cmd: vec!["sleep".into(), "1000".into()], ..Image::default() };
        let images = ImageTable(BTreeMap::from([("test/shell".to_owned(), shell)]));
        let options = LabOptions {
            name: "kubelet".into(),
            nodes: 1,
            families: Families::V4,
            node_prefix: String::new(),
            ranges: Ranges::default(),
            scratch: scratch.clone(),
            artifacts: artifacts.clone(),
            images: images.clone(),
            observer: Arc::new(NoObserver),
            tempo: 40.0,
            lacks: lacks.clone(),
            tamper: None,
            hands_over_annotations: true,
        };
        let network = Arc::new(Network::build(&options).await.expect("a network (run as root)"));
        let node = network.nodes()[0].clone();
        let address = SocketAddr::new(node.addresses[0], 6443);
        let server = ApiServer::start(ApiOptions {
            artifacts: artifacts.clone(),
            listeners: vec![node.netns.tcp_listen(address).expect("a listener")],
            advertise: vec![address],
            dial: Arc::new(node.netns.clone()),
            tamper: None,
            service_cidrs: vec!["10.96.0.0/16".parse().expect("a range")],
        })
        .await
        .expect("an API server");
        let seen = Arc::new(Seen::default());
        let kubelet = Kubelet::start(KubeletOptions {
            node: node.clone(),
            client: server.client(),
            network: Arc::clone(&network),
            api: KubeletApi {
                ca_pem: server.ca_pem().to_owned(),
                server: "10.96.0.1:443".parse().expect("an address"),
                issue_token: Arc::new(|namespace, account, pod, _| format!("token of {namespace}/{account} for {pod}")),
            },
            images,
            observer: Arc::clone(&seen) as Arc<dyn SandboxObserver>,
            scratch,
            artifacts,
            tempo: 40.0,
            lacks,
            hands_over_annotations: true,
            cluster_dns: "10.96.0.10".parse().expect("an address"),
        })
        .await
        .expect("a kubelet");
        server.register_agent(&node.name, Arc::clone(&kubelet) as Arc<dyn NodeAgent>);
        let nodes: Api<Node> = Api::all(server.client());
        let object = serde_json::from_value(json!({"metadata": {"name": node.name}})).expect("a node");
        nodes.create(&PostParams::default(), &object).await.expect("the node is created");
        Self { network, server, kubelet, seen, directory }
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.server.client(), "default")
    }

    /// Creates a Pod on the node; `spec` lacks `nodeName`, and its containers' images are the shell's.
    pub(crate) async fn create(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("node-0");
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                if container.get("image").is_none() {
                    container["image"] = json!("test/shell:1");
                }
            }
        }
        let meta = json!({"name": name, "labels": {"app": "front"}, "annotations": {"a/b": "c"}});
        let pod = serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod");
        self.pods().create(&PostParams::default(), &pod).await.expect("the pod is created");
    }

    /// Waits until the Pod is as wanted.
    pub(crate) async fn wait(&self, name: &str, what: &str, wanted: impl Fn(&Pod) -> bool) -> Pod {
        let last = Mutex::new(None);
        let found = poll(async || {
            let pod = self.pods().get_opt(name).await.expect("the API answers");
            let fits = pod.as_ref().is_some_and(&wanted);
            *last.lock().expect("no panic") = pod.clone();
            pod.filter(|_| fits)
        });
        let found = found.await;
        found.unwrap_or_else(|| {
            panic!("{name} is not {what}: {:#?}", last.lock().expect("no panic").as_ref().map(|pod| &pod.status))
        })
    }

    pub(crate) async fn ready(&self, name: &str) -> Pod {
        self.wait(name, "ready", is_ready).await
    }

    /// Runs a shell command in a container: exit code, standard output, standard error.
    pub(crate) async fn shell(&self, pod: &str, container: &str, script: &str) -> (i32, String, String) {
        self.exec(pod, container, &["sh", "-c", script]).await
    }

    pub(crate) async fn exec(&self, pod: &str, container: &str, command: &[&str]) -> (i32, String, String) {
        let request = ExecRequest {
            namespace: "default".into(),
            pod: pod.into(),
            container: container.into(),
            command: command.iter().map(ToString::to_string).collect(),
            stdin: false,
        };
        let mut session = self.kubelet.exec(request).await.expect("the exec starts");
        let (mut out, mut err) = (String::new(), String::new());
        let (code, read, read_too) = tokio::join!(
            session.exit,
            session.stdout.read_to_string(&mut out),
            session.stderr.read_to_string(&mut err)
        );
        read.and(read_too).expect("the output is text");
        (code, out, err)
    }

    pub(crate) async fn log(&self, pod: &str, container: &str, previous: bool) -> String {
        let request = LogRequest {
            namespace: "default".into(),
            pod: pod.into(),
            container: container.into(),
            previous,
            ..LogRequest::default()
        };
        let log = self.kubelet.logs(request).await.expect("a log");
        let parts: Vec<_> = log.try_collect().await.expect("a readable log");
        String::from_utf8(parts.concat()).expect("text")
    }

    pub(crate) async fn events(&self, pod: &str) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.server.client(), "default");
        let all = api.list(&ListParams::default()).await.expect("events");
        let about = all.items.into_iter().filter(|event| event.involved_object.name.as_deref() == Some(pod));
        about
            .map(|event| format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default()))
            .collect()
    }

    pub(crate) async fn event(&self, pod: &str, part: &str) {
        let found = poll(async || self.events(pod).await.into_iter().find(|event| event.contains(part))).await;
        if found.is_none() {
            panic!("no event of {pod} says {part:?}: {:#?}", self.events(pod).await);
        }
    }

    pub(crate) async fn stop(self) {
        let pids = [self.pids("default")].concat();
        self.kubelet.stop().await;
        self.server.stop().await;
        assert!(pids.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}/exe")).exists()), "processes stay");
        drop(self.directory);
        drop(self.network);
    }

    /// Processes of all Pods' networks.
    fn pids(&self, namespace: &str) -> Vec<u32> {
        let names: Vec<String> = self.seen.0.lock().expect("no panic").iter().map(|(name, _)| name.clone()).collect();
        let sandboxes = names.iter().filter_map(|name| self.kubelet.sandbox(namespace, name));
        sandboxes.flat_map(|sandbox| pids_in(&sandbox)).collect()
    }
}

pub(crate) fn pids_in(sandbox: &SandboxInfo) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| netns::NetNs::of_process(*pid).is_ok_and(|netns| netns == sandbox.netns)).collect()
}

pub(crate) async fn poll<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = attempt().await {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn condition(pod: &Pod, kind: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready")
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(crate) fn container(pod: &Pod) -> ContainerStatus {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
    statuses.into_iter().next().unwrap_or_default()
}

pub(crate) fn waits_for(pod: &Pod, reason: &str) -> bool {
    let state = container(pod).state.unwrap_or_default();
    state.waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some(reason))
}

#[track_caller]
pub(crate) fn same<T: PartialEq + Debug>(actual: T, expected: T) {
    assert_eq!(actual, expected);
}
