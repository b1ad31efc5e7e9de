//! How soon the next member of a failover answers when the first one is lost, and how soon the first one does when it is back.

use std::time::Instant;

use anyhow::{Result, ensure};
use bdd::bed::Bed;
use bdd::pods::{PodRef, has_condition};
use bdd::suite::Suite;
use bdd::workload::program::PROGRAM;
use measure::{Report, Samples};
use serde_json::json;
use workload::report::Report as Attempt;

use crate::bed::{configure, federated, place, run, until};

/// The service, and where the client has it.
const SERVICE: &str = "static-server";
const URL: &str = "http://127.0.0.1:1234";

/// A service in both clusters of a federation; a resolver sends to the second one when the first has none that is ready.
pub(crate) async fn next(suite: &Suite, report: &mut Report, rounds: usize) -> Result<()> {
    federated(suite, async |bed| rounds_of(bed, report, rounds).await).await
}

async fn rounds_of(bed: &dyn Bed, report: &mut Report, rounds: usize) -> Result<()> {
    let failover = json!({"failover": {"*": {"targets": [{"datacenter": "c2"}]}}});
    configure(bed, "c1", "ServiceResolver", SERVICE, failover).await?;
    let (here, there) = (place(bed, "c1", SERVICE, &[]).await?, place(bed, "c2", SERVICE, &[]).await?);
    let upstream = format!("{SERVICE}:1234");
    let client = place(bed, "c1", "static-client", &[("connect-service-upstreams", &upstream)]).await?;
    let answers = async |by: &PodRef| {
        let by = by.name.as_str();
        let look = async || {
            let ran = run(bed, &client, &[PROGRAM, "request", URL]).await?;
            let answered = Attempt::parse_all(&ran.stdout).any(|attempt| attempt.instance.as_deref() == Some(by));
            Ok(answered.then_some(()))
        };
        until(&format!("{by} answers"), look).await
    };
    let is_ready = async |expected: bool| {
        let part = bed.at(here.at());
        let look = async || {
            let pod = part.pods().get(&here.namespace, &here.name);
            Ok(pod.is_some_and(|pod| has_condition(&pod, "Ready") == expected).then_some(()))
        };
        until(&format!("{} is {}", here.host(), if expected { "ready" } else { "unready" }), look).await
    };
    answers(&here).await?;
    let mut times: [Samples; 4] = Default::default();
    for _ in 0..rounds {
        for (i, (program, ready, by)) in [("touch", false, &there), ("rm", true, &here)].into_iter().enumerate() {
            let begun = Instant::now();
            let ran = run(bed, &here, &[&format!("/bin/{program}"), "/tmp/unhealthy"]).await?;
            ensure!(ran.code == 0, "{program} in {}: {}", here.host(), ran.stderr);
            is_ready(ready).await?;
            let ((), took) = answers(by).await?;
            times[2 * i].push(took);
            times[2 * i + 1].push(begun.elapsed());
        }
    }
    report.section(&format!(
        "A member of a failover is lost and comes back, in a federation of two datacenters, {rounds} rounds"
    ));
    let [lost, lost_whole, back, back_whole] = &times;
    for (what, times) in [
        ("the cluster knows that the first is unready, to the first answer of the next", lost),
        ("the first fails, to the first answer of the next", lost_whole),
        ("the cluster knows that the first is ready, to its first answer", back),
        ("the first recovers, to its first answer", back_whole),
    ] {
        report.quantity(&format!("{what}: p50"), times.median().as_secs_f64(), "s", None);
        report.quantity(&format!("{what}: p99"), times.quantile(99).as_secs_f64(), "s", None);
    }
    report.note(
        "a kubelet of the simulator probes several times as often as a real one; each look is a request, some 10 ms",
    );
    Ok(())
}
