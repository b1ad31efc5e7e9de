//! What routers, splitters and resolvers ask for beyond a destination: time limits, retries, headers, load balancing.

use serde_json::{Value, json};

use super::Resources;
use super::cluster::seconds;
use crate::chain::{ChainRoute, Resolved};
use crate::config::{HashPolicy, HeaderChanges, Headers, LoadBalancer, Retries};
use crate::go;

/// Adds to the action of a route all but where it goes.
pub(super) fn action(route: &ChainRoute, action: &mut Value) {
    if let Some(timeout) = route.timeout {
        action["timeout"] = json!(seconds(timeout));
    }
    if let Some(timeout) = route.idle_timeout {
        action["idle_timeout"] = json!(seconds(timeout));
    }
    if let Some(rewrite) = &route.prefix_rewrite {
        action["prefix_rewrite"] = json!(rewrite);
    }
    if route.retries != Retries::default() {
        action["retry_policy"] = retry_policy(&route.retries);
    }
    let load_balancer = route.split.first().and_then(|leg| leg.to.load_balancer.as_ref());
    if let Some(LoadBalancer { hash_policies, .. }) =
        load_balancer.filter(|l| l.hashes() && !l.hash_policies.is_empty())
    {
        action["hash_policy"] = hash_policies.iter().map(hash_policy).collect();
    }
}

fn retry_policy(retries: &Retries) -> Value {
    let Retries { num_retries, retry_on, retry_on_connect_failure, retry_on_status_codes } = retries;
    let mut on = retry_on.clone();
    let mut also = |reason: &str| {
        if !on.iter().any(|found| found == reason) {
            on.push(reason.to_owned());
        }
    };
    if *retry_on_connect_failure {
        also("connect-failure");
    }
    if !retry_on_status_codes.is_empty() {
        also("retriable-status-codes");
    }
    let mut policy = json!({"retry_on": on.join(",")});
    if *num_retries > 0 {
        policy["num_retries"] = json!(num_retries);
    }
    if !retry_on_status_codes.is_empty() {
        policy["retriable_status_codes"] = json!(retry_on_status_codes);
    }
    policy
}

fn hash_policy(policy: &HashPolicy) -> Value {
    let HashPolicy { field, field_value, cookie_config, source_ip, terminal } = policy;
    let mut rendered = match field.as_str() {
        _ if *source_ip => json!({"connection_properties": {"source_ip": true}}),
        "header" => json!({"header": {"header_name": field_value}}),
        "query_parameter" => json!({"query_parameter": {"name": field_value}}),
        _ => {
            let mut cookie = json!({"name": field_value});
            if let Some(config) = cookie_config {
                // a cookie without a time of its own is not made; one of a session has the time 0
                let ttl = config.ttl.as_deref().and_then(go::duration);
                if let Some(ttl) = ttl.or(config.session.then_some(std::time::Duration::ZERO)) {
                    cookie["ttl"] = json!(seconds(ttl));
                }
                cookie["path"] = json!(config.path);
            }
            json!({"cookie": cookie})
        }
    };
    if *terminal {
        rendered["terminal"] = json!(true);
    }
    rendered
}

/// Adds changes of headers to a route or to a weighted cluster, after those that are there.
pub(super) fn headers(changes: &Headers, to: &mut Value) {
    let mut extend = |field: String, more: Vec<Value>| {
        if !more.is_empty() {
            let mut all = to[field.as_str()].as_array().cloned().unwrap_or_default();
            all.extend(more);
            to[field] = json!(all);
        }
    };
    for (side, HeaderChanges { add, set, remove }) in
        [("request", &changes.request_headers), ("response", &changes.response_headers)]
    {
        let option = |(name, value): (&String, &String), action: &str| json!({"header": {"key": name, "value": value}, "append_action": action});
        let added = add.iter().map(|header| option(header, "APPEND_IF_EXISTS_OR_ADD"));
        let set = set.iter().map(|header| option(header, "OVERWRITE_IF_EXISTS_OR_ADD"));
        extend(format!("{side}_headers_to_add"), added.chain(set).collect());
        extend(format!("{side}_headers_to_remove"), remove.iter().map(|name| json!(name)).collect());
    }
}

/// Gives a cluster the load balancing that the resolver of its service asks for.
pub(super) fn load_balancer(resolved: &Resolved, cluster: &str, resources: &mut Resources) {
    let (Some(wanted), Some(cluster)) = (&resolved.load_balancer, resources.clusters.get_mut(cluster)) else { return };
    let LoadBalancer { policy, ring_hash_config: ring, least_request_config: least, hash_policies: _ } = wanted;
    cluster["lb_policy"] = match policy.as_str() {
        "leastRequest" => json!("LEAST_REQUEST"),
        "random" => json!("RANDOM"),
        "ringHash" => json!("RING_HASH"),
        "maglev" => json!("MAGLEV"),
        _ => json!("ROUND_ROBIN"),
    };
    if least.choice_count > 0 {
        cluster["least_request_lb_config"] = json!({"choice_count": least.choice_count});
    }
    let sizes = [("minimum_ring_size", ring.minimum_ring_size), ("maximum_ring_size", ring.maximum_ring_size)];
    for (field, size) in sizes.into_iter().filter(|(_, size)| *size > 0) {
        cluster["ring_hash_lb_config"][field] = json!(size);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use crate::ca::Leaf;
    use crate::config::{HeaderChanges, Headers};
    use crate::envoy::render;
    use crate::fixture::{TRUST_DOMAIN, instance, world};
    use crate::intentions::Intention;

    /// The configuration of `client` where everything speaks HTTP.
    fn rendered(entries: &[(&str, &str, Value)]) -> Value {
        let mut all = entries.to_vec();
        if entries.iter().all(|(kind, ..)| *kind != "ProxyDefaults") {
            all.push(("ProxyDefaults", "global", json!({"config": {"protocol": "http"}})));
        }
        let world = world(&["client", "google"], Intention::Allow, &all);
        let leaf = Leaf { cert_chain_pem: "LEAF".to_owned(), key_pem: "KEY".to_owned() };
        render(&world, instance(&world, "client"), &leaf, "ROOT")
    }

    #[rstest]
    #[case::time(json!({"requestTimeout": "2s", "idleTimeout": "1.5s"}), json!({"timeout": "2s", "idle_timeout": "1.5s"}))]
    #[case::retries(json!({"numRetries": 3, "retryOn": ["reset"], "retryOnConnectFailure": true, "retryOnStatusCodes": [503]}),
        json!({"retry_policy": {
            "num_retries": 3, "retry_on": "reset,connect-failure,retriable-status-codes", "retriable_status_codes": [503],
        }}))]
    #[case::said_twice(json!({"retryOn": ["connect-failure"], "retryOnConnectFailure": true}),
        json!({"retry_policy": {"retry_on": "connect-failure"}}))]
    fn a_route_is_rendered(#[case] destination: Value, #[case] mut expected: Value) {
        let rendered = rendered(&[("ServiceRouter", "google", json!({"routes": [{"destination": destination}]}))]);
        expected["cluster"] = json!(format!("google.default.dc1.internal.{TRUST_DOMAIN}"));
        assert_eq!(rendered["routes"]["google"]["virtual_hosts"][0]["routes"][0]["route"], expected);
    }

    #[test]
    fn headers_of_a_route_come_after_those_of_its_split() {
        let headers = |name: &str, value: &str| Headers {
            request_headers: HeaderChanges { set: [(name.to_owned(), value.to_owned())].into(), ..Default::default() },
            response_headers: HeaderChanges { remove: vec!["server".to_owned()], ..Default::default() },
        };
        let mut route = json!({});
        super::headers(&headers("a", "1"), &mut route);
        super::headers(&headers("a", "2"), &mut route);
        let set = |value: &str| json!({"header": {"key": "a", "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"});
        assert_eq!(route["request_headers_to_add"], json!([set("1"), set("2")]));
        assert_eq!(route["response_headers_to_remove"], json!(["server", "server"]));
    }

    #[rstest]
    #[case(json!({"policy": "leastRequest", "leastRequestConfig": {"choiceCount": 3}}),
        json!({"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": 3}}), json!(null))]
    #[case(json!({"policy": "ringHash", "ringHashConfig": {"minimumRingSize": 9},
            "hashPolicies": [{"field": "header", "fieldValue": "x-user", "terminal": true}, {"sourceIP": true}]}),
        json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 9}}),
        json!([{"header": {"header_name": "x-user"}, "terminal": true}, {"connection_properties": {"source_ip": true}}]))]
    #[case(json!({"policy": "maglev",
            "hashPolicies": [{"field": "cookie", "fieldValue": "id", "cookieConfig": {"ttl": "60s", "path": "/"}}]}),
        json!({"lb_policy": "MAGLEV"}), json!([{"cookie": {"name": "id", "ttl": "60s", "path": "/"}}]))]
    #[case(json!({"policy": "random"}), json!({"lb_policy": "RANDOM"}), json!(null))]
    fn load_balancing_is_rendered(#[case] wanted: Value, #[case] cluster: Value, #[case] hashes: Value) {
        let rendered = rendered(&[("ServiceResolver", "google", json!({"loadBalancer": wanted}))]);
        let found = &rendered["clusters"][format!("google.default.dc1.internal.{TRUST_DOMAIN}")];
        for (field, value) in cluster.as_object().expect("fields") {
            assert_eq!(found[field], *value, "{found}");
        }
        assert_eq!(rendered["routes"]["google"]["virtual_hosts"][0]["routes"][0]["route"]["hash_policy"], hashes);
    }

    #[test]
    fn what_defaults_say_of_the_application_is_rendered() {
        let defaults = json!({
            "localConnectTimeoutMs": 250, "localRequestTimeoutMs": 1500, "balanceInboundConnections": "exact_balance",
        });
        let idle = json!({"config": {"protocol": "http", "local_idle_timeout_ms": 3000}});
        let rendered = rendered(&[("ProxyDefaults", "global", idle), ("ServiceDefaults", "client", defaults)]);
        assert_eq!(rendered["clusters"]["local_app"]["connect_timeout"], "0.25s");
        let listener = &rendered["listeners"]["public_listener:10.244.0.1:20000"];
        assert_eq!(listener["connection_balance_config"], json!({"exact_balance": {}}));
        let manager = &listener["filter_chains"][0]["filters"][0]["typed_config"];
        let route = &manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
        assert_eq!((&route["timeout"], &route["idle_timeout"]), (&json!("1.5s"), &json!("3s")));
    }
}
