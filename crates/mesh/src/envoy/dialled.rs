//! What whoever dials asks of the clusters that it dials: limits, and when to turn away from an instance that fails.

use serde_json::{Value, json};

use super::cluster::seconds;
use crate::config::{Limits, PassiveHealthCheck};
use crate::dial::Dial;
use crate::go;

/// Adds to a cluster what is said of the instances in it.
pub(super) fn tune(dial: &Dial, cluster: &mut Value) {
    if let Some(limits) = &dial.limits {
        cluster["circuit_breakers"] = json!({"thresholds": [thresholds(limits)]});
    }
    if let Some(check) = &dial.passive_health_check {
        cluster["outlier_detection"] = outlier_detection(check);
    }
}

/// `CircuitBreakers.Thresholds`: what is not said is left to Envoy.
fn thresholds(Limits { max_connections, max_pending_requests, max_concurrent_requests }: &Limits) -> Value {
    let all = [
        ("max_connections", max_connections),
        ("max_pending_requests", max_pending_requests),
        ("max_requests", max_concurrent_requests),
    ];
    all.into_iter().filter_map(|(field, limit)| Some((field.to_owned(), json!((*limit)?)))).collect()
}

/// `OutlierDetection`. The times of accepted entries can be read, and an interval of no time is none.
fn outlier_detection(check: &PassiveHealthCheck) -> Value {
    let PassiveHealthCheck {
        interval,
        max_failures,
        enforcing_consecutive_5xx: enforcing,
        max_ejection_percent,
        base_ejection_time,
    } = check;
    let time = |text: &Option<String>| {
        let time = text.as_deref().and_then(go::duration).filter(|time| !time.is_zero());
        time.map(|time| json!(seconds(time)))
    };
    let all = [
        ("interval", time(interval)),
        ("consecutive_5xx", (*max_failures > 0).then(|| json!(max_failures))),
        ("enforcing_consecutive_5xx", enforcing.map(|percent| json!(percent))),
        ("max_ejection_percent", max_ejection_percent.map(|percent| json!(percent))),
        ("base_ejection_time", time(base_ejection_time)),
    ];
    all.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use crate::envoy::conformance::{accepted, rendered};
    use crate::fixture::TRUST_DOMAIN;
    use crate::intentions::Intention;

    /// What `client` says of how it dials, and maybe more.
    fn says(said: Value, more: &[(&'static str, &'static str, Value)]) -> Vec<(&'static str, &'static str, Value)> {
        let mut entries = vec![("ServiceDefaults", "client", json!({"upstreamConfig": said}))];
        entries.extend(more.iter().cloned());
        entries
    }

    /// The clusters of these targets in the configuration of `client`, their names short of the trust domain.
    fn clusters(upstreams: &str, entries: &[(&str, &str, Value)]) -> Vec<(String, Value)> {
        let rendered = rendered("client", Intention::Allow, upstreams, entries);
        accepted(&rendered);
        let all = rendered["clusters"].as_object().expect("clusters").clone().into_iter();
        let short =
            |name: String| name.strip_suffix(&format!(".default.dc1.internal.{TRUST_DOMAIN}")).map(str::to_owned);
        all.filter_map(|(name, cluster)| Some((short(name)?, cluster))).collect()
    }

    /// The one of these whose name ends so.
    fn one(clusters: Vec<(String, Value)>, target: &str) -> (String, Value) {
        let mut found = clusters.into_iter().filter(|(name, _)| name.rsplit('~').next() == Some(target));
        let first = found.next().expect("a cluster of the target");
        assert_eq!(found.next(), None);
        first
    }

    #[rstest]
    #[case::limits(json!({"limits": {"maxConnections": 1, "maxPendingRequests": 0, "maxConcurrentRequests": 2}}), "circuit_breakers",
        json!({"thresholds": [{"max_connections": 1, "max_pending_requests": 0, "max_requests": 2}]}))]
    #[case::passive(json!({"passiveHealthCheck": {
            "interval": "2s", "maxFailures": 3, "enforcing_consecutive_5xx": 100, "maxEjectionPercent": 50, "baseEjectionTime": "1m",
        }}), "outlier_detection", json!({
            "interval": "2s", "consecutive_5xx": 3, "enforcing_consecutive_5xx": 100, "max_ejection_percent": 50,
            "base_ejection_time": "60s",
        }))]
    #[case::next_to_nothing(json!({"passiveHealthCheck": {"interval": "0s"}}), "outlier_detection", json!({}))]
    #[case::never(json!({"passiveHealthCheck": {"enforcingConsecutive5xx": 0}}), "outlier_detection",
        json!({"enforcing_consecutive_5xx": 0}))]
    #[case::timeout(json!({"connectTimeoutMs": 250}), "connect_timeout", json!("0.25s"))]
    #[case::protocol(json!({"protocol": "grpc"}),
        "typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions/explicit_http_config",
        json!({"http2_protocol_options": {}}))]
    fn a_target_is_dialled_as_the_dialling_service_says(
        #[values("", "google:1234", "google.svc:1234:?local_bind_address=127.0.0.77")] upstreams: &str,
        #[case] said: Value,
        #[case] field: &str,
        #[case] expected: Value,
    ) {
        let mut own = said.clone();
        own["name"] = json!("google");
        for said in [json!({"defaults": said}), json!({"overrides": [own]})] {
            let named = said["overrides"].is_array();
            let entries = says(said, &[("ServiceResolver", "google", json!({"connectTimeout": "9s"}))]);
            let clusters = clusters(upstreams, &entries);
            let (name, google) = one(clusters.clone(), "google");
            assert_eq!(google.pointer(&format!("/{field}")), Some(&expected), "{google}");
            assert_ne!(name, "google", "it is not dialled as the entries say");
            let (name, _) = one(clusters, "db");
            assert_eq!(name == "db", named, "an override is about no other upstream");
        }
    }

    #[test]
    fn an_upstream_that_leads_to_the_same_target_is_another_one() {
        let entries = says(
            json!({"overrides": [{"name": "google", "connectTimeoutMs": 250}]}),
            &[("ServiceResolver", "google", json!({"redirect": {"service": "db"}}))],
        );
        let mut of_db: Vec<String> = clusters("", &entries).into_iter().map(|(name, _)| name).collect();
        of_db.retain(|name| name.ends_with("db"));
        assert_eq!(of_db.len(), 2, "{of_db:?}");
    }

    #[test]
    fn failover_targets_are_dialled_so_too() {
        let entries = says(
            json!({"defaults": {"limits": {"maxConnections": 1}}}),
            &[("ServiceResolver", "google", json!({"failover": {"*": {"service": "db"}}}))],
        );
        let members = clusters("", &entries).into_iter().filter(|(name, _)| name.starts_with("failover-target~"));
        let limits: Vec<Value> = members.map(|(_, cluster)| cluster["circuit_breakers"].clone()).collect();
        assert_eq!(limits, vec![json!({"thresholds": [{"max_connections": 1}]}); 2]);
    }

    #[rstest]
    #[case::of_all(json!({"defaults": {"balanceOutboundConnections": "exact_balance"}}), true, true)]
    #[case::of_one(json!({"overrides": [{"name": "google", "balanceOutboundConnections": "exact_balance"}]}), false, true)]
    #[case::of_another(json!({"overrides": [{"name": "db", "balanceOutboundConnections": "exact_balance"}]}), false, false)]
    fn listeners_are_balanced(#[case] said: Value, #[case] outbound: bool, #[case] explicit: bool) {
        let rendered = rendered("client", Intention::Allow, "google:1234", &says(said, &[]));
        let balance =
            |listener: &str| rendered["listeners"][listener]["connection_balance_config"]["exact_balance"] == json!({});
        assert_eq!(balance("outbound_listener:127.0.0.1:15001"), outbound);
        assert_eq!(balance("google:127.0.0.1:1234"), explicit);
        accepted(&rendered);
    }
}
