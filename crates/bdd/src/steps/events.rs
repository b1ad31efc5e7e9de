//! W1-W28: what happens.

use std::time::Duration;

use anyhow::Result;

use super::{lifecycle, submission};
use crate::action::{Ask, Request};
use crate::cluster::Ran;
use crate::later::other_version;
use crate::vocabulary::parameters::{Certificate, Component, Crd, Protocol, State};
use crate::vocabulary::{Arguments, Phrase};
use crate::world::{Command, World};

pub(crate) fn phrases() -> &'static [Phrase] {
    crate::vocabulary::phrases![
        "W1" "{string} requests {string}" => requests;
        "W2" "{string} requests {string} {int} times" => requests_times;
        "W3" "{string} as user {int} requests {string}" => requests_as;
        "W4" "{string} keeps requesting {string}" => keeps_requesting;
        "W5" "{string} dials {protocol} {string}" => dials;
        "W6" "{string} dials {protocol} {string} by {string}" => dials_by;
        "W7" "{string} sends {string} over {protocol} to {string}" => sends;
        "W8" "{string} presenting {certificate} dials {string}" => presents;
        "W9" "{string} looks up {string}" => looks_up;
        "W10" "{string} looks up {string} over {protocol}" => looks_up_over;
        "W11" "the kubelet probes {string}" => kubelet_probes;
        "W12" "the workload {string} is submitted" => submission::submitted;
        "W13" "the workload {string} is submitted with:" => submission::submitted_with;
        "W14" "{string} is {state}" => lifecycle::workload_is;
        "W15" "{string} is scaled to {int}" => lifecycle::scaled;
        "W16" "{string} becomes {health}" => lifecycle::health;
        "W17" "{string} is changed to:" => lifecycle::changed;
        "W18" "the {component} is {state}" => component_is;
        "W19" "the {component} of {string} is {state}" => component_of_is;
        "W20" "the mesh is changed to:" => mesh_changed;
        "W21" "the mesh is upgraded to version {string}" => mesh_upgraded;
        "W22" "the {crd} {string} is changed to:" => resource_changed;
        "W23" "the {crd} {string} is deleted" => resource_deleted;
        "W24" "the namespace {string} is relabelled {string}" => relabelled;
        "W25" "the preflight check runs" => preflight;
        "W26" "the CNI plugin runs {string} for {string}" => cni_runs;
        "W27" "{string} as user {int} runs {string}" => runs;
        "W28" "{int} seconds pass" => seconds_pass;
    ]
}

fn ask(client: String, request: Request) -> Ask {
    Ask { client, uid: None, request }
}

async fn requests(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (client, url) = (arguments.string()?, arguments.string()?);
    world.ask(ask(client, Request::Get(url)), 1).await
}

async fn requests_times(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (client, url, times) = (arguments.string()?, arguments.string()?, arguments.int()?);
    world.ask(ask(client, Request::Get(url)), times).await
}

async fn requests_as(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (client, uid, url) = (arguments.string()?, arguments.int()?, arguments.string()?);
    world.ask(Ask { client, uid: Some(u32::try_from(uid)?), request: Request::Get(url) }, 1).await
}

async fn keeps_requesting(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (client, url) = (arguments.string()?, arguments.string()?);
    world.keep_asking(ask(client, Request::Get(url))).await
}

async fn dials(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (client, protocol, target) = (arguments.string()?, arguments.get::<Protocol>()?, arguments.string()?);
    world.ask(ask(client, Request::Dial(protocol, target, None)), 1).await
}

async fn dials_by(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (client, protocol, target) = (arguments.string()?, arguments.get::<Protocol>()?, arguments.string()?);
    let technique = arguments.string()?.parse()?;
    world.ask(ask(client, Request::Dial(protocol, target, Some(technique))), 1).await
}

async fn sends(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (client, payload) = (arguments.string()?, arguments.string()?);
    let (protocol, target) = (arguments.get::<Protocol>()?, arguments.string()?);
    world.ask(ask(client, Request::Send(protocol, payload, target)), 1).await
}

async fn presents(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (client, certificate) = (arguments.string()?, arguments.get::<Certificate>()?);
    let target = arguments.string()?;
    world.ask(ask(client, Request::Present(certificate, target)), 1).await
}

async fn looks_up(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (client, name) = (arguments.string()?, arguments.string()?);
    world.ask(ask(client, Request::Lookup(Protocol::DnsUdp, name)), 1).await
}

async fn looks_up_over(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (client, name, protocol) = (arguments.string()?, arguments.string()?, arguments.get::<Protocol>()?);
    world.ask(ask(client, Request::Lookup(protocol, name)), 1).await
}

async fn kubelet_probes(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let name = arguments.string()?;
    world.instance(&name)?;
    world.bed().await?;
    world.await_started(&name).await?;
    world.bed().await?.converge().await?;
    world.probe(&name).await
}

async fn component_is(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (component, state) = (arguments.get::<Component>()?, arguments.get::<State>()?);
    world.bed().await?;
    world.await_ready().await?;
    let settings = world.settings.clone();
    world.bed().await?.component(component, None, state, &settings).await
}

async fn component_of_is(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (component, of, state) = (arguments.get::<Component>()?, arguments.string()?, arguments.get::<State>()?);
    world.bed().await?;
    world.await_ready().await?;
    if world.has_cluster(&of) {
        let settings = world.settings.clone();
        return world.bed().await?.at(Some(&of)).component(component, None, state, &settings).await;
    }
    if (component, state) == (Component::Proxy, State::AskedToShutDown) {
        // whoever asks is the Job itself, when it needs the proxy no more
        world.await_work(&of).await?;
    }
    let pod = world.pod(&of).await?;
    let workload = world.instance(&of)?.workload;
    match state {
        State::Stopped | State::AskedToShutDown => world.disturb(&workload, true),
        State::Started => world.disturb(&workload, false),
        _ => {}
    }
    if component == Component::InitContainer {
        return lifecycle::run_init_again(world, &pod, state).await;
    }
    let settings = world.settings.clone();
    world.bed().await?.component(component, Some(&pod), state, &settings).await
}

async fn mesh_changed(world: &mut World, arguments: Arguments) -> Result<()> {
    world.bed().await?;
    world.await_ready().await?;
    world.set(&arguments.pairs()?).await
}

async fn mesh_upgraded(_: &mut World, mut arguments: Arguments) -> Result<()> {
    let version = arguments.string()?;
    Err(other_version(&format!("an upgrade of the mesh to version {version}")))
}

async fn resource_changed(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (kind, name) = (arguments.get::<Crd>()?, arguments.string()?);
    world.bed().await?;
    world.change_resource(kind, &name, &arguments.pairs()?).await
}

async fn resource_deleted(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (kind, name) = (arguments.get::<Crd>()?, arguments.string()?);
    world.delete_resource(kind, &name).await
}

async fn relabelled(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (name, label) = (arguments.string()?, arguments.string()?);
    world.bed().await?;
    world.await_ready().await?;
    world.namespace(&name, &label).await
}

async fn preflight(world: &mut World, _: Arguments) -> Result<()> {
    let found = crate::preflight::check(&world.settings.plan()?);
    world.timeline.note(if found.is_empty() { "nothing was found".to_owned() } else { found.join("\n") });
    world.preflight = Some(found);
    Ok(())
}

async fn cni_runs(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (verbs, of) = (arguments.string()?, arguments.string()?);
    world.bed().await?;
    world.await_started(&of).await?;
    let pod = world.pod(&of).await?;
    let mut ran = Ran { code: 0, stdout: String::new(), stderr: String::new() };
    for verb in verbs.split([',', ' ']).filter(|verb| !verb.is_empty()) {
        if !["ADD", "CHECK", "DEL", "STATUS"].contains(&verb) {
            anyhow::bail!("have the CNI plugin run {verb:?}: for a pod it runs ADD, CHECK, DEL and STATUS");
        }
        if let Err(error) = world.bed().await?.run_plugins(&pod, verb).await {
            ran = Ran { code: 1, stdout: String::new(), stderr: format!("{verb}: {error:#}") };
            break;
        }
    }
    world
        .timeline
        .note(format!("the CNI plugin ran {verbs} for {of}: {}", if ran.code == 0 { "done" } else { &ran.stderr }));
    world.command = Some(Command { line: format!("CNI {verbs} for {of}"), ran });
    Ok(())
}

async fn runs(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (name, uid, line) = (arguments.string()?, arguments.int()?, arguments.string()?);
    world.instance(&name)?;
    world.bed().await?;
    world.await_ready().await?;
    let ran = world.run_as(&name, u32::try_from(uid)?, &line).await?;
    world.timeline.note(format!("status {}, said {:?} and {:?}", ran.code, ran.stdout, ran.stderr));
    world.command = Some(Command { line, ran });
    Ok(())
}

async fn seconds_pass(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let seconds = arguments.int()?;
    let timing = world.bed().await?.timing();
    #[expect(clippy::cast_precision_loss, reason = "a scenario waits minutes at most")]
    let passed = Duration::from_secs_f64(seconds as f64 / timing.tempo).max(timing.quiet);
    tokio::time::sleep(passed).await;
    Ok(())
}
