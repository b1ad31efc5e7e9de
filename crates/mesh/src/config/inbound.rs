//! How a proxy treats what comes in for the application beside it.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Config, number};

/// What is said of it; the rest is left to Envoy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inbound {
    /// How long a connection to the application may take to stand.
    pub(crate) connect_timeout: Option<Duration>,
    /// How long the application may take to answer a request; no time is for ever.
    pub(crate) request_timeout: Option<Duration>,
    /// How long nothing may happen meanwhile.
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_connections: Option<u32>,
    /// Whether Envoy's threads take connections in equal numbers.
    pub(crate) is_balanced: bool,
}

impl Inbound {
    /// For an instance of `service` whose Pod says `own` of its proxy. That goes before the service's defaults, and these before
    /// those of all proxies.
    pub(crate) fn of(config: &Config, service: &str, own: &Map<String, Value>) -> Self {
        let of_service = config.service_defaults.get(service);
        let of_all = config.proxy_defaults.as_ref().map(|defaults| &defaults.config);
        let own_number = |setting: &str| own.get(setting).and_then(number);
        let millis = |limit: u32| Duration::from_millis(limit.into());
        let connect_timeout = own_number("local_connect_timeout_ms")
            .or_else(|| of_service.map(|said| said.local_connect_timeout_ms).filter(|limit| *limit > 0))
            .or_else(|| of_all?.local_connect_timeout_ms);
        let request_timeout = own_number("local_request_timeout_ms")
            .or_else(|| of_service.map(|said| said.local_request_timeout_ms).filter(|limit| *limit > 0))
            .or_else(|| of_all?.local_request_timeout_ms);
        let idle_timeout = own_number("local_idle_timeout_ms").or_else(|| of_all?.local_idle_timeout_ms);
        let max_connections = own_number("max_inbound_connections")
            .or_else(|| of_service?.max_inbound_connections.filter(|limit| *limit > 0))
            .or_else(|| of_all?.max_inbound_connections);
        let balance = [
            own.get("balance_inbound_connections").and_then(Value::as_str),
            of_service.map(|said| said.balance_inbound_connections.as_str()),
            of_all.map(|said| said.balance_inbound_connections.as_str()),
        ];
        Self {
            // a connection in no time is none
            connect_timeout: connect_timeout.filter(|limit| *limit > 0).map(millis),
            request_timeout: request_timeout.map(millis),
            idle_timeout: idle_timeout.map(millis),
            max_connections: max_connections.filter(|limit| *limit > 0),
            is_balanced: balance.into_iter().flatten().find(|said| !said.is_empty()) == Some("exact_balance"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::fixture::world;
    use crate::intentions::Intention;

    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    #[rstest]
    #[case::nothing(json!({}), json!({}), json!({}), Inbound::default())]
    #[case::of_all(
        json!({
            "local_connect_timeout_ms": 1, "local_request_timeout_ms": "2", "local_idle_timeout_ms": 3, "max_inbound_connections": 4,
            "balance_inbound_connections": "exact_balance",
        }), json!({}), json!({}),
        Inbound {
            connect_timeout: ms(1), request_timeout: ms(2), idle_timeout: ms(3), max_connections: Some(4), is_balanced: true,
        })]
    #[case::of_the_service(
        json!({"local_connect_timeout_ms": 1, "local_request_timeout_ms": 1, "max_inbound_connections": 1}),
        json!({
            "localConnectTimeoutMs": 2, "localRequestTimeoutMs": 2, "maxInboundConnections": 2,
            "balanceInboundConnections": "exact_balance",
        }), json!({}),
        Inbound { connect_timeout: ms(2), request_timeout: ms(2), max_connections: Some(2), is_balanced: true, ..Inbound::default() })]
    #[case::nothing_of_the_service(
        json!({"local_connect_timeout_ms": 1, "local_request_timeout_ms": 1, "max_inbound_connections": 1}),
        json!({"localConnectTimeoutMs": 0, "localRequestTimeoutMs": 0, "maxInboundConnections": 0}), json!({}),
        Inbound { connect_timeout: ms(1), request_timeout: ms(1), max_connections: Some(1), ..Inbound::default() })]
    #[case::of_the_pod(
        json!({"local_idle_timeout_ms": 1}), json!({"localConnectTimeoutMs": 2, "maxInboundConnections": 2}),
        json!({"local_connect_timeout_ms": 3, "local_idle_timeout_ms": "4", "max_inbound_connections": 0}),
        Inbound { connect_timeout: ms(3), idle_timeout: ms(4), ..Inbound::default() })]
    #[case::what_of_the_pod_cannot_be_read(json!({}), json!({"localConnectTimeoutMs": 2}), json!({"local_connect_timeout_ms": "soon"}),
        Inbound { connect_timeout: ms(2), ..Inbound::default() })]
    #[case::zero(json!({"local_connect_timeout_ms": 0, "local_request_timeout_ms": 0, "local_idle_timeout_ms": 0}), json!({}), json!({}),
        Inbound { request_timeout: ms(0), idle_timeout: ms(0), ..Inbound::default() })]
    fn the_pod_goes_before_the_service_and_that_before_all(
        #[case] of_all: Value,
        #[case] of_service: Value,
        #[case] own: Value,
        #[case] expected: Inbound,
    ) {
        let entries = [("ProxyDefaults", "global", json!({"config": of_all})), ("ServiceDefaults", "web", of_service)];
        let world = world(&["web"], Intention::Allow, &entries);
        assert_eq!(Inbound::of(&world.config, "web", own.as_object().expect("settings")), expected);
    }
}
