//! How a service dials an upstream, when it says so itself: its own word goes before that of the upstream and of all.

use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::config::{Config, Limits, PassiveHealthCheck, Protocol, UpstreamSettings};
use crate::partition;
use crate::peering;
use crate::place::GatewayMode;
use crate::upstreams::Upstream;

/// What whoever dials says of how; nothing of it is said by most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct Dial {
    /// Through which gateways to another place.
    pub(crate) via: Option<GatewayMode>,
    /// What it speaks, whatever the upstream says.
    pub(crate) protocol: Option<Protocol>,
    /// How long a connection may take to stand.
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) limits: Option<Limits>,
    pub(crate) passive_health_check: Option<PassiveHealthCheck>,
}

impl Dial {
    /// How `service` dials an upstream, which is another service or what a peer or another partition exports: see [`peering::id`] and
    /// [`partition::id`].
    ///
    /// What an override does not say, the defaults do. Limits are one thing, and so is the passive health check: who sets one
    /// of their fields sets all of them.
    pub(crate) fn of(config: &Config, service: &str, upstream: &str) -> Self {
        let mut dial = Self::default();
        for said in said(config, service, Some(Which::of(upstream))) {
            let timeout = (said.connect_timeout_ms > 0).then(|| Duration::from_millis(said.connect_timeout_ms));
            dial.via = dial.via.or(said.mesh_gateway.mode);
            dial.protocol = dial.protocol.or(said.protocol);
            dial.connect_timeout = dial.connect_timeout.or(timeout);
            dial.limits = dial.limits.or_else(|| said.limits.clone());
            dial.passive_health_check = dial.passive_health_check.or_else(|| said.passive_health_check.clone());
        }
        dial
    }

    /// How `service` dials an upstream that its annotation names, which says more exactly through which gateways.
    pub(crate) fn explicit(config: &Config, service: &str, upstream: &Upstream) -> Self {
        let name = &upstream.service;
        let dial = match (&upstream.peer, &upstream.partition) {
            (Some(peer), _) => Self::of(config, service, &peering::id(name, peer)),
            (None, Some(partition)) => Self::of(config, service, &partition::id(name, partition)),
            (None, None) => Self::of(config, service, name),
        };
        Self { via: upstream.gateway_mode.or(dial.via), ..dial }
    }

    /// What tells clusters that are dialled so from those of the same target that are not: eight hexadecimal digits of all that
    /// is said, but for the gateways. `None` when that is nothing.
    pub(crate) fn mark(&self) -> Option<String> {
        let said = Self { via: None, ..self.clone() };
        if said == Self::default() {
            return None;
        }
        let text = serde_json::to_vec(&said).expect("numbers and texts are JSON");
        Some(Sha256::digest(text).iter().take(4).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Whether the threads of a proxy of `service` share connections to an upstream, or to all of them, equally.
pub(crate) fn is_balanced(config: &Config, service: &str, upstream: Option<&Upstream>) -> bool {
    let upstream = upstream.map(|upstream| Which {
        name: &upstream.service,
        peer: upstream.peer.as_deref(),
        partition: upstream.partition.as_deref(),
    });
    // there is one way to balance them
    said(config, service, upstream).any(|said| !said.balance_outbound_connections.is_empty())
}

/// An upstream as overrides name it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Which<'a> {
    name: &'a str,
    peer: Option<&'a str>,
    /// If it is another one than ours.
    partition: Option<&'a str>,
}

impl<'a> Which<'a> {
    fn of(upstream: &'a str) -> Self {
        match (peering::parse(upstream), partition::parse(upstream)) {
            (Some((name, peer)), _) => Self { name, peer: Some(peer), partition: None },
            (None, Some((name, partition))) => Self { name, peer: None, partition: Some(partition) },
            (None, None) => Self { name: upstream, peer: None, partition: None },
        }
    }
}

/// What `service` says of an upstream, here or elsewhere, and then what it says of all.
fn said<'a>(
    config: &'a Config,
    service: &str,
    upstream: Option<Which<'_>>,
) -> impl Iterator<Item = &'a UpstreamSettings> {
    let said = config.service_defaults.get(service).map(|defaults| &defaults.upstream_config);
    let is_meant = |own: &&UpstreamSettings| {
        let partition = own.partition.as_deref().and_then(|partition| config.home.tenancy.foreign(Some(partition)));
        Some(Which { name: &own.name, peer: own.peer.as_deref(), partition }) == upstream
    };
    let own = said.and_then(|said| said.overrides.iter().find(is_meant));
    own.into_iter().chain(said.map(|said| &said.defaults))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::fixture::tenant;
    use crate::intentions::Intention;
    use crate::tenancy::Tenancy;

    fn dial(said: Value, upstream: &str) -> Dial {
        let entries = [("ServiceDefaults", "client", json!({"upstreamConfig": said}))];
        let world = tenant(
            &["client"],
            &Tenancy::new("default", &["default".into(), "ap1".into()]),
            Intention::Allow,
            &entries,
            &[],
        );
        Dial::of(&world.config, "client", upstream)
    }

    fn limits(max: u32) -> Option<Limits> {
        Some(Limits { max_connections: Some(max), ..Limits::default() })
    }

    #[rstest]
    #[case::nothing(json!({}), "a", Dial::default())]
    #[case::defaults(json!({"defaults": {"protocol": "http"}}), "a", Dial { protocol: Some(Protocol::Http), ..Dial::default() })]
    #[case::of_another(json!({"overrides": [{"name": "b", "protocol": "http"}]}), "a", Dial::default())]
    #[case::of_the_same_name_at_a_peer(json!({"overrides": [{"name": "a", "peer": "east", "protocol": "http"}]}), "a", Dial::default())]
    #[case::of_a_peer(json!({"overrides": [{"name": "a", "peer": "east", "protocol": "http"}]}), "a?peer=east",
        Dial { protocol: Some(Protocol::Http), ..Dial::default() })]
    #[case::of_another_partition(json!({"overrides": [{"name": "a", "partition": "ap1", "protocol": "http"}]}), "ap1/default/a",
        Dial { protocol: Some(Protocol::Http), ..Dial::default() })]
    #[case::of_the_same_name_in_ours(json!({"overrides": [{"name": "a", "partition": "ap1", "protocol": "http"}]}), "a", Dial::default())]
    #[case::field_by_field(
        json!({
            "defaults": {"connectTimeoutMs": 100, "meshGateway": {"mode": "local"}, "limits": {"maxConnections": 1}},
            "overrides": [{"name": "a", "meshGateway": {"mode": "none"}}],
        }), "a",
        Dial {
            via: Some(GatewayMode::None), connect_timeout: Some(Duration::from_millis(100)), limits: limits(1), ..Dial::default()
        })]
    #[case::limits_are_one(
        json!({"defaults": {"limits": {"maxPendingRequests": 1}}, "overrides": [{"name": "a", "limits": {"maxConnections": 0}}]}), "a",
        Dial { limits: limits(0), ..Dial::default() })]
    fn an_override_goes_before_defaults(#[case] said: Value, #[case] upstream: &str, #[case] expected: Dial) {
        assert_eq!(dial(said, upstream), expected);
    }

    #[test]
    fn what_is_said_alike_has_one_mark() {
        let timeout = |ms: u64| dial(json!({"defaults": {"connectTimeoutMs": ms}}), "a").mark();
        assert_eq!(timeout(0), None);
        assert_eq!(timeout(100), timeout(100));
        assert_ne!(timeout(100), timeout(200));
        assert_eq!(dial(json!({"defaults": {"meshGateway": {"mode": "local"}}}), "a").mark(), None);
    }
}
