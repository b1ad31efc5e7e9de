//! Custom resources and the schemas of their definitions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::{Cluster, object, refusal};

/// The definitions of the mesh's kinds are served as they are, and what is written to these kinds must fit.
#[tokio::test]
async fn custom_resources_must_fit_their_schema() {
    let cluster = Cluster::start().await;
    let definitions = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    for document in serde_yaml_ng::Deserializer::from_str(include_str!("../../../../clusters/consul/crds.yaml")) {
        let definition = CustomResourceDefinition::deserialize(document).expect("a definition");
        definitions.create(&PostParams::default(), &definition).await.expect("structural");
    }
    let gvk = GroupVersionKind::gvk("consul.hashicorp.com", "v1alpha1", "ServiceRouter");
    let api = Api::<DynamicObject>::namespaced_with(cluster.client.clone(), "default", &ApiResource::from_gvk(&gvk));
    let router = |spec: Value| {
        object::<DynamicObject>(json!({
            "apiVersion": "consul.hashicorp.com/v1alpha1", "kind": "ServiceRouter", "metadata": { "name": "web" }, "spec": spec,
        }))
    };
    let header = json!([{ "exact": "y" }]);
    let wrong =
        json!({ "routes": [{ "match": { "http": { "header": header } }, "destination": { "numRetries": "3" } }] });
    let Err(kube::Error::Api(refused)) = api.create(&PostParams::default(), &router(wrong)).await else {
        panic!("it has no name and a number that is text")
    };
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
    let causes = refused.details.as_ref().map(|details| details.causes.clone()).unwrap_or_default();
    let mut causes: Vec<_> = causes.iter().map(|cause| (cause.reason.as_str(), cause.field.as_str())).collect();
    causes.sort_unstable();
    assert_eq!(
        causes,
        [
            ("FieldValueRequired", "spec.routes[0].match.http.header[0].name"),
            ("FieldValueTypeInvalid", "spec.routes[0].destination.numRetries"),
        ]
    );

    let strange = || router(json!({ "routes": [], "colour": "red" }));
    let made = api.create(&PostParams::default(), &strange()).await.expect("unknown fields are pruned");
    assert_eq!(made.data["spec"], json!({ "routes": [] }));
    let strictly = format!("{}?fieldValidation=Strict", api.resource_url());
    let request = http::Request::post(strictly)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&strange()).expect("JSON"))
        .expect("a request");
    let (code, _, message) = refusal(cluster.client.request::<Value>(request).await);
    assert_eq!(code, 400);
    assert!(message.contains(r#"strict decoding error: unknown field "spec.colour""#), "{message}");

    let status = |status: Value| Patch::Merge(json!({ "status": status }));
    let wrong = status(json!({ "conditions": [{ "type": "Synced" }] }));
    let (code, _, message) = refusal(api.patch_status("web", &PatchParams::default(), &wrong).await);
    assert_eq!(code, 422, "{message}");
    assert!(message.contains("status.conditions[0].status: Required value"), "{message}");
    let right = status(json!({ "conditions": [{ "type": "Synced", "status": "True" }] }));
    api.patch_status("web", &PatchParams::default(), &right).await.expect("it fits");
}
