//! Envoy's bootstrap: its name, its admin port, and the way to this program for everything else.

use std::path::Path;

use mesh::feed::{XDS_CLUSTER, config_source};
use serde_json::{Value, json};

use crate::settings::Settings;

/// The bootstrap of a proxy whose xDS is served at `socket`.
pub(crate) fn render(settings: &Settings, proxy_id: &str, socket: &Path) -> Value {
    let Settings { admin_address, admin_port, .. } = settings;
    let mut bootstrap = json!({
        "node": {"id": proxy_id, "cluster": proxy_id},
        "admin": {"address": {"socket_address": {"address": admin_address, "port_value": admin_port}}},
        "dynamic_resources": {"lds_config": config_source(), "cds_config": config_source()},
        "static_resources": {"clusters": [{
            "name": XDS_CLUSTER, "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": XDS_CLUSTER,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket}}}}]}],
            },
            // one connection for all subscriptions, each of which has a request open all the time
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 100_000}},
                },
            },
            "circuit_breakers": {"thresholds": [{"max_requests": 100_000, "max_pending_requests": 100_000}]},
        }]},
    });
    if let Some(ready) = settings.ready {
        bootstrap["static_resources"]["listeners"] = json!([ready_listener(ready)]);
    }
    bootstrap
}

/// Answers `/ready` as the admin port does, where the kubelet reaches it.
fn ready_listener(address: std::net::SocketAddr) -> Value {
    json!({
        "name": "envoy_ready_listener",
        "address": {"socket_address": {"address": address.ip(), "port_value": address.port()}},
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "envoy_ready",
                "route_config": {"name": "envoy_ready", "virtual_hosts": [{"name": "ready", "domains": ["*"], "routes": [
                    {"match": {"path": "/ready"}, "direct_response": {"status": 404}},
                ]}]},
                "http_filters": [
                    {
                        "name": "envoy.filters.http.health_check",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck",
                            "pass_through_mode": false,
                            "headers": [{"name": ":path", "string_match": {"exact": "/ready"}}],
                        },
                    },
                    {
                        "name": "envoy.filters.http.router",
                        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                    },
                ],
            },
        }]}],
    })
}
