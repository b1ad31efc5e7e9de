//! What the way through mesh gateways costs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bdd::bed::Bed;
use bdd::pods::PodRef;
use bdd::suite::Suite;
use bdd::workload::program::PROGRAM;
use measure::{Report, Samples};
use serde_json::json;
use workload::report::Load;

use crate::bed::{configure, federated, place, run, until};

/// Requests over connections that are kept: from application to application, through the proxies of both, and through gateways
/// besides.
pub(crate) async fn requests(suite: &Suite, report: &mut Report, rounds: usize) -> Result<()> {
    federated(suite, async |bed| turns(bed, report, rounds).await).await
}

async fn turns(bed: &dyn Bed, report: &mut Report, rounds: usize) -> Result<()> {
    for (service, mode) in [("one", "remote"), ("two", "local")] {
        configure(bed, "c1", "ServiceDefaults", service, json!({"meshGateway": {"mode": mode}})).await?;
    }
    let (plain, outsider) = (place(bed, "c1", "plain", &[]).await?, place(bed, "c1", "outsider", &[]).await?);
    place(bed, "c1", "near", &[]).await?;
    place(bed, "c2", "one", &[]).await?;
    place(bed, "c2", "two", &[]).await?;
    let upstreams = "near:1230,one:1231:c2,two:1232:c2";
    let client = place(bed, "c1", "static-client", &[("connect-service-upstreams", upstreams)]).await?;
    let direct = plain.addresses.first().context("find the address of a Pod")?;
    let contestants: [(&str, &PodRef, String); 4] = [
        ("direct", &outsider, format!("http://{direct}:8080")),
        ("two proxies", &client, "http://127.0.0.1:1230".to_owned()),
        ("two proxies and the gateway there", &client, "http://127.0.0.1:1231".to_owned()),
        ("two proxies and both gateways", &client, "http://127.0.0.1:1232".to_owned()),
    ];
    for (what, pod, url) in &contestants {
        let answered = async || Ok((run(bed, pod, &[PROGRAM, "request", url]).await?.code == 0).then_some(()));
        until(&format!("there is an answer, {what}"), answered).await?;
    }
    let (mut of_request, mut p99): ([Samples; 4], [Samples; 4]) = Default::default();
    // the first round warms up
    for round in 0..=rounds {
        for (i, (what, pod, url)) in contestants.iter().enumerate() {
            let ran = run(bed, pod, &[PROGRAM, "load", url]).await?;
            ensure!(ran.code == 0, "requests, {what}: {}", ran.stderr);
            let load: Load = serde_json::from_str(&ran.stdout).with_context(|| format!("read {:?}", ran.stdout))?;
            if round > 0 {
                let count = u32::try_from(load.times_us.len())?;
                of_request[i].push(Duration::from_micros(load.took_us) / count.max(1));
                let times: Samples = load.times_us.into_iter().map(Duration::from_micros).collect();
                p99[i].push(times.quantile(99));
            }
        }
    }
    report.section(&format!("Requests, 8 connections that are kept, one at a time on each, {rounds} rounds of 1 s"));
    for ((what, ..), times) in contestants.iter().zip(&of_request) {
        report.times(&format!("time of each request, {what}"), times);
    }
    for i in 1..contestants.len() {
        let what = contestants[i].0;
        report.ratio(&format!("requests per second, {what} to direct"), &of_request[0], &of_request[i], None);
    }
    report.ratio("requests per second, both gateways to proxies alone", &of_request[1], &of_request[3], None);
    for ((what, ..), times) in contestants.iter().zip(&p99) {
        report.times(&format!("p99, {what}"), times);
    }
    report.ratio("p99, two proxies and both gateways to direct", &p99[3], &p99[0], None);
    Ok(())
}
