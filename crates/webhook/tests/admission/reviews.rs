//! Reviews as bytes, and their answers.

use crate::pods::{annotated, namespace, with};
use base64::Engine;
use k8s_openapi::api::core::v1::Pod;
use redirect::contract::ORIGINAL_POD;
use rstest::rstest;
use serde_json::{Value, json};
use webhook::review::{Answer, Outcome, Review, ReviewError};
use webhook::{Settings, Surroundings, inject};

type Tested = Result<(), Box<dyn std::error::Error>>;

/// A review of this object.
pub(crate) fn review_of(object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "web",
            "operation": "CREATE",
            "object": object,
        },
    })
}

/// The object after the patch of this answer.
pub(crate) fn patched(object: &Value, answer: &Value) -> Result<Value, Box<dyn std::error::Error>> {
    let text = answer["response"]["patch"].as_str().ok_or("no patch")?;
    let patch: json_patch::Patch = serde_json::from_slice(&base64::engine::general_purpose::STANDARD.decode(text)?)?;
    let mut object = object.clone();
    json_patch::patch(&mut object, &patch)?;
    Ok(object)
}

/// An answer as it is sent.
pub(crate) fn sent(answer: &Answer) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(&answer.to_json()?)
}

fn answer(review: &Value) -> Result<Answer, ReviewError> {
    let review = Review::parse(review.to_string().as_bytes())?;
    let settings = Settings::default();
    Ok(match review.decide(&settings) {
        Some(answer) => answer,
        None => review.inject(&Surroundings::of(namespace(&[])), &settings),
    })
}

#[rstest]
#[case::small(annotated(&[]))]
#[case::upstreams(annotated(&[("connect-service-upstreams", "db:1"), ("consul-dns", "true")]))]
#[case::bookkeeping(annotated(&[("transparent-proxy", "false"), ("transparent-proxy-status", "enabled")]))]
#[case::several(with(&[], json!({
    "containers": [
        {"name": "a", "env": [{"name": "A", "value": "1"}], "livenessProbe": {"httpGet": {"path": "/", "port": 80}}},
        {"name": "b", "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
    ],
    "initContainers": [{"name": "i"}],
    "volumes": [{"name": "v", "emptyDir": {}}],
})))]
fn the_patch_leads_to_the_injected_pod(#[case] pod: Pod) -> Tested {
    let object = serde_json::to_value(&pod)?;
    let answer = answer(&review_of(&object))?;
    assert_eq!(answer.outcome(), Outcome::Injected);
    assert_eq!(answer.message(), "valid Pod request");
    let expected = inject(&pod, &namespace(&[]), &Settings::default())?;
    let mut after: Pod = serde_json::from_value(patched(&object, &sent(&answer)?)?)?;
    // where the text of the object is there, it is kept as it is
    let original =
        after.metadata.annotations.as_mut().and_then(|all| all.get_mut(ORIGINAL_POD)).ok_or("no original")?;
    assert_eq!(*original, object.to_string());
    *original =
        expected.metadata.annotations.as_ref().and_then(|all| all.get(ORIGINAL_POD)).cloned().unwrap_or_default();
    assert_eq!(serde_json::from_str::<Pod>(original)?, pod);
    assert_eq!(after, expected);
    Ok(())
}

#[test]
fn fields_of_a_newer_kubernetes_stay() -> Tested {
    let mut object = serde_json::to_value(annotated(&[]))?;
    object["spec"]["containers"][0]["fieldOfTheFuture"] = json!({"a": 1});
    object["spec"]["another"] = json!(true);
    let after = patched(&object, &sent(&answer(&review_of(&object))?)?)?;
    assert_eq!(after["spec"]["containers"][1]["fieldOfTheFuture"], json!({"a": 1}));
    assert_eq!(after["spec"]["containers"][0].get("fieldOfTheFuture"), None);
    assert_eq!(after["spec"]["another"], json!(true));
    Ok(())
}

#[test]
fn nulls_for_absent_lists_are_read() -> Tested {
    let mut object = serde_json::to_value(annotated(&[("connect-service-upstreams", "db:1")]))?;
    object["metadata"]["labels"] = Value::Null;
    object["metadata"]["creationTimestamp"] = Value::Null;
    object["spec"]["volumes"] = Value::Null;
    object["spec"]["initContainers"] = Value::Null;
    object["spec"]["containers"][0]["env"] = Value::Null;
    let after = patched(&object, &sent(&answer(&review_of(&object))?)?)?;
    assert_eq!(after["spec"]["initContainers"][0]["name"], "consul-connect-inject-init");
    assert_eq!(after["spec"]["containers"][1]["env"][0]["name"], "DB_CONNECT_SERVICE_HOST");
    Ok(())
}

#[test]
fn the_answer_is_of_the_version_asked() -> Tested {
    let mut review = review_of(&serde_json::to_value(annotated(&[]))?);
    review["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let answer = sent(&answer(&review)?)?;
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1beta1");
    assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
    assert_eq!(answer["response"]["patchType"], "JSONPatch");
    Ok(())
}

#[test]
fn a_pod_that_is_left_alone() -> Tested {
    let answer = answer(&review_of(&json!({"metadata": {"generateName": "app-"}, "spec": {"containers": []}})))?;
    assert_eq!(answer.outcome(), Outcome::Unchanged);
    assert!(answer.message().starts_with("Pod app- does not require injection"), "{}", answer.message());
    Ok(())
}

#[test]
fn a_pod_that_is_refused() -> Tested {
    let pod = annotated(&[("transparent-proxy", "yes")]);
    let answer = answer(&review_of(&serde_json::to_value(pod)?))?;
    assert_eq!(answer.outcome(), Outcome::Refused);
    assert!(answer.message().contains("consul.hashicorp.com/transparent-proxy"), "{}", answer.message());
    assert_eq!(sent(&answer)?["response"]["status"]["code"], 422);
    Ok(())
}

#[rstest]
#[case::text(json!("pod"))]
#[case::absent(Value::Null)]
#[case::no_spec(json!({"metadata": {"name": "x"}}))]
#[case::another_kind(json!({"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": {}}))]
#[case::wrong_type(json!({"metadata": {"annotations": {"a": 1}}, "spec": {}}))]
fn an_object_that_is_no_pod(#[case] object: Value) -> Tested {
    let answer = answer(&review_of(&object))?;
    assert_eq!(answer.outcome(), Outcome::Failed);
    assert_eq!(sent(&answer)?["response"]["status"]["code"], 400);
    assert!(answer.message().contains("as a Pod"), "{}", answer.message());
    Ok(())
}

#[rstest]
#[case::no_json("{", "as an AdmissionReview")]
#[case::no_review("{}", "only AdmissionReview")]
#[case::other_version(r#"{"apiVersion": "admission.k8s.io/v2", "kind": "AdmissionReview"}"#, "v2")]
#[case::no_request(r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}"#, "request is missing")]
#[case::no_uid(r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {}}"#, "uid")]
fn a_body_that_is_no_review(#[case] body: &str, #[case] part: &str) {
    let error = Review::parse(body.as_bytes()).err().expect("an error").to_string();
    assert!(error.contains(part), "{part} in {error}");
}
