//! The annotation `connect-service-upstreams`: upstreams with a local port of their own.

use std::net::IpAddr;

use crate::go;
use crate::names::DEFAULT;
use crate::partition;
use crate::place::{GatewayMode, Place};
use crate::query;
use crate::tenancy::Tenancy;

/// An explicit upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upstream {
    /// A service, or the prepared query of this name.
    pub(crate) service: String,
    /// Whether it is a query.
    pub(crate) is_query: bool,
    /// As the annotation says; `None` when it does not.
    pub(crate) datacenter: Option<String>,
    /// The partition that the service is in, if it is another one than ours.
    pub(crate) partition: Option<String>,
    /// The mesh that the service is in, if it is not ours.
    pub(crate) peer: Option<String>,
    /// Through which gateways, when the annotation says so.
    pub(crate) gateway_mode: Option<GatewayMode>,
    /// The further port of the service that is meant; the default one if none is named.
    pub(crate) port: Option<String>,
    pub(crate) bind_address: IpAddr,
    pub(crate) bind_port: u16,
}

impl Upstream {
    /// Where the service is, when `own` is our datacenter.
    pub(crate) fn place(&self, own: &str) -> Place {
        match (&self.peer, &self.partition, &self.datacenter) {
            (Some(peer), ..) => Place::Peer(peer.as_str().into()),
            (None, Some(partition), _) => Place::Partition(partition.as_str().into()),
            (None, None, Some(name)) => Place::datacenter(name, own),
            (None, None, None) => Place::Here,
        }
    }

    /// Consul's name of the upstream, by which it hides the implicit upstream of the same name.
    pub(crate) fn id(&self) -> String {
        if self.is_query {
            return query::upstream(&self.service);
        }
        let service = match &self.port {
            Some(port) => format!("{port}.{}", self.service),
            None => self.service.clone(),
        };
        match (&self.peer, &self.partition, &self.datacenter) {
            (Some(peer), ..) => crate::peering::id(&service, peer),
            (None, Some(partition), _) => partition::id(&service, partition),
            (None, None, Some(datacenter)) => format!("{service}?dc={datacenter}"),
            (None, None, None) => service,
        }
    }
}

/// Why the annotation was refused, as consul-k8s words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("upstream structured incorrectly: {0}")]
    Structure(String),
    #[error("invalid upstream local bind port {port:?} in {raw:?}")]
    Port { port: String, raw: String },
    #[error("unsupported upstream option {option:?} in {raw:?}")]
    Option { option: String, raw: String },
    #[error("namespace {namespace:?} of the upstream {raw:?} does not exist: there is one, {DEFAULT:?}")]
    Namespace { namespace: String, raw: String },
    #[error("invalid upstream mesh gateway mode {mode:?} in {raw:?}")]
    GatewayMode { mode: String, raw: String },
}

/// Parses the whole annotation, whose forms are others where there are partitions. `named_port` resolves the name of a container port.
pub(crate) fn parse(
    annotation: &str,
    tenancy: &Tenancy,
    named_port: impl Fn(&str) -> Option<u16>,
) -> Result<Vec<Upstream>, UpstreamError> {
    annotation.split(',').map(|raw| one(raw.trim(), tenancy, &named_port)).collect()
}

fn one(raw: &str, tenancy: &Tenancy, named_port: &impl Fn(&str) -> Option<u16>) -> Result<Upstream, UpstreamError> {
    let wrong = || UpstreamError::Structure(raw.to_owned());
    let mut parts = raw.splitn(3, ':');
    let (name, port, extra) = (parts.next().unwrap_or_default(), parts.next().ok_or_else(wrong)?, parts.next());
    let numbered = |port: &str| {
        let number = named_port(port).or_else(|| go::positive(port).and_then(|p| u16::try_from(p).ok()));
        number.ok_or_else(|| UpstreamError::Port { port: port.to_owned(), raw: raw.to_owned() })
    };
    let plain = |service: &str, bind_port| Upstream {
        service: service.to_owned(),
        is_query: false,
        datacenter: None,
        partition: None,
        peer: None,
        gateway_mode: None,
        port: None,
        bind_address: [127, 0, 0, 1].into(),
        bind_port,
    };
    if name.trim() == "prepared_query" {
        // what would be the port is the query's name, and the rest is the port
        let (query, port) = (port.trim(), extra.ok_or_else(wrong)?);
        if query.is_empty() {
            return Err(wrong());
        }
        return Ok(Upstream { is_query: true, ..plain(query, numbered(port.trim())?) });
    }
    let Named { labeled, service, namespace, place } = named(name, tenancy.is_on()).ok_or_else(wrong)?;
    if let Some(namespace) = namespace.filter(|namespace| *namespace != DEFAULT) {
        return Err(UpstreamError::Namespace { namespace: namespace.to_owned(), raw: raw.to_owned() });
    }
    let of = |kind: &str| place.filter(|(_, label)| *label == kind).map(|(name, _)| name);
    let partition = tenancy.foreign(of("ap")).map(str::to_owned);
    let (datacenter, peer) = (of("dc").map(str::to_owned), of("peer").map(str::to_owned));
    let mut upstream = Upstream { datacenter, partition, peer, ..plain(service, numbered(port)?) };
    if let Some(extra) = extra {
        let (positional, options) = match extra.split_once('?') {
            Some((dc, options)) => (dc, options),
            None if extra.contains(['=', '&']) => ("", extra),
            None => (extra, ""),
        };
        match (labeled, positional) {
            (_, "") => {}
            (true, port) => upstream.port = Some(port.to_owned()),
            (false, datacenter) => upstream.datacenter = Some(datacenter.to_owned()),
        }
        for option in options.split(['&', ';']).filter(|o| !o.is_empty()) {
            apply_option(&mut upstream, option, raw)?;
        }
    }
    Ok(upstream)
}

/// What is before the port.
struct Named<'a> {
    labeled: bool,
    service: &'a str,
    namespace: Option<&'a str>,
    /// Where, and the label that says what that is: `dc`, `peer` or `ap`.
    place: Option<(&'a str, &'a str)>,
}

/// Reads one of the forms; nothing if it is none, or has an empty part. Without tenancy a name that has no label may have dots.
fn named(name: &str, tenancy: bool) -> Option<Named<'_>> {
    let pieces: Vec<&str> = name.split('.').collect();
    let labeled = pieces.get(1) == Some(&"svc");
    let (service, namespace, place) = match (pieces.as_slice(), tenancy) {
        ([service, "svc"], _) => (*service, None, None),
        ([service, "svc", name, kind @ ("dc" | "peer")], false) => (*service, None, Some((*name, *kind))),
        ([service, "svc", namespace, "ns"], true) => (*service, Some(*namespace), None),
        ([service, "svc", namespace, "ns", name, kind @ ("dc" | "peer" | "ap")], true) => {
            (*service, Some(*namespace), Some((*name, *kind)))
        }
        ([_, "svc", ..], _) => return None,
        (_, false) => (name, None, None),
        (_, true) => {
            let mut parts = name.splitn(3, '.');
            (parts.next().unwrap_or_default(), parts.next(), parts.next().map(|partition| (partition, "ap")))
        }
    };
    let is_whole = !service.is_empty() && namespace != Some("") && place.is_none_or(|(name, _)| !name.is_empty());
    is_whole.then_some(Named { labeled, service, namespace, place })
}

fn apply_option(upstream: &mut Upstream, option: &str, raw: &str) -> Result<(), UpstreamError> {
    let (key, value) = option.split_once('=').unwrap_or((option, ""));
    let unsupported = || UpstreamError::Option { option: option.to_owned(), raw: raw.to_owned() };
    match key {
        "local_bind_address" | "local-bind-address" | "localBindAddress" => {
            upstream.bind_address = value.parse().map_err(|_| unsupported())?;
        }
        "datacenter" | "dc" => match &upstream.datacenter {
            Some(other) if other != value => return Err(UpstreamError::Structure(raw.to_owned())),
            _ => upstream.datacenter = Some(value.to_owned()),
        },
        "mesh_gateway_mode" => {
            let unknown = || UpstreamError::GatewayMode { mode: value.to_owned(), raw: raw.to_owned() };
            upstream.gateway_mode = Some(GatewayMode::parse(value).ok_or_else(unknown)?);
        }
        "destination_port" | "destination-port" | "destinationPort" | "port" if !value.is_empty() => {
            upstream.port = Some(value.to_owned());
        }
        _ => return Err(UpstreamError::Option { option: key.to_owned(), raw: raw.to_owned() }),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("upstream1:1234", "upstream1 127.0.0.1:1234")]
    #[case(" upstream1:0x1F90 ", "upstream1 127.0.0.1:8080")]
    #[case("upstream1:admin", "upstream1 127.0.0.1:9000")]
    #[case("upstream1:1234:dc1", "upstream1?dc=dc1 127.0.0.1:1234")]
    #[case("upstream1.ns1:1234", "upstream1.ns1 127.0.0.1:1234")]
    #[case("upstream1.svc:1234", "upstream1 127.0.0.1:1234")]
    #[case("upstream1.svc.dc1.dc:1234", "upstream1?dc=dc1 127.0.0.1:1234")]
    #[case("a:1:?local_bind_address=127.0.0.77", "a 127.0.0.77:1")]
    #[case("upstream1.svc:1234:metrics", "metrics.upstream1 127.0.0.1:1234")]
    #[case(
        "upstream1:1234:dc1?destination_port=metrics&local_bind_address=127.0.0.77",
        "metrics.upstream1?dc=dc1 127.0.0.77:1234"
    )]
    #[case("a:1:mesh_gateway_mode=local", "a 127.0.0.1:1 local")]
    #[case("a:1:mesh_gateway_mode=all", r#"invalid upstream mesh gateway mode "all" in "a:1:mesh_gateway_mode=all""#)]
    #[case("a:1:port=", r#"unsupported upstream option "port" in "a:1:port=""#)]
    #[case("a:1, b:2", "a 127.0.0.1:1|b 127.0.0.1:2")]
    #[case("a:1,", "upstream structured incorrectly: ")]
    #[case("a", "upstream structured incorrectly: a")]
    #[case("upstream1.svc.x.err:1234", "upstream structured incorrectly: upstream1.svc.x.err:1234")]
    #[case("a:1 b:2", r#"invalid upstream local bind port "1 b" in "a:1 b:2""#)]
    #[case("a:1:dc2", "a?dc=dc2 127.0.0.1:1")]
    #[case("a:1:dc2?mesh_gateway_mode=local", "a?dc=dc2 127.0.0.1:1 local")]
    #[case("a.svc.dc2.dc:1:mesh_gateway_mode=remote", "a?dc=dc2 127.0.0.1:1 remote")]
    #[case("a.svc.p.peer:1", "a?peer=p 127.0.0.1:1")]
    #[case("prepared_query:q1:1234", "prepared_query:q1 127.0.0.1:1234")]
    #[case("prepared_query:q1:admin", "prepared_query:q1 127.0.0.1:9000")]
    #[case("prepared_query:q1", "upstream structured incorrectly: prepared_query:q1")]
    #[case("prepared_query::1", "upstream structured incorrectly: prepared_query::1")]
    #[case("prepared_query:q1:1:dc2", r#"invalid upstream local bind port "1:dc2" in "prepared_query:q1:1:dc2""#)]
    #[case("a:1:colour=red", r#"unsupported upstream option "colour" in "a:1:colour=red""#)]
    fn forms(#[case] annotation: &str, #[case] expected: &str) {
        assert_eq!(shown(annotation, &Tenancy::default()), expected);
    }

    #[rstest]
    #[case::plain("a:1", "a 127.0.0.1:1")]
    #[case::with_a_namespace("a.default:1", "a 127.0.0.1:1")]
    #[case::with_a_partition("a.default.ap1:1", "ap1/default/a 127.0.0.1:1")]
    #[case::of_ours("a.default.default:1", "a 127.0.0.1:1")]
    #[case::labeled("a.svc:1", "a 127.0.0.1:1")]
    #[case::labeled_namespace("a.svc.default.ns:1", "a 127.0.0.1:1")]
    #[case::labeled_partition("a.svc.default.ns.ap1.ap:1", "ap1/default/a 127.0.0.1:1")]
    #[case::labeled_peer("a.svc.default.ns.p.peer:1", "a?peer=p 127.0.0.1:1")]
    #[case::labeled_datacenter("a.svc.default.ns.dc2.dc:1", "a?dc=dc2 127.0.0.1:1")]
    #[case::with_a_mode("a.default.ap1:1:mesh_gateway_mode=local", "ap1/default/a 127.0.0.1:1 local")]
    #[case::of_a_partition_that_is_not_there("a.default.ap9:1", "ap9/default/a 127.0.0.1:1")]
    #[case::of_another_namespace(
        "a.shop.ap1:1",
        r#"namespace "shop" of the upstream "a.shop.ap1:1" does not exist: there is one, "default""#
    )]
    #[case::peer_without_a_namespace("a.svc.p.peer:1", "upstream structured incorrectly: a.svc.p.peer:1")]
    #[case::without_a_partition("a.default.:1", "upstream structured incorrectly: a.default.:1")]
    fn forms_with_partitions(#[case] annotation: &str, #[case] expected: &str) {
        let all = ["default".into(), "ap1".into()];
        assert_eq!(shown(annotation, &Tenancy::new("default", &all)), expected);
    }

    fn shown(annotation: &str, tenancy: &Tenancy) -> String {
        let parsed = parse(annotation, tenancy, |name| (name == "admin").then_some(9000));
        match parsed {
            Ok(list) => {
                let one = |u: &Upstream| {
                    let via = u.gateway_mode.map(|mode| format!(" {}", mode.as_str())).unwrap_or_default();
                    format!("{} {}:{}{via}", u.id(), u.bind_address, u.bind_port)
                };
                list.iter().map(one).collect::<Vec<_>>().join("|")
            }
            Err(error) => error.to_string(),
        }
    }
}
