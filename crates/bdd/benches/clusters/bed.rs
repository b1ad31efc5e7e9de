//! Labs without scenarios.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bdd::bed::Bed;
use bdd::bed::sim::{Order, start};
use bdd::cluster::Ran;
use bdd::evidence::Folder;
use bdd::pods::{PodRef, has_condition, is_going};
use bdd::settings::Settings;
use bdd::suite::{Settings as Machine, Suite};
use bdd::timeline::Timeline;
use bdd::topology::Topology;
use bdd::vocabulary::parameters::Link;
use bdd::workload::{fixture, manifest};
use bdd::world::API_VERSION;
use redirect::contract;
use serde_json::{Value, json};
use sim::sandbox::Inside;

/// How long anything may take before something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// What all labs of the measurement share. The environment says where the programs and Envoy are.
pub(crate) fn suite(inside: Inside) -> Result<Arc<Suite>> {
    let bin_dir = std::env::var_os("PELLUCID_BIN_DIR").context("find the programs: PELLUCID_BIN_DIR says where")?;
    let settings = Machine {
        out: inside.work.join("out"),
        bin_dir: PathBuf::from(bin_dir),
        envoy: bdd::run::envoy(std::env::var_os("PELLUCID_ENVOY").map(PathBuf::from).as_deref())?,
        keep: false,
        outer_pid: inside.outer,
        saboteur: None,
    };
    bdd::run::require(&settings)?;
    Ok(Suite::new(settings, inside.work))
}

/// Clusters `c1`, `c2` …, each of the others joined with the first.
pub(crate) fn clusters(count: usize, link: Link) -> Result<Option<Topology>> {
    let other = |n: usize| format!("c{n}");
    if count < 2 {
        return Ok(None);
    }
    (3..=count).try_fold(Topology::new("c1", "c2", link), |all, n| all.and("c1", &other(n), link)).map(Some)
}

/// A lab that runs.
pub(crate) async fn lab(suite: &Suite, topology: Option<&Topology>) -> Result<Arc<dyn Bed>> {
    let (settings, timeline) = (Settings::default(), Timeline::default());
    let folder = Folder::new(suite.settings.out.join(format!("lab-{}", suite.number())));
    folder.clear();
    let order = Order {
        suite,
        settings: &settings,
        topology,
        folder: &folder,
        timeline: &timeline,
        bulk: 0,
        is_recorded: false,
    };
    start(&order).await.context("start a lab")
}

/// Measures in a federation of two datacenters, `c1` and `c2`, and ends it whatever comes of that.
pub(crate) async fn federated(suite: &Suite, measure: impl AsyncFnOnce(&dyn Bed) -> Result<()>) -> Result<()> {
    let bed = lab(suite, clusters(2, Link::Federated)?.as_ref()).await?;
    let measured = measure(&*bed).await;
    bed.stop().await;
    measured
}

/// Looks until there is something, and says how long that took.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok((found, start.elapsed()));
        }
        ensure!(start.elapsed() < PATIENCE, "waited {} s until {what}", PATIENCE.as_secs());
        tokio::time::sleep(PAUSE).await;
    }
}

/// Puts a workload of the fixtures into a cluster, with annotations of its Pods, and waits for its Pod.
pub(crate) async fn place(bed: &dyn Bed, cluster: &str, name: &str, annotations: &[(&str, &str)]) -> Result<PodRef> {
    let mut workload = fixture(name);
    let rows: Vec<_> =
        annotations.iter().map(|(key, value)| (format!("annotation {key}"), (*value).to_owned())).collect();
    workload.apply(&rows)?;
    let part = bed.at(Some(cluster));
    for object in manifest::objects(&workload, None, &[]) {
        part.cluster().apply(&object).await?;
    }
    let ready = async || {
        let pods = part.pods().of(&workload.namespace, name);
        let ready = pods.iter().find(|pod| has_condition(pod, "Ready") && !is_going(pod));
        Ok(ready.map(|pod| part.pods().reference(pod)))
    };
    until(&format!("{name} is ready in {cluster}"), ready).await.map(|(pod, _)| pod)
}

/// Applies a custom resource of the mesh.
pub(crate) async fn configure(bed: &dyn Bed, cluster: &str, kind: &str, name: &str, spec: Value) -> Result<()> {
    let object = json!({
        "apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    });
    bed.at(Some(cluster)).cluster().apply(&object).await.with_context(|| format!("configure {kind} {name}"))?;
    Ok(())
}

/// Runs a command in a Pod's own container.
pub(crate) async fn run(bed: &dyn Bed, pod: &PodRef, words: &[&str]) -> Result<Ran> {
    let part = bed.at(pod.at());
    let known = part.pods().get(&pod.namespace, &pod.name).with_context(|| format!("find {}", pod.host()))?;
    let containers = known.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let container = containers.iter().find(|container| container.name != contract::SIDECAR_CONTAINER);
    let container = container.with_context(|| format!("find a container of {}", pod.host()))?;
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    part.cluster().exec(&pod.namespace, &pod.name, &container.name, &words, None).await
}
