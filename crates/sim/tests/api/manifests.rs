//! What the manifests under `clusters/` allow and refuse, asked by requests with the token that a Pod of theirs would have.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Client, Config};
use rstest::rstest;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::{Cluster, object, pod, refusal};

/// Collections of the kinds that decide about rights.
const RIGHTS: [(&str, &str); 4] = [
    ("ClusterRole", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
    ("ClusterRoleBinding", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ("ValidatingAdmissionPolicy", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"),
    ("ValidatingAdmissionPolicyBinding", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"),
];

/// A cluster with the rights of the CNI manifests, a Pod on each of two nodes, and the client of the first node's agent.
async fn agent() -> (Cluster, Api<Pod>) {
    let cluster = Cluster::start().await;
    cluster.namespace("consul", json!({})).await;
    for manifest in [
        include_str!("../../../../clusters/consul-cni/consul-cni.yaml"),
        include_str!("../../../../clusters/consul-cni/policy.yaml"),
    ] {
        for document in serde_yaml_ng::Deserializer::from_str(manifest) {
            let document = Value::deserialize(document).expect("a document");
            if let Some((_, path)) = RIGHTS.iter().find(|(kind, _)| document["kind"] == *kind) {
                cluster.post(path, &document).await.expect("a new object");
            }
        }
    }
    for (namespace, name, node) in
        [("consul", "agent", "node-0"), ("default", "near", "node-0"), ("default", "far", "node-1")]
    {
        let mut placed = pod(name);
        placed.spec.as_mut().expect("a spec").node_name = Some(node.to_owned());
        let injected = [("consul.hashicorp.com/connect-inject-status".to_owned(), "injected".to_owned())];
        placed.metadata.annotations = Some(injected.into());
        let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
        pods.create(&PostParams::default(), &placed).await.expect("new");
    }
    let kubeconfig = Kubeconfig::read_from(cluster.server.kubeconfig()).expect("readable");
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.expect("complete");
    let token = cluster.server.issue_token("consul", "consul-cni", Some(("agent", "uid-of-agent")));
    config.auth_info = object(json!({ "token": token }));
    let pods = Api::<Pod>::namespaced(Client::try_from(config).expect("a client"), "default");
    (cluster, pods)
}

#[rstest]
#[case::status_of_its_own("near", json!({"annotations": {"consul.hashicorp.com/transparent-proxy-status": "complete"}}), None)]
#[case::status_of_another_nodes("far", json!({"annotations": {"consul.hashicorp.com/transparent-proxy-status": "complete"}}),
    Some("may change pods of its own node only"))]
#[case::another_annotation("near", json!({"annotations": {"consul.hashicorp.com/connect-inject": "false"}}),
    Some("may change annotation transparent-proxy-status only"))]
#[case::a_label("near", json!({"labels": {"app": "mine"}}), Some("may change annotation transparent-proxy-status only"))]
#[tokio::test]
async fn a_node_agent_writes_the_status_of_its_own_pods(
    #[case] name: &str,
    #[case] metadata: Value,
    #[case] refused: Option<&str>,
) {
    let (_cluster, pods) = agent().await;
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    let result = pods.patch(name, &PatchParams::default(), &patch).await;
    match refused {
        None => drop(result.expect("allowed")),
        Some(why) => {
            let (code, _, message) = refusal(result);
            assert_eq!(code, 403, "{message}");
            assert!(message.contains(why), "{message}");
        }
    }
}
