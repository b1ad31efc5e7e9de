//! What proxies need to reach each service without naming it, rendered once for all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::text::{Key, Text};
use crate::config::Config;
use crate::envoy::{Resources, Upstream};
use crate::world::{Touched, World};

/// An [`Upstream`] as text.
#[derive(Debug)]
pub(super) struct Part {
    /// Without resources.
    pub(super) upstream: Upstream,
    /// By way: the chain for all its addresses, and what it leads to.
    pub(super) ways: Vec<(Arc<str>, BTreeMap<Key, Text>)>,
    reach: BTreeSet<String>,
}

impl Part {
    fn render(world: &World, service: &str) -> Self {
        let mut upstream = Upstream::of(world, service);
        let ways = upstream.ways.iter_mut().map(|way| {
            let resources = texts(std::mem::take(&mut way.resources)).collect();
            (way.chain(&way.addresses, way.port).to_string().into(), resources)
        });
        let ways = ways.collect();
        Self { upstream, ways, reach: reach(&world.config, [service]) }
    }

    fn same(&self, other: &Self) -> bool {
        self.reach == other.reach && self.upstream == other.upstream && self.ways == other.ways
    }
}

/// Resources as text.
pub(super) fn texts(resources: Resources) -> impl Iterator<Item = (Key, Text)> {
    resources.sections().into_iter().flat_map(|(section, resources)| {
        resources.into_iter().map(move |(name, value)| (Key { section, name: name.into() }, Text::of(&value)))
    })
}

/// What became of a service's part; none when there is no such service any more.
pub(super) struct Changed {
    pub(super) service: Arc<str>,
    pub(super) new: Option<Arc<Part>>,
}

/// The parts of all services there are.
#[derive(Default)]
pub(super) struct Upstreams {
    parts: BTreeMap<Arc<str>, Arc<Part>>,
    /// Which other services' parts depend on a service.
    dependents: HashMap<String, BTreeSet<Arc<str>>>,
}

impl Upstreams {
    /// In the order of their names.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Part>)> {
        self.parts.iter()
    }

    /// Renders again what is concerned, and tells of each touched service and each that depends on one.
    pub(super) fn advance(&mut self, world: &World, touched: &Touched) -> Vec<Changed> {
        let mut concerned: BTreeSet<Arc<str>> = BTreeSet::new();
        if touched.everything {
            concerned.extend(self.parts.keys().cloned());
            concerned.extend(world.upstreams().into_iter().map(Arc::from));
        }
        for service in &touched.services {
            concerned.insert(service.as_str().into());
            concerned.extend(self.dependents.get(service).into_iter().flatten().cloned());
        }
        let mut changes = Vec::new();
        for service in concerned {
            let old = self.parts.remove(&service);
            let new = world.has_upstream(&service).then(|| Part::render(world, &service));
            let new = new.map(|new| match &old {
                Some(old) if old.same(&new) => old.clone(),
                _ => Arc::new(new),
            });
            let reached = |part: &Option<Arc<Part>>| part.iter().flat_map(|p| p.reach.clone()).collect::<Vec<_>>();
            for name in reached(&old).iter().filter(|name| **name != *service) {
                if let Some(dependents) = self.dependents.get_mut(name) {
                    dependents.remove(&service);
                    if dependents.is_empty() {
                        self.dependents.remove(name);
                    }
                }
            }
            for name in reached(&new).into_iter().filter(|name| **name != *service) {
                self.dependents.entry(name).or_default().insert(service.clone());
            }
            if let Some(new) = &new {
                self.parts.insert(service.clone(), new.clone());
            }
            changes.push(Changed { service, new });
        }
        changes
    }
}

/// Every service that connections to these may lead to: no entry of another one has a say.
pub(super) fn reach<'a>(config: &'a Config, services: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = services.into_iter().collect();
    while let Some(service) = next.pop() {
        if !reached.insert(service.to_owned()) {
            continue;
        }
        let routes = config.routers.get(service).into_iter().flat_map(|r| &r.routes);
        next.extend(routes.filter_map(|r| r.destination.service.as_deref()));
        let splits = config.splitters.get(service).into_iter().flat_map(|s| &s.splits);
        next.extend(splits.filter_map(|s| s.service.as_deref()));
        if let Some(resolver) = config.resolvers.get(service) {
            let failover = || resolver.failover.values();
            let targets = failover().flat_map(|f| &f.targets).chain(&resolver.redirect);
            next.extend(targets.filter_map(|t| t.service.as_deref()));
            next.extend(failover().filter_map(|f| f.service.as_deref()));
        }
    }
    reached
}
