//! Stand-in for the Consul servers and for consul-dataplane: what a transparent proxy needs of them, in one process.
//!
//! [`Mesh::start`] follows a Kubernetes API and serves, on sockets that it is given,
//!
//! - Consul's HTTP API, as far as init containers and operators read it (`8500`),
//! - the *feed* (`8502`): each proxy's Envoy configuration, held back until it changes. It stands in for Consul's gRPC xDS,
//! - Consul DNS (`8600`).
//!
//! The binary `consul-dataplane` is the other end of the feed: it runs Envoy beside the application.
//!
//! Several of them make a [`Federation`] of datacenters, or are peers, if their clusters have resources that say so.
//!
//! With [`AclOptions`] it asks for tokens, and gives them to service accounts that Kubernetes vouches for.
//!
//! Its clusters may be in several admin partitions, each with a catalogue, entries and virtual addresses of its own.
//!
//! What is absent: raft, gossip and namespaces. Objects that ask for these are reported by [`Mesh::problems`] and by
//! their own `Synced` condition.

mod abroad;
mod acl;
mod ca;
mod catalog;
mod chain;
mod cluster;
mod config;
mod dial;
mod envoy;
pub mod feed;
mod filter;
mod go;
mod intentions;
mod kept;
mod mesh;
mod names;
mod partition;
mod peering;
mod place;
mod proxies;
mod query;
mod registration;
mod serve;
mod tenancy;
mod upstreams;
mod vip;
mod world;

pub use abroad::{Dial, Federation, FederationSecret};
pub use acl::{AclOptions, SelectorError};
pub use ca::{CaError, Leaf};
pub use intentions::Intention;
pub use kept::KeptError;
pub use mesh::{EnvoyTamper, Error, Mesh, MeshOptions, Partition, PartitionOptions};
pub use world::Problem;

#[cfg(test)]
mod fixture;
#[cfg(test)]
#[path = "../tests/support/objects.rs"]
mod objects;
