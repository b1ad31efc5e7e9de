//! The lab's network: a fabric that routes between nodes and stations, nodes that route to their Pods, and what makes
//! Services work on top.
//!
//! ```text
//!  fabric (router, knows every address, refuses the others at once)
//!    ├── node-0  172.18.0.2 ──┬── Pod 10.244.0.2
//!    │                        └── Pod 10.244.0.3
//!    ├── node-1  172.18.0.3 ───── Pod 10.244.1.2
//!    ├── control-plane  172.18.255.2
//!    ├── any station, any address
//!    └── the fabric of another lab, when they are joined
//! ```
//!
//! Every line is a veth pair ([`wire`]). There is no bridge: bridges learn, flood and, with `br_netfilter`, filter.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use netns::NetNs;

use crate::{Families, LabOptions, NodeInfo, SandboxInfo, Station};

pub mod dns;
mod iptables;
mod join;
pub(crate) mod link;
pub(crate) mod plan;
mod ranges;
mod ready;
pub(crate) mod rtnl;
pub mod service_proxy;
pub(crate) mod services;
mod sysctl;
mod wire;

pub use join::JoinError;
use join::Joints;
pub(crate) use plan::Plan;
use plan::Pool;
pub use ranges::{RangeFault, Ranges, RangesError, RangesText};
use rtnl::Batch;
use sysctl::Role;
use wire::Cable;

/// Why a part of the network could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A namespace could not be made or entered.
    #[error(transparent)]
    NetNs(#[from] netns::Error),
    /// The kernel could not be asked at all.
    #[error("speak to the kernel about links")]
    Netlink(#[source] io::Error),
    /// The kernel refused one request.
    #[error("{what} (check: capability NET_ADMIN, kernel module veth)")]
    Refused {
        /// What was asked.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A kernel setting could not be written.
    #[error("set {name} to {value:?} (check: /proc/sys is mounted writable, and the kernel has the setting)")]
    Sysctl {
        /// The setting, with dots.
        name: String,
        /// What was written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Packet filter rules could not be installed.
    #[error("install packet filter rules")]
    Rules(#[source] io::Error),
    /// No such node.
    #[error("find node {0}")]
    NoNode(String),
    /// All addresses of a node's Pods are in use.
    #[error("find a free Pod address on {0}: all 253 are in use")]
    NoAddress(String),
    /// A lab cannot have that many nodes.
    #[error("build a lab of {0} nodes: 1 to 250 are possible")]
    Nodes(usize),
    /// A station of this name exists.
    #[error("add station {0}: there is one of this name")]
    StationExists(String),
    /// A station needs an address.
    #[error("add station {0} without an address")]
    StationWithoutAddress(String),
    /// The thread that did the work panicked.
    #[error("finish the work on a thread")]
    Thread(#[source] tokio::task::JoinError),
}

/// The namespaces and links of one lab. They vanish with the last handle on them.
pub struct Network {
    plan: Plan,
    fabric: NetNs,
    fabric_addresses: Vec<IpAddr>,
    nodes: Vec<NodeInfo>,
    pools: Vec<Mutex<Pool>>,
    /// Name of the fabric's end of each station's cable, by station.
    stations: Mutex<BTreeMap<String, String>>,
    /// Interface indices of cables, unique in the lab.
    next_index: AtomicU32,
    joints: Arc<Joints>,
}

impl Network {
    /// Makes the fabric and the nodes.
    ///
    /// # Errors
    /// When the number of nodes is impossible, or the kernel refuses a namespace, a link, a route or a setting.
    pub async fn build(options: &LabOptions) -> Result<Self, Error> {
        let count = u8::try_from(options.nodes).ok().filter(|count| (1..=250).contains(count));
        let count = count.ok_or(Error::Nodes(options.nodes))?;
        let plan = Plan::new(options.families, options.ranges);
        let fabric_addresses = plan.fabric();
        let addresses = fabric_addresses.clone();
        let fabric = blocking(move || {
            let fabric = NetNs::create()?;
            fabric.run(|| wire::fabric(&addresses, plan.families()))??;
            Ok(fabric)
        })
        .await?;
        let mut network = Self {
            plan,
            fabric,
            fabric_addresses,
            nodes: Vec::new(),
            pools: (0..count).map(|_| Mutex::new(Pool::new())).collect(),
            stations: Mutex::default(),
            next_index: AtomicU32::new(100),
            joints: Arc::new(Joints::of(&options.name)),
        };
        let nodes = (0..count).map(|number| {
            let (name, addresses) = (format!("{}node-{number}", options.node_prefix), plan.node(number));
            let cable = network.cable(name.clone(), addresses.clone(), plan.pod_cidrs(number), Role::Router);
            let addresses = plan.known(addresses);
            async move { Ok::<_, Error>(NodeInfo { name, netns: cable.await?, addresses }) }
        });
        let nodes = futures::future::try_join_all(nodes).await?;
        network.nodes = nodes;
        Ok(network)
    }

    /// The nodes, `node-0` first.
    #[must_use]
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// Those of a Pod's addresses that Kubernetes knows of.
    #[must_use]
    pub fn announced(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        self.plan.known(addresses.to_vec())
    }

    /// The namespace of the router between nodes and stations.
    #[must_use]
    pub fn fabric(&self) -> &NetNs {
        &self.fabric
    }

    /// Makes a Pod's network: namespace, `eth0`, address, routes.
    ///
    /// # Errors
    /// When the node is unknown or full, or the kernel refuses.
    pub async fn attach_pod(&self, node: &str, namespace: &str, pod: &str, uid: &str) -> Result<SandboxInfo, Error> {
        let number = self.node_number(node)?;
        let host = lock(&self.pools[number]).take().ok_or_else(|| Error::NoAddress(node.to_owned()))?;
        let byte = u8::try_from(number).map_err(|_| Error::Nodes(number))?;
        let addresses = self.plan.pod(byte, host);
        let router = self.nodes[number].clone();
        let index = self.next_index.fetch_add(1, Ordering::Relaxed);
        let interface = format!("veth{index}");
        let made = connect(
            router.netns.clone(),
            router.addresses.clone(),
            (interface.clone(), index),
            addresses.clone(),
            Vec::new(),
            (Role::Pod, self.plan.families()),
        )
        .await;
        match made {
            Ok(netns) => Ok(SandboxInfo {
                namespace: namespace.to_owned(),
                pod: pod.to_owned(),
                uid: uid.to_owned(),
                node: router.name,
                netns,
                addresses,
                node_netns: router.netns,
                host_interface: interface,
            }),
            Err(error) => {
                lock(&self.pools[number]).give_back(host);
                Err(error)
            }
        }
    }

    /// Cuts a Pod off and frees its address. Its namespace lives until nobody holds or runs in it.
    ///
    /// # Errors
    /// When the node is unknown or the kernel refuses.
    pub async fn detach_pod(&self, sandbox: &SandboxInfo) -> Result<(), Error> {
        let number = self.node_number(&sandbox.node)?;
        unplug(sandbox.node_netns.clone(), sandbox.host_interface.clone()).await?;
        if let Some(address) = sandbox.addresses.first() {
            lock(&self.pools[number]).give_back(plan::host_byte(*address));
        }
        Ok(())
    }

    /// Makes a host that is no Pod, and tells the fabric its addresses.
    ///
    /// # Errors
    /// When there is a station of this name, no address is given, or the kernel refuses (for instance because another
    /// station has the address).
    pub async fn station(&self, name: &str, addresses: &[IpAddr]) -> Result<Station, Error> {
        if addresses.is_empty() {
            return Err(Error::StationWithoutAddress(name.to_owned()));
        }
        let index = self.next_index.fetch_add(1, Ordering::Relaxed);
        let interface = format!("st{index}");
        {
            let mut stations = lock(&self.stations);
            if stations.contains_key(name) {
                return Err(Error::StationExists(name.to_owned()));
            }
            stations.insert(name.to_owned(), interface.clone());
        }
        let made = connect(
            self.fabric.clone(),
            self.fabric_addresses.clone(),
            (interface, index),
            addresses.to_vec(),
            Vec::new(),
            (Role::Host, self.plan.families()),
        )
        .await;
        match made {
            Ok(netns) => Ok(Station { name: name.to_owned(), netns, addresses: addresses.to_vec() }),
            Err(error) => {
                lock(&self.stations).remove(name);
                Err(error)
            }
        }
    }

    /// Cuts a station off; its addresses become unreachable at once. Does nothing when there is none of this name.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_station(&self, name: &str) -> Result<(), Error> {
        let interface = lock(&self.stations).remove(name);
        match interface {
            Some(interface) => unplug(self.fabric.clone(), interface).await,
            None => Ok(()),
        }
    }

    fn node_number(&self, name: &str) -> Result<usize, Error> {
        self.nodes.iter().position(|node| node.name == name).ok_or_else(|| Error::NoNode(name.to_owned()))
    }

    fn cable(
        &self,
        interface: String,
        addresses: Vec<IpAddr>,
        behind: Vec<IpNet>,
        role: Role,
    ) -> impl Future<Output = Result<NetNs, Error>> + use<> {
        let index = self.next_index.fetch_add(1, Ordering::Relaxed);
        let (fabric, from) = (self.fabric.clone(), self.fabric_addresses.clone());
        connect(fabric, from, (interface, index), addresses, behind, (role, self.plan.families()))
    }
}

/// Runs [`Cable::connect`] where blocking is allowed.
async fn connect(
    router: NetNs,
    router_addresses: Vec<IpAddr>,
    (interface, index): (String, u32),
    addresses: Vec<IpAddr>,
    behind: Vec<IpNet>,
    (role, families): (Role, Families),
) -> Result<NetNs, Error> {
    blocking(move || {
        Cable {
            router: &router,
            router_addresses: &router_addresses,
            interface: &interface,
            index,
            addresses: &addresses,
            behind: &behind,
            role,
            families,
        }
        .connect()
    })
    .await
}

/// Removes a cable by the router's end.
async fn unplug(router: NetNs, interface: String) -> Result<(), Error> {
    blocking(move || remove(&router, &interface)).await
}

/// Removes a link, and its other end with it.
fn remove(netns: &NetNs, interface: &str) -> Result<(), Error> {
    let removed = netns.run(|| {
        let mut batch = Batch::default();
        batch.remove(interface);
        batch.commit()
    })?;
    match removed {
        // The host's namespace is gone, and took the cable along.
        Err(Error::Refused { source, .. }) if source.raw_os_error() == Some(nix::libc::ENODEV) => Ok(()),
        other => other.map(drop),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::Thread)?
}

/// The first address of a family.
pub(crate) fn primary(addresses: &[IpAddr], v4: bool) -> Option<IpAddr> {
    addresses.iter().copied().find(|address| address.is_ipv4() == v4)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every change is one insertion or removal: a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
