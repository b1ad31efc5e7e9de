//! Mutual TLS at both ends, with certificates that Envoy gets as secrets and so can change under load.

use serde_json::{Value, json};

use super::{Resources, typed};
use crate::ca::Leaf;
use crate::feed::config_source;
use crate::world::World;

/// Name of the secret that is the proxy's own certificate.
const LEAF: &str = "leaf";
/// Name of the secret that is the mesh's roots.
const ROOTS: &str = "roots";
/// Name of the secret that is the roots of the mesh and of its peers.
const BUNDLES: &str = "bundles";

pub(super) fn secrets(world: &World, resources: &mut Resources, leaf: &Leaf, roots_pem: &str) {
    let kind = typed!("extensions.transport_sockets.tls.v3.Secret");
    resources.secrets.insert(
        LEAF.to_owned(),
        json!({
            "@type": kind, "name": LEAF,
            "tls_certificate": {
                "certificate_chain": {"inline_string": leaf.cert_chain_pem},
                "private_key": {"inline_string": leaf.key_pem},
            },
        }),
    );
    resources.secrets.insert(
        ROOTS.to_owned(),
        json!({"@type": kind, "name": ROOTS, "validation_context": {"trusted_ca": {"inline_string": roots_pem}}}),
    );
    if world.peers.is_empty() {
        return;
    }
    // each trust domain by its own roots: those of a peer must not vouch for one of ours
    let domain = |name: &str, roots: &str| json!({"name": name, "trust_bundle": {"inline_string": roots}});
    let own = domain(world.names.trust_domain(), roots_pem);
    let peers = world.peers.values().map(|told| domain(&told.trust_domain, &told.roots));
    let mut domains: Vec<Value> = std::iter::once(own).chain(peers).collect();
    domains.dedup_by(|a, b| a["name"] == b["name"]);
    let validator = json!({
        "name": "envoy.tls.cert_validator.spiffe",
        "typed_config": {
            "@type": typed!("extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"), "trust_domains": domains,
        },
    });
    resources.secrets.insert(
        BUNDLES.to_owned(),
        json!({"@type": kind, "name": BUNDLES, "validation_context": {"custom_validator_config": validator}}),
    );
}

/// Adds the roots of a peer.
pub(super) fn peer_roots(peer: &str, roots: &str, resources: &mut Resources) {
    let name = peer_roots_name(peer);
    let kind = typed!("extensions.transport_sockets.tls.v3.Secret");
    let context = json!({"trusted_ca": {"inline_string": roots}});
    resources.secrets.insert(name.clone(), json!({"@type": kind, "name": name, "validation_context": context}));
}

fn peer_roots_name(peer: &str) -> String {
    format!("{ROOTS}~{peer}")
}

/// At a destination: a client certificate is required, of ours or of a peer. `alpn` is offered when it is not empty.
pub(super) fn downstream(world: &World, alpn: &[&str]) -> Value {
    let mut common = common();
    common["validation_context_sds_secret_config"] = secret(if world.peers.is_empty() { ROOTS } else { BUNDLES });
    if !alpn.is_empty() {
        common["alpn_protocols"] = json!(alpn);
    }
    json!({
        "name": "tls",
        "typed_config": {
            "@type": typed!("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": common, "require_client_certificate": true,
        },
    })
}

/// The listener filter that reads the server name a client asks for.
pub(super) fn inspector() -> Value {
    json!({
        "name": "envoy.filters.listener.tls_inspector",
        "typed_config": {"@type": typed!("extensions.filters.listener.tls_inspector.v3.TlsInspector")},
    })
}

/// Towards a destination that must be `spiffe`.
pub(super) fn upstream(sni: &str, spiffe: &str) -> Value {
    towards(sni, std::iter::once(spiffe), ROOTS)
}

/// Towards a destination of a peer that must be one of these.
pub(super) fn upstream_peer(sni: &str, identities: &[String], peer: &str) -> Value {
    towards(sni, identities.iter().map(String::as_str), &peer_roots_name(peer))
}

fn towards<'a>(sni: &str, identities: impl Iterator<Item = &'a str>, roots: &str) -> Value {
    let names: Vec<Value> = identities.map(|spiffe| json!({"san_type": "URI", "matcher": {"exact": spiffe}})).collect();
    let mut common = common();
    common["combined_validation_context"] = json!({
        "default_validation_context": {"match_typed_subject_alt_names": names},
        "validation_context_sds_secret_config": secret(roots),
    });
    json!({
        "name": "tls",
        "typed_config": {
            "@type": typed!("extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            "common_tls_context": common, "sni": sni,
        },
    })
}

fn common() -> Value {
    json!({"tls_params": {}, "tls_certificate_sds_secret_configs": [secret(LEAF)]})
}

fn secret(name: &str) -> Value {
    json!({"name": name, "sds_config": config_source()})
}
