//! Where chains lead.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::fixture::world;
use crate::intentions::Intention;

fn shown(target: &Target) -> String {
    target.subset.iter().fold(target.service.clone(), |service, subset| format!("{subset}.{service}"))
}

/// The routes of the chain of `web`, each as `path: weight% target (or failover)`.
fn routes(entries: &[(&str, &str, Value)]) -> Vec<String> {
    let mut all = vec![("ProxyDefaults", "global", json!({"config": {"protocol": "http"}}))];
    all.extend(entries.iter().cloned());
    let world = world(&["web"], Intention::Allow, &all);
    let leg = |leg: &Leg| {
        let failover: String = leg.to.failover.iter().map(|t| format!(" or {}", shown(t))).collect();
        format!("{}% {}{failover}", leg.weight, shown(&leg.to.target))
    };
    let route = |route: &ChainRoute| {
        let legs: Vec<String> = route.split.iter().map(leg).collect();
        format!("{}: {}", route.matches.path_prefix.as_deref().unwrap_or("*"), legs.join(", "))
    };
    Chain::of(&world.config, "web", Place::Here, &Dial::default()).routes.iter().map(route).collect()
}

fn subsets(name: &'static str) -> (&'static str, &'static str, Value) {
    ("ServiceResolver", name, json!({"defaultSubset": "v1", "subsets": {"v1": {}, "v2": {}}}))
}

#[rstest]
#[case::itself(vec![], &["*: 100% web"])]
#[case::default_subset(vec![subsets("web")], &["*: 100% v1.web"])]
#[case::redirects_to_the_end(vec![
    ("ServiceResolver", "web", json!({"redirect": {"service": "b"}})),
    ("ServiceResolver", "b", json!({"redirect": {"service": "c"}})),
    subsets("c"),
], &["*: 100% v1.c"])]
#[case::redirect_to_a_subset_of_its_own(vec![
    ("ServiceResolver", "web", json!({"subsets": {"v2": {}}, "redirect": {"service": "web", "serviceSubset": "v2"}})),
], &["*: 100% v2.web"])]
#[case::failover(vec![
    ("ServiceResolver", "web", json!({"failover": {"*": {"targets": [{"service": "b"}, {"service": "c"}]}}})),
], &["*: 100% web or b or c"])]
#[case::failover_of_a_subset(vec![
    ("ServiceResolver", "web", json!({
        "defaultSubset": "v2", "subsets": {"v1": {}, "v2": {}}, "failover": {"v2": {"serviceSubset": "v1"}, "*": {"service": "b"}},
    })),
], &["*: 100% v2.web or v1.web"])]
#[case::split_of_a_split(vec![
    ("ServiceSplitter", "web", json!({"splits": [{"weight": 80}, {"weight": 20, "service": "b"}]})),
    ("ServiceSplitter", "b", json!({"splits": [{"weight": 25}, {"weight": 75, "service": "c"}]})),
], &["*: 80% web, 5% b, 15% c"])]
#[case::routes_are_split_too(vec![
    ("ServiceRouter", "web", json!({"routes": [
        {"match": {"http": {"pathPrefix": "/b"}}, "destination": {"service": "b"}},
        {"match": {"http": {"pathPrefix": "/v2"}}, "destination": {"serviceSubset": "v2"}},
    ]})),
    ("ServiceSplitter", "b", json!({"splits": [{"weight": 50}, {"weight": 50, "service": "c"}]})),
    subsets("web"),
], &["/b: 50% b, 50% c", "/v2: 100% v2.web", "*: 100% v1.web"])]
fn chains(#[case] entries: Vec<(&str, &str, Value)>, #[case] expected: &[&str]) {
    assert_eq!(routes(&entries), expected);
}

#[test]
fn the_inner_split_has_the_last_word_on_a_header() {
    let set = |value: &str| json!({"set": {"x-part": value}});
    let entries = [
        ("ProxyDefaults", "global", json!({"config": {"protocol": "http"}})),
        (
            "ServiceSplitter",
            "web",
            json!({"splits": [{"weight": 100, "service": "b", "requestHeaders": set("outer")}]}),
        ),
        ("ServiceSplitter", "b", json!({"splits": [{"weight": 100, "requestHeaders": set("inner")}]})),
    ];
    let world = world(&["web"], Intention::Allow, &entries);
    let chain = Chain::of(&world.config, "web", Place::Here, &Dial::default());
    assert_eq!(chain.routes[0].split[0].headers.request_headers.set["x-part"], "inner");
}
