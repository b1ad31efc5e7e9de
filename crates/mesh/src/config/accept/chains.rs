//! The rules that entries about routes must keep together: one protocol, subsets that exist, no circles.

use super::{ChainEntry, Config, Mistakes, ServiceResolver, Verdict, once};

/// Adds an entry if the chain that it makes can be followed to its end.
pub(super) fn add(config: &mut Config, name: &str, entry: &ChainEntry) -> Verdict {
    match entry {
        ChainEntry::Resolver(entry) => {
            once(&mut config.resolvers, name, ServiceResolver::clone(entry), "service-resolver for")?
        }
        ChainEntry::Router(entry) => once(&mut config.routers, name, entry.clone(), "service-router for")?,
        ChainEntry::Splitter(entry) => once(&mut config.splitters, name, entry.clone(), "service-splitter for")?,
    }
    let mut mistakes = Vec::new();
    for (field, service, subset) in targets(name, entry) {
        leads(config, name, &field, service, subset, &mut mistakes);
    }
    splits(config, name, &mut Vec::new(), &mut mistakes);
    if let ChainEntry::Resolver(resolver) = entry {
        redirects(config, name, &mut mistakes);
        for (field, subset) in own_subsets(resolver) {
            has_subset(config, &field, name, Some(subset), &mut mistakes);
        }
    }
    if !matches!(entry, ChainEntry::Resolver(_)) {
        let protocol = config.protocol(name);
        if !protocol.http_like() {
            mistakes.push(format!(
                "service {name:?} speaks {}: its discovery chain can have no {} unless the protocol in its ServiceDefaults, \
                 or in the ProxyDefaults, is http, http2 or grpc",
                protocol.as_str(),
                if matches!(entry, ChainEntry::Router(_)) { "router" } else { "splitter" },
            ));
        }
    }
    if mistakes.is_empty() {
        return Ok(());
    }
    match entry {
        ChainEntry::Resolver(_) => drop(config.resolvers.remove(name)),
        ChainEntry::Router(_) => drop(config.routers.remove(name)),
        ChainEntry::Splitter(_) => drop(config.splitters.remove(name)),
    }
    Err(mistakes)
}

/// The field, service and subset of everything that an entry sends requests to.
fn targets<'a>(name: &'a str, entry: &'a ChainEntry) -> Vec<(String, &'a str, Option<&'a str>)> {
    let target = |field: String, service: &'a Option<String>, subset: &'a Option<String>| {
        (field, service.as_deref().unwrap_or(name), subset.as_deref())
    };
    match entry {
        ChainEntry::Resolver(resolver) => {
            // what another partition has of subsets and protocols is its own business
            let redirect = resolver.redirect.iter().filter(|r| r.partition.is_none());
            redirect.map(|r| target("spec.redirect".to_owned(), &r.service, &r.service_subset)).collect()
        }
        ChainEntry::Router(router) => (router.routes.iter().enumerate())
            .map(|(i, route)| (i, &route.destination))
            .map(|(i, d)| target(format!("spec.routes[{i}].destination"), &d.service, &d.service_subset))
            .collect(),
        ChainEntry::Splitter(splitter) => (splitter.splits.iter().enumerate())
            .map(|(i, s)| target(format!("spec.splits[{i}]"), &s.service, &s.service_subset))
            .collect(),
    }
}

/// The subsets that a resolver names as those of its own service.
fn own_subsets(resolver: &ServiceResolver) -> Vec<(String, &str)> {
    let mut named = Vec::new();
    named.extend(resolver.default_subset.as_deref().map(|subset| ("spec.defaultSubset".to_owned(), subset)));
    for (key, failover) in &resolver.failover {
        if key != "*" {
            named.push((format!("spec.failover.{key}"), key.as_str()));
        }
        if let (None, Some(subset)) = (&failover.service, &failover.service_subset) {
            named.push((format!("spec.failover.{key}.serviceSubset"), subset));
        }
    }
    named
}

/// Looks at one step of a chain.
fn leads(config: &Config, from: &str, field: &str, service: &str, subset: Option<&str>, mistakes: &mut Mistakes) {
    has_subset(config, field, service, subset, mistakes);
    let (here, there) = (config.protocol(from), config.protocol(service));
    if here != there {
        mistakes.push(format!(
            "{field}: service {service:?} speaks {} and {from:?} {}: all services of a discovery chain must speak the same; \
             set the protocol in their ServiceDefaults",
            there.as_str(),
            here.as_str()
        ));
    }
}

/// Says it when redirects from `name` come back to where they have been.
fn redirects(config: &Config, name: &str, mistakes: &mut Mistakes) {
    let mut way = vec![name];
    while let Some(next) = way.last().and_then(|last| redirected(config, last)) {
        let back = way.contains(&next);
        way.push(next);
        if back {
            mistakes.push(format!("spec.redirect: the discovery chain goes in a circle: {}", way.join(", ")));
            return;
        }
    }
}

/// The other service that a resolver sends to.
fn redirected<'a>(config: &'a Config, service: &str) -> Option<&'a str> {
    let redirect = config.resolvers.get(service)?.redirect.as_ref().filter(|r| r.partition.is_none())?;
    let to = redirect.service.as_deref()?;
    (to != service).then_some(to)
}

/// Says it when a split of `name` is split in its turn, and so on, until it comes back. A splitter that names its own
/// service, or a subset, means the instances.
fn splits<'a>(config: &'a Config, name: &str, way: &mut Vec<&'a str>, mistakes: &mut Mistakes) {
    let last = way.last().copied().unwrap_or(name);
    for split in config.splitters.get(last).into_iter().flat_map(|s| &s.splits) {
        let Some(to) = split.service.as_deref().filter(|to| *to != last && split.service_subset.is_none()) else {
            continue;
        };
        if to == name {
            let way: Vec<&str> = std::iter::once(name).chain(way.iter().copied()).chain([name]).collect();
            mistakes.push(format!("spec.splits: the discovery chain goes in a circle: {}", way.join(", ")));
        } else if !way.contains(&to) {
            way.push(to);
            splits(config, name, way, mistakes);
            way.pop();
        }
    }
}

fn has_subset(config: &Config, field: &str, service: &str, subset: Option<&str>, mistakes: &mut Mistakes) {
    let Some(subset) = subset else { return };
    if config.resolvers.get(service).is_none_or(|r| !r.subsets.contains_key(subset)) {
        mistakes.push(format!(
            "{field}: service {service:?} does not have a subset named {subset:?}: add it to spec.subsets of its \
             ServiceResolver"
        ));
    }
}
