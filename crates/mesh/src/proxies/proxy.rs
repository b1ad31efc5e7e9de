//! One proxy: what is its own, and which services it may reach.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::text::{Key, Text};
use super::told::Told;
use super::upstreams::{Changed, Part, Upstreams, reach, texts};
use crate::config::UpstreamConfig;
use crate::dial::Dial;
use crate::envoy::{Choice, Resources, Upstream, choose, frame, is_implicit, own};
use crate::registration::Instance;
use crate::serve::Shared;
use crate::world::{Touched, World};

/// A proxy that is kept up to date.
pub(super) struct Proxy {
    instance: Arc<Instance>,
    own: BTreeMap<Key, Text>,
    /// The services that `own` was rendered from.
    reach: BTreeSet<String>,
    /// What the service says of how it dials, from which `upstreams` were chosen.
    says: UpstreamConfig,
    upstreams: BTreeMap<Arc<str>, Arc<Part>>,
}

/// What became of a proxy's resources.
pub(super) enum News {
    Nothing,
    /// These endpoints are others: what they were and what they are.
    Endpoints(Vec<(Key, Text, Text)>),
    Anything,
}

impl Proxy {
    /// `None` when there is no certificate for it.
    pub(super) fn new(
        shared: &Shared,
        world: &World,
        instance: &Arc<Instance>,
        upstreams: &mut Upstreams,
    ) -> Option<Self> {
        let own = own_part(shared, world, instance)?;
        let may = |service: &str| instance.transparent && is_implicit(world, instance, service);
        let reached: Vec<Arc<str>> = upstreams.names().filter(|service| may(service)).cloned().collect();
        let mut part = |service: Arc<str>| {
            let dial = Dial::of(&world.config, &instance.service, &service);
            let part = upstreams.part(world, &service, &dial)?;
            Some((service, part))
        };
        Some(Self {
            own,
            reach: reach_of(world, instance),
            says: says(world, instance),
            upstreams: reached.into_iter().filter_map(&mut part).collect(),
            instance: instance.clone(),
        })
    }

    /// Whether the service says the same as before of how it dials.
    pub(super) fn dials_as_before(&self, world: &World, touched: &Touched) -> bool {
        !touched.services.contains(&self.instance.service) || self.says == says(world, &self.instance)
    }

    pub(super) fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    pub(super) fn service(&self) -> &str {
        &self.instance.service
    }

    /// Takes in what changed, and says what that means for the resources.
    pub(super) fn advance(
        &mut self,
        shared: &Shared,
        world: &World,
        touched: &Touched,
        (upstreams, changes): (&mut Upstreams, &[Changed]),
    ) -> News {
        // who tampers with everything must see everything
        let mut anything = shared.tampers();
        let mut endpoints = Vec::new();
        // a gateway leads to everything
        let is_stale = |service: &String| self.instance.gateway.is_some() || self.reach.contains(service);
        if touched.services.iter().any(is_stale)
            && let Some(own) = own_part(shared, world, &self.instance)
        {
            anything |= self.own != own;
            self.own = own;
            self.reach = reach_of(world, &self.instance);
        }
        for changed in changes {
            let service = &changed.service;
            let may = self.instance.transparent && is_implicit(world, &self.instance, service);
            let dial = || Dial::of(&world.config, &self.instance.service, service);
            let now = if may { upstreams.changed(world, changed, &dial()) } else { None };
            match (self.upstreams.get(service), now) {
                (None, None) => {}
                (Some(before), Some(now)) if Arc::ptr_eq(before, &now) => {}
                (Some(before), Some(now)) => {
                    match other_endpoints(before, &now) {
                        Some(others) => endpoints.extend(others),
                        None => anything = true,
                    }
                    self.upstreams.insert(service.clone(), now);
                }
                (None, Some(now)) => {
                    self.upstreams.insert(service.clone(), now);
                    anything = true;
                }
                (Some(_), None) => {
                    self.upstreams.remove(service);
                    anything = true;
                }
            }
        }
        match (anything, endpoints.is_empty()) {
            (true, _) => News::Anything,
            (false, true) => News::Nothing,
            (false, false) => News::Endpoints(endpoints),
        }
    }

    /// The whole configuration.
    pub(super) fn resources(&self, shared: &Shared, world: &World) -> BTreeMap<Key, Text> {
        let mut list: Vec<(Key, Text)> = self.own.iter().map(|(key, text)| (key.clone(), text.clone())).collect();
        if self.instance.transparent {
            self.outbound(world, &mut list);
        }
        // of several with one name the last one counts
        let resources = list.into_iter().collect();
        if shared.tampers() { tampered(shared, &self.instance, &resources) } else { resources }
    }

    fn outbound(&self, world: &World, resources: &mut Vec<(Key, Text)>) {
        let upstreams: Vec<(&str, &Upstream)> = self.upstreams.iter().map(|(s, p)| (&**s, &p.upstream)).collect();
        let parts: Vec<&Arc<Part>> = self.upstreams.values().collect();
        let mut chains = Vec::new();
        for Choice { upstream, way, addresses, port } in choose(&self.instance, &upstreams) {
            let (chain, led_to) = &parts[upstream].ways[way];
            chains.push(match addresses {
                Cow::Borrowed(_) => chain.clone(),
                Cow::Owned(some) => parts[upstream].upstream.ways[way].chain(&some, port).to_string().into(),
            });
            resources.extend(led_to.iter().map(|(key, text)| (key.clone(), text.clone())));
        }
        let mut led_to = Resources::default();
        if let Some((name, Value::Object(body))) = frame(world, &self.instance, !chains.is_empty(), &mut led_to) {
            let key = Key { section: "listeners", name: name.into() };
            resources.push((key, Text::with_list(&body, "filter_chains", chains)));
        }
        resources.extend(texts(led_to));
    }
}

impl News {
    /// Brings it to who asks for the proxy, and says whether there is any.
    pub(super) fn tell(self, told: &mut Told, world: u64, all: impl FnOnce() -> BTreeMap<Key, Text>) -> bool {
        match self {
            Self::Nothing => false,
            Self::Anything => told.renew(all(), world),
            Self::Endpoints(others) => {
                let fit = others.iter().all(|(key, old, new)| told.replace(key, old, new, world));
                if !fit {
                    told.renew(all(), world);
                }
                told.is_of(world)
            }
        }
    }
}

/// The endpoints that are others, when nothing else is.
fn other_endpoints(before: &Part, now: &Part) -> Option<Vec<(Key, Text, Text)>> {
    if before.upstream != now.upstream || before.ways.len() != now.ways.len() {
        return None;
    }
    let mut others = Vec::new();
    for ((_, before), (_, now)) in before.ways.iter().zip(&now.ways) {
        if before.len() != now.len() {
            return None;
        }
        for ((key, old), (other_key, new)) in before.iter().zip(now) {
            match (key == other_key, old == new) {
                (true, true) => {}
                (true, false) if key.section == "endpoints" => others.push((key.clone(), old.clone(), new.clone())),
                _ => return None,
            }
        }
    }
    Some(others)
}

fn own_part(shared: &Shared, world: &World, instance: &Instance) -> Option<BTreeMap<Key, Text>> {
    let leaf = shared.leaf_for(instance)?;
    Some(texts(own(world, instance, &leaf, &shared.authority.root_pem())).collect())
}

fn says(world: &World, instance: &Instance) -> UpstreamConfig {
    let defaults = world.config.service_defaults.get(&instance.service);
    defaults.map(|defaults| defaults.upstream_config.clone()).unwrap_or_default()
}

fn reach_of(world: &World, instance: &Instance) -> BTreeSet<String> {
    let named = instance.upstreams.iter().filter(|upstream| !upstream.is_query);
    let named = named.map(|upstream| upstream.service.as_str());
    let mut reached = reach(&world.config, named.chain([instance.service.as_str()]));
    // a query, whether there is one, and what it finds; entries have no say in that
    for query in instance.upstreams.iter().filter(|upstream| upstream.is_query) {
        reached.insert(query.id());
        reached.extend(world.query(&query.service).map(|query| query.service.service.clone()));
    }
    reached
}

/// The resources as a saboteur leaves them.
fn tampered(shared: &Shared, instance: &Instance, resources: &BTreeMap<Key, Text>) -> BTreeMap<Key, Text> {
    const SECTIONS: [&str; 5] = ["listeners", "clusters", "endpoints", "routes", "secrets"];
    let mut whole: Map<String, Value> =
        SECTIONS.into_iter().map(|section| (section.to_owned(), Value::Object(Map::new()))).collect();
    for (key, text) in resources {
        whole[key.section][&*key.name] = text.value();
    }
    let mut whole = Value::Object(whole);
    shared.tamper(&instance.proxy_id, &mut whole);
    let of_section = |section: &'static str| {
        let resources = whole[section].as_object().cloned().unwrap_or_default();
        resources.into_iter().map(move |(name, value)| (Key { section, name: name.into() }, Text::of(&value)))
    };
    SECTIONS.into_iter().flat_map(of_section).collect()
}
