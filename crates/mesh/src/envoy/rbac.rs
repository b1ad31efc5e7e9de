//! Intentions as Envoy's RBAC filters at the destination.

use serde_json::{Map, Value, json};

use super::hcm::{self, Path};
use super::typed;
use crate::config::{Action, HttpMatch, Permission, Protocol};
use crate::intentions::{Intention, Origin, Rule, Says, rules_at};
use crate::names::{DEFAULT, Names};
use crate::world::World;

/// The filter for connections.
pub(super) fn network(world: &World, service: &str) -> Value {
    json!({
        "name": "envoy.filters.network.rbac",
        "typed_config": {
            "@type": typed!("extensions.filters.network.rbac.v3.RBAC"),
            "rules": rules(world, service, Protocol::Tcp), "stat_prefix": "connect_authz",
        },
    })
}

/// The filter for requests.
pub(super) fn http(world: &World, service: &str, protocol: Protocol) -> Value {
    json!({
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": typed!("extensions.filters.http.rbac.v3.RBAC"), "rules": rules(world, service, protocol),
        },
    })
}

/// Policies list the exceptions from the default. No exception from deny is `{}`: nobody may.
fn rules(world: &World, service: &str, protocol: Protocol) -> Value {
    let default = world.default_intention;
    let exception = match default {
        Intention::Allow => Action::Deny,
        Intention::Deny => Action::Allow,
    };
    let rules = rules_at(&world.config, service, protocol);
    let (mut connections, mut policies) = (Vec::new(), Map::new());
    for (i, rule) in rules.iter().enumerate() {
        match rule.says {
            Says::Connection(action) if action == exception => connections.push(principal(world, &rules, i)),
            Says::Connection(_) => {}
            Says::Requests(permissions) => {
                if let Some(permissions) = requests(permissions, exception) {
                    let policy = json!({"permissions": permissions, "principals": [principal(world, &rules, i)]});
                    policies.insert(format!("consul-intentions-layer7-{i}"), policy);
                }
            }
        }
    }
    if !connections.is_empty() {
        let policy = json!({"permissions": [{"any": true}], "principals": connections});
        policies.insert("consul-intentions-layer4".to_owned(), policy);
    }
    match (default, policies.is_empty()) {
        (_, true) if default == Intention::Deny => json!({}),
        (Intention::Deny, _) => json!({"policies": policies}),
        (Intention::Allow, _) => json!({"action": "DENY", "policies": policies}),
    }
}

/// The source of rule `i`, without the sources of the rules before it that are within it.
fn principal(world: &World, rules: &[Rule<'_>], i: usize) -> Value {
    let identity = |rule: &Rule<'_>| {
        let (trust_domain, partition) = home(world, rule.of);
        let pattern = Names::spiffe_pattern_of(trust_domain, partition, rule.source);
        json!({"authenticated": {"principal_name": {"safe_regex": {"regex": pattern}}}})
    };
    let rule = &rules[i];
    let before = rules[..i].iter().filter(|other| other.of == rule.of);
    let others: Vec<Value> = match rule.source {
        "*" => before.map(|other| json!({"not_id": identity(other)})).collect(),
        _ => Vec::new(),
    };
    if others.is_empty() {
        return identity(rule);
    }
    json!({"and_ids": {"ids": std::iter::once(identity(rule)).chain(others).collect::<Vec<_>>()}})
}

/// The trust domain and partition of a peer, or ours; nobody is in that of a peer that has not told of itself.
fn home<'a>(world: &'a World, of: Origin<'a>) -> (&'a str, &'a str) {
    match of.peer {
        None => (world.names.trust_domain(), of.partition.unwrap_or(world.names.partition())),
        Some(peer) => world.peers.get(peer).map_or(("", DEFAULT), |told| (&told.trust_domain, &told.partition)),
    }
}

/// What a source may request, or what it may not when exceptions are denials. `None`: the policy would be empty.
///
/// The first permission that matches decides; a request that none matches is refused.
fn requests(permissions: &[Permission], exception: Action) -> Option<Vec<Value>> {
    let mut allowed = Vec::new();
    for (i, permission) in permissions.iter().enumerate() {
        if permission.action == Some(Action::Deny) {
            continue;
        }
        let denied_before = permissions[..i].iter().filter(|p| p.action == Some(Action::Deny));
        let mut all = vec![request(&permission.http)];
        all.extend(denied_before.map(|p| json!({"not_rule": request(&p.http)})));
        allowed.push(and(all));
    }
    match (exception, allowed.len()) {
        (Action::Allow, 0) => None,
        (Action::Allow, _) => Some(allowed),
        (Action::Deny, 0) => Some(vec![json!({"any": true})]),
        (Action::Deny, _) => Some(vec![json!({"not_rule": {"or_rules": {"rules": allowed}}})]),
    }
}

/// A request as an RBAC permission.
fn request(matches: &HttpMatch) -> Value {
    let mut all = Vec::new();
    match hcm::path(matches) {
        Some(Path::Exact(path)) => all.push(json!({"url_path": {"path": {"exact": path}}})),
        Some(Path::Prefix(prefix)) => all.push(json!({"url_path": {"path": {"prefix": prefix}}})),
        Some(Path::Regex(regex)) => all.push(json!({"url_path": {"path": {"safe_regex": {"regex": regex}}}})),
        None => {}
    }
    all.extend(matches.header.iter().map(|h| json!({"header": hcm::header(h)})));
    all.extend(hcm::methods(matches).map(|m| json!({"header": m})));
    if all.is_empty() { json!({"any": true}) } else { and(all) }
}

fn and(mut rules: Vec<Value>) -> Value {
    if rules.len() == 1 { rules.remove(0) } else { json!({"and_rules": {"rules": rules}}) }
}
