//! What a scenario leaves in its folder when it has ended, however it ended.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use redirect::contract;
use serde_json::Value;

use super::Folder;
use crate::bed::Bed;
use crate::world::World;

/// Namespaces whose Pods are not the scenario's.
const SYSTEM: &[&str] = &["consul"];
/// The container of a mesh gateway.
const GATEWAY: &str = "mesh-gateway";

/// Writes everything. Of a scenario that passed: packets, rules, Pods, the timeline. Of one that failed also what the
/// proxies and programs said.
pub async fn collect(world: &mut World, bed: &dyn Bed) {
    if let Some(refusals) = refusals(bed).await {
        world.timeline.note(refusals.clone());
        world.failure.get_or_insert_with(|| ("the end of the scenario".to_owned(), refusals));
    }
    let failed = world.failure.is_some();
    let folder = world.folder.clone();
    let (mut objects, mut events) = (Vec::new(), Vec::new());
    for part in bed.parts() {
        let pods = part.pods().all();
        let is_own = |p: &&Arc<Pod>| failed || !SYSTEM.contains(&p.namespace().unwrap_or_default().as_str());
        let own: Vec<_> = pods.iter().filter(is_own).cloned().collect();
        objects.extend(own.iter().filter_map(|p| serde_json::to_value(&**p).ok()));
        join_all(own.iter().map(|pod| of_pod(&folder, part, pod, failed))).await;
        if failed {
            events.extend(part.cluster().list("Event", "", "").await.unwrap_or_default());
        }
    }
    folder.write("pods.json", &pretty(&Value::Array(objects)));
    if failed {
        folder.write("events.json", &pretty(&Value::Array(events)));
    }
    let evidence = bed.recorder().finish().await;
    for (vantage, lost) in evidence.dropped() {
        world.timeline.note(format!("the capture is not whole: {vantage} lost {lost} packets"));
    }
    if !evidence.dropped().is_empty() && world.failure.is_none() {
        world.failure =
            Some(("the end of the scenario".to_owned(), "packets passed that were not recorded".to_owned()));
    }
    let failure = world.failure.as_ref().map(|(step, message)| format!("\n{step}\n{message}\n")).unwrap_or_default();
    folder.write("repro.txt", &format!("{}\n{failure}", world.again));
    folder.write("timeline.txt", &world.timeline.text());
}

/// What Envoys refused of their configuration, each with what its log says about that. An Envoy goes on with what it had, so a
/// scenario could pass all the same.
async fn refusals(bed: &dyn Bed) -> Option<String> {
    let mut texts = Vec::new();
    for (proxy, what) in bed.rejected() {
        let mut reasons = Vec::new();
        for part in bed.parts() {
            let is_its =
                |pod: &&Arc<Pod>| proxy == pod.name_any() || proxy.starts_with(&format!("{}-", pod.name_any()));
            for pod in part.pods().all().iter().filter(is_its) {
                let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
                let containers = pod.spec.iter().flat_map(|spec| &spec.containers).map(|c| c.name.as_str());
                for container in containers.filter(|name| [contract::SIDECAR_CONTAINER, GATEWAY].contains(name)) {
                    let log = part.cluster().log(&namespace, &name, container, false).await.unwrap_or_default();
                    reasons.extend(log.lines().filter(|line| line.contains("rejected:")).map(str::to_owned));
                }
            }
        }
        texts.push(format!("the Envoy of {proxy} refused its {what}: {}", reasons.join("; ")));
    }
    (!texts.is_empty()).then(|| texts.join("\n"))
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

async fn of_pod(folder: &Folder, bed: &dyn Bed, pod: &Pod, failed: bool) {
    let found = bed.pods().reference(pod);
    let file = found.host().replace('/', "_");
    if let Ok(Some(dump)) = bed.rules(&found).await {
        folder.write(&format!("rules/{file}"), &dump.join("\n"));
    }
    let containers: Vec<String> = pod
        .spec
        .iter()
        .flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers).map(|c| c.name.clone()))
        .collect();
    let proxied = containers.iter().any(|c| c == contract::SIDECAR_CONTAINER || c == GATEWAY);
    if proxied {
        let paths: &[&str] =
            if failed { &["config_dump?include_eds", "stats", "clusters"] } else { &["config_dump?include_eds"] };
        for path in paths {
            if let Ok(text) = bed.admin(&found, path).await {
                let name = path.split('?').next().unwrap_or(path);
                folder.write(&format!("envoy/{file}.{name}"), &text);
            }
        }
    }
    if failed {
        for container in &containers {
            for previous in [false, true] {
                let log = bed.cluster().log(&found.namespace, &found.name, container, previous).await;
                if let Ok(log) = log.map_err(|_| ()).and_then(|l| if l.is_empty() { Err(()) } else { Ok(l) }) {
                    let suffix = if previous { ".previous" } else { "" };
                    folder.write(&format!("logs/{file}_{container}{suffix}.log"), &log);
                }
            }
        }
    }
}
