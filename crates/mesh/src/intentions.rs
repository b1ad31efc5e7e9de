//! Which service may talk to which: precedence and decision.

use crate::config::{Action, Config, IntentionSource, Permission, Protocol};

/// What happens where no intention says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Intention {
    /// Connections are let through.
    Allow,
    /// Connections are refused.
    Deny,
}

/// One rule that is in force at a destination.
#[derive(Debug, Clone)]
pub(crate) struct Rule<'a> {
    /// Name of the source service, or `*`.
    pub(crate) source: &'a str,
    /// Where the source is.
    pub(crate) of: Origin<'a>,
    pub(crate) says: Says<'a>,
}

/// Where a source is: in a mesh that is not ours, in another partition of ours, or in our own if it is neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Origin<'a> {
    pub(crate) peer: Option<&'a str>,
    pub(crate) partition: Option<&'a str>,
}

/// What a rule says of its source.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Says<'a> {
    /// All or nothing.
    Connection(Action),
    /// By request.
    Requests(&'a [Permission]),
}

impl Says<'_> {
    fn of<'a>(source: &'a IntentionSource, protocol: Protocol) -> Says<'a> {
        match source.action {
            Some(action) => Says::Connection(action),
            // what cannot be looked into cannot be allowed in part
            None if !protocol.http_like() => Says::Connection(Action::Deny),
            None => Says::Requests(&source.permissions),
        }
    }
}

/// Consul's number for how exact a rule is; the higher one counts.
pub(crate) fn precedence(destination: &str, source: &str) -> u8 {
    match (destination, source) {
        ("*", "*") => 5,
        ("*", _) => 6,
        (_, "*") => 8,
        _ => 9,
    }
}

/// The rules at `destination`, highest precedence first: exact before wildcard, of the destination before the source.
/// A rule that a former one hides is left out.
pub(crate) fn rules_at<'a>(config: &'a Config, destination: &str, protocol: Protocol) -> Vec<Rule<'a>> {
    let mut rules: Vec<Rule<'a>> = Vec::new();
    for destination in [destination, "*"] {
        let mut sources: Vec<&IntentionSource> = config.intentions.get(destination).into_iter().flatten().collect();
        sources.sort_by_key(|s| (s.name == "*", &s.name));
        for source in sources {
            for of in origins(config, source) {
                if !rules.iter().any(|r| r.of == of && (r.source == "*" || r.source == source.name)) {
                    rules.push(Rule { source: &source.name, of, says: Says::of(source, protocol) });
                }
            }
        }
    }
    rules
}

/// Where a source may be: in one place, or in any member of its group.
fn origins<'a>(config: &'a Config, source: &'a IntentionSource) -> Vec<Origin<'a>> {
    let Some(group) = source.sameness_group.as_ref().and_then(|name| config.groups.get(name)) else {
        return vec![Origin { peer: source.peer.as_deref(), partition: source.partition.as_deref() }];
    };
    let tenancy = &config.home.tenancy;
    let members = group
        .members
        .iter()
        .map(|member| Origin { peer: member.peer.as_deref(), partition: tenancy.foreign(member.partition.as_deref()) });
    group.include_local.then(Origin::default).into_iter().chain(members).collect()
}

/// Whether `destination` is an upstream of `source` without being named: it may talk to it, or make some requests.
pub(crate) fn visible(config: &Config, default: Intention, source: &str, destination: &str) -> bool {
    decide(config, default, source, destination, true)
}

/// Whether `source` may connect to `destination` whatever it requests.
pub(crate) fn allowed(config: &Config, default: Intention, source: &str, destination: &str) -> bool {
    decide(config, default, source, destination, false)
}

fn decide(config: &Config, default: Intention, source: &str, destination: &str, some_requests: bool) -> bool {
    let protocol = config.protocol(destination);
    let rules = rules_at(config, destination, protocol);
    let mut own = rules.iter().filter(|rule| rule.of == Origin::default());
    match own.find(|r| r.source == "*" || r.source == source).map(|r| r.says) {
        Some(Says::Connection(action)) => action == Action::Allow,
        Some(Says::Requests(_)) => some_requests,
        None => default == Intention::Allow,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::config::accept::{Resource, accept};

    fn config(list: &[(&str, &str, &str)]) -> Config {
        let mut by_destination = std::collections::BTreeMap::<&str, Vec<serde_json::Value>>::new();
        for (source, destination, action) in list {
            let source = match *action {
                "http" => json!({"name": source, "permissions": [{"action": "allow", "http": {"pathExact": "/a"}}]}),
                action => json!({"name": source, "action": action}),
            };
            by_destination.entry(destination).or_default().push(source);
        }
        let resources: Vec<Resource> = by_destination
            .into_iter()
            .map(|(destination, sources)| Resource {
                kind: "ServiceIntentions".into(),
                namespace: "default".into(),
                name: destination.replace('*', "all"),
                uid: String::new(),
                generation: 1,
                spec: json!({"destination": {"name": destination}, "sources": sources}),
            })
            .collect();
        let (config, verdicts) = accept(&resources, &crate::config::Home::new("dc1"));
        for (resource, verdict) in verdicts {
            assert_eq!(verdict, Ok(()), "{resource:?}");
        }
        config
    }

    #[rstest]
    #[case::default_deny(&[], Intention::Deny, false)]
    #[case::default_allow(&[], Intention::Allow, true)]
    #[case::exact(&[("a", "b", "allow")], Intention::Deny, true)]
    #[case::other_source(&[("x", "b", "allow")], Intention::Deny, false)]
    #[case::exact_over_any_source(&[("*", "b", "allow"), ("a", "b", "deny")], Intention::Deny, false)]
    #[case::any_source_over_any_destination(&[("*", "b", "deny"), ("a", "*", "allow")], Intention::Deny, false)]
    #[case::exact_source_among_any_destination(&[("*", "*", "deny"), ("a", "*", "allow")], Intention::Deny, true)]
    #[case::all(&[("*", "*", "deny")], Intention::Allow, false)]
    #[case::permissions_on_tcp_deny(&[("a", "b", "http")], Intention::Allow, false)]
    fn precedence(#[case] list: &[(&str, &str, &str)], #[case] default: Intention, #[case] expected: bool) {
        assert_eq!(visible(&config(list), default, "a", "b"), expected);
    }

    #[test]
    fn hidden_rules_are_left_out() {
        let config = config(&[("a", "b", "allow"), ("*", "b", "deny"), ("a", "*", "deny"), ("c", "*", "allow")]);
        let rules = rules_at(&config, "b", Protocol::Tcp);
        assert_eq!(rules.iter().map(|r| r.source).collect::<Vec<_>>(), ["a", "*"]);
    }
}
