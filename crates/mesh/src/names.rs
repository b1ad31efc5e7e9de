//! The names a service goes by on the wire: SNI, SPIFFE identity, Envoy cluster and statistics names.

use std::sync::Arc;

use crate::place::Place;

/// Namespace and partition of every service: Consul's community edition knows only the default ones.
pub(crate) const DEFAULT: &str = "default";

/// Makes names for services of one datacenter and trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    datacenter: Arc<str>,
    trust_domain: Arc<str>,
}

impl Names {
    pub(crate) fn new(datacenter: &str, trust_domain: &str) -> Self {
        Self { datacenter: datacenter.into(), trust_domain: trust_domain.into() }
    }

    /// The names of services at another place.
    pub(crate) fn at(&self, place: &Place) -> Self {
        match place {
            Place::Here => self.clone(),
            Place::Datacenter(datacenter) => Self { datacenter: datacenter.clone(), ..self.clone() },
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

    /// The server name that a client proxy asks for; also the name of the Envoy cluster.
    pub(crate) fn sni(&self, service: &str, subset: Option<&str>) -> String {
        let prefix = subset.map(|s| format!("{s}.")).unwrap_or_default();
        format!("{prefix}{service}.{DEFAULT}.{}.internal.{}", self.datacenter, self.trust_domain)
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

    /// The server name that leads to the mesh gateways of another datacenter; also the name of the Envoy cluster.
    pub(crate) fn gateway_sni(&self, datacenter: &str) -> String {
        format!("{datacenter}.internal.{}", self.trust_domain)
    }

    /// The server name that a client proxy asks for when it means a service that is exported to the peer of this name by the mesh of this
    /// trust domain.
    pub(crate) fn peer_sni(service: &str, peer: &str, trust_domain: &str) -> String {
        format!("{service}.{DEFAULT}.{DEFAULT}.{peer}.external.{trust_domain}")
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
        format!("spiffe://{}/ns/{DEFAULT}/dc/{}/svc/{service}", self.trust_domain, self.datacenter)
    }

    /// Regular expression that matches the identity of `service`, or of every service when it is `*`. The datacenter is
    /// not part of the decision.
    #[cfg(test)]
    pub(crate) fn spiffe_pattern(&self, service: &str) -> String {
        self.spiffe_pattern_of(&self.trust_domain, service)
    }

    /// As that, in another trust domain. Those of partitions have one more part in their path.
    pub(crate) fn spiffe_pattern_of(&self, trust_domain: &str, service: &str) -> String {
        let service = if service == "*" { "[^/]+".to_owned() } else { regex::escape(service) };
        format!("^spiffe://{}/ns/{DEFAULT}/dc/[^/]+/svc/{service}$", regex::escape(trust_domain))
    }

    /// Statistics prefix of the filters that lead to an upstream.
    pub(crate) fn stat_prefix(&self, upstream: &str) -> String {
        format!("upstream.{}", self.dotted(upstream))
    }

    /// `<service>.<namespace>.<partition>.<datacenter>`.
    pub(crate) fn dotted(&self, service: &str) -> String {
        format!("{service}.{DEFAULT}.{DEFAULT}.{}", self.datacenter)
    }
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
}
