//! What a proxy's registration says about the redirection it needs.

use std::time::Duration;

use redirect::{Config, contract};
use serde_json::Value;

use crate::catalog::{Catalog, Service};
use crate::client::ClientError;
use crate::overrides::{self, OverrideError};

/// Why a registration gives no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The catalogue gave no answer.
    #[error("failed to fetch proxy service from Consul's catalogue")]
    Catalog(#[from] ClientError),
    /// Nothing is registered under this id.
    #[error(
        "proxy service with ID {proxy:?} not found on node {node:?}: check -proxy-id, -node-name, -namespace and -partition"
    )]
    NotFound {
        /// The id.
        proxy: String,
        /// Where it was looked for.
        node: String,
    },
    /// Ids are unique on a node, so this is not a catalogue.
    #[error("expected to find only one proxy service with ID {proxy:?} on node {node:?}, but more were found")]
    Several {
        /// The id.
        proxy: String,
        /// Where it was looked for.
        node: String,
    },
    /// A service, and no proxy.
    #[error("service {0} is not a proxy service")]
    NotAProxy(String),
    /// A value that cannot be followed.
    #[error(transparent)]
    Value(#[from] OverrideError),
}

/// Finds the registration of `proxy` on `node`.
///
/// # Errors
/// [`LookupError`].
pub(super) fn look_up(catalog: &Catalog<'_>, node: &str, proxy: &str) -> Result<Service, LookupError> {
    let filter = format!("ID == {}", Value::from(proxy));
    let mut found = catalog.services(node, &filter, None, Duration::ZERO)?.services;
    let names = || (proxy.to_owned(), node.to_owned());
    match (found.pop(), found.is_empty()) {
        (Some(service), true) => Ok(service),
        (Some(_), false) => {
            let (proxy, node) = names();
            Err(LookupError::Several { proxy, node })
        }
        (None, _) => {
            let (proxy, node) = names();
            Err(LookupError::NotFound { proxy, node })
        }
    }
}

/// `base` with the ports of the proxy's listeners, and the ports that are reachable without the mesh in front of those that
/// `base` excludes already.
///
/// # Errors
/// [`LookupError::NotAProxy`] and [`LookupError::Value`].
pub fn config_of(service: &Service, base: Config) -> Result<Config, LookupError> {
    let proxy = service.proxy.as_ref().ok_or_else(|| LookupError::NotAProxy(service.id.clone()))?;
    let mut config = Config {
        proxy_inbound_port: service.port,
        proxy_outbound_port: contract::OUTBOUND_PORT.into(),
        exclude_inbound_ports: Vec::new(),
        ..base
    };
    config.exclude_inbound_ports.extend(overrides::bound_port(service, "envoy_prometheus_bind_addr")?);
    config = overrides::apply(config, service)?;
    let paths = proxy.expose.as_ref().and_then(|expose| expose.paths.as_ref());
    let exposed = paths.into_iter().flatten().map(|path| path.listener_port).filter(|port| *port != 0);
    config.exclude_inbound_ports.extend(exposed.map(|port| port.to_string()));
    config.exclude_inbound_ports.extend(base.exclude_inbound_ports);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn config(service: Value) -> Result<Config, String> {
        let base = Config {
            proxy_user_id: "5995".into(),
            exclude_inbound_ports: vec!["7000".into()],
            exclude_uids: vec!["5996".into()],
            ..Config::default()
        };
        let service = serde_json::from_value(service).expect("a service");
        config_of(&service, base).map_err(|error| error.to_string())
    }

    #[rstest]
    #[case::the_port_of_the_service(json!({"Port": 20000, "Proxy": {}}), 20000, 15001, &["7000"])]
    #[case::overridden(
        json!({"Port": 20000, "Proxy": {"Config": {"bind_port": "21000"}, "TransparentProxy": {"OutboundListenerPort": 16001}}}),
        21000, 16001, &["7000"]
    )]
    #[case::in_consuls_order(
        json!({"Port": 20000, "Proxy": {
            "Config": {"envoy_stats_bind_addr": "0.0.0.0:9102", "envoy_prometheus_bind_addr": "0.0.0.0:20200"},
            "Expose": {"Checks": true, "Paths": [{"ListenerPort": 21500, "Path": "/healthz"}, {"ListenerPort": 0}, {"ListenerPort": 21501}]},
        }}),
        20000, 15001, &["20200", "9102", "21500", "21501", "7000"]
    )]
    #[case::nulls(json!({"Port": 20000, "Proxy": {"Config": null, "Expose": {"Paths": null}}}), 20000, 15001, &["7000"])]
    fn a_registration_says_what_to_redirect(
        #[case] service: Value,
        #[case] inbound: i64,
        #[case] outbound: i64,
        #[case] excluded: &[&str],
    ) {
        let config = config(service).expect("usable");
        assert_eq!((config.proxy_inbound_port, config.proxy_outbound_port), (inbound, outbound));
        assert_eq!(config.exclude_inbound_ports, excluded);
        assert_eq!((config.proxy_user_id.as_str(), config.exclude_uids), ("5995", vec!["5996".to_owned()]));
    }

    #[rstest]
    #[case(json!({"ID": "web", "Port": 8080}), "service web is not a proxy service")]
    #[case(json!({"ID": "web", "Proxy": {"Config": {"envoy_prometheus_bind_addr": "9102"}}}), r#"envoy_prometheus_bind_addr = "9102""#)]
    fn what_cannot_be_followed_is_named(#[case] service: Value, #[case] expected: &str) {
        let message = config(service).expect_err("unusable");
        assert!(message.contains(expected), "{message}");
    }
}
