//! What injection takes without a server: beside reading and writing the same Pod.

use crate::reviews::{self, Review};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use measure::{Aim, Report, Samples};
use std::hint::black_box;
use std::time::{Duration, Instant};
use webhook::{Settings, Surroundings};

/// One turn of one contestant.
const TURN: Duration = Duration::from_millis(40);

/// Both have a turn in every round.
pub(crate) fn measure(report: &mut Report, rounds: usize) {
    let settings = Settings::default();
    let metadata = ObjectMeta { name: Some("default".into()), ..ObjectMeta::default() };
    let surroundings = Surroundings::of(Namespace { metadata, ..Namespace::default() });
    for review in reviews::all() {
        let Review { name, body } = review;
        let parsed = webhook::review::Review::parse(&body).expect("a review");
        let pod = parsed.pod().expect("a Pod");
        let text = serde_json::to_vec(pod).expect("JSON");
        let (mut injected, mut limit) = (Samples::default(), Samples::default());
        for round in 0..=rounds * 2 {
            let times = [
                // the copy counts as the webhook's, though no review needs one
                turn(|| drop(black_box(parsed.clone().inject(&surroundings, &settings)))),
                turn(|| {
                    let pod: Pod = serde_json::from_slice(black_box(&text)).expect("a Pod");
                    drop(black_box(serde_json::to_vec(&pod)));
                }),
            ];
            if round > 0 {
                let [ours, theirs] = times;
                injected.push(ours);
                limit.push(theirs);
            }
        }
        report.section(&format!("{name} Pod, {} bytes: without a server", text.len()));
        report.times("inject, difference, patch as text", &injected);
        report.times("reading and writing the Pod", &limit);
        let twice = (name == "typical").then_some(Aim::AtMost(2.0));
        report.ratio("injection to reading and writing", &injected, &limit, twice);
    }
}

/// How long one of many takes.
fn turn(mut work: impl FnMut()) -> Duration {
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < TURN {
        work();
        count += 1;
    }
    start.elapsed() / count
}
