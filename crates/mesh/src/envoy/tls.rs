//! Mutual TLS at both ends, with certificates that Envoy gets as secrets and so can change under load.

use serde_json::{Value, json};

use super::{Resources, typed};
use crate::ca::Leaf;
use crate::feed::config_source;

/// Name of the secret that is the proxy's own certificate.
const LEAF: &str = "leaf";
/// Name of the secret that is the mesh's roots.
const ROOTS: &str = "roots";

pub(super) fn secrets(resources: &mut Resources, leaf: &Leaf, roots_pem: &str) {
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
}

/// At a destination: a client certificate is required. `alpn` is offered when it is not empty.
pub(super) fn downstream(alpn: &[&str]) -> Value {
    let mut common = common();
    common["validation_context_sds_secret_config"] = secret(ROOTS);
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
    let mut common = common();
    common["combined_validation_context"] = json!({
        "default_validation_context": {
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": spiffe}}],
        },
        "validation_context_sds_secret_config": secret(ROOTS),
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
