//! What steps say of several clusters: how they are joined, what one exports to another, which of them a group is of, and in which of
//! them an object of the mesh belongs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::World;
use super::declare::API_VERSION;
use crate::topology::Topology;
use crate::vocabulary::parameters::{Crd, Link};

/// Name that the only ExportedServices of a cluster has.
const EXPORTED: &str = "default";

/// What clusters share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// By exporting cluster and service: the peers, or the groups, that may use it.
    exports: BTreeMap<(String, String), BTreeSet<Consumer>>,
    /// By name: the members, and whether services fail over within it by default.
    groups: BTreeMap<String, (Vec<String>, bool)>,
    /// Clusters whose exports the API server does not have yet.
    changed: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Consumer {
    Peer(String),
    Group(String),
}

impl World {
    /// Names two clusters, and how they are joined.
    pub(crate) fn clusters(&mut self, a: &str, b: &str, link: Link) -> Result<()> {
        ensure!(!self.is_live(), "have clusters {a:?} and {b:?} {link}: say so before anything else needs one");
        ensure!(a != b, "have clusters {a:?} and {b:?} {link}: they are one and the same");
        if let Some(here) = self.workloads.values().find(|workload| workload.cluster.is_none()) {
            bail!("have clusters {a:?} and {b:?} {link}: say so before {here}, which is in one of them");
        }
        self.topology = Some(match self.topology.take() {
            None => Topology::new(a, b, link),
            Some(topology) => topology.and(a, b, link)?,
        });
        Ok(())
    }

    /// Whether there is a cluster of this name among several.
    pub(crate) fn has_cluster(&self, name: &str) -> bool {
        self.topology.as_ref().is_some_and(|topology| topology.has(name))
    }

    /// Whether each cluster has a mesh of its own.
    pub(crate) fn is_peered(&self) -> bool {
        self.topology.as_ref().is_some_and(Topology::is_peered)
    }

    fn need_cluster(&self, name: &str) -> Result<()> {
        let all = self.topology.as_ref().map(|topology| topology.clusters.join(", ")).unwrap_or_default();
        ensure!(self.has_cluster(name), "find the cluster {name:?}: steps have named [{all}]");
        Ok(())
    }

    /// Exports a service to a peer, or no longer.
    pub(crate) async fn export(&mut self, service: &str, exported: bool, to: &str) -> Result<()> {
        self.need_cluster(to)?;
        let workload = self.spec(service)?;
        let cluster = workload.cluster.clone().with_context(|| format!("find the cluster of {service}"))?;
        ensure!(cluster != to, "export {service} to {to}: it is there itself");
        let consumers = self.shared.exports.entry((cluster.clone(), workload.consul_service().to_owned())).or_default();
        let is_new = match exported {
            true => consumers.insert(Consumer::Peer(to.to_owned())),
            false => consumers.remove(&Consumer::Peer(to.to_owned())),
        };
        if is_new {
            self.shared.changed.insert(cluster);
        }
        self.settle().await
    }

    /// Has a sameness group of clusters, one in each from its own point of view. Everything is exported to the group.
    pub(crate) async fn group(&mut self, name: &str, members: &str, failing: bool) -> Result<()> {
        let members: Vec<String> = members.split(',').map(|member| member.trim().to_owned()).collect();
        for member in &members {
            self.need_cluster(member)?;
        }
        self.shared.groups.insert(name.to_owned(), (members.clone(), failing));
        for here in &members {
            let listed = members.iter().map(|member| match member == here {
                true => json!({"partition": "default"}),
                false => json!({"peer": member}),
            });
            let object = json!({
                "apiVersion": API_VERSION, "kind": "SamenessGroup", "metadata": {"name": name, "namespace": "default"},
                "spec": {"defaultForFailover": failing, "members": listed.collect::<Vec<_>>()},
            });
            // said again, it is another one
            self.resources.retain(|(cluster, known)| {
                cluster.as_ref() != Some(here) || known["kind"] != "SamenessGroup" || known["metadata"]["name"] != name
            });
            self.resources.push((Some(here.clone()), object));
            let consumers = self.shared.exports.entry((here.clone(), "*".to_owned())).or_default();
            consumers.insert(Consumer::Group(name.to_owned()));
            self.shared.changed.insert(here.clone());
        }
        self.settle().await
    }

    /// Applies what was said to a mesh that runs.
    async fn settle(&mut self) -> Result<()> {
        if self.is_live() {
            self.flush().await?;
            self.bed_now()?.converge().await?;
        }
        Ok(())
    }

    /// Writes what each cluster exports, where that is not what it was.
    pub(super) async fn apply_exports(&mut self) -> Result<()> {
        let bed = self.bed_now()?;
        for cluster in std::mem::take(&mut self.shared.changed) {
            let of_cluster = self.shared.exports.iter().filter(|((of, _), to)| *of == cluster && !to.is_empty());
            let services: Vec<Value> = of_cluster
                .map(|((_, service), consumers)| {
                    let consumers: Vec<Value> = consumers.iter().map(Consumer::object).collect();
                    json!({"name": service, "consumers": consumers})
                })
                .collect();
            let api = bed.at(Some(&cluster)).cluster();
            if services.is_empty() {
                if api.get("ExportedServices", "default", EXPORTED).await?.is_some() {
                    api.delete("ExportedServices", "default", EXPORTED, None).await?;
                }
                continue;
            }
            let object = json!({
                "apiVersion": API_VERSION, "kind": "ExportedServices",
                "metadata": {"name": EXPORTED, "namespace": "default"}, "spec": {"services": services},
            });
            api.apply(&object).await.with_context(|| format!("export services of {cluster}"))?;
            self.taken_over(Some(&cluster), &object).await?;
        }
        Ok(())
    }

    /// The clusters in which an object of the mesh belongs, and its name there. Where clusters share a mesh, that is the first; where
    /// each has a mesh of its own, those that have a workload of this name, and all for what is about a mesh as a whole.
    pub(super) fn homes(&self, kind: Crd, name: &str) -> Vec<(Option<String>, String)> {
        let Some(topology) = self.topology.as_ref().filter(|topology| topology.is_peered()) else {
            return vec![(None, name.to_owned())];
        };
        let all = || topology.clusters.iter().cloned().map(Some);
        if kind == Crd::ExportedServices && topology.has(name) {
            // named after the cluster; what it is called there is settled
            return vec![(Some(name.to_owned()), EXPORTED.to_owned())];
        }
        if matches!(kind, Crd::ProxyDefaults | Crd::Mesh) {
            return all().map(|cluster| (cluster, name.to_owned())).collect();
        }
        let has_it =
            |cluster: &Option<String>| self.workloads.values().any(|w| w.name == name && w.cluster == *cluster);
        let homes: Vec<_> = all().filter(has_it).map(|cluster| (cluster, name.to_owned())).collect();
        if homes.is_empty() { vec![(None, name.to_owned())] } else { homes }
    }

    /// Deletes an object of the mesh wherever it is.
    pub(crate) async fn delete_resource(&mut self, kind: Crd, name: &str) -> Result<()> {
        let bed = self.bed().await?;
        let kind_name = kind.to_string();
        let mut homes = self.homes(kind, name);
        // what belongs nowhere by its name may have been made anywhere
        homes.extend(bed.parts().iter().filter_map(|part| Some((Some(part.name()?.to_owned()), name.to_owned()))));
        let mut deleted = BTreeSet::new();
        for (cluster, name) in homes {
            let api = bed.at(cluster.as_deref()).cluster();
            if !deleted.contains(&cluster) && api.get(&kind_name, "default", &name).await?.is_some() {
                api.delete(&kind_name, "default", &name, None).await?;
                deleted.insert(cluster);
            }
        }
        ensure!(!deleted.is_empty(), "delete the {kind} {name}: there is none");
        bed.converge().await
    }

    /// The cluster in which an intention about a destination belongs, and the peer that its source is in, seen from there.
    pub(super) fn between(&self, source: &str, destination: &str) -> (Option<String>, Option<String>) {
        let Some(topology) = self.topology.as_ref().filter(|topology| topology.is_peered()) else {
            return (None, None);
        };
        let of = |name: &str| self.find(name).and_then(|workload| workload.cluster.clone());
        let there = of(destination).or_else(|| topology.clusters.first().cloned());
        let peer = of(source).filter(|cluster| Some(cluster) != there.as_ref());
        (there, peer)
    }
}

impl Consumer {
    fn object(&self) -> Value {
        match self {
            Self::Peer(peer) => json!({"peer": peer}),
            Self::Group(group) => json!({"samenessGroup": group}),
        }
    }
}
