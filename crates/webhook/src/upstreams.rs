//! Explicit upstreams: the grammar of annotation `connect-service-upstreams`, as the control plane reads it.

use crate::ports::Ports;
use crate::reader::Reader;
use redirect::contract::CONNECT_SERVICE_UPSTREAMS;

/// One explicit upstream, as far as the Pod itself is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    /// The name as written, the base of the environment variables; `None` for a prepared query, which has none.
    pub(crate) name: Option<String>,
    /// The local port where the sidecar listens for it.
    pub(crate) port: u16,
    /// It has a local address of its own, so that the port alone says nothing.
    pub(crate) own_address: bool,
}

const ALLOWED: &str = "a comma separated list of upstreams of the forms name:port, name:port:datacenter, \
     name.svc:port, name.svc.<peer>.peer:port, name.svc.<datacenter>.dc:port, or prepared_query:name:port; \
     port is the name of a container port or a number from 1 to 65535";

const ALLOWED_WITH_TENANCY: &str = "a comma separated list of upstreams of the forms name[.namespace[.partition]]:port, \
     name.namespace.partition:port:datacenter, name.svc[.<namespace>.ns[.<name>.(peer|ap|dc)]]:port, or \
     prepared_query:name:port; port is the name of a container port or a number from 1 to 65535";

/// The options of the third field that the control plane knows.
const OPTIONS: [&str; 13] = [
    "destination_port",
    "destination-port",
    "destinationPort",
    "port",
    "local_bind_address",
    "local-bind-address",
    "localBindAddress",
    "mesh_gateway_mode",
    "mesh-gateway-mode",
    "meshGatewayMode",
    "datacenter",
    "dc",
    "",
];

/// The Pod's upstreams; what the control plane could not read is a mistake. `tenancy`: the mesh has namespaces or partitions.
pub(crate) fn of_pod(reader: &mut Reader<'_>, tenancy: bool) -> Vec<Upstream> {
    let Some(text) = reader.filled(CONNECT_SERVICE_UPSTREAMS) else { return Vec::new() };
    let mut upstreams = Vec::new();
    for item in text.split(',').map(str::trim) {
        match parse(reader.ports(), item, tenancy) {
            Some(upstream) => upstreams.push(upstream),
            None => reader.wrong(CONNECT_SERVICE_UPSTREAMS, item, if tenancy { ALLOWED_WITH_TENANCY } else { ALLOWED }),
        }
    }
    upstreams
}

fn parse(ports: &Ports<'_>, item: &str, tenancy: bool) -> Option<Upstream> {
    let mut fields = item.splitn(3, ':');
    let (name, second, third) = (fields.next()?.trim(), fields.next()?.trim(), fields.next());
    if name == "prepared_query" {
        let port = ports.resolve(third?.trim())?;
        return (!second.is_empty()).then_some(Upstream { name: None, port, own_address: false });
    }
    let pieces: Vec<_> = name.split('.').collect();
    let labeled = pieces.get(1) == Some(&"svc");
    let well_formed = match pieces.as_slice() {
        ["", ..] => false,
        [_, "svc"] => true,
        [_, "svc", namespace, "ns"] => tenancy && !namespace.is_empty(),
        [_, "svc", namespace, "ns", place, "peer" | "ap" | "dc"] => {
            tenancy && !namespace.is_empty() && !place.is_empty()
        }
        [_, "svc", place, "peer" | "dc"] => !tenancy && !place.is_empty(),
        _ => !labeled,
    };
    let extra_is_readable = third.is_none_or(|extra| readable_extra(extra.trim(), labeled));
    let port = ports.resolve(second)?;
    let own_address = third.is_some_and(|extra| extra.to_ascii_lowercase().contains("bind"));
    (well_formed && extra_is_readable).then(|| Upstream { name: Some(name.to_owned()), port, own_address })
}

/// The third field: a datacenter (a destination port's name for labeled upstreams), options, or both.
fn readable_extra(extra: &str, labeled: bool) -> bool {
    let options = match extra.split_once('?') {
        Some((_, options)) if !labeled => options,
        None if !extra.contains(['=', '&']) => return !extra.contains([':', ' ']),
        _ => extra,
    };
    options.split(['&', ';']).all(|option| {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let mode = key.replace('-', "_");
        OPTIONS.contains(&key)
            && (mode != "mesh_gateway_mode" && mode != "meshGatewayMode"
                || ["none", "local", "remote"].contains(&value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn spec() -> k8s_openapi::api::core::v1::PodSpec {
        serde_json::from_value(serde_json::json!({
            "containers": [{"name": "c", "ports": [{"name": "local", "containerPort": 7070}]}]
        }))
        .expect("a Pod specification")
    }

    #[rstest]
    #[case::plain("upstream1:1234", Some("upstream1"), 1234)]
    #[case::datacenter("upstream1:1234:dc2", Some("upstream1"), 1234)]
    #[case::named_port("upstream1:local", Some("upstream1"), 7070)]
    #[case::hexadecimal("upstream1:0x1F90", Some("upstream1"), 8080)]
    #[case::dotted("upstream1.ns1:1234", Some("upstream1.ns1"), 1234)]
    #[case::labeled("upstream1.svc:1234", Some("upstream1.svc"), 1234)]
    #[case::peer("upstream1.svc.peer1.peer:1234", Some("upstream1.svc.peer1.peer"), 1234)]
    #[case::labeled_datacenter("upstream1.svc.dc2.dc:1234", Some("upstream1.svc.dc2.dc"), 1234)]
    #[case::options(
        "upstream1:1234:dc2?mesh_gateway_mode=local&local_bind_address=127.0.0.77",
        Some("upstream1"),
        1234
    )]
    #[case::prepared_query("prepared_query:geo:1234", None, 1234)]
    fn reads(#[case] item: &str, #[case] name: Option<&str>, #[case] port: u16) {
        let found = parse(&Ports::of(&spec()), item, false).map(|upstream| (upstream.name, upstream.port));
        assert_eq!(found, Some((name.map(str::to_owned), port)));
    }

    #[rstest]
    #[case::no_port("my-service")]
    #[case::zero("my-service:0")]
    #[case::word("my-service:abc")]
    #[case::negative("my-service:-1")]
    #[case::too_big("my-service:65536")]
    #[case::query_without_port("prepared_query:geo")]
    #[case::query_without_name("prepared_query::1234")]
    #[case::wrong_label("my-service.svc.dc2.wrong:1234")]
    #[case::partition("my-service.svc.part1.ap:1234")]
    #[case::namespace("my-service.svc.ns1.ns:1234")]
    #[case::no_name(":1234")]
    #[case::mode("upstream1:1234:mesh_gateway_mode=invalid")]
    #[case::unknown_option("upstream1:1234:speed=fast")]
    #[case::blank_separated("a:1 b:2")]
    #[case::empty("")]
    fn refuses(#[case] item: &str) {
        assert_eq!(parse(&Ports::of(&spec()), item, false), None);
    }

    #[rstest]
    #[case::plain("up1:1234", true)]
    #[case::namespace("up1.ns1:1234", true)]
    #[case::partition("up1.ns1.part1:1234", true)]
    #[case::options(
        "up1.ns1.part1:1234:dc2?destination_port=http-route-b&local_bind_address=127.0.0.77&mesh_gateway_mode=local",
        true
    )]
    #[case::labeled("up1.svc:1234", true)]
    #[case::labeled_namespace("up1.svc.ns1.ns:1234", true)]
    #[case::labeled_peer("up1.svc.ns1.ns.peer1.peer:1234", true)]
    #[case::labeled_partition("up1.svc.ns1.ns.part1.ap:1234:http-route-a", true)]
    #[case::labeled_datacenter("up1.svc.ns1.ns.dc2.dc:1234", true)]
    #[case::peer_without_namespace("up1.svc.peer1.peer:1234", false)]
    #[case::wrong_label("up1.svc.ns1.err:1234", false)]
    #[case::wrong_place("up1.svc.ns1.ns.part1.err:1234", false)]
    #[case::too_long("up1.svc.ns1.ns.part1.ap.dc2.dc:1234", false)]
    fn with_namespaces(#[case] item: &str, #[case] readable: bool) {
        assert_eq!(parse(&Ports::of(&spec()), item, true).is_some(), readable);
    }
}
