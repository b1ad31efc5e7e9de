//! Where requests for a service really go: its router, splitters, redirects and failover, followed to the end.

use std::time::Duration;

use crate::config::{Config, Headers, Home, HttpMatch, LoadBalancer, Protocol, Redirect, Retries, SamenessGroup};
use crate::dial::Dial;
use crate::go;
use crate::place::Place;

/// Instances of a service at a place, or those of one subset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) service: String,
    pub(crate) subset: Option<String>,
    pub(crate) place: Place,
}

/// A target with what happens when it has no healthy instance, and how one of its instances is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) target: Target,
    pub(crate) failover: Vec<Target>,
    pub(crate) connect_timeout: Duration,
    pub(crate) load_balancer: Option<LoadBalancer>,
    /// What whoever dials says of how.
    pub(crate) dial: Dial,
}

/// A part of the requests of a route.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leg {
    /// Percent.
    pub(crate) weight: f64,
    pub(crate) to: Resolved,
    pub(crate) headers: Headers,
}

/// A route of an http-like chain.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChainRoute {
    pub(crate) matches: HttpMatch,
    pub(crate) prefix_rewrite: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) retries: Retries,
    pub(crate) headers: Headers,
    pub(crate) split: Vec<Leg>,
}

/// What a client proxy knows of an upstream.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    /// Where it was followed from.
    pub(crate) place: Place,
    pub(crate) protocol: Protocol,
    /// At least one; the last one matches everything. A tcp chain has exactly one, with one target.
    pub(crate) routes: Vec<ChainRoute>,
    /// Whether an entry made it different from the service itself.
    pub(crate) customised: bool,
}

/// Time to connect to an instance when neither the resolver says nor whoever dials.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Who asks for a chain: it is followed from a place, and what it leads to is dialled in a way.
struct From<'a> {
    place: Place,
    dial: &'a Dial,
}

impl Chain {
    /// The chain of `service` as it is at a place, for somebody who dials it so.
    pub(crate) fn of(config: &Config, service: &str, place: Place, dial: &Dial) -> Self {
        let protocol = dial.protocol.unwrap_or_else(|| config.protocol(service));
        let from = &From { place, dial };
        let mut routes = Vec::new();
        let mut last = ChainRoute::default();
        if protocol.http_like() {
            for route in config.routers.get(service).into_iter().flat_map(|r| &r.routes) {
                let destination = &route.destination;
                let to = destination.service.as_deref().unwrap_or(service);
                routes.push(ChainRoute {
                    matches: route.matches.http.clone(),
                    prefix_rewrite: destination.prefix_rewrite.clone(),
                    timeout: time(destination.request_timeout.as_ref()),
                    idle_timeout: time(destination.idle_timeout.as_ref()),
                    retries: destination.retries.clone(),
                    headers: destination.headers.clone(),
                    split: split(config, to, destination.service_subset.as_deref(), from),
                });
            }
            last.split = split(config, service, None, from);
            if routes.is_empty() && !config.splitters.contains_key(service) {
                last.timeout = time(config.resolvers.get(service).and_then(|r| r.request_timeout.as_ref()));
            }
        } else {
            last.split = vec![whole(resolve(config, service, None, from))];
        }
        routes.push(last);
        let customised = routes.len() > 1
            || config.default_group().is_some()
            || config.resolvers.contains_key(service)
            || config.splitters.contains_key(service);
        Self { place: from.place.clone(), protocol, routes, customised }
    }

    /// Every resolved target, in the order of the routes.
    pub(crate) fn resolved(&self) -> impl Iterator<Item = &Resolved> {
        self.routes.iter().flat_map(|r| &r.split).map(|leg| &leg.to)
    }
}

/// The times of accepted entries can be read.
fn time(text: Option<&String>) -> Option<Duration> {
    text.and_then(|t| go::duration(t))
}

fn whole(to: Resolved) -> Leg {
    Leg { weight: 100.0, to, headers: Headers::default() }
}

/// The legs of a service. A leg that is split itself becomes its parts; one that names its own service, or a subset, is not.
fn split(config: &Config, service: &str, subset: Option<&str>, from: &From<'_>) -> Vec<Leg> {
    let Some(splitter) = config.splitters.get(service).filter(|_| subset.is_none()) else {
        return vec![whole(resolve(config, service, subset, from))];
    };
    let mut legs = Vec::new();
    for part in &splitter.splits {
        let (to, subset) = (part.service.as_deref().unwrap_or(service), part.service_subset.as_deref());
        let inner = match to == service {
            true => vec![whole(resolve(config, to, subset, from))],
            false => split(config, to, subset, from),
        };
        legs.extend(inner.into_iter().map(|leg| Leg {
            weight: leg.weight * part.weight / 100.0,
            to: leg.to,
            headers: merged(&part.headers, &leg.headers),
        }));
    }
    legs
}

/// The changes of a split and of a split inside it; where both set a header, the inner one does.
fn merged(outer: &Headers, inner: &Headers) -> Headers {
    let mut all = outer.clone();
    for (to, from) in
        [(&mut all.request_headers, &inner.request_headers), (&mut all.response_headers, &inner.response_headers)]
    {
        to.add.extend(from.add.clone());
        to.set.extend(from.set.clone());
        to.remove.extend(from.remove.iter().cloned());
    }
    all
}

/// Follows redirects. Accepted entries have no circle.
fn resolve(config: &Config, service: &str, subset: Option<&str>, from: &From<'_>) -> Resolved {
    let From { place, dial } = from;
    let mut target = Target { service: service.to_owned(), subset: subset.map(str::to_owned), place: place.clone() };
    let mut failover = Vec::new();
    let own = |service: &str| config.resolvers.get(service);
    if own(service).is_none() && subset.is_none() && target.place == Place::Here {
        // an implicit redirect to the group
        let mut all =
            config.default_group().map(|group| members(config, group, &target)).unwrap_or_default().into_iter();
        target = all.next().unwrap_or(target);
        failover.extend(all);
    }
    while let Some(redirect) = config.resolvers.get(&target.service).and_then(|r| r.redirect.as_ref()) {
        if let Some(group) = redirect.sameness_group.as_ref().and_then(|name| config.groups.get(name)) {
            let service = redirect.service.clone().unwrap_or_else(|| target.service.clone());
            let start = Target { service, subset: redirect.service_subset.clone(), place: Place::Here };
            let mut all = members(config, group, &start).into_iter();
            target = all.next().unwrap_or(start);
            failover.extend(all);
            break;
        }
        let next = to(config, &target, redirect);
        // another partition has resolvers of its own
        let ends = next.service == target.service || matches!(next.place, Place::Partition(_));
        target = next;
        if ends {
            break;
        }
    }
    let resolver = config.resolvers.get(&target.service);
    let ours = resolver.filter(|_| !matches!(target.place, Place::Partition(_)));
    if target.subset.is_none() {
        target.subset = ours.and_then(|r| r.default_subset.clone());
    }
    if let Some(resolver) = ours.filter(|_| failover.is_empty()) {
        let key = target.subset.as_deref().unwrap_or("*");
        if let Some(rule) = resolver.failover.get(key).or_else(|| resolver.failover.get("*")) {
            let single = Redirect {
                service: rule.service.clone(),
                service_subset: rule.service_subset.clone(),
                ..Redirect::default()
            };
            let in_each = |datacenter: &String| Redirect { datacenter: Some(datacenter.clone()), ..single.clone() };
            let group = rule.sameness_group.as_ref().and_then(|name| config.groups.get(name));
            failover
                .extend(group.into_iter().flat_map(|group| members(config, group, &target)).filter(|t| *t != target));
            let listed: Vec<Redirect> = match (rule.targets.as_slice(), rule.datacenters.as_slice()) {
                ([], []) if rule.sameness_group.is_some() => Vec::new(),
                ([], []) => vec![single],
                ([], datacenters) => datacenters.iter().map(in_each).collect(),
                (targets, _) => targets.to_vec(),
            };
            failover.extend(listed.iter().map(|r| to(config, &target, r)).filter(|t| *t != target));
        }
    }
    let connect_timeout = dial.connect_timeout.or_else(|| time(resolver.and_then(|r| r.connect_timeout.as_ref())));
    let load_balancer = resolver.and_then(|r| r.load_balancer.clone());
    let connect_timeout = connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    Resolved { target, failover, connect_timeout, load_balancer, dial: (*dial).clone() }
}

/// The same service in each member of a group.
fn members(config: &Config, group: &SamenessGroup, target: &Target) -> Vec<Target> {
    config.members(group).into_iter().map(|place| Target { place, ..target.clone() }).collect()
}

fn to(config: &Config, from: &Target, redirect: &Redirect) -> Target {
    let service = redirect.service.as_ref().unwrap_or(&from.service).clone();
    let Home { datacenter, tenancy } = &config.home;
    let datacenter = redirect.datacenter.as_ref().map(|name| Place::datacenter(name, datacenter));
    let partition = redirect.partition.as_ref().map(|name| tenancy.place(name));
    let place = redirect.peer.as_ref().map(|name| Place::Peer(name.as_str().into())).or(partition).or(datacenter);
    Target { service, subset: redirect.service_subset.clone(), place: place.unwrap_or_else(|| from.place.clone()) }
}

#[cfg(test)]
mod tests;
