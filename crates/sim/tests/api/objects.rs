//! Objects: create, read, change, delete, watch; validation and defaults; custom resources; users.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams, Preconditions, WatchEvent,
    WatchParams,
};
use kube::{Client, Config, ResourceExt};
use rstest::rstest;
use serde_json::{Value, json};
use sim::Tamper;

use crate::cluster::{Cluster, Direct, PATIENCE, object, pod, refusal};

fn config_map(name: &str, app: &str) -> ConfigMap {
    object(json!({ "metadata": { "name": name, "labels": { "app": app } }, "data": { "n": "1" } }))
}

#[tokio::test]
async fn create_get_replace_delete() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>();
    let made = maps.create(&PostParams::default(), &config_map("a", "x")).await.expect("new");
    assert!(made.uid().is_some() && made.metadata.creation_timestamp.is_some() && made.resource_version().is_some());
    let (code, reason, message) = refusal(maps.create(&PostParams::default(), &config_map("a", "x")).await);
    assert_eq!((code, reason.as_str(), message.as_str()), (409, "AlreadyExists", "configmaps \"a\" already exists"));

    let mut next = made.clone();
    next.data.get_or_insert_default().insert("n".to_owned(), "2".to_owned());
    let replaced = maps.replace("a", &PostParams::default(), &next).await.expect("fresh");
    assert_ne!(replaced.resource_version(), made.resource_version());
    let (code, reason, message) = refusal(maps.replace("a", &PostParams::default(), &made).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(message.starts_with("Operation cannot be fulfilled on configmaps \"a\": the object has been modified"));

    let other = Preconditions { uid: Some("other".to_owned()), resource_version: None };
    let params = DeleteParams { preconditions: Some(other), ..DeleteParams::default() };
    assert_eq!(refusal(maps.delete("a", &params).await).0, 409);
    assert!(maps.delete("a", &DeleteParams::default()).await.expect("there").is_right());
    let (code, reason, message) = refusal(maps.get("a").await);
    assert_eq!((code, reason.as_str(), message.as_str()), (404, "NotFound", "configmaps \"a\" not found"));
}

#[tokio::test]
async fn names_are_generated_and_namespaces_must_exist() {
    let cluster = Cluster::start().await;
    let map: ConfigMap = object(json!({ "metadata": { "generateName": "gen-" } }));
    let maps = cluster.api::<ConfigMap>();
    let names: Vec<_> = [
        maps.create(&PostParams::default(), &map).await.expect("new").name_any(),
        maps.create(&PostParams::default(), &map).await.expect("new").name_any(),
    ]
    .into();
    assert_ne!(names[0], names[1]);
    assert!(names.iter().all(|name| name.len() == "gen-".len() + 5), "{names:?}");
    let nowhere = Api::<ConfigMap>::namespaced(cluster.client.clone(), "nowhere");
    let (code, _, message) = refusal(nowhere.create(&PostParams::default(), &map).await);
    assert_eq!((code, message.as_str()), (404, "namespaces \"nowhere\" not found"));
}

#[tokio::test]
async fn lists_and_watches_select() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>();
    for (name, app) in [("a", "x"), ("b", "y"), ("c", "x")] {
        maps.create(&PostParams::default(), &config_map(name, app)).await.expect("new");
    }
    let params = ListParams::default().labels("app in (x),app!=y");
    let list = maps.list(&params).await.expect("a list");
    assert_eq!(list.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["a", "c"]);
    let named = maps.list(&ListParams::default().fields("metadata.name=b")).await.expect("a list");
    assert_eq!(named.items.len(), 1);

    let version = list.metadata.resource_version.expect("a version");
    let stream = maps.watch(&WatchParams::default().labels("app=x"), &version).await.expect("a watch");
    let mut stream = std::pin::pin!(stream);
    maps.create(&PostParams::default(), &config_map("d", "y")).await.expect("new");
    let mut leaves = maps.get("a").await.expect("there");
    leaves.labels_mut().insert("app".to_owned(), "y".to_owned());
    maps.replace("a", &PostParams::default(), &leaves).await.expect("fresh");
    maps.create(&PostParams::default(), &config_map("e", "x")).await.expect("new");
    maps.delete("c", &DeleteParams::default()).await.expect("there");
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let event = tokio::time::timeout(PATIENCE, stream.try_next()).await.expect("in time").expect("goes on");
        seen.push(match event.expect("goes on") {
            WatchEvent::Added(map) => format!("+{}", map.name_any()),
            WatchEvent::Modified(map) => format!("~{}", map.name_any()),
            WatchEvent::Deleted(map) => format!("-{}", map.name_any()),
            WatchEvent::Bookmark(_) => "bookmark".to_owned(),
            WatchEvent::Error(error) => format!("{error:?}"),
        });
    }
    assert_eq!(seen, ["-a", "+e", "-c"], "an object that leaves the selection is deleted for its watchers");
}

#[tokio::test]
async fn streaming_lists_say_where_they_end() {
    let cluster = Cluster::start().await;
    let maps = cluster.api::<ConfigMap>();
    let stream = maps.watch(&WatchParams::default().initial_events(), "0").await.expect("a watch");
    let mut stream = std::pin::pin!(stream);
    let first = stream.try_next().await.expect("goes on");
    assert!(matches!(first, Some(WatchEvent::Added(map)) if map.name_any() == "kube-root-ca.crt"));
    let second = stream.try_next().await.expect("goes on");
    let Some(WatchEvent::Bookmark(bookmark)) = second else { panic!("no bookmark: {second:?}") };
    assert_eq!(bookmark.metadata.annotations.get("k8s.io/initial-events-end").map(String::as_str), Some("true"));
}

#[tokio::test]
async fn a_watch_from_too_long_ago_is_told_so() {
    let cluster = Cluster::start().await;
    let maps = Api::<ConfigMap>::namespaced(cluster.server.client(), "default");
    let mut map = maps.create(&PostParams::default(), &config_map("a", "x")).await.expect("new");
    let version = map.resource_version().expect("a version");
    for n in 0..2100 {
        map.data.get_or_insert_default().insert("n".to_owned(), n.to_string());
        map = maps.replace("a", &PostParams::default(), &map).await.expect("fresh");
    }
    let stream = maps.watch(&WatchParams::default(), &version).await.expect("a watch");
    let mut stream = std::pin::pin!(stream);
    let event = stream.try_next().await.expect("goes on");
    assert!(matches!(event, Some(WatchEvent::Error(status)) if status.code == 410 && status.reason == "Expired"));
}

#[rstest]
#[case::annotation(json!({ "metadata": { "name": "p", "annotations": { "consul.hashicorp.com/transparent-proxy-exclude-inbound-ports": 8080 } } }),
    400, "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field ObjectMeta.metadata.annotations of type string")]
#[case::port(json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "a", "image": "b", "ports": [{ "containerPort": "x" }] }] } }),
    400, "spec.containers[0].ports[0].containerPort")]
#[case::name(json!({ "metadata": { "name": "Nope" }, "spec": { "containers": [{ "name": "a", "image": "b" }] } }),
    422, "Pod \"Nope\" is invalid: metadata.name: Invalid value: \"Nope\": a lowercase RFC 1123 subdomain")]
#[case::container(json!({ "metadata": { "name": "p" }, "spec": { "containers": [] } }),
    422, "Pod \"p\" is invalid: spec.containers: Required value")]
#[case::kind(json!({ "kind": "Service", "metadata": { "name": "p" } }), 400, "must be of type Pod")]
#[tokio::test]
async fn bad_pods_are_refused_by_name(#[case] given: Value, #[case] code: u16, #[case] words: &str) {
    let cluster = Cluster::start().await;
    let (found, _, message) = refusal(cluster.post("/api/v1/namespaces/default/pods", &given).await);
    assert_eq!(found, code, "{message}");
    assert!(message.contains(words), "{message}");
}

#[tokio::test]
async fn unknown_fields_are_refused_when_strict() {
    let cluster = Cluster::start().await;
    let given = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "a", "image": "b", "imagee": "c" }] } });
    let path = "/api/v1/namespaces/default/pods";
    let (code, _, message) = refusal(cluster.post(&format!("{path}?fieldValidation=Strict"), &given).await);
    assert_eq!(code, 400);
    assert!(message.contains("strict decoding error: unknown field \"spec.containers[0].imagee\""), "{message}");
    let made = cluster.post(path, &given).await.expect("only a warning");
    assert!(made["spec"]["containers"][0]["imagee"].is_null());
}

#[tokio::test]
async fn pods_are_completed() {
    let cluster = Cluster::start().await;
    let pods = cluster.api::<Pod>();
    let made = pods.create(&PostParams::default(), &pod("web")).await.expect("new");
    let spec = made.spec.clone().expect("a spec");
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    assert_eq!(spec.service_account_name.as_deref(), Some("default"));
    assert_eq!(made.status.clone().and_then(|status| status.phase).as_deref(), Some("Pending"));
    let volume = spec.volumes.and_then(|volumes| volumes.into_iter().next()).expect("the token's volume");
    assert!(volume.name.starts_with("kube-api-access-") && volume.projected.is_some());
    let mount = spec.containers[0].volume_mounts.clone().and_then(|mounts| mounts.into_iter().next()).expect("a mount");
    assert_eq!(mount.mount_path, "/var/run/secrets/kubernetes.io/serviceaccount");

    let mut changed = made;
    changed.spec.as_mut().expect("a spec").containers[0].command = Some(vec!["other".to_owned()]);
    let (code, _, message) = refusal(pods.replace("web", &PostParams::default(), &changed).await);
    assert_eq!(code, 422);
    assert!(message.contains("pod updates may not change fields other than"), "{message}");

    let mut stranger = pod("stranger");
    stranger.spec.as_mut().expect("a spec").service_account_name = Some("nobody".to_owned());
    let (code, _, message) = refusal(pods.create(&PostParams::default(), &stranger).await);
    assert_eq!(code, 403);
    assert!(message.contains("error looking up service account default/nobody"), "{message}");
}

#[tokio::test]
async fn services_get_addresses_and_the_api_is_one() {
    let cluster = Cluster::start().await;
    let services = cluster.api::<Service>();
    let made: Service = object(json!({ "metadata": { "name": "web" }, "spec": { "ports": [{ "port": 80 }] } }));
    let made = services.create(&PostParams::default(), &made).await.expect("new").spec.expect("a spec");
    assert!(made.cluster_ip.is_some_and(|ip| ip.starts_with("10.96.")));
    assert_eq!(made.ip_families, Some(vec!["IPv4".to_owned()]));
    let api = services.get("kubernetes").await.expect("made at the start").spec.expect("a spec");
    assert_eq!(api.cluster_ip.as_deref(), Some("10.96.0.1"));
    let slice = cluster.api::<EndpointSlice>().get("kubernetes").await.expect("made at the start");
    assert_eq!(slice.endpoints.expect("endpoints")[0].addresses, ["127.0.0.1"]);
}

#[tokio::test]
async fn pods_on_nodes_end_with_grace_and_finalizers_hold() {
    let cluster = Cluster::start().await;
    let pods = cluster.api::<Pod>();
    let mut placed = pod("placed");
    placed.spec.as_mut().expect("a spec").node_name = Some("node-0".to_owned());
    pods.create(&PostParams::default(), &placed).await.expect("new");
    let marked = pods.delete("placed", &DeleteParams::default()).await.expect("there").left().expect("still there");
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    assert!(marked.metadata.deletion_timestamp.is_some());
    let now = DeleteParams::default().grace_period(0);
    assert!(pods.delete("placed", &now).await.expect("there").is_right());

    pods.create(&PostParams::default(), &pod("nowhere")).await.expect("new");
    assert!(pods.delete("nowhere", &DeleteParams::default()).await.expect("there").is_right(), "nobody to wait for");

    let maps = cluster.api::<ConfigMap>();
    let mut held = config_map("held", "x");
    held.metadata.finalizers = Some(vec!["example.com/hold".to_owned()]);
    maps.create(&PostParams::default(), &held).await.expect("new");
    let mut marked = maps.delete("held", &DeleteParams::default()).await.expect("there").left().expect("held");
    marked.metadata.finalizers = None;
    maps.replace("held", &PostParams::default(), &marked).await.expect("fresh");
    assert_eq!(refusal(maps.get("held").await).0, 404);
}

#[tokio::test]
async fn custom_resources_are_served_once_defined() {
    let cluster = Cluster::start().await;
    let definition: CustomResourceDefinition = object(json!({
        "metadata": { "name": "serviceintentions.consul.hashicorp.com" },
        "spec": {
            "group": "consul.hashicorp.com", "scope": "Namespaced",
            "names": { "plural": "serviceintentions", "kind": "ServiceIntentions" },
            "versions": [{ "name": "v1alpha1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }],
        },
    }));
    let definitions = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    let made = definitions.create(&PostParams::default(), &definition).await.expect("new");
    let conditions = made.status.and_then(|status| status.conditions).unwrap_or_default();
    assert!(conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True"));

    let gvk = GroupVersionKind::gvk("consul.hashicorp.com", "v1alpha1", "ServiceIntentions");
    let (resource, _) = kube::discovery::pinned_kind(&cluster.client, &gvk).await.expect("discovered");
    let api = Api::<DynamicObject>::namespaced_with(cluster.client.clone(), "default", &resource);
    let wanted = json!({ "apiVersion": "consul.hashicorp.com/v1alpha1", "kind": "ServiceIntentions",
        "metadata": { "name": "web" }, "spec": { "destination": { "name": "web" } }, "status": { "synced": true } });
    let made = api.create(&PostParams::default(), &object(wanted)).await.expect("new");
    assert_eq!(made.data["spec"]["destination"]["name"], "web");
    assert!(made.data["status"].is_null(), "a new object's status is the server's");
    definitions.delete("serviceintentions.consul.hashicorp.com", &DeleteParams::default()).await.expect("there");
    assert_eq!(refusal(api.get("web").await).0, 404);
}

#[tokio::test]
async fn discovery_finds_the_built_in_kinds() {
    let cluster = Cluster::start().await;
    let discovery = kube::discovery::Discovery::new(cluster.client.clone()).run().await.expect("discovery");
    let gvk = GroupVersionKind::gvk("apps", "v1", "Deployment");
    let (resource, _) = discovery.resolve_gvk(&gvk).expect("served");
    assert_eq!(resource, ApiResource::erase::<k8s_openapi::api::apps::v1::Deployment>(&()));
    assert_eq!(cluster.client.apiserver_version().await.expect("a version").major, "1");
}

#[tokio::test]
async fn callers_need_a_token_of_this_server() {
    let cluster = Cluster::start().await;
    let mode = std::fs::metadata(cluster.server.kubeconfig()).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kubeconfig = kube::config::Kubeconfig::read_from(cluster.server.kubeconfig()).expect("readable");
    let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.expect("complete");
    let with_token = |token: &str| {
        let mut config = config.clone();
        config.auth_info = object(json!({ "token": token }));
        Client::try_from(config).expect("a client")
    };
    Client::try_from(config.clone()).expect("a client").list_core_api_versions().await.expect("the administrator");
    let token = cluster.server.issue_token("default", "default", None);
    let own = Api::<ServiceAccount>::namespaced(with_token(&token), "default");
    let refused = refusal(own.get("default").await);
    assert_eq!(refused.0, 403, "no role");
    assert!(
        refused.2.contains("system:serviceaccount:default:default\" cannot get resource \"serviceaccounts\""),
        "{refused:?}"
    );
    cluster.grant("default", &["get"], "serviceaccounts").await;
    own.get("default").await.expect("a service account");
    assert_eq!(refusal(own.list(&ListParams::default()).await).0, 403, "it may get, not list");
    let nobody = Api::<Namespace>::all(with_token("guess"));
    assert_eq!(refusal(nobody.list(&ListParams::default()).await).0, 401);
}

struct HideData;

impl Tamper for HideData {
    fn response(&self, user: &str, resource: &str, object: &mut Value) {
        if user == "system:serviceaccount:default:default" && resource == "configmaps" {
            object["data"] = json!({ "tampered": "yes" });
        }
    }
}

#[tokio::test]
async fn a_saboteur_edits_what_one_user_sees() {
    let cluster = Cluster::with(Arc::new(Direct), Some(Arc::new(HideData))).await;
    let maps = cluster.api::<ConfigMap>();
    maps.create(&PostParams::default(), &config_map("a", "x")).await.expect("new");
    let kubeconfig = kube::config::Kubeconfig::read_from(cluster.server.kubeconfig()).expect("readable");
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.expect("complete");
    config.auth_info = object(json!({ "token": cluster.server.issue_token("default", "default", None) }));
    cluster.grant("default", &["get", "list"], "configmaps").await;
    let victim = Api::<ConfigMap>::namespaced(Client::try_from(config).expect("a client"), "default");
    assert!(victim.get("a").await.expect("there").data.expect("data").contains_key("tampered"));
    let listed = victim.list(&ListParams::default()).await.expect("a list");
    assert!(listed.iter().all(|map| map.data.as_ref().is_some_and(|data| data.contains_key("tampered"))));
    assert!(maps.get("a").await.expect("there").data.expect("data").contains_key("n"), "others see what is stored");
}
