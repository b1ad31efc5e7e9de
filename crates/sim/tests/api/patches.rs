//! The kinds of patch, scale and status.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::cluster::{Cluster, object, pod, refusal};

#[tokio::test]
async fn json_merge_and_strategic() {
    let cluster = Cluster::start().await;
    let pods = cluster.api::<Pod>();
    pods.create(&PostParams::default(), &pod("p")).await.expect("new");
    let params = PatchParams::default();

    let operations = json!([{ "op": "add", "path": "/metadata/annotations", "value": { "a": "1" } }]);
    let patch = Patch::<()>::Json(object(operations));
    assert_eq!(pods.patch("p", &params, &patch).await.expect("patched").annotations()["a"], "1");

    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "a": null, "b": "2" } } }));
    let merged = pods.patch("p", &params, &patch).await.expect("patched");
    assert_eq!(merged.annotations().keys().collect::<Vec<_>>(), ["b"]);

    let patch =
        Patch::Strategic(json!({ "spec": { "containers": [{ "name": "main", "image": "pellucid/workload:2" }] } }));
    let merged = pods.patch("p", &params, &patch).await.expect("patched").spec.expect("a spec");
    assert_eq!(merged.containers[0].image.as_deref(), Some("pellucid/workload:2"));
    assert_eq!(merged.containers[0].volume_mounts.as_ref().map(Vec::len), Some(1), "the rest of the container stays");

    let condition = json!({ "type": "Ready", "status": "True" });
    let patch = Patch::Strategic(json!({ "status": { "phase": "Running", "conditions": [condition] } }));
    let status = pods.patch_status("p", &params, &patch).await.expect("patched").status.expect("a status");
    assert_eq!(status.phase.as_deref(), Some("Running"));

    let ephemeral = json!({ "spec": { "ephemeralContainers": [{ "name": "debug", "image": "pellucid/curl" }] } });
    let with = pods.patch_ephemeral_containers("p", &params, &Patch::Strategic(ephemeral)).await.expect("patched");
    assert_eq!(with.spec.and_then(|spec| spec.ephemeral_containers).map(|list| list.len()), Some(1));

    let stale = Patch::Merge(json!({ "metadata": { "resourceVersion": "1", "labels": { "x": "y" } } }));
    assert_eq!(refusal(pods.patch("p", &params, &stale).await).0, 409);
}

#[tokio::test]
async fn apply_creates_merges_and_takes_back() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>();
    let params = PatchParams::apply("tester").force();
    let wanted = |data| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": data });
    maps.patch("a", &params, &Patch::Apply(wanted(json!({ "x": "1", "y": "1" })))).await.expect("created");
    let other = Patch::Merge(json!({ "data": { "z": "other" } }));
    maps.patch("a", &PatchParams::default(), &other).await.expect("patched");
    let applied = maps.patch("a", &params, &Patch::Apply(wanted(json!({ "x": "2" })))).await.expect("merged");
    let data: Vec<_> = applied.data.expect("data").into_iter().collect();
    assert_eq!(data, [("x".to_owned(), "2".to_owned()), ("z".to_owned(), "other".to_owned())]);
    let (code, _, message) = refusal(maps.patch("a", &PatchParams::default(), &Patch::Apply(wanted(json!({})))).await);
    assert_eq!(code, 422);
    assert!(message.contains("fieldManager"), "{message}");
}

#[tokio::test]
async fn scale_and_generation() {
    let cluster = Cluster::start().await;
    let deployments = cluster.api::<Deployment>();
    let template = json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "a", "image": "b" }] } });
    let spec = json!({ "selector": { "matchLabels": { "app": "web" } }, "template": template });
    let made: Deployment = object(json!({ "metadata": { "name": "web" }, "spec": spec }));
    let made = deployments.create(&PostParams::default(), &made).await.expect("new");
    assert_eq!((made.spec.replicas, made.metadata.generation), (Some(1), Some(1)));
    let patch = Patch::Merge(json!({ "spec": { "replicas": 3 } }));
    let scale = deployments.patch_scale("web", &PatchParams::default(), &patch).await.expect("scaled");
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(3));
    let found = deployments.get("web").await.expect("there");
    assert_eq!((found.spec.replicas, found.metadata.generation), (Some(3), Some(2)));
    let status = Patch::Merge(json!({ "status": { "replicas": 2 }, "spec": { "replicas": 9 } }));
    let found = deployments.patch_status("web", &PatchParams::default(), &status).await.expect("patched");
    assert_eq!((found.spec.replicas, found.metadata.generation), (Some(3), Some(2)), "status is status");
}
