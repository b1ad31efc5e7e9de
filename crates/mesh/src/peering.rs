//! Peerings: other meshes, each with a trust domain of its own, to which services are exported and from which they are imported.
//!
//! A `PeeringAcceptor` has a token made and put into a Secret; a `PeeringDialer` reads one that somebody brought to its cluster,
//! and its servers dial those that the token names. Either side then tells the other what it exports to it: [`Told`]. Consul
//! streams that over gRPC; here the dialling side asks for it over the port of the feed, `GET` [`PATH`]`<id>?index=<N>`, which is
//! answered as soon as there is anything else than what `N` stands for, and brings its own by `PUT`. Both prove that they know the token's secret. What was told
//! last stays in force while the other side is away, and goes when either side ends the peering, by `DELETE`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::Protocol;
use crate::partition;
use crate::registration::Health;
use crate::world::World;

mod accept;
mod dial;
mod manage;
mod token;

pub(crate) use accept::{Accepted, Refusal};
pub(crate) use manage::{Manager, Wanted};

/// Where a peering is served; its id follows.
pub(crate) const PATH: &str = "/v1/pellucid/peering/";
/// Header that proves that the token is known.
pub(crate) const SECRET: &str = "x-pellucid-peering-secret";

/// What one side of a peering tells the other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// What the teller calls the one that is told.
    pub(crate) your_name: String,
    pub(crate) trust_domain: String,
    /// The partition of that trust domain which tells.
    pub(crate) partition: String,
    /// Roots of that trust domain, PEM.
    pub(crate) roots: String,
    /// Where the mesh gateways are reached from outside.
    pub(crate) gateways: Vec<SocketAddr>,
    /// The services that are exported to the one that is told.
    pub(crate) services: BTreeMap<String, Exported>,
}

/// A service that is exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exported {
    pub(crate) protocol: String,
    /// Whether it has an instance, healthy or not.
    pub(crate) has_instances: bool,
    pub(crate) passing: bool,
    /// Identities that may answer for it.
    pub(crate) identities: Vec<String>,
}

impl Exported {
    pub(crate) fn protocol(&self) -> Protocol {
        Protocol::parse(&self.protocol).unwrap_or_default()
    }
}

impl Told {
    /// What `world` has to tell the peer that it calls so.
    pub(crate) fn of(world: &World, peer: &str, roots: &str) -> Self {
        let services = exports(world, peer).into_iter().map(|service| {
            let instances = world.catalog.instances(&service);
            let exported = Exported {
                protocol: world.config.protocol(&service).as_str().to_owned(),
                has_instances: !instances.is_empty(),
                passing: instances.iter().any(|instance| instance.health == Health::Passing),
                identities: vec![world.names.spiffe(&service)],
            };
            (service, exported)
        });
        Self {
            your_name: peer.to_owned(),
            trust_domain: world.names.trust_domain().to_owned(),
            partition: world.names.partition().to_owned(),
            roots: roots.to_owned(),
            gateways: world.catalog.gateways().filter_map(|gateway| gateway.wan()).collect(),
            services: services.collect(),
        }
    }
}

impl Told {
    /// Stands for all of this; 0 for nothing that is ever told.
    pub(crate) fn number(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        // strings and addresses only: nothing that JSON could not hold
        serde_json::to_string(self).unwrap_or_default().hash(&mut hasher);
        hasher.finish().max(1)
    }
}

/// The services that are exported to a peer.
pub(crate) fn exports(world: &World, peer: &str) -> BTreeSet<String> {
    partition::exports(world, |consumer| world.config.reaches_peer(consumer, peer))
}

/// What peers tell, by what they are called here. A peer that has not told anything yet is not in it.
pub(crate) type Peers = BTreeMap<Arc<str>, Arc<Told>>;

/// A service that a peer exports, by the name under which it is an upstream here: `<service>?peer=<peer>`.
pub(crate) fn id(service: &str, peer: &str) -> String {
    format!("{service}?peer={peer}")
}

/// The service and the peer that an upstream is, if it is one of a peer's.
pub(crate) fn parse(id: &str) -> Option<(&str, &str)> {
    id.split_once("?peer=")
}
