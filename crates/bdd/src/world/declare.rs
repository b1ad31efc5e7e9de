//! Declarations: kept until the bed is there, applied then, and changes of the live objects afterwards.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::World;
use super::clusters::Elsewhere;
use crate::settings::Settings;
use crate::vocabulary::parameters::{Crd, Mechanism, Verdict};
use crate::workload::{Command, Workload, fixture, manifest};

/// Whether a source may reach a destination, as steps said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intention {
    /// It may.
    pub allowed: bool,
    /// The API server has it.
    pub applied: bool,
}

/// A destination of intentions, and the cluster whose mesh it is in, where each has its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct To {
    cluster: Option<String>,
    destination: String,
}

/// A source of intentions, and the mesh or partition that it is in, if that is another one than the destination's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    name: String,
    of: Option<Elsewhere>,
}

impl Source {
    fn object(&self, allowed: bool) -> Value {
        let mut object = json!({"name": self.name, "action": if allowed { "allow" } else { "deny" }});
        match &self.of {
            Some(Elsewhere::Peer(peer)) => object["peer"] = json!(peer),
            Some(Elsewhere::Partition(partition)) => object["partition"] = json!(partition),
            None => {}
        }
        object
    }
}

/// A custom resource that was not taken over.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{who} refuses the {object}: {why}")]
pub struct Refusal {
    who: &'static str,
    object: String,
    why: String,
}

/// What became of a submission.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The workload.
    pub workload: String,
    /// The API server's refusal.
    pub refused: Option<String>,
}

/// Group and version of the mesh's custom resources.
pub const API_VERSION: &str = "consul.hashicorp.com/v1alpha1";
/// Seconds that a client goes on for after the grace period of its proxy.
const FAREWELL: u32 = 5;

impl World {
    /// Merges settings of the mesh; changes the running one.
    pub(crate) async fn set(&mut self, rows: &[(String, String)]) -> Result<()> {
        let before = self.settings.clone();
        self.settings.merge(rows)?;
        let said = !self.resources.is_empty() || !self.intentions.is_empty() || self.has_shared();
        if said && before.has_partitions()? != self.settings.has_partitions()? {
            anyhow::bail!(
                "set global.adminPartitions.enabled: say so before intentions, exports and resources, which belong to a partition"
            );
        }
        self.reconfigure(before).await
    }

    /// Says who redirects; changes the running mesh.
    pub(crate) async fn redirect_by(&mut self, mechanism: Mechanism) -> Result<()> {
        let before = self.settings.clone();
        self.settings.redirect_by(mechanism);
        self.reconfigure(before).await
    }

    async fn reconfigure(&mut self, before: Settings) -> Result<()> {
        if !self.is_live() || before == self.settings {
            return Ok(());
        }
        self.settings.buildable(self.topology.as_ref())?;
        self.settings.changeable(&before)?;
        self.bed_now()?.reconfigure(&self.settings).await.context("change the mesh")
    }

    /// Sets the default intention.
    pub(crate) async fn default_intention(&mut self, verdict: Verdict) -> Result<()> {
        self.settings.default_intention = Some(verdict);
        if self.is_live() {
            self.bed_now()?.default_intention(verdict).await?;
            self.bed_now()?.converge().await?;
        }
        Ok(())
    }

    /// Declares a namespace with a label; relabels a live one.
    pub(crate) async fn namespace(&mut self, name: &str, label: &str) -> Result<()> {
        let (key, value) = label.split_once('=').with_context(|| format!("read the label {label:?} as key=value"))?;
        let label = (value != "none").then(|| (key.to_owned(), value.to_owned()));
        if self.is_live() {
            let value = label.as_ref().map(|(_, v)| v.clone());
            let object = manifest::namespace(name, None);
            let patch = json!({"metadata": {"labels": {(key): value}}});
            for part in self.bed_now()?.parts() {
                let cluster = part.cluster();
                cluster.apply(&object).await.with_context(|| format!("make the namespace {name}"))?;
                cluster
                    .merge("Namespace", "", name, &patch)
                    .await
                    .with_context(|| format!("label the namespace {name}"))?;
            }
            return Ok(());
        }
        self.namespaces.push((name.to_owned(), label));
        Ok(())
    }

    /// Declares a workload: its fixture, changed by the rows.
    pub(crate) async fn workload(&mut self, name: &str, rows: &[(String, String)]) -> Result<()> {
        let mut workload = fixture(name);
        workload.apply(rows)?;
        let key = self.take_in(workload)?;
        self.pending.push(key);
        if self.is_live() { self.flush().await } else { Ok(()) }
    }

    /// Creates a workload without waiting, and remembers what the API server said.
    pub(crate) async fn submit(&mut self, name: &str, rows: &[(String, String)]) -> Result<()> {
        self.bed().await?;
        let mut workload = fixture(name);
        workload.apply(rows)?;
        let key = self.take_in(workload)?;
        self.submitted.push(key.clone());
        let refused = self.create(&key).await?;
        if let Some(refusal) = &refused {
            self.timeline.note(format!("the submission was refused: {refusal}"));
        }
        self.submission = Some(Submission { workload: key, refused });
        Ok(())
    }

    /// Declares an external endpoint.
    pub(crate) async fn external(&mut self, name: &str, address: SocketAddr) -> Result<()> {
        self.externals.insert(name.to_owned(), address);
        if self.is_live() {
            self.bed_now()?.external(name, address).await?;
        }
        Ok(())
    }

    /// Declares whether a source may reach a destination.
    pub(crate) async fn intention(&mut self, source: &str, destination: &str, allowed: bool) -> Result<()> {
        let service = |world: &Self, name: &str| {
            let workload = world.find(name);
            workload.map_or_else(|| name.to_owned(), |w| w.consul_service().to_owned())
        };
        let (cluster, of) = self.between(source, destination)?;
        let to = To { cluster, destination: service(self, destination) };
        let key = (to, Source { name: service(self, source), of });
        self.intentions.insert(key, Intention { allowed, applied: false });
        if self.is_live() {
            self.flush().await?;
            self.bed_now()?.converge().await?;
        }
        Ok(())
    }

    /// Declares a custom resource.
    pub(crate) async fn resource(&mut self, kind: Crd, name: &str, rows: &[(String, String)]) -> Result<()> {
        let spec = crate::field_path::object(rows)?;
        let spec = match kind {
            Crd::ServiceIntentions if spec.get("destination").is_none() => {
                let mut spec = spec;
                spec["destination"] = json!({"name": name});
                spec
            }
            _ => spec,
        };
        for (cluster, name) in self.homes(kind, name)? {
            let object = json!({
                "apiVersion": API_VERSION, "kind": kind.to_string(),
                "metadata": {"name": name, "namespace": "default"}, "spec": spec,
            });
            self.resources.push((cluster, object));
        }
        if self.is_live() {
            self.flush().await?;
            self.bed_now()?.converge().await?;
        }
        Ok(())
    }

    /// Changes a custom resource of a live mesh; that it is refused is an answer.
    pub(crate) async fn change_resource(&mut self, kind: Crd, name: &str, rows: &[(String, String)]) -> Result<()> {
        self.refusal = None;
        let refusal = match self.resource(kind, name, rows).await {
            Ok(()) => return Ok(()),
            Err(error) => error.downcast::<Refusal>()?,
        };
        self.timeline.note(refusal.to_string());
        self.refusal = Some(refusal);
        self.bed_now()?.converge().await
    }

    /// Applies everything that was declared and is not there yet.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let bed = self.bed_now()?;
        for (name, label) in std::mem::take(&mut self.namespaces) {
            let label = label.as_ref().map(|(k, v)| (k.as_str(), v.as_str()));
            let object = manifest::namespace(&name, label);
            for part in bed.parts() {
                part.cluster().apply(&object).await.with_context(|| format!("make the namespace {name}"))?;
            }
        }
        for (name, address) in self.externals.clone() {
            bed.external(&name, address).await.with_context(|| format!("make the external endpoint {name}"))?;
        }
        let resources = std::mem::take(&mut self.resources);
        for (cluster, object) in &resources {
            let (kind, _, name) = crate::cluster::identity(object);
            match bed.at(cluster.as_deref()).cluster().apply(object).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_invalid() => {
                    let (who, object) = ("the API server", format!("{kind} {name}"));
                    return Err(Refusal { who, object, why: status.message.clone() }.into());
                }
                Err(error) => return Err(error).with_context(|| format!("apply the {kind} {name}")),
            }
        }
        for (cluster, object) in &resources {
            self.taken_over(cluster.as_deref(), object).await?;
        }
        self.apply_exports().await?;
        self.apply_intentions().await?;
        let pending = std::mem::take(&mut self.pending);
        // what acts once and ends finds everything else that was declared at its place
        let acts = |name: &String| self.workloads.get(name).is_some_and(Workload::acts_once);
        let (actors, others): (Vec<String>, Vec<String>) = pending.into_iter().partition(acts);
        self.make(&others).await?;
        if !actors.is_empty() {
            self.await_others(&actors).await?;
            self.make(&actors).await?;
        }
        Ok(())
    }

    /// Waits for the readiness of every declared workload but these; one that never becomes ready holds nobody up.
    async fn await_others(&mut self, actors: &[String]) -> Result<()> {
        let idle = |n: &&String| !actors.contains(n) && !self.submitted.contains(n) && !self.disturbed.contains(*n);
        let others: Vec<String> = self.workloads.keys().filter(idle).cloned().collect();
        for name in others {
            if let Err(error) = self.await_workload(&name).await {
                self.timeline.note(format!("{} go on without it: {error:#}", actors.join(", ")));
            }
        }
        self.bed_now()?.converge().await
    }

    /// Creates workloads, all at once; a refusal is an error.
    async fn make(&mut self, pending: &[String]) -> Result<()> {
        let bed = self.bed_now()?;
        let mut created = Vec::new();
        for name in pending {
            created.push(self.prepare(name).await?);
        }
        let refusals =
            try_join_all(
                created.iter().map(|(workload, objects)| {
                    let cluster = bed.at(workload.at()).cluster().clone();
                    async move {
                        apply_all(&cluster, objects).await.with_context(|| format!("make the workload {workload}"))
                    }
                }),
            );
        for (refusal, name) in refusals.await?.into_iter().zip(pending) {
            if let Some(refusal) = refusal {
                anyhow::bail!("make the workload {name}: the API server refused it: {refusal}");
            }
        }
        Ok(())
    }

    /// Waits until the control plane has looked at a resource as it is now. What it refuses has no effect, and a feature
    /// that goes on without it would prove something else than it says.
    pub(super) async fn taken_over(&mut self, cluster: Option<&str>, object: &Value) -> Result<()> {
        let bed = self.bed_now()?;
        let (kind, namespace, name) = crate::cluster::identity(object);
        let verdict = async || {
            let found =
                bed.at(cluster).cluster().get(kind, namespace, name).await.ok().flatten().ok_or("it is gone")?;
            let conditions = found["status"]["conditions"].as_array();
            let synced = conditions.into_iter().flatten().find(|c| c["type"] == "Synced").ok_or("it says nothing")?;
            if synced["observedGeneration"] != found["metadata"]["generation"] {
                return Err("it speaks of an earlier one");
            }
            Ok((synced["status"] == "True", synced["message"].as_str().unwrap_or_default().to_owned()))
        };
        let awaited = format!("what the control plane says about the {kind} {name}");
        match crate::wait::until(&awaited, bed.timing().patience, verdict).await {
            Ok((true, remark)) => {
                self.remark = Some(remark).filter(|remark| !remark.is_empty());
                Ok(())
            }
            Ok((false, why)) => Err(Refusal { who: "the control plane", object: format!("{kind} {name}"), why }.into()),
            // it may have been stopped; requests will show what that means
            Err(silence) => {
                self.timeline.note(format!("{silence:#}"));
                Ok(())
            }
        }
    }

    /// Creates one workload; the API server's refusal is an answer.
    async fn create(&mut self, name: &str) -> Result<Option<String>> {
        let (workload, objects) = self.prepare(name).await?;
        apply_all(self.bed_now()?.at(workload.at()).cluster(), &objects).await
    }

    /// The objects of a workload with the addresses in its commands resolved.
    pub(super) async fn prepare(&mut self, name: &str) -> Result<(Workload, Vec<Value>)> {
        let mut workload = self.workloads.get(name).cloned().with_context(|| format!("find the workload {name}"))?;
        workload.farewell = self.settings.shutdown_grace()?.map(|grace| grace + FAREWELL);
        let command = match &workload.command {
            Some(Command::DialFirst(target)) => Some(Command::DialFirst(self.text(target).await?)),
            Some(Command::RequestOnce(url)) => Some(Command::RequestOnce(self.text(url).await?)),
            other => other.clone(),
        };
        let mut init = Vec::new();
        for container in &workload.init {
            init.push(self.text(&container.url).await?);
        }
        let mut objects = manifest::objects(&workload, command.as_ref(), &init);
        if self.is_restricted(&workload).await? {
            objects.iter_mut().for_each(manifest::restrict);
        }
        Ok((workload, objects))
    }

    /// Whether a workload's namespace admits only Pods that ask for nothing.
    async fn is_restricted(&self, workload: &Workload) -> Result<bool> {
        const LABEL: &str = "pod-security.kubernetes.io/enforce";
        let namespace = workload.namespace.as_str();
        if manifest::BUILT_IN.contains(&namespace) {
            return Ok(false);
        }
        let bed = self.bed_now()?;
        let found = bed.at(workload.at()).cluster().get("Namespace", "", namespace).await?;
        Ok(found.is_some_and(|namespace| namespace["metadata"]["labels"][LABEL] == "restricted"))
    }

    /// The objects of a workload as it is described now.
    pub(crate) async fn prepared_objects(&mut self, name: &str) -> Result<Vec<Value>> {
        Ok(self.prepare(name).await?.1)
    }

    /// Makes a workload again that was deleted.
    pub(crate) async fn apply_again(&mut self, name: &str) -> Result<()> {
        match self.create(name).await? {
            Some(refusal) => anyhow::bail!("make the workload {name} again: the API server refused it: {refusal}"),
            None => self.await_workload(name).await,
        }
    }

    /// Whether a workload was merely submitted, so that nothing waits for it.
    pub(crate) fn is_submitted(&self, name: &str) -> bool {
        let known = self.parsed(name).map_or_else(|_| name.to_owned(), |instance| instance.workload);
        self.submitted.contains(&known)
    }

    /// Changes the description of a workload.
    pub(crate) fn change(&mut self, name: &str, rows: &[(String, String)]) -> Result<Workload> {
        let name = self.instance(name)?.workload;
        let workload = self.workloads.get_mut(&name).with_context(|| format!("find the workload {name}"))?;
        let fixed = ["namespace", "kind", "cluster"];
        if let Some((key, value)) = rows.iter().find(|(key, _)| fixed.contains(&key.as_str())) {
            anyhow::bail!("change {key:?} of {workload} to {value:?}: it is settled when a workload is made");
        }
        workload.apply(rows)?;
        Ok(workload.clone())
    }

    /// Changes how many Pods a workload should have.
    pub(crate) fn rescale(&mut self, name: &str, replicas: u32) -> Result<Workload> {
        let workload = self.workloads.get_mut(name).with_context(|| format!("find the workload {name}"))?;
        if replicas == 0 {
            self.stopped.insert(name.to_owned(), workload.replicas.max(1));
        }
        workload.replicas = replicas;
        Ok(workload.clone())
    }

    /// How many Pods a workload has when it is started: as many as it had when it was stopped.
    pub(crate) fn replicas_when_started(&self, name: &str) -> u32 {
        let now = self.workloads.get(name).map_or(0, |w| w.replicas);
        if now > 0 { now } else { self.stopped.get(name).copied().unwrap_or(1) }
    }

    /// Writes ServiceIntentions, one per destination, with every source that steps named.
    async fn apply_intentions(&mut self) -> Result<()> {
        let bed = self.bed_now()?;
        let mut destinations: Vec<To> =
            self.intentions.iter().filter(|(_, i)| !i.applied).map(|((d, _), _)| d.clone()).collect();
        destinations.dedup();
        let mut written = Vec::new();
        for destination in destinations {
            let sources: Vec<Value> = self
                .intentions
                .iter()
                .filter(|((d, _), _)| *d == destination)
                .map(|((_, source), i)| source.object(i.allowed))
                .collect();
            let To { cluster, destination } = destination;
            let api = bed.at(cluster.as_deref()).cluster();
            // no object can be called `*`
            let name = destination.replace('*', "any");
            let there = api.get("ServiceIntentions", "default", &name).await?.unwrap_or_default();
            // what a resource of the step's own says about others stays
            let same = |a: &Value, b: &Value| ["name", "peer", "partition"].iter().all(|field| a[*field] == b[*field]);
            let named = |source: &Value| sources.iter().any(|s| same(s, source));
            let others = there["spec"]["sources"].as_array().into_iter().flatten().filter(|s| !named(s)).cloned();
            let all: Vec<Value> = others.chain(sources.iter().cloned()).collect();
            let object = json!({
                "apiVersion": API_VERSION, "kind": "ServiceIntentions",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"destination": {"name": destination}, "sources": all},
            });
            api.apply(&object).await.with_context(|| format!("write the intentions of {destination}"))?;
            written.push((cluster, object));
        }
        for (cluster, object) in &written {
            self.taken_over(cluster.as_deref(), object).await?;
        }
        for intention in self.intentions.values_mut() {
            intention.applied = true;
        }
        Ok(())
    }
}

/// Applies objects one after another; a refusal by admission or validation ends it and is an answer.
async fn apply_all(cluster: &crate::cluster::Cluster, objects: &[Value]) -> Result<Option<String>> {
    for object in objects {
        match cluster.apply(object).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) => return Ok(Some(status.message.clone())),
            Err(error) => {
                let (kind, namespace, name) = crate::cluster::identity(object);
                return Err(error).with_context(|| format!("apply {kind} {namespace}/{name}"));
            }
        }
    }
    Ok(None)
}
