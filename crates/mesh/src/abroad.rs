//! What the servers of one datacenter know of another's: its services, its gateways, and the resources of its clusters.
//!
//! Consul's servers ask each other over the WAN, through mesh gateways, for each thing that they are asked. Here every datacenter
//! follows every other one as a whole, over the same port as proxies do: `GET` [`PATH`]`?index=<N>` is answered with a [`Told`] as
//! soon as there is anything newer than `N`. What was told last stays in force while the others' servers are away.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::ca::Leaf;
use crate::config::accept::Resource;
use crate::registration::Health;
use crate::world::World;

mod follow;

pub(crate) use follow::follow;

/// Where a datacenter tells of itself.
pub(crate) const PATH: &str = "/v1/pellucid/datacenter";

/// A federation, as one of its datacenters knows it.
pub struct Federation {
    /// What the primary datacenter has its secondaries share; `None` in the primary itself.
    pub secret: Option<FederationSecret>,
    /// Name of the datacenter whose resources win over those of the same name elsewhere.
    pub primary: String,
    /// The other datacenters, each with the address of its servers' feed (8502).
    pub others: Vec<(String, SocketAddr)>,
    /// How the servers reach others from where they are.
    pub dial: Arc<dyn Dial>,
}

/// The trust domain and the root of a federation: whoever has it can be any service. Consul's secondaries have an intermediate
/// certificate signed instead; what proxies check is the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FederationSecret {
    pub(crate) trust_domain: String,
    pub(crate) root: Leaf,
}

/// Opens TCP connections.
pub trait Dial: Send + Sync {
    /// Connects, or says why not.
    fn dial(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>>;
}

/// A datacenter as of one of its worlds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) index: u64,
    pub(crate) abroad: Abroad,
}

/// What a datacenter tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Abroad {
    /// Where its mesh gateways are reached from outside.
    pub(crate) gateways: Vec<SocketAddr>,
    /// By service: its instances, healthy or not.
    pub(crate) services: BTreeMap<String, Vec<Seen>>,
    /// The custom resources of its clusters. Entries count in all datacenters.
    pub(crate) resources: Vec<Resource>,
}

/// An instance as it is seen from another datacenter or partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Where its proxy listens.
    pub(crate) address: SocketAddr,
    pub(crate) passing: bool,
    /// The subsets that it belongs to.
    pub(crate) subsets: BTreeSet<String>,
    /// The application's port.
    pub(crate) port: u16,
    /// What that is called.
    pub(crate) port_name: String,
    pub(crate) tags: Vec<String>,
    /// Its further ports.
    pub(crate) ports: Vec<String>,
}

impl Abroad {
    /// What `world` has to tell.
    pub(crate) fn of(world: &World) -> Self {
        Self {
            gateways: world.catalog.gateways().filter_map(|gateway| gateway.wan()).collect(),
            services: world.catalog.services().map(|service| (service.to_owned(), seen(world, service))).collect(),
            resources: world.resources.to_vec(),
        }
    }
}

/// The instances of a service as they are seen from elsewhere.
pub(crate) fn seen(world: &World, service: &str) -> Vec<Seen> {
    let resolver = world.config.resolvers.get(service);
    let subsets: Vec<_> = resolver.iter().flat_map(|r| r.subsets.iter()).collect();
    let subsets = crate::envoy::memberships(world, service, &subsets);
    let instances = world.catalog.instances(service).iter();
    let seen = instances.zip(subsets).map(|(instance, subsets)| Seen {
        address: SocketAddr::new(instance.address, instance.proxy_port),
        passing: instance.health == Health::Passing,
        subsets,
        port: instance.port,
        port_name: instance.port_name.clone(),
        tags: instance.tags.clone(),
        ports: instance.more_ports.iter().map(|port| port.name.clone()).collect(),
    });
    seen.collect()
}
