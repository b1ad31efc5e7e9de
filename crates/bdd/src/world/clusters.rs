//! What steps say of several clusters: how they are joined, what one exports to another, which of them a group is of, and in which of
//! them an object of the mesh belongs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::World;
use super::declare::API_VERSION;
use crate::topology::{DEFAULT_PARTITION, Topology};
use crate::vocabulary::parameters::{Crd, Link};

/// What clusters share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// By exporting cluster and service: the peers, the partitions, or the groups, that may use it.
    exports: BTreeMap<(String, String), BTreeSet<Consumer>>,
    /// By name: the members, and whether services fail over within it by default.
    groups: BTreeMap<String, (Vec<String>, bool)>,
    /// Clusters whose exports the API server does not have yet.
    changed: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Consumer {
    Peer(String),
    Partition(String),
    Group(String),
}

/// Where the other side of an intention is, seen from its destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Elsewhere {
    Peer(String),
    Partition(String),
}

impl World {
    /// Whether anything was said of what clusters share.
    pub(super) fn has_shared(&self) -> bool {
        !self.shared.exports.is_empty() || !self.shared.groups.is_empty()
    }

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

    /// Whether a name means another service in each cluster: each has a mesh, or an admin partition, of its own.
    pub(crate) fn is_divided(&self) -> bool {
        let peered = self.topology.as_ref().is_some_and(Topology::is_peered);
        peered || self.settings.has_partitions().unwrap_or_default()
    }

    /// The admin partition of a cluster, where there are several.
    fn partition(&self, cluster: &str) -> Result<Option<String>> {
        let Some(topology) = &self.topology else { return Ok(None) };
        let all = topology.partitions(&self.settings)?;
        Ok(all.into_iter().find(|(name, _)| name == cluster).map(|(_, partition)| partition))
    }

    /// The name that the only ExportedServices of a cluster has: that of its partition.
    fn exported_name(&self, cluster: &str) -> Result<String> {
        Ok(self.partition(cluster)?.unwrap_or_else(|| DEFAULT_PARTITION.to_owned()))
    }

    fn need_cluster(&self, name: &str) -> Result<()> {
        let all = self.topology.as_ref().map(|topology| topology.clusters.join(", ")).unwrap_or_default();
        ensure!(self.has_cluster(name), "find the cluster {name:?}: steps have named [{all}]");
        Ok(())
    }

    /// Exports a service to a peer, or another partition, or no longer.
    pub(crate) async fn export(&mut self, service: &str, exported: bool, to: &str) -> Result<()> {
        self.need_cluster(to)?;
        let workload = self.spec(service)?;
        let cluster = workload.cluster.clone().with_context(|| format!("find the cluster of {service}"))?;
        ensure!(cluster != to, "export {service} to {to}: it is there itself");
        let consumer = match self.partition(to)? {
            Some(partition) => Consumer::Partition(partition),
            None => Consumer::Peer(to.to_owned()),
        };
        let consumers = self.shared.exports.entry((cluster.clone(), workload.consul_service().to_owned())).or_default();
        let is_new = match exported {
            true => consumers.insert(consumer),
            false => consumers.remove(&consumer),
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
            let mut listed = Vec::new();
            for member in &members {
                listed.push(match (self.partition(member)?, member == here) {
                    (Some(partition), _) => json!({"partition": partition}),
                    (None, true) => json!({"partition": DEFAULT_PARTITION}),
                    (None, false) => json!({"peer": member}),
                });
            }
            let object = json!({
                "apiVersion": API_VERSION, "kind": "SamenessGroup", "metadata": {"name": name, "namespace": "default"},
                "spec": {"defaultForFailover": failing, "members": listed},
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
            let name = self.exported_name(&cluster)?;
            let api = bed.at(Some(&cluster)).cluster();
            if services.is_empty() {
                if api.get("ExportedServices", "default", &name).await?.is_some() {
                    api.delete("ExportedServices", "default", &name, None).await?;
                }
                continue;
            }
            let object = json!({
                "apiVersion": API_VERSION, "kind": "ExportedServices",
                "metadata": {"name": name, "namespace": "default"}, "spec": {"services": services},
            });
            api.apply(&object).await.with_context(|| format!("export services of {cluster}"))?;
            self.taken_over(Some(&cluster), &object).await?;
        }
        Ok(())
    }

    /// The clusters in which an object of the mesh belongs, and its name there. Where clusters share a mesh, that is the first; where
    /// each has a mesh or a partition of its own, those that have a workload of this name, and all for what is about a mesh as a whole.
    ///
    /// # Errors
    /// When the settings cannot be read.
    pub(super) fn homes(&self, kind: Crd, name: &str) -> Result<Vec<(Option<String>, String)>> {
        let Some(topology) = self.topology.as_ref().filter(|_| self.is_divided()) else {
            return Ok(vec![(None, name.to_owned())]);
        };
        let all = || topology.clusters.iter().cloned().map(Some);
        if kind == Crd::ExportedServices {
            // named after the partition, or the cluster; what it is called there is settled
            let partitions = topology.partitions(&self.settings)?;
            let of_partition =
                partitions.into_iter().find(|(_, partition)| partition == name).map(|(cluster, _)| cluster);
            if let Some(cluster) = of_partition.or_else(|| topology.has(name).then(|| name.to_owned())) {
                let name = self.exported_name(&cluster)?;
                return Ok(vec![(Some(cluster), name)]);
            }
        }
        if matches!(kind, Crd::ProxyDefaults | Crd::Mesh) {
            return Ok(all().map(|cluster| (cluster, name.to_owned())).collect());
        }
        let has_it =
            |cluster: &Option<String>| self.workloads.values().any(|w| w.name == name && w.cluster == *cluster);
        let homes: Vec<_> = all().filter(has_it).map(|cluster| (cluster, name.to_owned())).collect();
        Ok(if homes.is_empty() { vec![(None, name.to_owned())] } else { homes })
    }

    /// Deletes an object of the mesh wherever it is.
    pub(crate) async fn delete_resource(&mut self, kind: Crd, name: &str) -> Result<()> {
        let bed = self.bed().await?;
        let kind_name = kind.to_string();
        let mut homes = self.homes(kind, name)?;
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

    /// The cluster in which an intention about a destination belongs, and the peer or partition that its source is in, seen from there.
    ///
    /// # Errors
    /// When the settings cannot be read.
    pub(super) fn between(&self, source: &str, destination: &str) -> Result<(Option<String>, Option<Elsewhere>)> {
        let Some(topology) = self.topology.as_ref().filter(|_| self.is_divided()) else {
            return Ok((None, None));
        };
        let of = |name: &str| self.find(name).and_then(|workload| workload.cluster.clone());
        let there = of(destination).or_else(|| topology.clusters.first().cloned());
        let partition = |cluster: Option<&String>| cluster.map_or(Ok(None), |cluster| self.partition(cluster));
        let from = of(source).filter(|cluster| Some(cluster) != there.as_ref());
        let elsewhere = match (partition(from.as_ref())?, from) {
            (Some(name), _) if Some(&name) == partition(there.as_ref())?.as_ref() => None,
            (Some(name), _) => Some(Elsewhere::Partition(name)),
            (None, from) => from.map(Elsewhere::Peer),
        };
        Ok((there, elsewhere))
    }
}

impl Consumer {
    fn object(&self) -> Value {
        match self {
            Self::Peer(peer) => json!({"peer": peer}),
            Self::Partition(partition) => json!({"partition": partition}),
            Self::Group(group) => json!({"samenessGroup": group}),
        }
    }
}
