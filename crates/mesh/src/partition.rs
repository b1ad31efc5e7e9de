//! Other admin partitions of the datacenter: the same servers, trust domain and datacenter, and a catalogue, entries and virtual addresses
//! of their own. What one sees of another is what that exports to it.
//!
//! All partitions are in one process, each with worlds of its own; whenever one has another world, the others are told what that changes of
//! what is exported to them: [`Told`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::abroad::{Seen, seen};
use crate::cluster::{self, Change};
use crate::config::{Consumer, Protocol};
use crate::names::DEFAULT;
use crate::place::GatewayMode;
use crate::world::{Problem, World};

/// What a partition tells another one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Told {
    /// Whether it knows of everything that it has.
    pub(crate) is_whole: bool,
    /// Where its mesh gateways are reached from outside.
    pub(crate) gateways: Vec<SocketAddr>,
    /// The services that are exported to the one that is told.
    pub(crate) services: BTreeMap<String, Exported>,
}

/// A service that is exported.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exported {
    pub(crate) protocol: Protocol,
    /// Through which gateways to go there, if its own defaults say so.
    pub(crate) gateway_mode: Option<GatewayMode>,
    pub(crate) virtual_ip: Option<Ipv4Addr>,
    /// Healthy or not.
    pub(crate) instances: Vec<Seen>,
}

/// What other partitions tell, by their names.
pub(crate) type Partitions = BTreeMap<Arc<str>, Arc<Told>>;

impl Told {
    /// What `world` has to tell the partition of this name.
    pub(crate) fn of(world: &World, partition: &str) -> Self {
        let services = exports(world, |consumer| world.config.reaches_partition(consumer, partition));
        let services = services.into_iter().map(|service| {
            let defaults = world.config.service_defaults.get(&service);
            let exported = Exported {
                protocol: world.config.protocol(&service),
                gateway_mode: defaults.and_then(|defaults| defaults.mesh_gateway.mode),
                virtual_ip: world.vips.get(&service),
                instances: seen(world, &service),
            };
            (service, exported)
        });
        Self {
            is_whole: world.is_whole,
            gateways: world.catalog.gateways().filter_map(|gateway| gateway.wan()).collect(),
            services: services.collect(),
        }
    }
}

/// The services that are exported to somebody: by name, or all of them. Only what is there can be exported.
pub(crate) fn exports(world: &World, to: impl Fn(&Consumer) -> bool) -> BTreeSet<String> {
    let mut exported = BTreeSet::new();
    for (service, consumers) in &world.config.exports {
        if !consumers.iter().any(&to) {
            continue;
        }
        match service.as_str() {
            "*" => exported.extend(world.catalog.services().map(str::to_owned)),
            name => drop(exported.insert(name.to_owned())),
        }
    }
    exported
}

/// A service of another partition, by the name under which it is an upstream here: `<partition>/<namespace>/<service>`.
pub(crate) fn id(service: &str, partition: &str) -> String {
    format!("{partition}/{DEFAULT}/{service}")
}

/// The service and the partition that an upstream is, if it is one of another partition.
pub(crate) fn parse(id: &str) -> Option<(&str, &str)> {
    let (partition, rest) = id.split_once('/')?;
    Some((rest.split_once('/')?.1, partition))
}

/// Explicit upstreams that lead nowhere, because the partition that they name does not export the service to ours.
pub(crate) fn unreachable(world: &World) -> Vec<Problem> {
    let tenancy = &world.config.home.tenancy;
    let instances = world.catalog.services().flat_map(|service| world.catalog.instances(service));
    let upstreams = instances.flat_map(|instance| instance.upstreams.iter().map(move |upstream| (instance, upstream)));
    let mut problems = Vec::new();
    for (instance, upstream) in upstreams {
        let Some(partition) = upstream.partition.as_deref() else { continue };
        let service = &upstream.service;
        let why = if !tenancy.knows(partition) {
            format!("there is no such partition; there are {}", tenancy.listed())
        } else if world.share(service, partition).is_none() {
            let own = tenancy.own();
            format!(
                "it does not export {service:?} to partition {own:?}: name both in the ExportedServices {partition:?} there"
            )
        } else {
            continue;
        };
        problems.push(Problem {
            object: format!("Pod {}/{}", instance.namespace, instance.pod),
            message: format!("upstream {service:?} of partition {partition:?} leads nowhere: {why}"),
        });
    }
    problems
}

/// Tells partition `to` of the worlds of `from`, until there are no more.
pub(crate) async fn tell(
    mut worlds: watch::Receiver<Arc<World>>,
    from: Arc<str>,
    to: Arc<str>,
    changes: UnboundedSender<cluster::Told>,
) {
    let mut told = None;
    loop {
        let now = Arc::new(Told::of(&worlds.borrow_and_update().clone(), &to));
        if told.as_ref() != Some(&now) {
            // nobody receives after the end, when changes no longer matter
            let _ = changes.send((0, Change::Partition(from.clone(), now.clone())));
            told = Some(now);
        }
        if worlds.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_says_where_it_is() {
        assert_eq!(parse(&id("db", "ap1")), Some(("db", "ap1")));
        assert_eq!(parse("db"), None);
        assert_eq!(parse("db?peer=east"), None);
    }
}
