//! Turns changes into worlds: gathers what happened within a moment, registers, accepts configuration, publishes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::Change;
use super::objects::Cluster;
use super::status;
use crate::catalog::Catalog;
use crate::config::accept::accept;
use crate::kept::Keeper;
use crate::world::{Problem, World};

/// Changes that come within this time become one world.
const GATHER: Duration = Duration::from_millis(1);

/// Publishes a world for every burst of changes, until the senders are gone.
pub(crate) async fn reconcile(
    client: Client,
    mut changes: UnboundedReceiver<Change>,
    worlds: watch::Sender<Arc<World>>,
    mut keeper: Option<Keeper>,
) {
    let mut cluster = Cluster::default();
    let mut default_intention = worlds.borrow().default_intention;
    let status = status::Writer::start(client);
    while let Some(first) = changes.recv().await {
        tokio::time::sleep(GATHER).await;
        let mut next = Some(first);
        while let Some(change) = next {
            if let Change::Default(intention) = change {
                default_intention = intention;
            }
            cluster.apply(change);
            next = changes.try_recv().ok();
        }
        let before = worlds.borrow().clone();
        cluster.register(before.names.datacenter());
        let resources = cluster.resources();
        let (config, verdicts) = accept(resources.iter().map(|(_, r)| r), before.names.datacenter());
        let mut problems: Vec<Problem> = Vec::new();
        for ((api, resource), (_, verdict)) in resources.iter().zip(&verdicts) {
            status.say(api, resource, verdict);
            for message in verdict.as_ref().err().into_iter().flatten() {
                let object = format!("{} {}/{}", resource.kind, resource.namespace, resource.name);
                problems.push(Problem { object, message: message.clone() });
            }
        }
        problems.extend(
            cluster.refused().map(|(object, message)| Problem { object: object.clone(), message: message.clone() }),
        );
        problems.sort();
        problems.dedup();
        let mut world = World {
            index: before.index + 1,
            names: before.names.clone(),
            default_intention,
            config,
            catalog: Catalog::new(cluster.instances()),
            vips: before.vips.clone(),
            manual_vips: BTreeMap::new(),
            problems,
        };
        let addressed = world.addressed();
        let wanted = || addressed.iter().map(String::as_str);
        if cluster.is_whole() {
            // before, a service that is missing may only not have been heard of yet
            world.vips.retain(wanted());
        }
        world.vips.assign(wanted());
        if let Some(Err(error)) = keeper.as_mut().map(|keeper| keeper.vips(&world.vips)) {
            tracing::error!(error = &error as &dyn std::error::Error, "virtual addresses change at the next start");
        }
        world.manual_vips = world
            .config
            .resolvers
            .keys()
            .filter(|name| world.catalog.instances(name).is_empty())
            .map(|name| (name.clone(), cluster.cluster_ips(name)))
            .collect();
        worlds.send_replace(Arc::new(world));
    }
}
