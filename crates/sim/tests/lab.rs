//! A whole cluster, started and stopped: what an installer's user would look at first, and that nothing stays.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use rstest::rstest;
use serde_json::json;
use sim::{
    Dial as _, ExecRequest, Families, Image, ImageTable, Join, Lab, LabOptions, NoObserver, Ranges, RangesText, Reach,
};
use tokio::io::AsyncReadExt;

/// Longer than anything here takes on a laden machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn options(directory: &tempfile::TempDir, families: Families) -> LabOptions {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let shell = Image { entrypoint: vec!["/bin/sh".to_owned(), "-c".to_owned()], ..Image::default() };
    LabOptions {
        name: "lab".to_owned(),
        nodes: 2,
        families,
        node_prefix: String::new(),
        ranges: Ranges::default(),
        scratch: directory.path().join("scratch"),
        artifacts: directory.path().join("artifacts"),
        images: ImageTable(BTreeMap::from([("test/shell".to_owned(), shell)])),
        observer: Arc::new(NoObserver),
        tempo: 40.0,
        lacks: Vec::new(),
        tamper: None,
        hands_over_annotations: true,
    }
}

/// Runs a shell command in a Pod and returns its output and status.
async fn sh(lab: &Lab, pod: &str, command: &str) -> (String, i32) {
    let request = ExecRequest {
        namespace: "default".to_owned(),
        pod: pod.to_owned(),
        command: vec!["/bin/sh".to_owned(), "-c".to_owned(), format!("{command} 2>&1")],
        ..ExecRequest::default()
    };
    let mut session = lab.exec(request).await.expect("the pod runs");
    let mut output = String::new();
    session.stdout.read_to_string(&mut output).await.expect("text");
    (output.trim().to_owned(), session.exit.await)
}

async fn ready_pods(client: &Client, wanted: usize) -> Vec<String> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = pods.list(&ListParams::default()).await.expect("a list");
        let ready = |pod: &Pod| {
            let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
            conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        let names: Vec<_> = list.iter().filter(|pod| ready(pod)).filter_map(|pod| pod.metadata.name.clone()).collect();
        if names.len() == wanted {
            return names;
        }
        assert!(Instant::now() < deadline, "pods are not ready: {:#?}", list.items);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Network namespaces that this process holds open.
fn held_namespaces() -> usize {
    let files = std::fs::read_dir("/proc/self/fd").expect("proc").flatten();
    let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("net:[")).count()
}

/// Processes that this one started, and that have not ended.
fn children() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("proc").flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.map(|list| list.split_whitespace().count()).sum()
}

#[rstest]
#[case::v4(Families::V4)]
#[case::dual(Families::Dual)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_is_reached_by_the_name_of_its_service(#[case] families: Families) {
    let directory = tempfile::tempdir().expect("a directory");
    let begun = Instant::now();
    let lab = Lab::start(options(&directory, families)).await.expect("a lab (run as root)");
    let started = begun.elapsed();

    let nodes: Api<Node> = Api::all(lab.client());
    let list = nodes.list(&ListParams::default()).await.expect("nodes");
    assert_eq!(list.items.len(), 2);
    for node in &list {
        let status = node.status.clone().expect("a status");
        let conditions = status.conditions.expect("conditions");
        assert!(conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"), "{conditions:?}");
    }

    let labels = json!({ "app": "web" });
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "terminationGracePeriodSeconds": 0, "containers": [{
                    "name": "web",
                    "image": "test/shell:1",
                    "args": ["exec sleep 1000"],
                }] },
            },
        },
    }))
    .expect("a deployment");
    let deployments: Api<Deployment> = Api::default_namespaced(lab.client());
    deployments.create(&PostParams::default(), &deployment).await.expect("a deployment");
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "web" },
        "spec": { "clusterIP": "None", "selector": labels, "ports": [{ "port": 80 }] },
    }))
    .expect("a service");
    let services: Api<Service> = Api::default_namespaced(lab.client());
    services.create(&PostParams::default(), &service).await.expect("a service");
    let pods = ready_pods(&lab.client(), 2).await;
    tracing::info!(?started, "the lab");

    // The name is known once the endpoints are: ask until both are there.
    let mut expected: Vec<_> =
        pods.iter().map(|pod| lab.sandbox("default", pod).expect("a sandbox").addresses[0].to_string()).collect();
    expected.sort();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (output, _) = sh(&lab, &pods[0], "getent ahostsv4 web").await;
        let mut found: Vec<_> = output
            .lines()
            .filter(|line| line.contains("STREAM"))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        found.sort_unstable();
        if found == expected {
            break;
        }
        assert!(Instant::now() < deadline, "getent says {output:?}, wanted {expected:?}");
    }

    // The API server by its Service, as a program in a Pod reaches it.
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let request = format!(
        "curl -sS -o /dev/null -w '%{{http_code}}' --cacert {account}/ca.crt -H \"Authorization: Bearer $(cat {account}/token)\" \
         https://kubernetes.default.svc/api/v1"
    );
    assert_eq!(sh(&lab, &pods[1], &request).await, ("200".to_owned(), 0));

    let scratch: PathBuf = directory.path().join("scratch");
    assert!(scratch.exists());
    tokio::time::timeout(PATIENCE, lab.stop()).await.expect("the lab stops");
    drop(lab);
    assert!(!scratch.exists(), "the scratch directory stays");
    assert!(directory.path().join("artifacts/kubeconfig").exists(), "the kubeconfig outlives the lab");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_of_a_lab_that_was_stopped() {
    let directory = tempfile::tempdir().expect("a directory");
    // In a process of its own, because other tests of this one hold namespaces and children too.
    let alone = std::env::var_os("LAB_TEST_ALONE").is_some();
    if !alone {
        let own = std::env::current_exe().expect("this program");
        let status = std::process::Command::new(own)
            .args(["--exact", "nothing_stays_of_a_lab_that_was_stopped"])
            .env("LAB_TEST_ALONE", "1")
            .status()
            .expect("this program again");
        assert!(status.success());
        return;
    }
    assert_eq!((held_namespaces(), children()), (0, 0), "before");
    let lab = Lab::start(options(&directory, Families::V4)).await.expect("a lab (run as root)");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "stubborn" },
        "spec": { "containers": [{ "name": "c", "image": "test/shell", "args": ["trap '' TERM; while :; do sleep 1; done"] }] },
    }))
    .expect("a pod");
    let pods: Api<Pod> = Api::default_namespaced(lab.client());
    pods.create(&PostParams::default(), &pod).await.expect("a pod");
    ready_pods(&lab.client(), 1).await;
    assert!(held_namespaces() > 0 && children() > 0);
    lab.stop().await;
    drop(pods);
    drop(lab);
    let deadline = Instant::now() + PATIENCE;
    while (held_namespaces(), children()) != (0, 0) {
        assert!(Instant::now() < deadline, "{} namespaces and {} processes stay", held_namespaces(), children());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_lab_without_nodes_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = LabOptions { nodes: 0, ..options(&directory, Families::V4) };
    let error = Lab::start(options).await.err().expect("it cannot start");
    assert!(format!("{error:#}").contains("lab of 0 nodes"), "{error:#}");
}

#[tokio::test]
async fn labs_that_are_joined_reach_each_others_servers() {
    let directories = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let text =
        RangesText { site: "172.19.0.0/16".to_owned(), pods: "10.245.0.0/16".to_owned(), ..RangesText::default() };
    let of = |directory: &tempfile::TempDir, prefix: &str, ranges: Ranges| LabOptions {
        name: format!("{prefix}lab"),
        nodes: 1,
        node_prefix: prefix.to_owned(),
        ranges,
        ..options(directory, Families::V4)
    };
    let [here, there] = &directories;
    let (here, there) = tokio::try_join!(
        Lab::start(of(here, "a-", Ranges::default())),
        Lab::start(of(there, "b-", Ranges::try_from(text).expect("possible"))),
    )
    .expect("they start");
    assert_eq!((here.nodes()[0].name.as_str(), there.nodes()[0].name.as_str()), ("a-node-0", "b-node-0"));
    let server = SocketAddr::new(there.nodes()[0].addresses[0], 6443);
    let netns = here.control_plane().netns.clone();
    netns.dial(server).await.expect_err("there is no way yet");
    here.join(&there, Join { reach: Reach::Nodes, delay: None }).await.expect("they can be joined");
    netns.dial(server).await.expect("the API server of the other lab");
    tokio::join!(here.stop(), there.stop());
}
