//! T13: properties read from the running Pod.

use anyhow::{Context as _, Result, bail};
use redirect::contract;
use serde_json::Value;

use crate::vocabulary::Arguments;
use crate::workload::ProbeKind;
use crate::world::World;

const KNOWN: &str = "annotation <name>, label <name>, probe <kind> port, containers adding NET_ADMIN, privileged containers, \
                     init container user, init container non-root, containers, init containers, name servers, \
                     search domains, resolver options";

pub(super) async fn pod_shows(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let name = arguments.string()?;
    let rows = arguments.pairs()?;
    world.instance(&name)?;
    world.bed().await?;
    world.await_address(&name).await?;
    let pod = world.pod(&name).await?;
    let bed = world.bed().await?;
    let (patience, cluster) = (bed.timing().patience, bed.at(pod.at()).cluster().clone());
    // some of it is written after the Pod has started
    crate::wait::until(&format!("the pod {} to show it", pod.host()), patience, async || {
        let object = cluster.get("Pod", &pod.namespace, &pod.name).await?.context("find the Pod")?;
        let mut wrong = Vec::new();
        for (key, expected) in &rows {
            let found = property(&object, key)?;
            if !matches(&found, expected) {
                wrong.push(format!("{key} is {found:?}, expected {expected:?}"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("; ")) }
    })
    .await
}

/// Lists are compared without regard to order; `not x` means that x is not among them.
fn matches(found: &str, expected: &str) -> bool {
    let list = |text: &str| {
        let mut items: Vec<String> = text.split(',').map(|t| t.trim().to_owned()).collect();
        items.sort();
        items
    };
    match expected.strip_prefix("not ") {
        Some(absent) => !list(found).contains(&absent.to_owned()),
        None => list(found) == list(expected),
    }
}

fn containers<'a>(pod: &'a Value, lists: &'a [&'a str]) -> impl Iterator<Item = &'a Value> {
    lists.iter().flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten())
}

fn names<'a>(found: impl Iterator<Item = &'a Value>) -> String {
    let all: Vec<&str> = found.filter_map(|c| c["name"].as_str()).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// A list of texts, or of options as resolv.conf has them.
fn listed(list: &Value) -> String {
    let item = |item: &Value| match (&item["name"], &item["value"]) {
        (Value::String(name), Value::String(value)) => format!("{name}:{value}"),
        (Value::String(name), _) => name.clone(),
        _ => text(item),
    };
    let all: Vec<String> = list.as_array().into_iter().flatten().map(item).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn property(pod: &Value, key: &str) -> Result<String> {
    const ALL: &[&str] = &["initContainers", "containers"];
    let injected = || {
        containers(pod, &["initContainers"])
            .find(|c| c["name"] == contract::INIT_CONTAINER)
            .context("find the injected init container: the Pod has none")
    };
    // what a container does not say, the Pod says for it
    let security = |container: &Value, field: &str| {
        let own = &container["securityContext"][field];
        text(if own.is_null() { &pod["spec"]["securityContext"][field] } else { own })
    };
    if let Some(name) = key.strip_prefix("annotation ") {
        return Ok(text(&pod["metadata"]["annotations"][prefixed(name)]));
    }
    if let Some(name) = key.strip_prefix("label ") {
        return Ok(text(&pod["metadata"]["labels"][prefixed(name)]));
    }
    if let Some(kind) = key.strip_prefix("probe ").and_then(|k| k.strip_suffix(" port")) {
        let field = kind.parse::<ProbeKind>()?.field();
        let probe = containers(pod, &["containers"])
            .filter(|c| c["name"] != contract::SIDECAR_CONTAINER)
            .map(|c| &c[field])
            .find(|p| !p.is_null())
            .with_context(|| format!("find a {kind} probe: no container has one"))?;
        let port = ["httpGet", "tcpSocket", "grpc"].iter().map(|a| &probe[*a]["port"]).find(|p| !p.is_null());
        return Ok(port.map_or("none".to_owned(), text));
    }
    Ok(match key {
        "containers adding NET_ADMIN" => names(containers(pod, ALL).filter(|c| {
            let added = c["securityContext"]["capabilities"]["add"].as_array();
            added.into_iter().flatten().any(|cap| cap == "NET_ADMIN" || cap == "CAP_NET_ADMIN" || cap == "ALL")
        })),
        "privileged containers" => names(containers(pod, ALL).filter(|c| c["securityContext"]["privileged"] == true)),
        "init container user" => security(injected()?, "runAsUser"),
        "init container non-root" => security(injected()?, "runAsNonRoot"),
        "containers" => names(containers(pod, &["containers"])),
        "init containers" => names(containers(pod, &["initContainers"])),
        "name servers" => listed(&pod["spec"]["dnsConfig"]["nameservers"]),
        "search domains" => listed(&pod["spec"]["dnsConfig"]["searches"]),
        "resolver options" => listed(&pod["spec"]["dnsConfig"]["options"]),
        _ => bail!("look at {key:?} of a pod: what can be looked at is {KNOWN}"),
    })
}

fn prefixed(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("{}{name}", contract::PREFIX) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("containers adding NET_ADMIN", "consul-connect-inject-init")]
    #[case("privileged containers", "none")]
    #[case("init container user", "0")]
    #[case("init container non-root", "true")]
    #[case("probe readiness port", "20400")]
    #[case("annotation connect-service-upstreams", "none")]
    #[case("annotation transparent-proxy-status", "enabled")]
    #[case("name servers", "127.0.0.1, 10.96.0.10")]
    #[case("search domains", "none")]
    #[case("resolver options", "ndots:5, edns0")]
    fn properties(#[case] key: &str, #[case] expected: &str) {
        let pod = json!({
            "metadata": {"annotations": {"consul.hashicorp.com/transparent-proxy-status": "enabled"}},
            "spec": {
                "securityContext": {"runAsNonRoot": true},
                "initContainers": [{
                    "name": "consul-connect-inject-init",
                    "securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}},
                }],
                "containers": [{"name": "app", "readinessProbe": {"httpGet": {"port": 20400}}}],
                "dnsConfig": {
                    "nameservers": ["127.0.0.1", "10.96.0.10"],
                    "options": [{"name": "ndots", "value": "5"}, {"name": "edns0"}],
                },
            },
        });
        assert_eq!(property(&pod, key).expect("a known key"), expected);
    }

    #[rstest]
    #[case("a, b", "b, a", true)]
    #[case("a", "not b", true)]
    #[case("a", "not a", false)]
    fn comparisons(#[case] found: &str, #[case] expected: &str, #[case] holds: bool) {
        assert_eq!(matches(found, expected), holds);
    }
}
