//! What the registration knows better than the webhook did: the ports its listeners really have.

use redirect::Config;
use serde_json::Value;

use crate::catalog::Service;

/// A value in the registration that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error(
    "follow {key} = {value} in the registration of proxy {proxy}: {want}; check the proxy's service-defaults and proxy-defaults"
)]
pub struct OverrideError {
    key: &'static str,
    value: String,
    proxy: String,
    want: &'static str,
}

/// Takes over the outbound listener's port, `bind_port` and the port of `envoy_stats_bind_addr`.
///
/// # Errors
/// [`OverrideError`] for a value that is not a port or an address.
pub fn apply(mut config: Config, service: &Service) -> Result<Config, OverrideError> {
    let fail =
        |key, value: &Value, want| OverrideError { key, value: value.to_string(), proxy: service.id.clone(), want };
    let Some(proxy) = &service.proxy else { return Ok(config) };
    if let Some(port) = proxy.transparent_proxy.map(|own| own.outbound_listener_port).filter(|port| *port != 0) {
        config.proxy_outbound_port = port;
    }
    let Some(settings) = &proxy.config else { return Ok(config) };
    if let Some(value) = settings.get("bind_port") {
        match weak_integer(value).ok_or_else(|| fail("bind_port", value, "must be a port number"))? {
            0 => {}
            port => config.proxy_inbound_port = port,
        }
    }
    config.exclude_inbound_ports.extend(bound_port(service, "envoy_stats_bind_addr")?);
    Ok(config)
}

/// The port of the `host:port` under `key` in the proxy's settings, if it is set.
///
/// # Errors
/// [`OverrideError`] for anything else.
pub(crate) fn bound_port(service: &Service, key: &'static str) -> Result<Option<String>, OverrideError> {
    let settings = service.proxy.as_ref().and_then(|proxy| proxy.config.as_ref());
    let Some(value) = settings.and_then(|settings| settings.get(key)).filter(|value| !is_unset(value)) else {
        return Ok(None);
    };
    let port = value.as_str().and_then(port_of).ok_or_else(|| OverrideError {
        key,
        value: value.to_string(),
        proxy: service.id.clone(),
        want: "must be an address and port, as 0.0.0.0:9102",
    })?;
    Ok(Some(port.to_string()))
}

/// Whether a value says nothing, as Go reads it.
fn is_unset(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

/// An integer that may have been written as a string or a float, as configuration entries allow.
fn weak_integer(value: &Value) -> Option<i64> {
    match value {
        unset if is_unset(unset) => Some(0),
        Value::String(text) => text.parse().ok(),
        number => number.as_i64().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
            // every whole number of that size has an integer form
            format!("{float:.0}").parse().ok()
        }),
    }
}

/// The port of `host:port`, `[v6]:port` or `:port`.
fn port_of(address: &str) -> Option<u16> {
    let (host, port) = address.rsplit_once(':')?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.contains(':') && !bracketed {
        return None;
    }
    port.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn overridden(proxy: Value) -> Result<(i64, i64, Vec<String>), String> {
        let service = serde_json::from_value(json!({"ID": "web-proxy", "Proxy": proxy})).expect("a service");
        let config = Config {
            proxy_inbound_port: 20000,
            proxy_outbound_port: 15001,
            exclude_inbound_ports: vec!["20200".into()],
            ..Config::default()
        };
        let Config { proxy_inbound_port, proxy_outbound_port, exclude_inbound_ports, .. } =
            apply(config, &service).map_err(|error| error.to_string())?;
        Ok((proxy_inbound_port, proxy_outbound_port, exclude_inbound_ports))
    }

    #[rstest]
    #[case::none(json!(null), 20000, 15001, &["20200"])]
    #[case::nulls(json!({"Config": null, "TransparentProxy": null}), 20000, 15001, &["20200"])]
    #[case::empty(json!({"Config": {"bind_port": "", "envoy_stats_bind_addr": ""}}), 20000, 15001, &["20200"])]
    #[case::null(json!({"Config": {"bind_port": null, "envoy_stats_bind_addr": null}}), 20000, 15001, &["20200"])]
    #[case::zeros(json!({"Config": {"bind_port": 0}, "TransparentProxy": {"OutboundListenerPort": 0}}), 20000, 15001, &["20200"])]
    #[case::outbound(json!({"TransparentProxy": {"OutboundListenerPort": 15002}}), 20000, 15002, &["20200"])]
    #[case::number(json!({"Config": {"bind_port": 21000}}), 21000, 15001, &["20200"])]
    #[case::float(json!({"Config": {"bind_port": 21000.0}}), 21000, 15001, &["20200"])]
    #[case::string(json!({"Config": {"bind_port": "21000"}}), 21000, 15001, &["20200"])]
    #[case::stats(json!({"Config": {"envoy_stats_bind_addr": "0.0.0.0:9102"}}), 20000, 15001, &["20200", "9102"])]
    #[case::stats_v6(json!({"Config": {"envoy_stats_bind_addr": "[::]:9102"}}), 20000, 15001, &["20200", "9102"])]
    fn the_registration_wins(
        #[case] proxy: Value,
        #[case] inbound: i64,
        #[case] outbound: i64,
        #[case] excluded: &[&str],
    ) {
        let excluded = excluded.iter().map(ToString::to_string).collect();
        assert_eq!(overridden(proxy).expect("usable"), (inbound, outbound, excluded));
    }

    #[rstest]
    #[case(json!({"bind_port": "twenty"}), r#"bind_port = "twenty""#)]
    #[case(json!({"bind_port": 1.5}), "bind_port = 1.5")]
    #[case(json!({"envoy_stats_bind_addr": "9102"}), r#"envoy_stats_bind_addr = "9102""#)]
    #[case(json!({"envoy_stats_bind_addr": "::1:9102"}), r#"envoy_stats_bind_addr = "::1:9102""#)]
    fn unusable_values_are_named(#[case] config: Value, #[case] expected: &str) {
        let message = overridden(json!({"Config": config})).expect_err("unusable");
        assert!(message.contains(expected) && message.contains("web-proxy"), "{message}");
    }
}
