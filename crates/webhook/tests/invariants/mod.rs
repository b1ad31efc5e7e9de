//! What must hold for every input there is. The fuzz target of `fuzz/` and the tests of `tests/properties` both call this.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::Value;
use webhook::review::{Answer, Outcome, Review};
use webhook::{Settings, Surroundings};

/// Any bytes: an error, or an answer in JSON. A patch in it leads to a Pod, and there is nothing to add to that Pod.
pub(crate) fn answered(input: &[u8]) {
    let usual = Settings { default_inject: true, ..Settings::default() };
    let cni = Settings { cni: true, dual_stack: true, ..usual.clone() };
    let Ok(review) = Review::parse(input) else { return };
    for settings in [usual, cni] {
        let answer = answer(&review, &settings);
        let outcome = answer.outcome();
        let answer: Value = serde_json::from_slice(&answer.to_json().expect("JSON")).expect("JSON");
        let Some(patch) = answer["response"]["patch"].as_str() else { continue };
        let after = patched(&object(input), patch);
        serde_json::from_value::<Pod>(after.clone()).unwrap_or_else(|error| panic!("{error}: {after}"));
        let again = Review::parse(replaced(input, after).to_string().as_bytes()).expect("a review");
        let again = self::answer(&again, &settings).outcome();
        assert_eq!((outcome, again), (Outcome::Injected, Outcome::Unchanged), "{answer}");
    }
}

/// What the server answers.
pub(crate) fn answer(review: &Review, settings: &Settings) -> Answer {
    review.decide(settings).unwrap_or_else(|| review.clone().inject(&surroundings(), settings))
}

/// The object after a patch, as it is in an answer.
pub(crate) fn patched(object: &Value, patch: &str) -> Value {
    let patch = STANDARD.decode(patch).expect("base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a patch");
    let mut object = object.clone();
    json_patch::patch(&mut object, &patch).expect("the patch applies");
    object
}

/// A Namespace with ranges of ids, as OpenShift has them.
pub(crate) fn surroundings() -> Surroundings {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("web".to_owned());
    namespace.metadata.annotations =
        Some([("openshift.io/sa.scc.uid-range".to_owned(), "1000700000/10000".to_owned())].into());
    Surroundings::of(namespace)
}

fn object(input: &[u8]) -> Value {
    let review: Value = serde_json::from_slice(input).expect("it was read before");
    review["request"]["object"].clone()
}

fn replaced(input: &[u8], object: Value) -> Value {
    let mut review: Value = serde_json::from_slice(input).expect("it was read before");
    review["request"]["object"] = object;
    review
}
