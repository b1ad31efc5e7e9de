//! Turns changes into worlds: gathers what happened within a moment, registers, accepts configuration, publishes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::ApiResource;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::objects::{Cluster, Entry, Unseen};
use super::{Change, status};
use crate::config::accept::{Accepted, Resource, Verdict, without_effect};
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
    let mut reconciler = Reconciler::default();
    let status = status::Writer::start(client);
    while let Some(first) = changes.recv().await {
        tokio::time::sleep(GATHER).await;
        let mut next = Some(first);
        while let Some(change) = next {
            reconciler.apply(change);
            next = changes.try_recv().ok();
        }
        let before = worlds.borrow().clone();
        let world = reconciler.after(&before, |api, resource, verdict| status.say(api, resource, verdict));
        if let Some(Err(error)) = keeper.as_mut().map(|keeper| keeper.vips(&world.vips)) {
            tracing::error!(error = &error as &dyn std::error::Error, "virtual addresses change at the next start");
        }
        worlds.send_replace(Arc::new(world));
    }
}

/// The cluster, and what became of its custom resources.
#[derive(Default)]
pub(crate) struct Reconciler {
    cluster: Cluster,
    acceptance: Accepted,
    accepted: BTreeSet<Entry>,
    refused: Vec<Problem>,
    /// Whether a custom resource was refused the last time.
    has_refused: bool,
    /// Whether everything there is had been heard of when the last world was made.
    was_whole: bool,
}

impl Reconciler {
    /// One that remembers what this one accepted, and nothing else.
    #[cfg(test)]
    pub(crate) fn heir(&self) -> Self {
        Self { acceptance: self.acceptance.clone(), ..Self::default() }
    }

    /// Takes in a change.
    pub(crate) fn apply(&mut self, change: Change) {
        self.cluster.apply(change);
    }

    /// The world that the changes since `before` make of it. What no change touches is taken over, and costs nothing.
    pub(crate) fn after(&mut self, before: &World, mut say: impl FnMut(&ApiResource, &Resource, &Verdict)) -> World {
        let mut world = before.clone();
        world.index += 1;
        self.cluster.register(world.names.datacenter(), &mut world.catalog);
        if self.cluster.news.entries {
            self.accept(&mut world, &mut say);
        }
        let Unseen { touched, entries, refused, default_intention, .. } = std::mem::take(&mut self.cluster.news);
        if entries || refused {
            let of_pods = self.cluster.refused();
            let of_pods = of_pods.map(|(object, message)| Problem { object: object.clone(), message: message.clone() });
            let problems: BTreeSet<Problem> = self.refused.iter().cloned().chain(of_pods).collect();
            world.problems = problems.into_iter().collect();
        }
        world.default_intention = default_intention.unwrap_or(world.default_intention);
        let has_instances = |world: &World, service: &str| !world.catalog.instances(service).is_empty();
        let is_addressed = |world: &World, service: &str| {
            let ports: Vec<String> = world.more_ports(service).into_keys().map(str::to_owned).collect();
            (has_instances(world, service), ports)
        };
        let is_whole = self.cluster.is_whole();
        let became_whole = is_whole && !std::mem::replace(&mut self.was_whole, is_whole);
        if entries
            || became_whole
            || touched.services.iter().any(|s| is_addressed(before, s) != is_addressed(&world, s))
        {
            let addressed = world.addressed();
            let wanted = || addressed.iter().map(String::as_str);
            let vips = Arc::make_mut(&mut world.vips);
            if is_whole {
                // before, a service that is missing may only not have been heard of yet
                vips.retain(wanted());
            }
            vips.assign(wanted());
        }
        for service in &touched.services {
            let wanted = world.config.resolvers.contains_key(service) && !has_instances(&world, service);
            let addresses = wanted.then(|| self.cluster.cluster_ips(service));
            if world.manual_vips.get(service) != addresses.as_ref() {
                let manual = Arc::make_mut(&mut world.manual_vips);
                match addresses {
                    Some(addresses) => drop(manual.insert(service.clone(), addresses)),
                    None => drop(manual.remove(service)),
                }
            }
        }
        world.news = before.news.and(world.index, touched);
        world
    }

    /// Accepts all entries anew. One may be applied now, or no longer, because of another.
    fn accept(&mut self, world: &mut World, say: &mut impl FnMut(&ApiResource, &Resource, &Verdict)) {
        let resources = self.cluster.resources();
        let (config, verdicts) = self.acceptance.accept(resources.iter().map(|(_, r)| r), world.names.datacenter());
        let mut accepted = BTreeSet::new();
        self.refused.clear();
        for ((api, resource), (_, verdict)) in resources.iter().zip(&verdicts) {
            say(api, resource, verdict);
            if verdict.is_ok() {
                accepted.insert((resource.kind.clone(), (resource.namespace.clone(), resource.name.clone())));
            }
            for message in verdict.as_ref().err().into_iter().flatten().chain(&without_effect(resource)) {
                let object = format!("{} {}/{}", resource.kind, resource.namespace, resource.name);
                self.refused.push(Problem { object, message: message.clone() });
            }
        }
        // what is in force of a refused one is not what it says, nor does it say whom that concerns
        let has_refused = verdicts.iter().any(|(_, verdict)| verdict.is_err());
        if std::mem::replace(&mut self.has_refused, has_refused) || has_refused {
            self.cluster.news.touched.everything = true;
        }
        world.config = Arc::new(config);
        let before = std::mem::replace(&mut self.accepted, accepted);
        for entry in before.symmetric_difference(&self.accepted) {
            self.cluster.concern(entry);
        }
    }
}
