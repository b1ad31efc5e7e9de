//! The names a service goes by on the wire: SNI, SPIFFE identity, Envoy cluster and statistics names.

use std::sync::Arc;

use crate::place::Place;

/// The namespace of every service, and the partition of all that are in none other: Consul's community edition knows only these.
pub(crate) const DEFAULT: &str = "default";

/// Makes names for services of one datacenter, partition and trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    datacenter: Arc<str>,
    trust_domain: Arc<str>,
    partition: Arc<str>,
}

impl Names {
    pub(crate) fn new(datacenter: &str, trust_domain: &str) -> Self {
        Self { datacenter: datacenter.into(), trust_domain: trust_domain.into(), partition: DEFAULT.into() }
    }

    /// The names of services in this partition.
    pub(crate) fn in_partition(&self, partition: &str) -> Self {
        Self { partition: partition.into(), ..self.clone() }
    }

    /// The names of services at another place.
    pub(crate) fn at(&self, place: &Place) -> Self {
        match place {
            Place::Here => self.clone(),
            Place::Datacenter(datacenter) => Self { datacenter: datacenter.clone(), ..self.clone() },
            Place::Partition(partition) => Self { partition: partition.clone(), ..self.clone() },
            // a peer's names are made of what it tells: see `peer_sni`
            Place::Peer(_) => self.clone(),
        }
    }

    pub(crate) fn datacenter(&self) -> &str {
        &self.datacenter
    }

    pub(crate) fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    pub(crate) fn partition(&self) -> &str {
        &self.partition
    }

    /// The end of server names: of the datacenter, or of a partition of it.
    fn internal(&self) -> String {
        match &*self.partition {
            DEFAULT => format!("{}.internal.{}", self.datacenter, self.trust_domain),
            partition => format!("{partition}.{}.internal-v1.{}", self.datacenter, self.trust_domain),
        }
    }

    /// The server name that a client proxy asks for; also the name of the Envoy cluster.
    pub(crate) fn sni(&self, service: &str, subset: Option<&str>) -> String {
        let prefix = subset.map(|s| format!("{s}.")).unwrap_or_default();
        format!("{prefix}{service}.{DEFAULT}.{}", self.internal())
    }

    /// The server name that a client proxy asks for when it means a further port of a service; also the name of the Envoy
    /// cluster.
    pub(crate) fn port_sni(&self, port: &str, service: &str) -> String {
        self.sni(service, Some(port))
    }

    /// The server name that a client proxy asks for when it means a prepared query; also the name of the Envoy cluster.
    pub(crate) fn query_sni(&self, query: &str) -> String {
        format!("{query}.{DEFAULT}.{}.query.{}", self.datacenter, self.trust_domain)
    }

    /// The server name that leads to the mesh gateways here; also the name of the Envoy cluster.
    pub(crate) fn gateway_sni(&self) -> String {
        self.internal()
    }

    /// The server name that a client proxy asks for when it means a service that is exported to the peer of this name by the mesh of this
    /// trust domain, from this partition of it.
    pub(crate) fn peer_sni(service: &str, partition: &str, peer: &str, trust_domain: &str) -> String {
        format!("{service}.{DEFAULT}.{partition}.{peer}.external.{trust_domain}")
    }

    /// The Envoy cluster of a service that the peer of this name and this trust domain exports.
    pub(crate) fn peer_cluster(service: &str, peer: &str, trust_domain: &str) -> String {
        format!("{service}.{DEFAULT}.{peer}.external.{trust_domain}")
    }

    /// Statistics prefix of the filters that lead to a service of a peer.
    pub(crate) fn peer_stat_prefix(service: &str, peer: &str) -> String {
        format!("upstream_peered.{service}.{DEFAULT}.{peer}")
    }

    /// The identity in the service's certificate.
    pub(crate) fn spiffe(&self, service: &str) -> String {
        let partition = in_path(&self.partition);
        format!("spiffe://{}{partition}/ns/{DEFAULT}/dc/{}/svc/{service}", self.trust_domain, self.datacenter)
    }

    /// Regular expression that matches the identity of `service`, or of every service when it is `*`. The datacenter is
    /// not part of the decision.
    #[cfg(test)]
    pub(crate) fn spiffe_pattern(&self, service: &str) -> String {
        Self::spiffe_pattern_of(&self.trust_domain, &self.partition, service)
    }

    /// As that, in a partition of a trust domain.
    pub(crate) fn spiffe_pattern_of(trust_domain: &str, partition: &str, service: &str) -> String {
        let service = if service == "*" { "[^/]+".to_owned() } else { regex::escape(service) };
        let partition = in_path(&regex::escape(partition));
        format!("^spiffe://{}{partition}/ns/{DEFAULT}/dc/[^/]+/svc/{service}$", regex::escape(trust_domain))
    }

    /// Statistics prefix of the filters that lead to an upstream.
    pub(crate) fn stat_prefix(&self, upstream: &str) -> String {
        format!("upstream.{}", self.dotted(upstream))
    }

    /// `<service>.<namespace>.<partition>.<datacenter>`.
    pub(crate) fn dotted(&self, service: &str) -> String {
        format!("{service}.{DEFAULT}.{}.{}", self.partition, self.datacenter)
    }
}

/// The part of an identity that is the partition, which that of the default one does not have.
fn in_path(partition: &str) -> String {
    if partition == DEFAULT { String::new() } else { format!("/ap/{partition}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_consul_makes_them() {
        let names = Names::new("dc1", "td.consul");
        assert_eq!(names.sni("google", None), "google.default.dc1.internal.td.consul");
        assert_eq!(names.sni("google", Some("v1")), "v1.google.default.dc1.internal.td.consul");
        assert_eq!(names.spiffe("google"), "spiffe://td.consul/ns/default/dc/dc1/svc/google");
        assert_eq!(names.stat_prefix("google"), "upstream.google.default.default.dc1");
        assert_eq!(names.spiffe_pattern("a.b"), r"^spiffe://td\.consul/ns/default/dc/[^/]+/svc/a\.b$");
        assert_eq!(names.spiffe_pattern("*"), r"^spiffe://td\.consul/ns/default/dc/[^/]+/svc/[^/]+$");
    }

    #[test]
    fn those_of_a_partition_say_so() {
        let names = Names::new("dc1", "td.consul").in_partition("ap1");
        assert_eq!(names.sni("google", None), "google.default.ap1.dc1.internal-v1.td.consul");
        assert_eq!(names.sni("google", Some("v1")), "v1.google.default.ap1.dc1.internal-v1.td.consul");
        assert_eq!(names.gateway_sni(), "ap1.dc1.internal-v1.td.consul");
        assert_eq!(names.spiffe("google"), "spiffe://td.consul/ap/ap1/ns/default/dc/dc1/svc/google");
        assert_eq!(names.spiffe_pattern("a"), r"^spiffe://td\.consul/ap/ap1/ns/default/dc/[^/]+/svc/a$");
        assert_eq!(names.stat_prefix("google"), "upstream.google.default.ap1.dc1");
        assert_eq!(names.in_partition("default"), Names::new("dc1", "td.consul"));
    }
}
