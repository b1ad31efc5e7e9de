//! T1-T14: what came of it.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::pod_properties;
use crate::vocabulary::parameters::{Admission, Answer, Component, Outcome, Readiness, Task, TaskResult};
use crate::vocabulary::{Arguments, Phrase};
use crate::world::World;
use workload::report::Outcome as Said;

pub(crate) fn phrases() -> &'static [Phrase] {
    crate::vocabulary::phrases![
        "T1" "it is {outcome}" => outcome;
        "T2" "it is {outcome} by {string}" => outcome_by;
        "T3" "within {int} seconds it is {outcome}" => outcome_within;
        "T4" "within {int} seconds it is {outcome} by {string}" => outcome_within_by;
        "T5" "the answer contains {string}" => answer_contains;
        "T6" "every answer came from {string}" => every_answer;
        "T7" "no request failed" => no_request_failed;
        "T8" "the lookup yields {answer}" => lookup_yields;
        "T9" "{string} {readiness}" => readiness;
        "T10" "the submission is {admission}" => submission;
        "T11" "the error names {string}" => error_names;
        "T12" "the {task} {result}" => task;
        "T13" "the pod of {string} shows:" => pod_properties::pod_shows;
        "T14" "the {component} shows:" => component_shows;
    ]
}

async fn outcome(world: &mut World, mut arguments: Arguments) -> Result<()> {
    world.outcome(arguments.get::<Outcome>()?, None, None).await
}

async fn outcome_by(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (meant, by) = (arguments.get::<Outcome>()?, arguments.string()?);
    world.outcome(meant, Some(&by), None).await
}

async fn outcome_within(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (seconds, meant) = (arguments.int()?, arguments.get::<Outcome>()?);
    world.outcome(meant, None, Some(Duration::from_secs(seconds))).await
}

async fn outcome_within_by(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (seconds, meant, by) = (arguments.int()?, arguments.get::<Outcome>()?, arguments.string()?);
    world.outcome(meant, Some(&by), Some(Duration::from_secs(seconds))).await
}

async fn answer_contains(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let text = words(&mut arguments)?;
    world.outcome(Outcome::Answered, None, None).await?;
    let (ask, attempt) = world.last_attempt()?;
    // the application shows the headers that it was asked with, `header <name>: <value>`; these are those that came back
    if let Some(header) = text.strip_prefix("answer header ") {
        let headers = attempt.report.headers.clone().unwrap_or_default();
        if !headers.lines().any(|line| line.contains(header)) {
            bail!("find the header {header:?} in the answer to {ask}; its headers were {headers:?}");
        }
        return Ok(());
    }
    let body = attempt.report.body.clone().unwrap_or_default();
    // of a stream the client writes `sha256 of <stream>` below an answer that bears the digest of what it sent
    let hex = attempt.report.body_hex.clone().unwrap_or_else(|| hex_of(&body));
    if !body.contains(&text) && !hex.contains(&hex_of(&text)) {
        bail!("find {text:?} in the answer to {ask}; the answer was {body:?}");
    }
    Ok(())
}

/// A text to be found somewhere. Nothing is found everywhere, so that to look for it proves nothing.
fn words(arguments: &mut Arguments) -> Result<String> {
    let text = arguments.string()?;
    if text.trim().is_empty() {
        bail!("look for {text:?}: name something to be found");
    }
    Ok(text)
}

/// A text with `\xNN` escapes, as hexadecimal digits of its bytes.
fn hex_of(text: &str) -> String {
    let mut hex = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(digits) = rest.strip_prefix("\\x").and_then(|r| r.get(..2)) {
            hex.push_str(&digits.to_lowercase());
            rest = &rest[4..];
        } else {
            for byte in rest[..c.len_utf8()].bytes() {
                hex.push_str(&format!("{byte:02x}"));
            }
            rest = &rest[c.len_utf8()..];
        }
    }
    hex
}

async fn every_answer(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let from = arguments.string()?;
    let names = world.instance_names(&from)?;
    let all = world.requests();
    if all.is_empty() {
        bail!("look at answers: there was no request");
    }
    let other = all.iter().find(|(_, a)| a.report.instance.as_ref().is_none_or(|i| !names.contains(i)));
    match other {
        Some((ask, other)) => bail!("have every answer to {ask} come from {from:?}; one was: {other}"),
        None => Ok(()),
    }
}

async fn no_request_failed(world: &mut World, _: Arguments) -> Result<()> {
    let all = world.requests();
    let failed: Vec<_> = all.iter().filter(|(_, attempt)| !attempt.is(Outcome::Answered)).collect();
    match failed.first() {
        _ if all.is_empty() => bail!("count failed requests: there was no request"),
        Some((ask, first)) => {
            bail!("{} of {} requests failed; the first: {ask}: {first}", failed.len(), all.len())
        }
        None => Ok(()),
    }
}

async fn lookup_yields(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let meant = arguments.get::<Answer>()?;
    let patience = world.bed().await?.timing().patience;
    let start = std::time::Instant::now();
    loop {
        let wrong = match yields(world, &meant).await {
            Ok(()) => return Ok(()),
            Err(wrong) => wrong,
        };
        if start.elapsed() >= patience {
            return Err(wrong);
        }
        let (ask, _) = world.last_attempt()?;
        world.ask(ask, 1).await?;
    }
}

async fn yields(world: &mut World, meant: &Answer) -> Result<()> {
    let (ask, attempt) = world.last_attempt()?;
    let mut found: Vec<IpAddr> = attempt.report.answers.clone().unwrap_or_default();
    found.sort_unstable();
    let rcode = attempt.report.rcode.as_deref().unwrap_or("");
    let expected = match meant {
        Answer::VirtualIp => {
            let all = |ip: &IpAddr| matches!(ip, IpAddr::V4(v4) if v4.octets()[0] >= 240 && !v4.is_broadcast());
            let holds = !found.is_empty() && found.iter().all(all);
            return if holds { Ok(()) } else { Err(anyhow::anyhow!("expected a virtual IP; {ask}: {attempt}")) };
        }
        Answer::NoSuchName => {
            // a C library does not say which code it was told
            let said =
                attempt.report.outcome == Said::NoSuchName || ["NXDOMAIN", "NOERROR", "REFUSED"].contains(&rcode);
            let holds = found.is_empty() && said;
            return if holds { Ok(()) } else { Err(anyhow::anyhow!("expected no such name; {ask}: {attempt}")) };
        }
        Answer::Error => {
            let holds = found.is_empty() && !attempt.is(Outcome::Answered);
            return if holds { Ok(()) } else { Err(anyhow::anyhow!("expected an error; {ask}: {attempt}")) };
        }
        Answer::ClusterIp(of) => vec![world.text(&format!("clusterip({of})")).await?.parse()?],
        Answer::External(of) => vec![world.external_address(of).await?.ip()],
        Answer::PodIps(of) => world.pods(of).await?.into_iter().flat_map(|p| p.addresses).collect(),
    };
    let mut expected = expected;
    if found.iter().all(IpAddr::is_ipv4) {
        expected.retain(IpAddr::is_ipv4);
    }
    expected.sort_unstable();
    if found != expected || found.is_empty() {
        bail!("expected {expected:?}; {ask}: {attempt}");
    }
    Ok(())
}

async fn readiness(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (name, readiness) = (arguments.string()?, arguments.get::<Readiness>()?);
    world.instance(&name)?;
    world.bed().await?;
    match readiness {
        Readiness::BecomesReady => world.becomes_ready(&name).await,
        Readiness::StaysUnready => world.stays_unready(&name).await,
        Readiness::RunsToCompletion => world.completes(&name).await,
    }
}

async fn submission(world: &mut World, mut arguments: Arguments) -> Result<()> {
    world.judge_submission(arguments.get::<Admission>()?).await
}

async fn error_names(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let hint = words(&mut arguments)?;
    let found = world.find_error(&hint).await?;
    world.timeline.note(format!("found {hint:?} in {found}"));
    Ok(())
}

async fn task(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (task, result) = (arguments.get::<Task>()?, arguments.get::<TaskResult>()?);
    let (passed, said) = match task {
        Task::PreflightCheck => {
            let found = world.preflight.clone().context("look at the preflight check: it has not run")?;
            (found.is_empty(), if found.is_empty() { "it found nothing wrong".into() } else { found.join("; ") })
        }
        Task::Command => {
            let command = world.command.as_ref().context("look at the command: none has run")?;
            let ran = &command.ran;
            (ran.code == 0, format!("{} ended with status {}: {}{}", command.line, ran.code, ran.stdout, ran.stderr))
        }
    };
    let wanted = result != TaskResult::Fails;
    if passed != wanted {
        bail!("expected that the {task} {result}: {said}");
    }
    Ok(())
}

/// What components show: the last plugin of the node's chain; what the control plane was asked for and does not do.
async fn component_shows(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let component = arguments.get::<Component>()?;
    for (key, wanted) in &arguments.pairs()? {
        let found = match (component, key.as_str()) {
            (Component::MeshGateway, "pods") => {
                world.bed().await?.gateways().iter().map(crate::pods::PodRef::host).collect()
            }
            (Component::Node, "last chained plugin") => {
                world.bed().await?.chained_plugins()?.pop().into_iter().collect()
            }
            (Component::ControlPlane, "problems") => world.bed().await?.problems(),
            (component, _) => {
                let known = match component {
                    Component::Node => "\"last chained plugin\"",
                    Component::ControlPlane => "\"problems\"",
                    Component::MeshGateway => "\"pods\"",
                    _ => "nothing",
                };
                bail!("look at the {component}: {key:?} is nothing that it shows; it shows {known}");
            }
        };
        let has = |text: &str| if text == "none" { found.is_empty() } else { found.iter().any(|f| f.contains(text)) };
        let fits = wanted.strip_prefix("not ").map_or_else(|| has(wanted), |other| !has(other));
        if !fits {
            bail!("expected that the {key} of the {component} is {wanted}: it shows {found:?}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::hex_of;

    #[test]
    fn payloads_in_hexadecimal() {
        assert_eq!(hex_of(r"A\x00\xffB"), "4100ff42");
    }
}
