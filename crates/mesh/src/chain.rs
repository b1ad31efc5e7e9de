//! Where requests for a service really go: its router, splitters, redirects and failover, followed to the end.

use std::time::Duration;

use crate::config::{Config, Headers, HttpMatch, LoadBalancer, Protocol, Redirect, Retries};
use crate::go;

/// Instances of a service, or those of one subset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) service: String,
    pub(crate) subset: Option<String>,
}

/// A target with what happens when it has no healthy instance, and how one of its instances is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) target: Target,
    pub(crate) failover: Vec<Target>,
    pub(crate) connect_timeout: Duration,
    pub(crate) load_balancer: Option<LoadBalancer>,
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
    pub(crate) protocol: Protocol,
    /// At least one; the last one matches everything. A tcp chain has exactly one, with one target.
    pub(crate) routes: Vec<ChainRoute>,
    /// Whether an entry made it different from the service itself.
    pub(crate) customised: bool,
}

/// Time to connect to an instance when the resolver does not say.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Chain {
    /// The chain of `service`.
    pub(crate) fn of(config: &Config, service: &str) -> Self {
        let protocol = config.protocol(service);
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
                    split: split(config, to, destination.service_subset.as_deref()),
                });
            }
            last.split = split(config, service, None);
            if routes.is_empty() && !config.splitters.contains_key(service) {
                last.timeout = time(config.resolvers.get(service).and_then(|r| r.request_timeout.as_ref()));
            }
        } else {
            last.split = vec![whole(resolve(config, service, None))];
        }
        routes.push(last);
        let customised =
            routes.len() > 1 || config.resolvers.contains_key(service) || config.splitters.contains_key(service);
        Self { protocol, routes, customised }
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
fn split(config: &Config, service: &str, subset: Option<&str>) -> Vec<Leg> {
    let Some(splitter) = config.splitters.get(service).filter(|_| subset.is_none()) else {
        return vec![whole(resolve(config, service, subset))];
    };
    let mut legs = Vec::new();
    for part in &splitter.splits {
        let (to, subset) = (part.service.as_deref().unwrap_or(service), part.service_subset.as_deref());
        let inner = if to == service { vec![whole(resolve(config, to, subset))] } else { split(config, to, subset) };
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
fn resolve(config: &Config, service: &str, subset: Option<&str>) -> Resolved {
    let mut target = Target { service: service.to_owned(), subset: subset.map(str::to_owned) };
    while let Some(redirect) = config.resolvers.get(&target.service).and_then(|r| r.redirect.as_ref()) {
        let next = to(&target, redirect);
        let stays = next.service == target.service;
        target = next;
        if stays {
            break;
        }
    }
    let resolver = config.resolvers.get(&target.service);
    if target.subset.is_none() {
        target.subset = resolver.and_then(|r| r.default_subset.clone());
    }
    let mut failover = Vec::new();
    if let Some(resolver) = resolver {
        let key = target.subset.as_deref().unwrap_or("*");
        if let Some(rule) = resolver.failover.get(key).or_else(|| resolver.failover.get("*")) {
            let single = Redirect { service: rule.service.clone(), service_subset: rule.service_subset.clone() };
            let listed: Vec<&Redirect> =
                if rule.targets.is_empty() { vec![&single] } else { rule.targets.iter().collect() };
            failover.extend(listed.into_iter().map(|r| to(&target, r)).filter(|t| *t != target));
        }
    }
    let connect_timeout = time(resolver.and_then(|r| r.connect_timeout.as_ref())).unwrap_or(CONNECT_TIMEOUT);
    let load_balancer = resolver.and_then(|r| r.load_balancer.clone());
    Resolved { target, failover, connect_timeout, load_balancer }
}

fn to(from: &Target, redirect: &Redirect) -> Target {
    let service = redirect.service.as_ref().unwrap_or(&from.service).clone();
    Target { service, subset: redirect.service_subset.clone() }
}

#[cfg(test)]
mod tests;
