//! The controllers, with a stand-in for the kubelet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use sim::Families;
use sim::controllers::{self, ControllerOptions, Controllers};

use crate::cluster::{Cluster, eventually, object, until};

struct Running {
    cluster: Cluster,
    _controllers: Controllers,
}

async fn start() -> Running {
    let cluster = Cluster::start().await;
    let nodes = vec!["node-0".to_owned(), "node-1".to_owned()];
    let controllers = controllers::start(cluster.server.client(), ControllerOptions { nodes, families: Families::V4 });
    tokio::spawn(kubelet(cluster.server.client()));
    Running { cluster, _controllers: controllers }
}

/// Says of every Pod on a node that it runs and is ready, or, by a label, how it has ended; lets Pods end at once.
async fn kubelet(client: Client) {
    let next = AtomicUsize::new(1);
    let events = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).applied_objects();
    let mut events = events.boxed();
    while let Ok(Some(pod)) = events.try_next().await {
        let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        let addressed = pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
        } else if placed && !addressed {
            let ip = format!("10.244.0.{}", next.fetch_add(1, Ordering::SeqCst));
            let phase = pod.labels().get("ends").cloned().unwrap_or_else(|| "Running".to_owned());
            let ready = if phase == "Running" && pod.labels().get("broken").is_none() { "True" } else { "False" };
            let status = json!({ "status": { "phase": phase, "podIP": ip, "podIPs": [{ "ip": ip }],
                "conditions": [{ "type": "Ready", "status": ready }] } });
            let _ = api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(status)).await;
        }
    }
}

fn template(labels: Value) -> Value {
    json!({ "metadata": { "labels": labels }, "spec": { "containers": [
        { "name": "main", "image": "pellucid/workload:1", "ports": [{ "name": "http", "containerPort": 8080 }] }] } })
}

fn workload<K: serde::de::DeserializeOwned>(name: &str, replicas: i32) -> K {
    object(json!({ "metadata": { "name": name }, "spec": {
        "replicas": replicas, "serviceName": name, "selector": { "matchLabels": { "app": name } },
        "template": template(json!({ "app": name })) } }))
}

impl Running {
    async fn create<K>(&self, wanted: &K) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        self.cluster.api::<K>().create(&PostParams::default(), wanted).await.expect("new")
    }

    async fn pods(&self) -> Vec<Pod> {
        self.cluster.api::<Pod>().list(&ListParams::default()).await.expect("a list").items
    }
}

fn ready(deployment: &Deployment) -> Option<i32> {
    deployment.status.as_ref().and_then(|status| status.ready_replicas)
}

#[tokio::test]
async fn a_deployment_makes_pods_at_once_and_rolls() {
    let running = start().await;
    let deployments = running.cluster.api::<Deployment>();
    // The watches are up once something has come of one.
    running.create(&workload::<Deployment>("first", 1)).await;
    eventually(&deployments, |deployment| ready(deployment) == Some(1)).await;

    let begun = Instant::now();
    running.create(&workload::<Deployment>("web", 3)).await;
    let done = eventually(&deployments, |found| found.name_any() == "web" && ready(found) == Some(3)).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "from Deployment to three ready Pods: {took:?}");
    let conditions = done.status.and_then(|status| status.conditions).unwrap_or_default();
    assert!(conditions.iter().any(|found| found.type_.as_deref() == Some("Available")));
    let before: Vec<_> = running.pods().await.into_iter().filter(|pod| pod.labels()["app"] == "web").collect();
    let set = before[0].metadata.owner_references.as_ref().expect("an owner")[0].name.clone();
    assert!(
        before
            .iter()
            .all(|pod| pod.name_any().starts_with(&format!("{set}-")) && pod.name_any().len() == set.len() + 6)
    );
    let nodes: BTreeMap<_, _> =
        before.iter().filter_map(|pod| Some((pod.spec.as_ref()?.node_name.clone()?, ()))).collect();
    assert_eq!(nodes.len(), 2, "in turn over both nodes");

    let restart = json!({ "spec": { "template": { "metadata": { "annotations": { "kubectl.kubernetes.io/restartedAt": "now" } } } } });
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(restart)).await.expect("patched");
    let wanted = |found: &Deployment| {
        let status = found.status.clone().unwrap_or_default();
        found.name_any() == "web"
            && status.observed_generation == found.metadata.generation
            && (status.replicas, status.updated_replicas, status.ready_replicas) == (Some(3), Some(3), Some(3))
            && found.metadata.generation > Some(1)
    };
    eventually(&deployments, wanted).await;
    until("the old Pods go", async || {
        running.pods().await.iter().all(|pod| before.iter().all(|old| old.uid() != pod.uid()))
    })
    .await;

    let scale = Patch::Merge(json!({ "spec": { "replicas": 1 } }));
    deployments.patch_scale("web", &PatchParams::default(), &scale).await.expect("scaled");
    until("one Pod is left", async || {
        running.pods().await.iter().filter(|pod| pod.labels()["app"] == "web").count() == 1
    })
    .await;

    deployments.delete("web", &DeleteParams::default()).await.expect("there");
    until("Pods and ReplicaSets follow their owner", async || {
        let sets = running.cluster.api::<ReplicaSet>().list(&ListParams::default()).await.expect("a list");
        running.pods().await.iter().all(|pod| pod.labels()["app"] != "web") && sets.items.len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_deleted_or_failed_pod_is_replaced() {
    let running = start().await;
    running.create(&workload::<Deployment>("web", 1)).await;
    let pods = running.cluster.api::<Pod>();
    let first = eventually(&pods, |pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())).await;
    pods.delete(&first.name_any(), &DeleteParams::default()).await.expect("there");
    let second = eventually(&pods, |pod| pod.uid() != first.uid()).await;
    let failed = Patch::Merge(json!({ "status": { "phase": "Failed", "reason": "Evicted" } }));
    pods.patch_status(&second.name_any(), &PatchParams::default(), &failed).await.expect("patched");
    eventually(&pods, |pod| pod.uid() != second.uid() && pod.uid() != first.uid()).await;
}

#[tokio::test]
async fn a_refused_pod_is_told_in_conditions_and_events() {
    let running = start().await;
    let mut deployment = workload::<Deployment>("web", 1);
    deployment.spec.template.spec.as_mut().expect("a spec").service_account_name = Some("nobody".to_owned());
    running.create(&deployment).await;
    let words = |found: &Deployment| {
        let conditions = found.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let failure = conditions.into_iter().find(|found| found.type_.as_deref() == Some("ReplicaFailure"));
        failure.and_then(|failure| failure.message).unwrap_or_default()
    };
    let found = eventually(&running.cluster.api::<Deployment>(), |found| !words(found).is_empty()).await;
    assert!(words(&found).contains("service account default/nobody"), "{}", words(&found));
    let events = running.cluster.api::<Event>().list(&ListParams::default()).await.expect("a list");
    assert!(events.iter().any(|event| event.reason.as_deref() == Some("FailedCreate")));
}

#[tokio::test]
async fn slices_follow_pods() {
    let running = start().await;
    let service = json!({ "metadata": { "name": "web" }, "spec": { "selector": { "app": "web" },
        "ports": [{ "name": "web", "port": 80, "targetPort": "http" }] } });
    running.create(&object::<Service>(service)).await;
    let slices = running.cluster.api::<EndpointSlice>();
    let of_web =
        |slice: &EndpointSlice| slice.labels().get("kubernetes.io/service-name").map(String::as_str) == Some("web");
    running.create(&workload::<Deployment>("web", 2)).await;
    let ready = |slice: &EndpointSlice| {
        let all = slice.endpoints.iter().flatten().filter_map(|endpoint| endpoint.conditions.as_ref());
        all.filter(|conditions| conditions.ready == Some(true)).count()
    };
    let full = eventually(&slices, |slice| of_web(slice) && ready(slice) == 2).await;
    let port = &full.ports.as_ref().expect("ports")[0];
    assert_eq!((port.name.as_deref(), port.port), (Some("web"), Some(8080)), "the named port, as the Pod has it");
    let endpoint = &full.endpoints.as_ref().expect("endpoints")[0];
    assert!(endpoint.addresses[0].starts_with("10.244.0.") && endpoint.node_name.is_some());
    let target = endpoint.target_ref.as_ref().expect("a Pod").name.clone().expect("a name");

    let unready = Patch::Strategic(json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }));
    running.cluster.api::<Pod>().patch_status(&target, &PatchParams::default(), &unready).await.expect("patched");
    eventually(&slices, |slice| of_web(slice) && ready(slice) == 1).await;
    running.cluster.api::<Service>().delete("web", &DeleteParams::default()).await.expect("there");
    until("the slice goes with its Service", async || {
        slices.list(&ListParams::default()).await.expect("a list").iter().all(|slice| !of_web(slice))
    })
    .await;
}

#[tokio::test]
async fn stateful_sets_have_names_and_headless_endpoints_hostnames() {
    let running = start().await;
    let service = json!({ "metadata": { "name": "db" }, "spec": { "clusterIP": "None", "selector": { "app": "db" } } });
    running.create(&object::<Service>(service)).await;
    running.create(&workload::<StatefulSet>("db", 3)).await;
    let sets = running.cluster.api::<StatefulSet>();
    let ready = |set: &StatefulSet, n| set.status.as_ref().and_then(|status| status.ready_replicas) == Some(n);
    eventually(&sets, |set| ready(set, 3)).await;
    let names = || async { running.pods().await.iter().map(ResourceExt::name_any).collect::<Vec<_>>() };
    assert_eq!(names().await, ["db-0", "db-1", "db-2"]);
    let all_named = |slice: &EndpointSlice| {
        let mut names: Vec<_> =
            slice.endpoints.iter().flatten().filter_map(|endpoint| endpoint.hostname.clone()).collect();
        names.sort();
        names == ["db-0", "db-1", "db-2"]
    };
    eventually(&running.cluster.api::<EndpointSlice>(), all_named).await;

    let uids = || async { running.pods().await.iter().filter_map(ResourceExt::uid).collect::<Vec<_>>() };
    let before = uids().await;
    let change = json!({ "spec": { "template": { "metadata": { "annotations": { "x": "y" } } } } });
    sets.patch("db", &PatchParams::default(), &Patch::Strategic(change)).await.expect("patched");
    until("all are replaced under their names", async || {
        names().await == ["db-0", "db-1", "db-2"] && uids().await.iter().all(|uid| !before.contains(uid))
    })
    .await;
    sets.patch("db", &PatchParams::default(), &Patch::Merge(json!({ "spec": { "replicas": 1 } })))
        .await
        .expect("patched");
    until("the last go first", async || names().await == ["db-0"]).await;
}

#[tokio::test]
async fn jobs_end_well_or_give_up() {
    let running = start().await;
    let job = |name: &str, ends: &str| -> Job {
        let mut template = template(json!({ "ends": ends }));
        template["spec"]["restartPolicy"] = "Never".into();
        object(json!({ "metadata": { "name": name }, "spec": { "backoffLimit": 1, "template": template } }))
    };
    running.create(&job("good", "Succeeded")).await;
    running.create(&job("bad", "Failed")).await;
    let jobs = running.cluster.api::<Job>();
    let outcome = |job: &Job| {
        let conditions = job.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        conditions.first().map(|condition| condition.type_.clone())
    };
    let good = eventually(&jobs, |job| job.name_any() == "good" && outcome(job).is_some()).await;
    assert_eq!(outcome(&good).as_deref(), Some("Complete"));
    assert_eq!(good.status.and_then(|status| status.succeeded), Some(1));
    let bad = eventually(&jobs, |job| job.name_any() == "bad" && outcome(job).is_some()).await;
    assert_eq!(outcome(&bad).as_deref(), Some("Failed"));
    assert_eq!(bad.status.and_then(|status| status.failed), Some(2), "the first and one more");
    jobs.delete("bad", &DeleteParams::default()).await.expect("there");
    until("its Pods go", async || running.pods().await.iter().all(|pod| !pod.name_any().starts_with("bad-"))).await;
}

#[tokio::test]
async fn a_daemon_set_is_on_every_node() {
    let running = start().await;
    running.create(&workload::<DaemonSet>("agent", 0)).await;
    until("one Pod per node", async || {
        let mut nodes: Vec<_> =
            running.pods().await.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
        nodes.sort();
        nodes == ["node-0", "node-1"]
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_waits() {
    let running = start().await;
    let mut pod = crate::cluster::pod("picky");
    let spec = pod.spec.as_mut().expect("a spec");
    spec.node_selector = Some(BTreeMap::from([("kubernetes.io/hostname".to_owned(), "node-1".to_owned())]));
    let pods = running.cluster.api::<Pod>();
    running.create(&pod).await;
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let placed = eventually(&pods, |pod| node(pod).is_some()).await;
    assert_eq!(node(&placed).as_deref(), Some("node-1"));
    pod.metadata.name = Some("hopeless".to_owned());
    pod.spec.as_mut().expect("a spec").node_selector = Some(BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]));
    running.create(&pod).await;
    let told = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        conditions.iter().any(|found| found.reason.as_deref() == Some("Unschedulable"))
    };
    eventually(&pods, |pod| pod.name_any() == "hopeless" && told(pod)).await;
}

#[tokio::test]
async fn what_owners_leave_behind_goes_and_namespaces_empty() {
    let running = start().await;
    running.cluster.namespace("shop", json!({})).await;
    let maps = Api::<ConfigMap>::namespaced(running.cluster.client.clone(), "shop");
    let map = |name: &str, owners: Value| -> ConfigMap {
        object(json!({ "metadata": { "name": name, "ownerReferences": owners } }))
    };
    let owner = maps.create(&PostParams::default(), &map("owner", json!([]))).await.expect("new");
    let reference = json!([owner.owner_ref(&()).expect("an owner")]);
    maps.create(&PostParams::default(), &map("owned", reference.clone())).await.expect("new");
    let foreground =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    assert!(maps.delete("owner", &foreground).await.expect("there").is_left(), "waits for what it owns");
    until("owned, then owner", async || {
        maps.get_opt("owner").await.expect("an answer").is_none()
            && maps.get_opt("owned").await.expect("an answer").is_none()
    })
    .await;
    maps.create(&PostParams::default(), &map("late", reference)).await.expect("new");
    until("an orphan from the start", async || maps.get_opt("late").await.expect("an answer").is_none()).await;

    let pods = Api::<Pod>::namespaced(running.cluster.client.clone(), "shop");
    pods.create(&PostParams::default(), &crate::cluster::pod("web")).await.expect("new");
    let namespaces = Api::<Namespace>::all(running.cluster.client.clone());
    namespaces.delete("shop", &DeleteParams::default()).await.expect("there");
    until("the namespace goes", async || namespaces.get_opt("shop").await.expect("an answer").is_none()).await;
    assert!(pods.list(&ListParams::default()).await.expect("a list").items.is_empty());
    let again: Arc<Namespace> = Arc::new(object(json!({ "metadata": { "name": "shop" } })));
    namespaces.create(&PostParams::default(), &again).await.expect("the name is free");
}
