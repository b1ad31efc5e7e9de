//! What is refused, and in which words.

use rstest::rstest;
use serde_json::json;

use super::*;

fn resource(kind: &str, name: &str, spec: Value) -> Resource {
    Resource {
        kind: kind.into(),
        namespace: "default".into(),
        name: name.into(),
        uid: String::new(),
        generation: 1,
        spec,
    }
}

#[rstest]
#[case("SamenessGroup", "x", json!({}), "kind SamenessGroup comes with a later issue")]
#[case("ServiceDefaults", "x", json!({"protocol": "http", "upstreamConfig": {"defaults": {"protocol": "http"}}}),
    "spec.upstreamConfig.defaults.protocol is no field of a ServiceDefaults, or comes with a later issue")]
#[case("ServiceDefaults", "x", json!({"protocol": "udp"}), "unknown variant `udp`")]
#[case("ServiceDefaults", "x", json!({"transparentProxy": {"outboundListenerPort": 15002}}),
    "spec.transparentProxy.outboundListenerPort is 15002; it cannot be set here")]
#[case("ProxyDefaults", "mine", json!({}), "metadata.name is \"mine\"; proxy-defaults must be named \"global\"")]
#[case("Mesh", "mine", json!({}), "metadata.name is \"mine\"; the mesh resource must be named \"mesh\"")]
#[case("ServiceIntentions", "x", json!({"destination": {"name": "x"}, "sources": [{"name": "a"}]}),
    "spec.sources[0]: one of action and permissions must be set")]
#[case("ServiceIntentions", "x", json!({"destination": {"name": "x"}, "sources": [{"name": "a", "action": "allow", "peer": "p"}]}),
    "spec.sources[].peer is no field of a ServiceIntentions, or comes with a later issue")]
#[case("ServiceIntentions", "x",
    json!({"destination": {"name": "x"}, "sources": [{"name": "a", "namespace": "shop", "action": "allow"}]}),
    "spec.sources[0].namespace is \"shop\"")]
#[case("ServiceIntentions", "x",
    json!({"destination": {"name": "*"}, "sources": [{"name": "a", "permissions": [{"action": "allow", "http": {}}]}]}),
    "spec.sources[0]: permissions need an exact destination, not \"*\"")]
#[case("ServiceResolver", "x", json!({"redirect": {"service": "y", "datacenter": "dc2"}}),
    "datacenter \"dc2\": a second datacenter comes with a later issue")]
#[case("ServiceResolver", "x", json!({"subsets": {"v1": {"filter": "Service.Meta.version =="}}}),
    "spec.subsets.v1.filter: parse filter")]
#[case("ServiceResolver", "x", json!({"connectTimeout": "soon"}), "spec.connectTimeout \"soon\" is not a duration")]
#[case("ServiceSplitter", "x", json!({"splits": [{"weight": 50}]}), "the sum of all split weights must be 100, but was 50")]
fn refusals(#[case] kind: &str, #[case] name: &str, #[case] spec: Value, #[case] message: &str) {
    let resources = [resource(kind, name, spec)];
    let (_, verdicts) = accept(&resources, "dc1");
    let reasons = verdicts[0].1.clone().expect_err("refused").join("; ");
    assert!(reasons.contains(message), "{reasons}");
}

#[test]
fn everything_wrong_is_said_at_once() {
    let sources = json!([{"name": "a"}, {"name": "a", "action": "allow"}]);
    let resources = [resource("ServiceIntentions", "x", json!({"destination": {"name": "x"}, "sources": sources}))];
    let (config, verdicts) = accept(&resources, "dc1");
    assert_eq!(verdicts[0].1.as_ref().expect_err("refused").len(), 2);
    assert!(config.intentions.is_empty());
}

#[test]
fn the_first_resource_of_a_name_wins() {
    let entry = |name: &str, action: &str| {
        let sources = json!([{"name": "a", "action": action}]);
        resource("ServiceIntentions", name, json!({"destination": {"name": "x"}, "sources": sources}))
    };
    let resources = [entry("first", "allow"), entry("second", "deny")];
    let (config, verdicts) = accept(&resources, "dc1");
    assert!(verdicts[0].1.is_ok());
    let reasons = verdicts[1].1.clone().expect_err("refused");
    assert_eq!(reasons, ["intentions for destination \"x\" exist already in another resource: delete one of the two"]);
    assert_eq!(config.intentions["x"][0].action, Some(Action::Allow));
}
