//! Properties of injection that hold for any Pod, however wild.

#[path = "../invariants/mod.rs"]
mod invariants;
mod pods;

use invariants::{answer, patched, surroundings};
use k8s_openapi::api::core::v1::Pod;
use pods::{pod, settings};
use proptest::prelude::*;
use redirect::contract::{CONNECT_INJECT_MANAGED_BY, CONNECT_INJECT_STATUS, ORIGINAL_POD};
use serde_json::{Value, json};
use webhook::review::{Outcome, Review};
use webhook::{Settings, admit};

/// A review of this object, read.
fn review(object: &Value) -> Review {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1", "namespace": "web", "object": object,
    }});
    Review::parse(review.to_string().as_bytes()).expect("a review")
}

/// The answer's JSON, and the object after its patch.
fn answered(object: &Value, settings: &Settings) -> (Outcome, Value, Value) {
    let answer = answer(&review(object), settings);
    let outcome = answer.outcome();
    let answer: Value = serde_json::from_slice(&answer.to_json().expect("JSON")).expect("JSON");
    let patch = answer["response"]["patch"].as_str();
    let after = patch.map_or_else(|| object.clone(), |patch| patched(object, patch));
    (outcome, answer, after)
}

/// A Pod, and the one that its annotation `original-pod` says it was: the same whatever its text looks like.
fn apart(mut pod: Pod) -> (Pod, Option<Pod>) {
    let original = pod.metadata.annotations.as_mut().and_then(|all| all.remove(ORIGINAL_POD));
    (pod, original.and_then(|text| serde_json::from_str(&text).ok()))
}

fn named(pod: &Value, list: &str, name: &str) -> usize {
    pod["spec"][list].as_array().into_iter().flatten().filter(|container| container["name"] == name).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    /// The patch, applied to what was received, gives the Pod that injection makes; what this program does not know stays.
    #[test]
    fn the_patch_gives_the_injected_pod(object in pod(), settings in settings()) {
        let (outcome, answer, after) = answered(&object, &settings);
        let review = review(&object);
        let Ok(received) = review.pod() else {
            prop_assert_eq!(outcome, Outcome::Failed);
            return Ok(());
        };
        match admit(received, &surroundings(), &settings) {
            Ok(admitted) => {
                let read: Pod = serde_json::from_value(after.clone())?;
                prop_assert_eq!(apart(read), apart(admitted.pod));
                prop_assert_eq!(&after["spec"]["fieldOfTheFuture"], &object["spec"]["fieldOfTheFuture"]);
            }
            Err(refusal) => {
                prop_assert_eq!(outcome, Outcome::Refused);
                prop_assert!(!refusal.mistakes().is_empty());
                let message = answer["response"]["status"]["message"].as_str().unwrap_or_default();
                prop_assert!(message.contains(&refusal.to_string()), "{}", message);
                prop_assert_eq!(&after, &object);
            }
        }
    }

    /// Injecting twice is injecting once, even when somebody takes the marks off in between.
    #[test]
    fn injecting_twice_is_injecting_once(object in pod(), settings in settings(), stripped in any::<bool>()) {
        let (outcome, _, once) = answered(&object, &settings);
        if outcome != Outcome::Injected {
            return Ok(());
        }
        let mut received = once.clone();
        if stripped {
            let marks = received["metadata"]["annotations"].as_object_mut().expect("annotations");
            marks.remove(CONNECT_INJECT_STATUS);
            marks.insert("consul.hashicorp.com/connect-inject".to_owned(), json!("true"));
            let labels = received["metadata"]["labels"].as_object_mut().expect("labels");
            labels.retain(|label, _| label != CONNECT_INJECT_STATUS && label != CONNECT_INJECT_MANAGED_BY);
        }
        let (outcome, answer, twice) = answered(&received, &settings);
        prop_assert_ne!(outcome, Outcome::Refused, "{}", answer);
        for list in ["containers", "initContainers"] {
            for name in ["consul-dataplane", "consul-connect-inject-init"] {
                prop_assert_eq!(named(&twice, list, name), named(&once, list, name));
            }
        }
        if stripped {
            prop_assert_eq!(outcome, Outcome::Injected);
            for (list, mark) in [("annotations", CONNECT_INJECT_STATUS), ("labels", CONNECT_INJECT_STATUS), ("labels", CONNECT_INJECT_MANAGED_BY)] {
                prop_assert_eq!(&twice["metadata"][list][mark], &once["metadata"][list][mark], "{}", mark);
            }
        } else {
            prop_assert_eq!(twice, once);
        }
    }

    /// A review with a byte changed, cut short or whole.
    #[test]
    fn any_bytes_are_answered(object in pod(), cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte: u8) {
        let review = json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {
            "uid": "1", "namespace": "web", "object": object,
        }});
        let mut bytes = review.to_string().into_bytes();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(cut.index(bytes.len() * 2));
        invariants::answered(&bytes);
    }
}

/// What the fuzzer begins with is what it is meant to be: one Pod that is injected, and one that is refused.
#[test]
fn seeds() {
    let settings = Settings::default();
    let outcome = |seed: &[u8]| {
        invariants::answered(seed);
        answer(&Review::parse(seed).expect("a review"), &settings).outcome()
    };
    assert_eq!(outcome(include_bytes!("../../fuzz/seeds/review/injected.json")), Outcome::Injected);
    assert_eq!(outcome(include_bytes!("../../fuzz/seeds/review/refused.json")), Outcome::Refused);
}
