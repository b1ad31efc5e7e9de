//! Which clusters there are, and how they are joined: what the files under `clusters/topologies` say of each kind of link.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use sim::{Join, Ranges, Reach};

use crate::settings::Settings;
use crate::vocabulary::parameters::Link;

/// The admin partition of the cluster with the servers.
pub const DEFAULT_PARTITION: &str = "default";

const FILES: &[&str] = &[
    include_str!("../../../clusters/topologies/federated.yaml"),
    include_str!("../../../clusters/topologies/one-datacenter.yaml"),
    include_str!("../../../clusters/topologies/partitioned.yaml"),
    include_str!("../../../clusters/topologies/peered.yaml"),
];

/// Clusters in the order in which a scenario names them, the first one being the one that is meant when a step names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Their names.
    pub clusters: Vec<String>,
    link: Link,
    /// Which were named together.
    pairs: Vec<(String, String)>,
}

/// A topology file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    link: String,
    datacenters: Datacenters,
    #[serde(default)]
    partitions: Option<Partitions>,
    #[serde(default)]
    gateways: bool,
    #[serde(default)]
    gateway_mode: Option<String>,
    reach: Reaches,
    /// Milliseconds.
    #[serde(default)]
    delay: Option<u64>,
    clusters: Vec<Ranges>,
}

/// How clusters and datacenters are related.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Datacenters {
    /// Each cluster is one, named as the cluster.
    Each,
    /// All clusters are one.
    Shared,
}

/// How clusters and admin partitions are related.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Partitions {
    /// Each cluster without servers is one.
    Each,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reaches {
    Nodes,
    Pods,
}

/// One cluster of a topology.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The datacenter that it is, or belongs to.
    pub datacenter: String,
    /// The admin partition that it is in, where there are any.
    pub partition: Option<String>,
    /// Whether the datacenter's servers are here.
    pub has_servers: bool,
    /// Where its Pods, Services and nodes have their addresses.
    pub ranges: Ranges,
}

/// A topology as a bed builds it.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The clusters, in order.
    pub members: Vec<Member>,
    /// How each is joined to each other one.
    pub join: Join,
    /// Whether each has mesh gateways.
    pub gateways: bool,
    /// How proxies use them, as the proxy defaults have it until a step says otherwise.
    pub gateway_mode: Option<String>,
    /// Whether the datacenters are one federation, the first one being the primary.
    pub federated: bool,
    /// Those that are peered, the accepting side first.
    pub peered: Vec<(String, String)>,
}

impl Topology {
    /// Two clusters.
    #[must_use]
    pub fn new(a: &str, b: &str, link: Link) -> Self {
        let (a, b) = (a.to_owned(), b.to_owned());
        Self { clusters: vec![a.clone(), b.clone()], link, pairs: vec![(a, b)] }
    }

    /// With more clusters, joined in the same way.
    ///
    /// # Errors
    /// When they are joined in another.
    pub fn and(mut self, a: &str, b: &str, link: Link) -> Result<Self> {
        if self.link != link {
            bail!(
                "have clusters {a:?} and {b:?} {link}: others of this scenario are {}, and one kind of link is all there is",
                self.link
            );
        }
        for name in [a, b] {
            if !self.clusters.iter().any(|known| known == name) {
                self.clusters.push(name.to_owned());
            }
        }
        self.pairs.push((a.to_owned(), b.to_owned()));
        Ok(self)
    }

    /// Whether each cluster has a mesh of its own.
    #[must_use]
    pub fn is_peered(&self) -> bool {
        self.link == Link::Peered
    }

    /// The clusters with their admin partitions, where there are several of these; nothing where there are none.
    ///
    /// # Errors
    /// As [`Topology::layout`].
    pub fn partitions(&self, settings: &Settings) -> Result<Vec<(String, String)>> {
        if self.link != Link::SharingOneDatacenter || !settings.has_partitions()? {
            return Ok(Vec::new());
        }
        let named = self.layout(settings)?.members.into_iter().map(|member| (member.name, member.partition));
        Ok(named.filter_map(|(cluster, partition)| Some((cluster, partition?))).collect())
    }

    /// Whether there is a cluster of this name.
    #[must_use]
    pub fn has(&self, cluster: &str) -> bool {
        self.clusters.iter().any(|known| known == cluster)
    }

    /// What is to be built.
    ///
    /// # Errors
    /// When the file of this kind of link cannot be read, has too few networks, or the settings ask for what it has not.
    pub fn layout(&self, settings: &Settings) -> Result<Layout> {
        let link = self.link.to_string();
        let files = FILES.iter().map(|text| serde_yaml_ng::from_str::<File>(text).context("read a topology"));
        let files: Vec<File> = files.collect::<Result<_>>()?;
        let has_partitions = settings.has_partitions()?;
        if has_partitions && self.link == Link::Federated {
            bail!("set global.adminPartitions.enabled to true: a federation has no admin partitions");
        }
        let is_it = |file: &File| file.link == link && (file.partitions.is_none() || has_partitions);
        // of two for this link, the one with partitions is the more exact
        let file = files.into_iter().filter(is_it).max_by_key(|file| file.partitions.is_some());
        let file = file.with_context(|| format!("find the topology of clusters {link}"))?;
        if file.clusters.len() < self.clusters.len() {
            bail!(
                "build {} clusters {link}: the topology has networks for {}",
                self.clusters.len(),
                file.clusters.len()
            );
        }
        let with_servers = self.with_servers(settings)?;
        let members = self.clusters.iter().zip(&file.clusters).map(|(name, ranges)| {
            let (datacenter, has_servers) = match file.datacenters {
                Datacenters::Each => (name.clone(), true),
                Datacenters::Shared => (settings.datacenter().to_owned(), *name == with_servers),
            };
            let partition = match has_servers {
                true => DEFAULT_PARTITION,
                false => settings.partition_name().unwrap_or(name),
            };
            let partition = has_partitions.then(|| partition.to_owned());
            Member { name: name.clone(), datacenter, partition, has_servers, ranges: *ranges }
        });
        let reach = match file.reach {
            Reaches::Nodes => Reach::Nodes,
            Reaches::Pods => Reach::Pods,
        };
        Ok(Layout {
            members: members.collect(),
            join: Join { reach, delay: file.delay.map(Duration::from_millis) },
            gateways: file.gateways,
            gateway_mode: file.gateway_mode,
            federated: self.link == Link::Federated,
            peered: if self.is_peered() { self.pairs.clone() } else { Vec::new() },
        })
    }

    /// The cluster that has the servers where only one has: the first, or the one that `externalServers.hosts` names.
    fn with_servers(&self, settings: &Settings) -> Result<String> {
        let Some(hosts) = settings.external_servers()? else { return Ok(self.clusters[0].clone()) };
        let named = hosts.strip_prefix("server of ").unwrap_or(hosts);
        if !self.has(named) {
            bail!(
                "set externalServers.hosts to {hosts:?}: here it is \"server of <cluster>\", and the clusters are {}",
                self.clusters.join(", ")
            );
        }
        Ok(named.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(rows: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        let rows: Vec<_> = rows.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        settings.merge(&rows).expect("settings");
        settings
    }

    #[test]
    fn each_cluster_of_a_federation_is_a_datacenter_with_servers() {
        let layout = Topology::new("dc1", "dc2", Link::Federated).layout(&settings(&[])).expect("a layout");
        let shown: Vec<_> =
            layout.members.iter().map(|m| (m.name.as_str(), m.datacenter.as_str(), m.has_servers)).collect();
        assert_eq!(shown, [("dc1", "dc1", true), ("dc2", "dc2", true)]);
        assert!(layout.gateways && layout.federated);
        assert_eq!(layout.gateway_mode.as_deref(), Some("remote"));
        assert_ne!(layout.members[0].ranges, layout.members[1].ranges);
    }

    #[rstest::rstest]
    #[case(&[], ["a", "dc1", "true"], ["b", "dc1", "false"])]
    #[case(&[("externalServers.enabled", "true"), ("externalServers.hosts", "server of b"), ("global.datacenter", "east")],
        ["a", "east", "false"], ["b", "east", "true"])]
    fn one_datacenter_has_its_servers_in_one_cluster(
        #[case] said: &[(&str, &str)],
        #[case] first: [&str; 3],
        #[case] second: [&str; 3],
    ) {
        let layout = Topology::new("a", "b", Link::SharingOneDatacenter).layout(&settings(said)).expect("a layout");
        let shown = layout.members.iter().map(|m| [m.name.clone(), m.datacenter.clone(), m.has_servers.to_string()]);
        assert_eq!(shown.collect::<Vec<_>>(), [first, second]);
        assert!(!layout.gateways && !layout.federated);
    }

    #[rstest::rstest]
    #[case(&[("global.adminPartitions.enabled", "true")], [("a", "default"), ("b", "b")])]
    #[case(&[("global.adminPartitions.enabled", "true"), ("global.adminPartitions.name", "ap1")], [("a", "default"), ("b", "ap1")])]
    #[case(&[("global.adminPartitions.enabled", "true"), ("externalServers.enabled", "true"),
        ("externalServers.hosts", "server of b")], [("a", "a"), ("b", "default")])]
    fn each_cluster_without_servers_is_a_partition(#[case] said: &[(&str, &str)], #[case] expected: [(&str, &str); 2]) {
        let (topology, settings) = (Topology::new("a", "b", Link::SharingOneDatacenter), settings(said));
        let found = topology.partitions(&settings).expect("partitions");
        let found: Vec<(&str, &str)> = found.iter().map(|(cluster, name)| (cluster.as_str(), name.as_str())).collect();
        assert_eq!(found, expected);
        assert!(topology.layout(&settings).expect("a layout").gateways);
    }

    #[test]
    fn a_federation_has_no_partitions() {
        let settings = settings(&[("global.adminPartitions.enabled", "true")]);
        let error = Topology::new("a", "b", Link::Federated).layout(&settings).expect_err("no partitions").to_string();
        assert!(error.contains("global.adminPartitions.enabled"), "{error}");
        let peered = Topology::new("a", "b", Link::Peered);
        assert_eq!(peered.partitions(&settings).expect("each has its own"), []);
        assert_eq!(
            peered.layout(&settings).expect("a layout").members[1].partition.as_deref(),
            Some(DEFAULT_PARTITION)
        );
    }

    #[test]
    fn more_clusters_are_joined_in_the_same_way() {
        let two = Topology::new("a", "b", Link::Federated);
        let three = two.clone().and("a", "c", Link::Federated).expect("the same link");
        assert_eq!(three.clusters, ["a", "b", "c"]);
        let error = two.and("a", "c", Link::SharingOneDatacenter).expect_err("another link").to_string();
        assert!(error.contains("federated over mesh gateways"), "{error}");
    }

    #[test]
    fn servers_are_where_a_cluster_is() {
        let said = settings(&[("externalServers.enabled", "true"), ("externalServers.hosts", "server of c")]);
        let topology = Topology::new("a", "b", Link::SharingOneDatacenter);
        let error = topology.layout(&said).expect_err("no c").to_string();
        assert!(error.contains("\"server of c\"") && error.contains("a, b"), "{error}");
        let nowhere = settings(&[("externalServers.enabled", "true")]);
        let error = topology.layout(&nowhere).expect_err("no hosts").to_string();
        assert!(error.contains("externalServers.hosts must be set"), "{error}");
    }
}
