//! What a change costs the control plane, and how soon clients of the feed hear of it.

use std::time::{Duration, Instant};

use anyhow::Result;
use measure::{Aim, Report, Samples};
use serde_json::json;

use crate::crowd::{Crowd, endpoints, populate};
use crate::plane::Plane;
use crate::support::bed::KINDS;
use crate::support::{Api, resource};

/// How many proxies wait while changes are timed.
const PROXIES: usize = 100;

/// A cluster of so many services with so many instances each.
fn cluster(services: usize, instances: usize) -> Api {
    let api = Api::new(&KINDS);
    populate(&api, services, instances);
    api
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Until every client that a change concerns has it, where everybody may reach everybody.
pub(crate) async fn until_clients(report: &mut Report, rounds: usize) -> Result<()> {
    for services in [10, 100, 1000] {
        let instances = PROXIES.div_ceil(services).max(3);
        let plane = Plane::start(cluster(services, instances), "allow").await?;
        let mut crowd = Crowd::gather(plane.feed, services, instances, PROXIES).await?;
        let title =
            format!("{services} services of {instances} instances, {PROXIES} proxies that may reach all of them");
        report.section(&format!("{title}: from a change to its arrival at each proxy, {rounds} rounds"));
        let mut times: [Samples; 3] = Default::default();
        for round in 0..2 * rounds {
            // there and back again
            let (s, there) = ((round / 2 * 7) % services, round % 2 == 0);
            // the intention is about this one, which does not always hear of the others
            let (source, name) = ((s + 1) % services, format!("s{s}"));
            let word = format!("\"{name}.default.");
            let changes = [
                ("endpointslices", endpoints(s, instances, !there), crowd.of(&[s, source], false), word.as_str()),
                (
                    "serviceintentions",
                    resource(
                        "ServiceIntentions",
                        &name,
                        json!({"destination": {"name": name}, "sources": [
                            {"name": format!("s{source}"), "action": if there { "deny" } else { "allow" }},
                        ]}),
                    ),
                    crowd.of(&[s, source], true),
                    "",
                ),
                (
                    "servicedefaults",
                    resource("ServiceDefaults", &name, json!({"protocol": if there { "http" } else { "tcp" }})),
                    crowd.of(&[s, source], false),
                    word.as_str(),
                ),
            ];
            for ((plural, object, concerned, word), times) in changes.into_iter().zip(&mut times) {
                let start = Instant::now();
                plane.api.apply(plural, object);
                times.extend(crowd.all_hear(start, &concerned, word).await?);
                crowd.calm(Duration::from_millis(20)).await;
            }
        }
        for (what, times) in ["an endpoint", "an intention", "an entry (protocol of a service)"].into_iter().zip(&times)
        {
            if times.is_empty() {
                continue;
            }
            report.quantity(&format!("{what}: p50"), milliseconds(times.median()), "ms", None);
            let p99 = milliseconds(times.quantile(99));
            report.quantity(&format!("{what}: p99"), p99, "ms", Some(Aim::AtMost(100.0)));
        }
    }
    Ok(())
}

/// How many services there are that do not use what changes.
const OTHERS: [usize; 2] = [100, 1000];
/// How many changes make a turn.
const TURN: usize = 20;

/// One endpoint changes, of a service that one other uses, among a few and among many that do not.
pub(crate) async fn independence(report: &mut Report, rounds: usize) -> Result<()> {
    let instances = 3;
    let mut beds = Vec::new();
    for others in OTHERS {
        let services = others + 2;
        let api = cluster(services, instances);
        let allow = json!({"destination": {"name": "s0"}, "sources": [{"name": "s1", "action": "allow"}]});
        api.apply("serviceintentions", resource("ServiceIntentions", "s0", allow));
        let plane = Plane::start(api, "deny").await?;
        let crowd = Crowd::gather(plane.feed, services, instances, PROXIES).await?;
        beds.push((plane, crowd));
    }
    let (mut processor, mut arrival): ([Samples; 2], [Samples; 2]) = Default::default();
    for round in 0..=rounds {
        for (i, (plane, crowd)) in beds.iter_mut().enumerate() {
            let users = crowd.of(&[1], true);
            let before = plane.processor()?;
            let mut times = Samples::default();
            for turn in 0..TURN {
                let start = Instant::now();
                plane.api.apply("endpointslices", endpoints(0, instances, turn % 2 == 1));
                times.extend(crowd.all_hear(start, &users, "").await?);
            }
            // the first round warms up
            if round > 0 {
                processor[i].push((plane.processor()? - before) / u32::try_from(TURN)?);
                arrival[i].push(times.median());
            }
        }
    }
    report.section(&format!(
        "One endpoint of a service that 1 service uses, beside {} and {} that do not, {PROXIES} proxies, {rounds} rounds of {TURN}",
        OTHERS[0], OTHERS[1]
    ));
    for (i, others) in OTHERS.iter().enumerate() {
        report.times(&format!("processor time of a change, {others} others"), &processor[i]);
        report.times(&format!("change to arrival, {others} others"), &arrival[i]);
    }
    let [few, many] = &processor;
    report.ratio("processor time, many others to few", many, few, Some(Aim::AtMost(1.5)));
    let [few, many] = &arrival;
    report.ratio("change to arrival, many others to few", many, few, Some(Aim::AtMost(1.5)));
    Ok(())
}

/// The size of the mesh under load: services, instances of each, proxies.
const LARGE: [usize; 3] = [1000, 3, 300];
/// How long the load lasts, and the pause between two changes.
const LOAD: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// What the control plane takes of the machine.
pub(crate) async fn load(report: &mut Report) -> Result<()> {
    let [services, instances, proxies] = LARGE;
    let plane = Plane::start(cluster(services, instances), "allow").await?;
    let [fresh, _] = plane.memory()?;
    let mut crowd = Crowd::gather(plane.feed, services, instances, proxies).await?;
    let [joined, _] = plane.memory()?;
    let (start, before) = (Instant::now(), plane.processor()?);
    let (mut changes, mut updates) = (0_u32, 0);
    while start.elapsed() < LOAD {
        // each one a change, however many are taken in at once: no service has a second turn before all had one
        let turn = usize::try_from(changes)?;
        plane.api.apply("endpointslices", endpoints(turn * 7 % services, instances, turn / services % 2 == 1));
        changes += 1;
        let next = start + PAUSE * changes;
        updates += crowd.heard_until(next).await;
    }
    let (took, spent) = (start.elapsed(), plane.processor()? - before);
    let [loaded, most] = plane.memory()?;
    report.section(&format!(
        "{services} services of {instances} instances, {proxies} proxies that may reach all; {changes} endpoint changes in {:.0} s",
        took.as_secs_f64()
    ));
    report.quantity("resident memory before proxies", fresh, "MiB", None);
    report.quantity("with proxies", joined, "MiB", None);
    report.quantity("after the load", loaded, "MiB", None);
    report.quantity("the most it was", most, "MiB", None);
    report.quantity("processors in use", spent.as_secs_f64() / took.as_secs_f64(), "", None);
    report.quantity("processor time of a change", milliseconds(spent) / f64::from(changes), "ms", None);
    report.note(&format!("{updates} updates were read by the proxies"));
    Ok(())
}
