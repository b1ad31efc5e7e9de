//! Where requests for a service really go: its router, splitters, redirects and failover, followed to the end.

use std::time::Duration;

use crate::config::{Config, HttpMatch, Protocol, Redirect};
use crate::go;

/// Instances of a service, or those of one subset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) service: String,
    pub(crate) subset: Option<String>,
}

/// A target with what happens when it has no healthy instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) target: Target,
    pub(crate) failover: Vec<Target>,
    pub(crate) connect_timeout: Duration,
}

/// A route of an http-like chain.
#[derive(Debug, Clone)]
pub(crate) struct ChainRoute {
    pub(crate) matches: HttpMatch,
    pub(crate) prefix_rewrite: Option<String>,
    pub(crate) timeout: Option<Duration>,
    /// Percentages and where they go.
    pub(crate) split: Vec<(f64, Resolved)>,
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

/// A redirect that leads in a circle ends after this many steps.
const MAX_REDIRECTS: usize = 16;
/// Time to connect to an instance when the resolver does not say.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Chain {
    /// The chain of `service`.
    pub(crate) fn of(config: &Config, service: &str) -> Self {
        let protocol = config.protocol(service);
        let mut routes = Vec::new();
        if protocol.http_like() {
            for route in config.routers.get(service).into_iter().flat_map(|r| &r.routes) {
                let destination = &route.destination;
                routes.push(ChainRoute {
                    matches: route.matches.http.clone(),
                    prefix_rewrite: destination.prefix_rewrite.clone().filter(|p| !p.is_empty()),
                    timeout: destination.request_timeout.as_deref().and_then(go::duration),
                    split: split(
                        config,
                        filled(&destination.service).unwrap_or(service),
                        filled(&destination.service_subset),
                    ),
                });
            }
        }
        let last = if protocol.http_like() {
            split(config, service, None)
        } else {
            vec![(100.0, resolve(config, service, None))]
        };
        routes.push(ChainRoute { matches: HttpMatch::default(), prefix_rewrite: None, timeout: None, split: last });
        let customised =
            routes.len() > 1 || config.resolvers.contains_key(service) || config.splitters.contains_key(service);
        Self { protocol, routes, customised }
    }

    /// Every resolved target, in the order of the routes.
    pub(crate) fn resolved(&self) -> impl Iterator<Item = &Resolved> {
        self.routes.iter().flat_map(|r| &r.split).map(|(_, resolved)| resolved)
    }
}

fn filled(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|t| !t.is_empty())
}

fn split(config: &Config, service: &str, subset: Option<&str>) -> Vec<(f64, Resolved)> {
    match config.splitters.get(service).filter(|_| subset.is_none()) {
        Some(splitter) => splitter
            .splits
            .iter()
            .map(|s| (s.weight, resolve(config, filled(&s.service).unwrap_or(service), filled(&s.service_subset))))
            .collect(),
        None => vec![(100.0, resolve(config, service, subset))],
    }
}

fn resolve(config: &Config, service: &str, subset: Option<&str>) -> Resolved {
    let mut target = Target { service: service.to_owned(), subset: subset.map(str::to_owned) };
    let mut steps = 0;
    while let Some(redirect) = config.resolvers.get(&target.service).and_then(|r| r.redirect.as_ref()) {
        steps += 1;
        if steps > MAX_REDIRECTS {
            break;
        }
        target = to(&target, redirect);
    }
    let resolver = config.resolvers.get(&target.service);
    if target.subset.is_none() {
        target.subset = resolver.and_then(|r| filled(&r.default_subset)).map(str::to_owned);
    }
    let mut failover = Vec::new();
    if let Some(resolver) = resolver {
        let key = target.subset.as_deref().unwrap_or("*");
        if let Some(rule) = resolver.failover.get(key).or_else(|| resolver.failover.get("*")) {
            let single = Redirect {
                service: rule.service.clone(),
                service_subset: rule.service_subset.clone(),
                datacenter: None,
            };
            let listed: Vec<&Redirect> =
                if rule.targets.is_empty() { vec![&single] } else { rule.targets.iter().collect() };
            failover.extend(listed.into_iter().map(|r| to(&target, r)).filter(|t| *t != target));
        }
    }
    let connect_timeout = resolver.and_then(|r| r.connect_timeout.as_deref()).and_then(go::duration);
    Resolved { target, failover, connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT) }
}

fn to(from: &Target, redirect: &Redirect) -> Target {
    let service = filled(&redirect.service).unwrap_or(&from.service).to_owned();
    Target { service, subset: filled(&redirect.service_subset).map(str::to_owned) }
}
