//! What proxies need to reach each service without naming it, rendered once for all of them that dial it alike.
//!
//! Most services say nothing of how they dial, and all of them share one part. For one that does, the upstreams that it speaks of
//! are rendered as well as it dials them, once any of its proxies may reach them and for as long.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::text::{Key, Text};
use crate::config::Config;
use crate::dial::Dial;
use crate::envoy::{Resources, Upstream};
use crate::peering;
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
    fn render(world: &World, service: &str, dial: &Dial) -> Self {
        let mut upstream = Upstream::of(world, service, dial);
        let ways = upstream.ways.iter_mut().map(|way| {
            let resources = texts(std::mem::take(&mut way.resources)).collect();
            (way.chain(&way.addresses, way.port).to_string().into(), resources)
        });
        let ways = ways.collect();
        let mut reach = reach(&world.config, [service]);
        // the entries of that name say through which gateways
        reach.extend(peering::parse(service).map(|(name, _)| name.to_owned()));
        Self { upstream, ways, reach }
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

/// What became of the part of a service that is dialled as its entries say; none when there is no such service any more.
pub(super) struct Changed {
    pub(super) service: Arc<str>,
    new: Option<Arc<Part>>,
}

/// The parts of all services there are.
#[derive(Default)]
pub(super) struct Upstreams {
    parts: BTreeMap<Arc<str>, Arc<Part>>,
    /// Those for proxies that dial a service otherwise.
    dialled: HashMap<Arc<str>, HashMap<Dial, Arc<Part>>>,
    /// Which other services' parts depend on a service.
    dependents: HashMap<String, BTreeSet<Arc<str>>>,
}

impl Upstreams {
    /// In the order of their names.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.parts.keys()
    }

    /// The part of a service for whoever dials it so.
    pub(super) fn part(&mut self, world: &World, service: &Arc<str>, dial: &Dial) -> Option<Arc<Part>> {
        let shared = self.parts.get(service)?;
        if *dial == Dial::default() {
            return Some(shared.clone());
        }
        let parts = self.dialled.entry(service.clone()).or_default();
        if let Some(part) = parts.get(dial) {
            return Some(part.clone());
        }
        let part = Arc::new(Part::render(world, service, dial));
        parts.insert(dial.clone(), part.clone());
        Some(part)
    }

    /// As [`Self::part`], of a service of which is told what became of it.
    pub(super) fn changed(&mut self, world: &World, changed: &Changed, dial: &Dial) -> Option<Arc<Part>> {
        let shared = changed.new.as_ref()?;
        if *dial == Dial::default() { Some(shared.clone()) } else { self.part(world, &changed.service, dial) }
    }

    /// Forgets the parts that no proxy has any more.
    pub(super) fn forget(&mut self) {
        self.dialled.retain(|_, parts| {
            parts.retain(|_, part| Arc::strong_count(part) > 1);
            !parts.is_empty()
        });
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
            let is_there = world.has_upstream(&service);
            let again = |old: Option<&Arc<Part>>, dial: &Dial| {
                let new = Part::render(world, &service, dial);
                old.filter(|old| old.same(&new)).cloned().unwrap_or_else(|| Arc::new(new))
            };
            let new = is_there.then(|| again(old.as_ref(), &Dial::default()));
            if let Some(parts) = self.dialled.get_mut(&service) {
                // what no proxy has would be rendered for nobody
                parts.retain(|_, part| is_there && Arc::strong_count(part) > 1);
                parts.iter_mut().for_each(|(dial, part)| *part = again(Some(part), dial));
            }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture::world;
    use crate::intentions::Intention;

    #[test]
    fn only_what_is_dialled_otherwise_is_rendered_otherwise() {
        let said = json!({"upstreamConfig": {"overrides": [{"name": "b", "connectTimeoutMs": 100}]}});
        let world = world(&["a", "b", "c"], Intention::Allow, &[("ServiceDefaults", "a", said)]);
        let mut upstreams = Upstreams::default();
        upstreams.advance(&world, &Touched { everything: true, ..Touched::default() });
        let part = |upstreams: &mut Upstreams, from: &str, to: &str| {
            let dial = Dial::of(&world.config, from, to);
            upstreams.part(&world, &to.into(), &dial).expect("a service")
        };
        let (ours, shared) = (part(&mut upstreams, "a", "b"), part(&mut upstreams, "c", "b"));
        assert!(!ours.same(&shared));
        assert!(Arc::ptr_eq(&ours, &part(&mut upstreams, "a", "b")), "proxies of one service share");
        assert!(Arc::ptr_eq(&part(&mut upstreams, "a", "c"), &part(&mut upstreams, "b", "c")));

        let touch = |service: &str| Touched { services: [service.to_owned()].into(), ..Touched::default() };
        let changes = upstreams.advance(&world, &touch("c"));
        assert_eq!(changes.iter().map(|changed| &*changed.service).collect::<Vec<_>>(), ["c"]);
        upstreams.advance(&world, &touch("b"));
        assert!(Arc::ptr_eq(&ours, &part(&mut upstreams, "a", "b")), "it is what it was");
        drop(ours);
        upstreams.forget();
        assert!(upstreams.dialled.is_empty(), "no proxy has it");
    }
}
