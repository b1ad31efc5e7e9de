//! A change of protocol is refused as long as something that is in force does not go with it.

use std::collections::{BTreeMap, BTreeSet};

use super::keep::{Accepted, Settled};
use super::{Config, Resource};

/// What resources come to, when as few changes of protocol are held back as it takes to break nothing by one. `settle` says what
/// they come to with those at some places as they were. Says whether any is held back.
///
/// Changes that fit each other may come at once, as those of two services of one chain must.
pub(super) fn guard(
    accepted: &Accepted,
    resources: &[&Resource],
    settle: impl Fn(&BTreeSet<usize>) -> Settled,
) -> (Settled, bool) {
    let free = settle(&BTreeSet::new());
    let broken = |settled: &Settled| -> BTreeSet<usize> {
        let was_accepted = |place: &usize| accepted.last(resources[*place]).is_some();
        (0..resources.len()).filter(|place| !settled.works.contains(place)).filter(was_accepted).collect()
    };
    if broken(&free).is_empty() {
        return (free, false);
    }
    let is_change = |(place, resource): (usize, &&Resource)| {
        let before = accepted.last(resource).and_then(protocol);
        (free.verdicts[place].is_ok() && before != protocol(resource)).then_some(place)
    };
    let mut held: BTreeSet<usize> = resources.iter().enumerate().filter_map(is_change).collect();
    if held.is_empty() {
        return (free, false);
    }
    let mut best = settle(&held);
    if broken(&best).is_superset(&broken(&free)) {
        return (free, false);
    }
    let mut others = BTreeMap::new();
    let mut before = usize::MAX;
    while held.len() < before {
        before = held.len();
        for place in held.clone() {
            held.remove(&place);
            let without = settle(&held);
            if broken(&without).is_subset(&broken(&best)) {
                best = without;
            } else {
                others.insert(place, without.works);
                held.insert(place);
            }
        }
    }
    let any = !held.is_empty();
    for place in held {
        let breaks = &best.works - &others.remove(&place).unwrap_or_default();
        let names = breaks.into_iter().map(|place| {
            let Resource { kind, name, .. } = resources[place];
            format!("{kind} {name:?}")
        });
        best.verdicts[place] = Err(vec![format!(
            "spec.{} cannot become {}: that would break {}; delete or change what needs another protocol first",
            field(&resources[place].kind).unwrap_or_default(),
            protocol(resources[place]).map_or_else(|| "unset".to_owned(), |to| format!("{to:?}")),
            names.collect::<Vec<_>>().join(", "),
        )]);
    }
    (best, any)
}

/// Where a kind of resource says a protocol.
fn field(kind: &str) -> Option<&'static str> {
    match kind {
        "ServiceDefaults" => Some("protocol"),
        "ProxyDefaults" => Some("config.protocol"),
        _ => None,
    }
}

fn protocol(resource: &Resource) -> Option<&str> {
    let pointer = format!("/{}", field(&resource.kind)?.replace('.', "/"));
    resource.spec.pointer(&pointer)?.as_str().filter(|text| !text.is_empty())
}

/// Whether it is about requests to a service that has none. Such an intention denies.
pub(super) fn is_void(config: &Config, resource: &Resource) -> bool {
    let destination = resource.spec["destination"]["name"].as_str().unwrap_or_default();
    let mut sources = resource.spec["sources"].as_array().into_iter().flatten();
    resource.kind == "ServiceIntentions"
        && sources.any(|source| source["permissions"].as_array().is_some_and(|permissions| !permissions.is_empty()))
        && !config.protocol(destination).http_like()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    type Entry = (&'static str, &'static str, Value);

    fn resource((kind, name, spec): &Entry) -> Resource {
        Resource {
            kind: (*kind).to_owned(),
            namespace: "default".to_owned(),
            name: (*name).to_owned(),
            uid: format!("{kind} {name}"),
            generation: 1,
            spec: spec.clone(),
        }
    }

    fn speaks(service: &'static str, protocol: &str) -> Entry {
        ("ServiceDefaults", service, json!({"protocol": protocol}))
    }

    fn all(protocol: &str) -> Entry {
        ("ProxyDefaults", "global", json!({"config": {"protocol": protocol}}))
    }

    fn router() -> Entry {
        ("ServiceRouter", "web", json!({"routes": [{"destination": {"service": "backend"}}]}))
    }

    fn splitter() -> Entry {
        ("ServiceSplitter", "web", json!({"splits": [{"weight": 100}]}))
    }

    fn permissions() -> Entry {
        let source = json!({"name": "client", "permissions": [{"action": "allow", "http": {"pathPrefix": "/"}}]});
        ("ServiceIntentions", "to-web", json!({"destination": {"name": "web"}, "sources": [source]}))
    }

    /// After each step: what the protocol of `web` is, and why what was refused was.
    #[rstest]
    #[case::a_splitter(&[vec![speaks("web", "http"), splitter()], vec![speaks("web", "tcp"), splitter()], vec![speaks("web", "tcp")]],
        &[("http", ""), ("http", "spec.protocol cannot become \"tcp\": that would break ServiceSplitter \"web\""), ("tcp", "")])]
    #[case::permissions(&[vec![speaks("web", "http"), permissions()], vec![speaks("web", "tcp"), permissions()]],
        &[("http", ""), ("http", "spec.protocol cannot become \"tcp\": that would break ServiceIntentions \"to-web\"")])]
    #[case::both(&[vec![speaks("web", "http"), splitter(), permissions()], vec![speaks("web", "tcp"), splitter(), permissions()]],
        &[("http", ""), ("http", "that would break ServiceSplitter \"web\", ServiceIntentions \"to-web\"")])]
    #[case::permissions_that_were_void(&[vec![permissions()], vec![speaks("web", "tcp"), permissions()], vec![permissions()]],
        &[("tcp", ""), ("tcp", ""), ("tcp", "")])]
    #[case::of_all(&[vec![all("http"), splitter()], vec![all("tcp"), splitter()]],
        &[("http", ""), ("http", "spec.config.protocol cannot become \"tcp\": that would break ServiceSplitter \"web\"")])]
    #[case::a_new_one(&[vec![all("http"), splitter()], vec![all("http"), splitter(), speaks("web", "tcp")], vec![all("http"), splitter()]],
        &[("http", ""), ("http", "spec.protocol cannot become \"tcp\": that would break ServiceSplitter \"web\""), ("http", "")])]
    #[case::unset(&[vec![speaks("web", "http"), splitter()], vec![("ServiceDefaults", "web", json!({})), splitter()]],
        &[("http", ""), ("http", "spec.protocol cannot become unset: that would break")])]
    #[case::another_one_with_requests(&[vec![speaks("web", "http"), splitter()], vec![speaks("web", "grpc"), splitter()]],
        &[("http", ""), ("grpc", "")])]
    #[case::two_of_a_chain_one_after_the_other(&[
        vec![speaks("web", "http"), speaks("backend", "http"), router()],
        vec![speaks("web", "grpc"), speaks("backend", "http"), router()],
        vec![speaks("web", "grpc"), speaks("backend", "grpc"), router()],
    ], &[("http", ""), ("http", "spec.protocol cannot become \"grpc\": that would break ServiceRouter \"web\""), ("grpc", "")])]
    #[case::only_who_breaks_something(&[
        vec![speaks("web", "http"), speaks("other", "http"), splitter()],
        vec![speaks("web", "tcp"), speaks("other", "tcp"), splitter()],
    ], &[("http", ""), ("http", "spec.protocol cannot become \"tcp\": that would break ServiceSplitter \"web\"")])]
    #[case::in_force_though_its_change_was_refused(&[
        vec![speaks("web", "http"), splitter()],
        vec![speaks("web", "tcp"), ("ServiceSplitter", "web", json!({"splits": []}))],
    ], &[("http", ""), ("http", "spec.protocol cannot become \"tcp\": that would break ServiceSplitter \"web\"")])]
    fn a_change_of_protocol_breaks_nothing(#[case] steps: &[Vec<Entry>], #[case] expected: &[(&str, &str)]) {
        let mut accepted = Accepted::default();
        for (entries, (speaks, refusal)) in steps.iter().zip(expected) {
            let resources: Vec<Resource> = entries.iter().map(resource).collect();
            // it stays so as long as nothing changes
            for _ in 0..2 {
                let (config, verdicts) = accepted.accept(&resources, &super::super::Home::new("dc1"));
                assert_eq!(config.protocol("web").as_str(), *speaks, "{entries:?}");
                let is_protocol = |mistake: &String| mistake.contains(" cannot become ");
                let said: Vec<String> = verdicts
                    .into_iter()
                    .filter_map(|(_, verdict)| verdict.err())
                    .flatten()
                    .filter(is_protocol)
                    .collect();
                let [said] = &said[..] else {
                    assert_eq!((said.len(), *refusal), (0, ""), "{said:?}");
                    continue;
                };
                assert!(!refusal.is_empty() && said.contains(refusal), "{said}");
                if let Some(splitter) = entries.iter().find(|(kind, ..)| *kind == "ServiceSplitter") {
                    assert!(config.splitters.contains_key(splitter.1), "it is in force");
                }
            }
        }
    }
}
