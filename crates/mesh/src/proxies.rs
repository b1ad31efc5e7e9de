//! Every proxy's configuration, kept up to date at the cost of what changes.
//!
//! [`envoy::render`](crate::envoy::render) says what a proxy's configuration is in a world. To do that for every proxy on every
//! change costs services times proxies; so what is rendered is kept, in the parts that `render` is made of:
//!
//! - for each service, what a proxy needs to reach it without naming it. It is rendered once, as text, and all proxies share it,
//!   but for those whose service says that it dials that one otherwise: they share another one;
//! - for each proxy, what is its own, and which services it may reach.
//!
//! [`World::news`](crate::world::World::news) names the services that a change touches. Their parts are rendered again, and those
//! of services that lead to them by a router, a splitter or a resolver. A proxy renders its own part again if a touched
//! service is among those that it was rendered from; and only for touched services it is asked whether it may reach them, and
//! whether their part is another one now. For all others that costs a look-up, and whoever waits for their configuration
//! sleeps on. If only endpoints are others, they are put in the place of the old ones, without a look at the rest.
//!
//! One task does all that, one world after the other. It is simpler than a graph of queries with memory (as in build systems),
//! and there is little to be had beyond: the parts that are kept are those in which Envoy takes its configuration. What it takes
//! for granted, that a part depends on no more than it says, a test asserts over random changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use crate::serve::Shared;
use crate::world::{Touched, World};

mod proxy;
#[cfg(test)]
mod tests;
mod text;
mod told;
mod upstreams;

use proxy::Proxy;
pub(crate) use told::{Answer, Told};
use upstreams::Upstreams;

/// How a proxy is asked for: by its Consul node, or the first one that has the id; and by its id.
pub(crate) type Asked = (Option<String>, String);

/// What is known of a proxy that was asked for.
#[derive(Debug, Default)]
pub(crate) enum Known {
    /// Not yet looked at.
    #[default]
    Pending,
    /// There is no such proxy.
    Unregistered,
    /// Its configuration.
    Told(Box<Told>),
}

type Desks = Arc<Mutex<HashMap<Asked, Arc<watch::Sender<Known>>>>>;

/// Where to ask for the configuration of proxies.
pub(crate) struct Proxies {
    desks: Desks,
    asked: mpsc::UnboundedSender<Asked>,
}

impl Proxies {
    /// Starts to follow the worlds, until there are no more.
    pub(crate) fn start(shared: Arc<Shared>) -> Self {
        let desks = Desks::default();
        let (asked, incoming) = mpsc::unbounded_channel();
        tokio::spawn(follow(shared, desks.clone(), incoming));
        Self { desks, asked }
    }

    /// Tells what is known of a proxy, and each time that it changes.
    pub(crate) fn of(&self, asked: Asked) -> watch::Receiver<Known> {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(desk) = desks.get(&asked) {
            return desk.subscribe();
        }
        let (desk, known) = watch::channel(Known::Pending);
        desks.insert(asked.clone(), Arc::new(desk));
        // nobody receives after the end, when all connections are closed
        let _ = self.asked.send(asked);
        known
    }
}

async fn follow(shared: Arc<Shared>, desks: Desks, mut incoming: mpsc::UnboundedReceiver<Asked>) {
    let mut worlds = shared.worlds();
    let world = worlds.borrow_and_update().clone();
    let mut all = All::new(shared, world);
    loop {
        tokio::select! {
            changed = worlds.changed() => match changed {
                Ok(()) => {
                    let world = worlds.borrow_and_update().clone();
                    all.advance(world);
                    all.forget(&desks);
                }
                Err(_) => return,
            },
            asked = incoming.recv() => {
                let Some(asked) = asked else { return };
                let desk = desks.lock().unwrap_or_else(PoisonError::into_inner).get(&asked).cloned();
                if let Some(desk) = desk {
                    all.begin(asked, desk);
                }
            }
        }
    }
}

/// All that is kept.
struct All {
    shared: Arc<Shared>,
    world: Arc<World>,
    upstreams: Upstreams,
    proxies: HashMap<Asked, (Option<Proxy>, Arc<watch::Sender<Known>>)>,
}

impl All {
    fn new(shared: Arc<Shared>, world: Arc<World>) -> Self {
        let mut upstreams = Upstreams::default();
        upstreams.advance(&world, &Touched { everything: true, ..Touched::default() });
        Self { shared, world, upstreams, proxies: HashMap::new() }
    }

    /// Begins to keep a proxy. It is told nothing as long as something that is there may not be known yet.
    fn begin(&mut self, asked: Asked, desk: Arc<watch::Sender<Known>>) {
        if self.world.is_partial {
            self.proxies.insert(asked, (None, desk));
            return;
        }
        let mut proxy = None;
        let instance = self.world.catalog.proxy(asked.0.as_deref(), &asked.1);
        let known = match instance.and_then(|i| Proxy::new(&self.shared, &self.world, i, &mut self.upstreams)) {
            None => Known::Unregistered,
            Some(made) => {
                let told = Told::new(made.service(), made.resources(&self.shared, &self.world), self.world.index);
                proxy = Some(made);
                Known::Told(Box::new(told))
            }
        };
        desk.send_replace(known);
        self.proxies.insert(asked, (proxy, desk));
    }

    /// Makes everything that of the world.
    fn advance(&mut self, world: Arc<World>) {
        let touched = world.news.since(self.world.index);
        let changes = self.upstreams.advance(&world, &touched);
        if world.is_partial {
            self.world = world;
            return;
        }
        let mut is_new = false;
        for (asked, (proxy, desk)) in &mut self.proxies {
            let Some(instance) = world.catalog.proxy(asked.0.as_deref(), &asked.1) else {
                if proxy.take().is_some() || self.world.is_partial {
                    desk.send_replace(Known::Unregistered);
                }
                continue;
            };
            let is_same = |p: &&mut Proxy| Arc::ptr_eq(p.instance(), instance) && p.dials_as_before(&world, &touched);
            let same = proxy.as_mut().filter(is_same).filter(|_| !touched.everything);
            if let Some(same) = same {
                let news = same.advance(&self.shared, &world, &touched, (&mut self.upstreams, &changes));
                desk.send_if_modified(|known| match known {
                    Known::Told(told) => news.tell(told, world.index, || same.resources(&self.shared, &world)),
                    Known::Pending | Known::Unregistered => false,
                });
                continue;
            }
            let Some(made) = Proxy::new(&self.shared, &world, instance, &mut self.upstreams) else { continue };
            is_new = true;
            let resources = made.resources(&self.shared, &world);
            desk.send_if_modified(|known| match known {
                Known::Told(told) if told.service() == made.service() => told.renew(resources, world.index),
                _ => {
                    *known = Known::Told(Box::new(Told::new(made.service(), resources, world.index)));
                    true
                }
            });
            *proxy = Some(made);
        }
        if is_new {
            self.upstreams.forget();
        }
        self.world = world;
    }

    /// Forgets proxies that do not exist and that nobody waits for.
    fn forget(&mut self, desks: &Desks) {
        if self.proxies.values().all(|(proxy, desk)| proxy.is_some() || desk.receiver_count() > 0) {
            return;
        }
        let mut desks = desks.lock().unwrap_or_else(PoisonError::into_inner);
        self.proxies.retain(|asked, (proxy, desk)| {
            // nobody can begin to wait meanwhile: that takes the lock
            let keep = proxy.is_some() || desk.receiver_count() > 0;
            if !keep {
                desks.remove(asked);
            }
            keep
        });
    }
}
