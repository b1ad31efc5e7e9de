//! W14-W17, W19: workloads are restarted, scaled, changed; their health changes; the init container runs again.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::pods::{PodRef, has_condition};
use crate::vocabulary::Arguments;
use crate::vocabulary::parameters::{Health, State};
use crate::workload::{Controller, Instance, ProbeKind};
use crate::world::World;

const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

pub(super) async fn workload_is(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (name, state) = (arguments.string()?, arguments.get::<State>()?);
    let instance = world.instance(&name)?;
    world.bed().await?;
    match state {
        State::Restarted => restart(world, &instance).await,
        State::Deleted | State::Removed => delete(world, &name, &instance, None).await,
        State::ForceKilled | State::Killed => delete(world, &name, &instance, Some(0)).await,
        State::Stopped => {
            scale(world, &instance, 0).await?;
            ended(world, &instance).await
        }
        State::Started => {
            let replicas = world.replicas_when_started(&instance.workload);
            if world.spec(&instance.workload)?.replicas == 0 {
                // its instances are those that come now, counted from 0
                world.forget_pods(&instance.workload);
            }
            scale(world, &instance, replicas).await
        }
        State::Installed | State::WithoutCredentials | State::AskedToShutDown => {
            bail!("have the workload {name} {state}: that is said of components, not of workloads")
        }
    }
}

async fn restart(world: &mut World, instance: &Instance) -> Result<()> {
    if !world.is_submitted(&instance.workload) {
        world.await_workload(&instance.workload).await?;
    }
    let bed = world.bed().await?;
    let workload = world.spec(&instance.workload)?;
    let old: Vec<String> = world.pods(&instance.workload).await?.into_iter().map(|p| p.name).collect();
    let gone = |name: &String| {
        bed.at(workload.at()).pods().get(&workload.namespace, name).is_none_or(|p| crate::pods::is_going(&p))
    };
    let kind = match workload.controller {
        Controller::Deployment => "Deployment",
        Controller::StatefulSet => "StatefulSet",
        Controller::Pod | Controller::Job => {
            let kind = if workload.controller == Controller::Job { "Job" } else { "Pod" };
            bed.at(workload.at()).cluster().delete(kind, &workload.namespace, &workload.name, None).await?;
            let awaited = format!("the end of {workload}");
            crate::wait::until(&awaited, bed.timing().ready, async || {
                bed.at(workload.at())
                    .pods()
                    .get(&workload.namespace, &workload.name)
                    .is_none()
                    .then_some(())
                    .ok_or("it is still there")
            })
            .await?;
            world.forget_pods(&workload.key());
            return world.apply_again(&workload.key()).await;
        }
    };
    let objects = world.prepared_objects(&workload.key()).await?;
    let mut object = objects.into_iter().find(|o| o["kind"] == kind).with_context(|| format!("find the {kind}"))?;
    // a merge patch keeps what it does not name, and an annotation may have been taken away
    let live =
        bed.at(workload.at()).cluster().get(kind, &workload.namespace, &workload.name).await?.unwrap_or_default();
    let annotations = live.pointer("/spec/template/metadata/annotations").and_then(Value::as_object);
    for key in annotations.into_iter().flat_map(|a| a.keys()).filter(|key| !workload.annotations.contains_key(*key)) {
        object["spec"]["template"]["metadata"]["annotations"][key] = Value::Null;
    }
    object["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT] = json!(capture::Timestamp::now().to_string());
    bed.at(workload.at())
        .cluster()
        .merge(kind, &workload.namespace, &workload.name, &object)
        .await
        .with_context(|| format!("restart {workload}"))?;
    let awaited = format!("the old Pods of {workload} to go");
    crate::wait::until(&awaited, bed.timing().ready, async || {
        old.iter().all(gone).then_some(()).ok_or_else(|| format!("of {old:?} some stay"))
    })
    .await?;
    world.forget_pods(&workload.key());
    world.await_workload(&workload.key()).await
}

async fn delete(world: &mut World, name: &str, instance: &Instance, grace: Option<u32>) -> Result<()> {
    let bed = world.bed().await?;
    let workload = world.spec(&instance.workload)?;
    if !world.is_submitted(&instance.workload) {
        world.await_workload(&instance.workload).await?;
    }
    let pods = world.pods(name).await?;
    for pod in &pods {
        bed.at(pod.at()).cluster().delete("Pod", &pod.namespace, &pod.name, grace).await?;
    }
    if grace.is_none() {
        world.disturb(&workload.key(), true);
        // as long as it is there, what the scenario says of the workload is about the Pod that goes
        world.leave_taking(&workload.key(), pods.first());
        for pod in &pods {
            told(world, pod).await?;
        }
    }
    if grace == Some(0) && workload.controller != Controller::Pod {
        // its controller makes another; what the scenario says next is about a workload that is whole again
        world.await_workload(&workload.key()).await?;
    }
    Ok(())
}

/// Waits until a Pod's proxy has ended, if its lifecycle lets it go as soon as it is told.
async fn told(world: &World, pod: &PodRef) -> Result<()> {
    if world.settings.shutdown_grace()? != Some(0) {
        return Ok(());
    }
    let bed = world.bed_now()?;
    crate::wait::until(&format!("the end of the proxy of {}", pod.host()), bed.timing().ready, async || {
        let Some(live) = bed.at(pod.at()).pods().get(&pod.namespace, &pod.name) else { return Ok(()) };
        crate::pods::has_ended(&live, redirect::contract::SIDECAR_CONTAINER).then_some(()).ok_or("it runs")
    })
    .await
}

pub(super) async fn scaled(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (name, replicas) = (arguments.string()?, u32::try_from(arguments.int()?)?);
    let instance = world.instance(&name)?;
    scale(world, &instance, replicas).await
}

async fn scale(world: &mut World, instance: &Instance, replicas: u32) -> Result<()> {
    let workload = world.spec(&instance.workload)?;
    let kind = match workload.controller {
        Controller::Deployment => "Deployment",
        Controller::StatefulSet => "StatefulSet",
        Controller::Job | Controller::Pod => bail!("scale {workload}: it is neither Deployment nor StatefulSet"),
    };
    world.rescale(&instance.workload, replicas)?;
    if !world.is_live() {
        return Ok(());
    }
    let bed = world.bed().await?;
    let patch = json!({"spec": {"replicas": replicas}});
    bed.at(workload.at()).cluster().merge(kind, &workload.namespace, &workload.name, &patch).await.context("scale")?;
    world.await_workload(&workload.key()).await?;
    bed.converge().await
}

pub(super) async fn health(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (name, health) = (arguments.string()?, arguments.get::<Health>()?);
    world.instance(&name)?;
    world.bed().await?;
    world.await_ready().await?;
    let line = match health {
        Health::Unhealthy => "touch /tmp/unhealthy",
        Health::Healthy => "rm -f /tmp/unhealthy",
    };
    let command = ["/bin/sh", "-c", line].map(str::to_owned);
    let workload = world.instance(&name)?.workload;
    world.disturb(&workload, health == Health::Unhealthy);
    let bed = world.bed().await?;
    let pods = world.pods(&name).await?;
    for pod in &pods {
        let (_, container) = world.container(&name, None).await?;
        let container = container.unwrap_or_default();
        let ran = bed.at(pod.at()).cluster().exec(&pod.namespace, &pod.name, &container, &command, None).await?;
        if ran.code != 0 {
            bail!("make {} {health}: {}", pod.host(), ran.stderr);
        }
    }
    if health == Health::Healthy || !world.spec(&name)?.probes.iter().any(|probe| probe.kind == ProbeKind::Readiness) {
        return Ok(());
    }
    // what a step says next is about a workload of which the cluster knows
    for pod in &pods {
        let is_ready =
            || bed.at(pod.at()).pods().get(&pod.namespace, &pod.name).is_some_and(|p| has_condition(&p, "Ready"));
        let awaited = format!("{} to be unready", pod.host());
        let unready = crate::wait::until(&awaited, bed.timing().patience, async || {
            (!is_ready()).then_some(()).ok_or("it is ready")
        });
        // its probe may be one that cannot fail, which the scenario shows
        if let Err(error) = unready.await {
            world.timeline.note(format!("{error:#}"));
        }
    }
    bed.converge().await
}

pub(super) async fn changed(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let name = arguments.string()?;
    let rows = arguments.pairs()?;
    world.instance(&name)?;
    world.bed().await?;
    world.await_ready().await?;
    let before = world.spec(&name)?;
    let workload = world.change(&name, &rows)?;
    if workload.replicas != before.replicas {
        let instance = world.instance(&name)?;
        scale(world, &instance, workload.replicas).await?;
    }
    let bed = world.bed().await?;
    // a changed template would roll the Pods; what changes without a new Pod is the live Pod's metadata. The template
    // follows with the next restart.
    for pod in world.pods(&name).await? {
        let live = bed.at(pod.at()).cluster().get("Pod", &pod.namespace, &pod.name).await?.unwrap_or_default();
        let annotations = without(&before.annotations, &workload.annotations, &live["metadata"]["annotations"]);
        let patch = json!({"metadata": {"annotations": annotations}});
        bed.at(pod.at())
            .cluster()
            .merge("Pod", &pod.namespace, &pod.name, &patch)
            .await
            .context("change the live Pod")?;
    }
    Ok(())
}

/// Waits until no Pod of a workload is left.
async fn ended(world: &mut World, instance: &Instance) -> Result<()> {
    if !world.is_live() {
        return Ok(());
    }
    let bed = world.bed().await?;
    let workload = world.spec(&instance.workload)?;
    crate::wait::until(&format!("the end of the Pods of {workload}"), bed.timing().ready, async || {
        let left = bed.at(workload.at()).pods().of(&workload.namespace, &workload.name).len();
        if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
    })
    .await
}

/// Annotations for a merge patch: `after`, and what was taken away from `before` and is still there as `null`, because
/// what a patch does not name stays.
fn without(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>, live: &Value) -> Value {
    let gone = before.keys().filter(|key| !after.contains_key(*key) && !live[key.as_str()].is_null());
    let kept = after.iter().map(|(key, value)| (key.clone(), value.clone()));
    Value::Object(gone.map(|key| (key.clone(), Value::Null)).chain(kept).collect())
}

/// Runs a copy of the injected init container in its own Pod, as a kubelet does that has lost its state.
pub(super) async fn run_init_again(world: &mut World, pod: &PodRef, state: State) -> Result<()> {
    if state != State::Restarted {
        bail!("have the init container of {} {state}: it can be restarted", pod.host());
    }
    let bed = world.bed().await?;
    let object = bed.at(pod.at()).cluster().get("Pod", &pod.namespace, &pod.name).await?.context("find the Pod")?;
    let init = object["spec"]["initContainers"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| c["name"] == redirect::contract::INIT_CONTAINER)
        .with_context(|| format!("find the injected init container of {}", pod.host()))?;
    let mut again = init.clone();
    let name = format!("{}-again", redirect::contract::INIT_CONTAINER);
    if let Some(object) = again.as_object_mut() {
        object.insert("name".to_owned(), json!(name));
        // the API takes neither of an ephemeral container
        object.remove("resources");
        object.remove("ports");
    }
    bed.at(pod.at())
        .cluster()
        .add_ephemeral(&pod.namespace, &pod.name, &Value::Array(vec![again]))
        .await
        .with_context(|| format!("run the init container of {} again", pod.host()))?;
    crate::wait::until(&format!("the end of {name} in {}", pod.host()), bed.timing().ready, async || {
        let pod = bed.at(pod.at()).pods().get(&pod.namespace, &pod.name).ok_or("the Pod is gone")?;
        let status = pod.status.as_ref().and_then(|s| s.ephemeral_container_statuses.as_ref()?.first());
        let ended = status.and_then(|s| s.state.as_ref()?.terminated.as_ref()).ok_or("it has not ended")?;
        if ended.exit_code == 0 { Ok(()) } else { Err("it failed") }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_that_is_taken_away_is_patched_away() {
        let of = |keys: &[&str]| keys.iter().map(|k| ((*k).to_owned(), json!("x"))).collect::<BTreeMap<_, _>>();
        let (before, after) = (of(&["kept", "gone", "never there"]), of(&["kept", "new"]));
        let live = json!({"kept": "x", "gone": "x", "the webhook's": "y"});
        assert_eq!(without(&before, &after, &live), json!({"kept": "x", "new": "x", "gone": null}));
    }
}
