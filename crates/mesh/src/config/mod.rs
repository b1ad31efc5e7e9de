//! Configuration entries, as the control plane holds them once they were accepted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) mod accept;
mod inbound;
pub(crate) mod json;
mod schema;

pub(crate) use inbound::Inbound;
pub(crate) use schema::*;

use crate::place::{GatewayMode, Place};
use crate::tenancy::Tenancy;

/// Whose entries they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Home {
    /// An entry that names it means what is here.
    pub(crate) datacenter: String,
    pub(crate) tenancy: Tenancy,
}

impl Home {
    /// A datacenter without partitions.
    pub(crate) fn new(datacenter: &str) -> Self {
        Self { datacenter: datacenter.to_owned(), tenancy: Tenancy::default() }
    }
}

/// Every accepted entry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    pub(crate) home: Home,
    /// By destination, `*` included.
    pub(crate) intentions: BTreeMap<String, Vec<IntentionSource>>,
    pub(crate) service_defaults: BTreeMap<String, ServiceDefaults>,
    pub(crate) proxy_defaults: Option<ProxyDefaults>,
    pub(crate) mesh: Option<MeshEntry>,
    pub(crate) resolvers: BTreeMap<String, ServiceResolver>,
    pub(crate) routers: BTreeMap<String, ServiceRouter>,
    pub(crate) splitters: BTreeMap<String, ServiceSplitter>,
    /// By service, `*` included: who may use it from other partitions and meshes.
    pub(crate) exports: BTreeMap<String, Vec<Consumer>>,
    pub(crate) groups: BTreeMap<String, SamenessGroup>,
    /// Every one of them as it was written, by Consul's kind and name.
    pub(crate) entries: BTreeMap<&'static str, BTreeMap<String, serde_json::Value>>,
}

/// What a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// Bytes.
    #[default]
    Tcp,
    /// HTTP/1.1.
    Http,
    /// HTTP/2 in clear, from the first byte.
    Http2,
    /// gRPC, which is HTTP/2.
    Grpc,
}

impl Protocol {
    /// Whether requests can be told apart.
    pub(crate) fn http_like(self) -> bool {
        self != Self::Tcp
    }

    /// Whether the connection is HTTP/2 from its first byte.
    pub(crate) fn http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }

    /// What an entry spells so.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Tcp, Self::Http, Self::Http2, Self::Grpc].into_iter().find(|protocol| protocol.as_str() == text)
    }

    /// As configuration entries spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
        }
    }
}

impl Config {
    /// What `service` speaks: its own defaults, then the proxy defaults, then tcp.
    pub(crate) fn protocol(&self, service: &str) -> Protocol {
        let of_service = self.service_defaults.get(service).and_then(|d| d.protocol);
        of_service.or_else(|| self.proxy_defaults.as_ref()?.config.protocol).unwrap_or_default()
    }

    /// Whether client proxies get a way to dial the instances of `service` by their own addresses.
    pub(crate) fn dialed_directly(&self, service: &str) -> bool {
        let of_service = self.service_defaults.get(service).and_then(|d| d.transparent_proxy.as_ref());
        let of_all = self.proxy_defaults.as_ref().and_then(|d| d.transparent_proxy.as_ref());
        of_service.or(of_all).is_some_and(|t| t.dialed_directly)
    }

    /// Whether connections without TLS to the application port of `service` are let through.
    pub(crate) fn permissive_mtls(&self, service: &str) -> bool {
        let of_service = self.service_defaults.get(service).and_then(|d| d.mutual_tls_mode);
        let mode = of_service.or_else(|| self.proxy_defaults.as_ref()?.mutual_tls_mode);
        mode == Some(MutualTlsMode::Permissive)
    }

    /// Paths of `service` that are reachable without TLS: its own, or those of all if it has none.
    pub(crate) fn exposed(&self, service: &str) -> &[ExposePath] {
        let of_service = self.service_defaults.get(service).map(|d| &d.expose.paths).filter(|paths| !paths.is_empty());
        of_service.or_else(|| Some(&self.proxy_defaults.as_ref()?.expose.paths)).map_or(&[], Vec::as_slice)
    }

    /// Through which gateways to go to `service` at another place, unless whoever dials says otherwise.
    pub(crate) fn gateway_mode(&self, service: &str) -> GatewayMode {
        let of_service = self.service_defaults.get(service).and_then(|d| d.mesh_gateway.mode);
        of_service.unwrap_or_else(|| self.default_gateway_mode())
    }

    /// Through which gateways to go to another place, where nothing is said about the service.
    pub(crate) fn default_gateway_mode(&self) -> GatewayMode {
        self.proxy_defaults.as_ref().and_then(|defaults| defaults.mesh_gateway.mode).unwrap_or(GatewayMode::None)
    }

    /// Whether somebody to whom a service is exported is this peer.
    pub(crate) fn reaches_peer(&self, consumer: &Consumer, peer: &str) -> bool {
        let by_group = consumer.sameness_group.as_ref().and_then(|name| self.groups.get(name));
        let of_group = by_group.is_some_and(|group| group.members.iter().any(|m| m.peer.as_deref() == Some(peer)));
        of_group || consumer.peer.as_deref() == Some(peer)
    }

    /// Whether somebody to whom a service is exported is this partition.
    pub(crate) fn reaches_partition(&self, consumer: &Consumer, partition: &str) -> bool {
        let by_group = consumer.sameness_group.as_ref().and_then(|name| self.groups.get(name));
        let is_member = |group: &SamenessGroup| group.members.iter().any(|m| m.partition.as_deref() == Some(partition));
        by_group.is_some_and(is_member) || consumer.partition.as_deref() == Some(partition)
    }

    /// The group that services without a resolver of their own fail over within.
    pub(crate) fn default_group(&self) -> Option<&SamenessGroup> {
        self.groups.values().find(|group| group.default_for_failover)
    }

    /// Where the members of a group are, in the group's order; here first if the group says so.
    pub(crate) fn members(&self, group: &SamenessGroup) -> Vec<Place> {
        let local = group.include_local.then_some(Place::Here);
        let listed = group.members.iter().map(|member| match (&member.peer, &member.partition) {
            (Some(peer), _) => Place::Peer(peer.as_str().into()),
            (None, Some(partition)) => self.home.tenancy.place(partition),
            (None, None) => Place::Here,
        });
        let mut places: Vec<Place> = Vec::new();
        for place in local.into_iter().chain(listed) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// Whether proxies connect to nothing but services of the mesh.
    pub(crate) fn mesh_destinations_only(&self) -> bool {
        self.mesh.as_ref().is_some_and(|mesh| mesh.transparent_proxy.mesh_destinations_only)
    }

    /// Services that an entry names as its subject: each has a virtual address even without instances.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &str> {
        let named = self.service_defaults.keys().chain(self.resolvers.keys()).chain(self.routers.keys());
        let named = named.chain(self.splitters.keys()).chain(self.intentions.keys());
        named.map(String::as_str).filter(|name| *name != "*")
    }
}
