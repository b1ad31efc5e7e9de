//! The control plane as a value: started with its sockets, asked and changed while it runs, stopped.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use serde_json::Value;
use tokio_util::task::TaskTracker;

use crate::abroad::{self, Abroad, Dial, Federation, FederationSecret};
use crate::acl::{AclOptions, Acls, SelectorError};
use crate::ca::{Authority, CaError};
use crate::cluster::Change;
use crate::feed::Rejected;
use crate::intentions::Intention;
use crate::kept::{self, Keeper, Kept, KeptError};
use crate::names::{DEFAULT, Names};
use crate::partition;
use crate::peering;
use crate::query::Queries;
use crate::serve::{self, Gate, Routers};
use crate::tenancy::Tenancy;
use crate::vip::VirtualIps;
use crate::world::Problem;

mod tenant;

pub use tenant::Partition;
use tenant::Plan;

/// What a [`Mesh`] is made of. The sockets are non-blocking.
pub struct MeshOptions {
    /// The Kubernetes clusters that the datacenter extends over, at least one. They are asked for Pods, Services, EndpointSlices
    /// and the resources of group `consul.hashicorp.com`.
    pub clusters: Vec<kube::Client>,
    /// Consul's HTTP API (8500).
    pub http: TcpListener,
    /// The proxies' configuration (8502).
    pub feed: TcpListener,
    /// Consul DNS (8600).
    pub dns_udp: UdpSocket,
    /// Consul DNS (8600).
    pub dns_tcp: TcpListener,
    /// Name of the datacenter: `dc1`.
    pub datacenter: String,
    /// The admin partitions beside the default one, which `clusters` are in; `None` where there are no partitions, and names are those
    /// of Consul's community edition.
    pub partitions: Option<Vec<PartitionOptions>>,
    /// What happens where no intention says otherwise.
    pub default_intention: Intention,
    /// Who may ask for what; `None` is everybody for everything.
    pub acls: Option<AclOptions>,
    /// Where the root and the virtual addresses are kept for the next control plane; `None` forgets them.
    pub data_dir: Option<PathBuf>,
    /// The other datacenters, if there are any.
    pub federation: Option<Federation>,
    /// How the servers reach those of other meshes from where they are; without it there are no peerings.
    pub dial: Option<Arc<dyn Dial>>,
    /// Edits what proxies get; for saboteurs. `None` in every honest run.
    pub tamper: Option<Arc<dyn EnvoyTamper>>,
}

/// An admin partition, and what is in it.
pub struct PartitionOptions {
    /// Its name: a DNS label.
    pub name: String,
    /// The Kubernetes clusters that it extends over.
    pub clusters: Vec<kube::Client>,
}

/// Edits a proxy's Envoy configuration on its way out.
pub trait EnvoyTamper: Send + Sync {
    /// `resources` is an object of five objects, `listeners`, `clusters`, `endpoints`, `routes`, `secrets`: each maps
    /// names to complete xDS resources with their `@type`.
    fn edit(&self, proxy_id: &str, resources: &mut Value);
}

/// Why the control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root certificate could not be made.
    #[error("start the certificate authority")]
    Ca(#[from] CaError),
    /// What an earlier control plane kept cannot be used, or nothing can be kept.
    #[error("use the data directory")]
    Kept(#[from] KeptError),
    /// The selector of the ACLs' binding rule cannot be read.
    #[error("read the selector of the binding rule")]
    Selector(#[from] SelectorError),
    /// A partition cannot be had.
    #[error("make the partition {name:?}: {why}")]
    Partition {
        /// Its name.
        name: String,
        /// What is wrong with it, and what to do.
        why: &'static str,
    },
    /// A socket is not usable.
    #[error("serve {what} on the socket that was given")]
    Socket {
        /// Which of the sockets.
        what: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// A running control plane. Dropping it stops it.
pub struct Mesh {
    /// The default partition.
    first: Partition,
    /// The others.
    partitions: Vec<Partition>,
    gate: Gate,
    tasks: TaskTracker,
    /// Names of the other datacenters.
    others: Vec<Arc<str>>,
}

impl Mesh {
    /// Starts to follow the cluster and to serve; returns at once. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`Error::Ca`] when no root can be made, [`Error::Kept`] when the data directory cannot be used, [`Error::Partition`] when a name is
    /// none for a partition or there are too many, [`Error::Socket`] when a socket is not a listening, non-blocking one.
    pub fn start(options: MeshOptions) -> Result<Self, Error> {
        let MeshOptions {
            clusters,
            http,
            feed,
            dns_udp,
            dns_tcp,
            datacenter,
            partitions,
            default_intention,
            acls,
            data_dir,
            federation,
            dial,
            tamper,
        } = options;
        let tenancies = tenancies(partitions.as_deref(), acls.is_some())?;
        let is_on = partitions.is_some();
        let kept = data_dir.as_deref().map(kept::read).transpose()?.flatten();
        // the first servers of a datacenter may be up long before those of the others
        let awaited = federation.iter().filter(|_| kept.is_some()).flat_map(|federation| &federation.others);
        let awaited: Vec<Arc<str>> = awaited.map(|(name, _)| name.as_str().into()).collect();
        let kept = match (kept, federation.as_ref().and_then(|federation| federation.secret.clone())) {
            (Some(kept), Some(FederationSecret { trust_domain, root })) => Some(Kept { trust_domain, root, ..kept }),
            (None, Some(FederationSecret { trust_domain, root })) => {
                Some(Kept { trust_domain, root, vips: VirtualIps::default(), queries: Queries::default() })
            }
            (kept, None) => kept,
        };
        let trust_domain = kept.as_ref().map_or_else(|| format!("{}.consul", uuid()), |k| k.trust_domain.clone());
        let names = Names::new(&datacenter, &trust_domain);
        let (authority, vips, queries) = match kept {
            Some(kept) => (Authority::resume(names.clone(), kept.root)?, kept.vips, kept.queries),
            None => (Authority::new(names.clone())?, VirtualIps::default(), Queries::default()),
        };
        let mut acls = acls.map(|acls| Acls::start(acls, clusters.clone(), data_dir.clone())).transpose()?;
        let foreign = Authority::new(Names::new(&datacenter, &format!("{}.consul", uuid())))?;
        let address = feed.local_addr().map_err(|source| Error::Socket { what: "the feed", source })?.to_string();
        let primary = federation.as_ref().map(|federation| Arc::from(federation.primary.as_str()));
        let primary = primary.filter(|name: &Arc<str>| **name != datacenter);
        let clusters = std::iter::once(clusters).chain(partitions.into_iter().flatten().map(|part| part.clusters));
        let directories = tenancies.iter().map(|tenancy| Some(kept::directory(data_dir.as_deref()?, tenancy.own())));
        let directories: Vec<Option<PathBuf>> = directories.collect();
        let memories = memories((vips, queries), &tenancies, &directories)?;
        let (gate, tasks) = (Gate::default(), TaskTracker::new());
        let mut started = Vec::new();
        let each = tenancies.into_iter().zip(clusters).zip(memories).zip(directories);
        for (((tenancy, clusters), (vips, queries)), directory) in each {
            let keep = |directory: PathBuf| {
                let (root, vips, queries) = (authority.root().clone(), vips.clone(), queries.clone());
                Keeper::start(&directory, Kept { trust_domain: trust_domain.clone(), root, vips, queries })
            };
            let plan = Plan {
                names: names.in_partition(tenancy.own()),
                clusters,
                default_intention,
                keeper: directory.map(keep).transpose()?,
                vips,
                queries,
                authority: authority.in_partition(tenancy.own()),
                foreign: foreign.in_partition(tenancy.own()),
                tenancy,
                primary: primary.clone(),
                awaited: awaited.clone(),
                dial: dial.clone(),
                address: address.clone(),
                acls: acls.take(),
                tamper: tamper.clone(),
            };
            started.push(Partition::start(plan, &gate, &tasks));
        }
        for (from, to) in started.iter().flat_map(|from| started.iter().map(move |to| (from, to))) {
            if from.name() != to.name() {
                let tell =
                    partition::tell(from.shared.worlds(), from.name().into(), to.name().into(), to.changes.clone());
                tasks.spawn(gate.stopped().run_until_cancelled_owned(tell));
            }
        }
        let first = started.remove(0);
        let mut others: Vec<Arc<str>> = Vec::new();
        if let Some(Federation { others: all, dial, .. }) = federation {
            for (name, server) in all {
                let name: Arc<str> = name.into();
                others.push(name.clone());
                let follow = abroad::follow(name, server, dial.clone(), first.changes.clone());
                tasks.spawn(gate.stopped().run_until_cancelled_owned(follow));
            }
        }
        let mesh = Self { first, partitions: started, gate, tasks, others };
        let routers = |of: fn(&Partition) -> Router| {
            let all = mesh.partitions().map(|partition| (partition.name().into(), of(partition)));
            Routers::new(all.collect(), is_on)
        };
        let socket = |what| move |source| Error::Socket { what, source };
        serve::tcp(http, routers(api), &mesh.gate, &mesh.tasks).map_err(socket("the HTTP API"))?;
        serve::tcp(feed, routers(proxies), &mesh.gate, &mesh.tasks).map_err(socket("the feed"))?;
        serve::dns::start(dns_udp, dns_tcp, mesh.first.shared.clone(), &mesh.gate, &mesh.tasks)
            .map_err(socket("DNS"))?;
        Ok(mesh)
    }

    /// All of them, the default one first.
    fn partitions(&self) -> impl Iterator<Item = &Partition> {
        std::iter::once(&self.first).chain(&self.partitions)
    }

    /// The admin partition of this name. Where there are none, everything is in `default`.
    #[must_use]
    pub fn partition(&self, name: &str) -> Option<&Partition> {
        self.partitions().find(|partition| partition.name() == name)
    }

    /// Whether every partition works with all that the others have to tell it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let knows = |here: &Partition, there: &Partition| {
            let told = here.shared.world().partitions.get(there.name()).cloned();
            told.is_some_and(|told| *told == partition::Told::of(&there.shared.world(), here.name()))
        };
        self.partitions().all(|here| self.partitions().all(|there| here.name() == there.name() || knows(here, there)))
    }

    /// Changes what happens where no intention says otherwise.
    pub fn set_default_intention(&self, intention: Intention) {
        self.partitions().for_each(|partition| partition.send(Change::Default(intention)));
    }

    /// `<uuid>.consul`.
    #[must_use]
    pub fn trust_domain(&self) -> String {
        self.first.shared.world().names.trust_domain().to_owned()
    }

    /// The secret of the token with which operators may do everything; `None` where there are no ACLs.
    #[must_use]
    pub fn bootstrap_token(&self) -> Option<String> {
        self.first.shared.acls().map(Acls::bootstrap_secret)
    }

    /// What other datacenters must share to be in one federation with this one as the primary.
    #[must_use]
    pub fn federation_secret(&self) -> FederationSecret {
        FederationSecret { trust_domain: self.trust_domain(), root: self.first.shared.authority.root().clone() }
    }

    /// The root certificates, PEM.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        self.first.shared.authority.root_pem()
    }

    /// Gives every proxy a new certificate, now.
    pub fn rotate_certificates(&self) {
        for partition in self.partitions() {
            partition.shared.forget_leaves();
            partition.send(Change::Touch);
        }
    }

    /// As [`Partition::virtual_ip`] of the default partition.
    #[must_use]
    pub fn virtual_ip(&self, service_namespace: &str, service: &str) -> Option<IpAddr> {
        self.first.virtual_ip(service_namespace, service)
    }

    /// As [`Partition::proxy_config`] of the default partition.
    #[must_use]
    pub fn proxy_config(&self, proxy_id: &str) -> Option<Value> {
        self.first.proxy_config(proxy_id)
    }

    /// What proxies refused of their configuration, with the proxies' ids. An Envoy that refuses an update goes on with the
    /// one before, so nothing else shows it.
    #[must_use]
    pub fn rejected(&self) -> Vec<(String, Rejected)> {
        self.partitions().flat_map(|partition| partition.shared.rejected()).collect()
    }

    /// What the control plane was asked for and does not do, in the order of the objects' names.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let of = |partition: &Partition| {
            let of = format!(" of partition {}", partition.name());
            partition.problems().into_iter().map(move |problem| Problem { object: problem.object + &of, ..problem })
        };
        self.first.problems().into_iter().chain(self.partitions.iter().flat_map(of)).collect()
    }

    /// Whether this control plane works with all that another one has to tell it: as a datacenter of its federation, or as a peer
    /// that has told it anything. One that is neither has nothing to tell.
    #[must_use]
    pub fn is_abreast_of(&self, other: &Self) -> bool {
        let (here, there) = (self.first.shared.world(), other.first.shared.world());
        if self.others.iter().any(|name| **name == *there.names.datacenter()) {
            return here.abroad.get(there.names.datacenter()).is_some_and(|told| **told == Abroad::of(&there));
        }
        let mut from_there = here.peers.values().filter(|told| told.trust_domain == there.names.trust_domain());
        from_there.all(|told| **told == peering::Told::of(&there, &told.your_name, &other.roots_pem()))
    }

    /// Stops serving, as when the servers are down: connections are dropped, new ones closed, datagrams lost. What
    /// happens in the cluster meanwhile is still followed.
    pub fn pause(&self) {
        self.gate.close();
    }

    /// Serves again.
    pub fn resume(&self) {
        self.gate.open();
    }

    /// Stops everything and closes the sockets; returns at once.
    pub fn stop(&self) {
        self.gate.stop();
        self.tasks.close();
    }

    /// Returns when everything has stopped, after [`Mesh::stop`]: the sockets' addresses are free.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Each partition, and what it calls the others; the default one first.
fn tenancies(partitions: Option<&[PartitionOptions]>, has_acls: bool) -> Result<Vec<Tenancy>, Error> {
    let Some(partitions) = partitions else { return Ok(vec![Tenancy::default()]) };
    let mut all: Vec<Arc<str>> = vec![DEFAULT.into()];
    for PartitionOptions { name, .. } in partitions {
        if has_acls {
            return Err(refuse(name, "servers with ACLs have one partition; leave out the others, or the ACLs"));
        }
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_label = name.len() <= 63 && name.starts_with(word) && name.ends_with(word);
        if !is_label || !name.chars().all(|c| word(c) || c == '-') {
            return Err(refuse(name, "a name is a DNS label of small letters, digits and \"-\" in between"));
        }
        if all.iter().any(|known| **known == **name) {
            return Err(refuse(name, "there is one of this name; give each another"));
        }
        if all.len() == MOST {
            return Err(refuse(name, TOO_MANY));
        }
        all.push(name.as_str().into());
    }
    Ok(all.iter().map(|own| Tenancy::new(own, &all)).collect())
}

/// What a partition remembers of an earlier control plane.
type Memory = (VirtualIps, Queries);

/// What each partition remembers, `first` being the default one's. One that remembers nothing begins beside the others.
fn memories(first: Memory, tenancies: &[Tenancy], directories: &[Option<PathBuf>]) -> Result<Vec<Memory>, Error> {
    let mut memories = vec![Some(first)];
    for directory in directories.iter().skip(1) {
        let kept = directory.as_deref().map(kept::read).transpose()?.flatten();
        memories.push(kept.map(|kept| (kept.vips, kept.queries)));
    }
    // only now: a block of addresses that one has kept is not to be another's
    for (i, tenancy) in tenancies.iter().enumerate() {
        if memories[i].is_none() {
            let taken = memories.iter().flatten().map(|(vips, _)| vips);
            let vips = VirtualIps::beside(taken).ok_or_else(|| refuse(tenancy.own(), TOO_MANY))?;
            memories[i] = Some((vips, Queries::default()));
        }
    }
    Ok(memories.into_iter().flatten().collect())
}

/// The most there are, the default one included: each has a block of virtual addresses.
const MOST: usize = 16;
const TOO_MANY: &str = "there are 16 with the default one, and no virtual addresses for more";

fn refuse(name: &str, why: &'static str) -> Error {
    Error::Partition { name: name.to_owned(), why }
}

/// What is answered about a partition at the port of the HTTP API.
fn api(partition: &Partition) -> Router {
    let Partition { shared, changes, .. } = partition;
    let api = serve::http::router(shared.clone()).merge(serve::http::query::router(shared.clone(), changes.clone()));
    api.merge(serve::acl::router(shared.clone()))
}

/// What is answered about a partition at the port of the feed.
fn proxies(partition: &Partition) -> Router {
    let Partition { shared, changes, accepted, .. } = partition;
    let proxies = serve::feed::router(shared.clone()).merge(serve::rejected::router(shared.clone()));
    let proxies = proxies.merge(serve::acl::router(shared.clone()));
    let proxies = proxies.merge(serve::abroad::router(shared.clone()));
    proxies.merge(serve::peering::router(shared.clone(), accepted.clone(), changes.clone()))
}

pub(crate) fn uuid() -> String {
    let n: u128 = rand::random();
    let hex = format!("{n:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::two(&["ap1", "ap-2"], None)]
    #[case::no_label(&["ap_1"], Some("make the partition \"ap_1\": a name is a DNS label"))]
    #[case::a_way_out(&["../x"], Some("make the partition \"../x\": a name is a DNS label"))]
    #[case::the_default_one(&["default"], Some("make the partition \"default\": there is one of this name"))]
    #[case::twice(&["ap1", "ap1"], Some("make the partition \"ap1\": there is one of this name"))]
    #[case::too_many(
        &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"], Some("make the partition \"p\": there are 16")
    )]
    fn names_of_partitions(#[case] names: &[&str], #[case] expected: Option<&str>) {
        let partition = |name: &&str| PartitionOptions { name: (*name).to_owned(), clusters: Vec::new() };
        let partitions: Vec<PartitionOptions> = names.iter().map(partition).collect();
        match (tenancies(Some(&partitions), false), expected) {
            (Ok(all), None) => assert_eq!(all[1].listed(), format!("ap1, {DEFAULT}, ap-2")),
            (Err(error), Some(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn with_acls_there_is_one_partition() {
        let others = [PartitionOptions { name: "ap1".to_owned(), clusters: Vec::new() }];
        let error = tenancies(Some(&others), true).expect_err("two partitions").to_string();
        assert!(error.starts_with("make the partition \"ap1\": servers with ACLs have one partition"), "{error}");
        assert_eq!(tenancies(Some(&[]), true).expect("the default one alone").len(), 1);
    }
}
