//! xDS for Envoy over a Unix socket: JSON, one request per subscription, held until there is something newer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use mesh::feed::Rejected;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

use crate::state::Snapshot;

/// Sections whose resources come all together; those of the others are asked for by name.
const TOGETHER: [&str; 2] = ["listeners", "clusters"];
/// How long listeners wait for the clusters that they lead to.
const ORDER: Duration = Duration::from_secs(1);
/// Envoy repeats a question whose answer it refused within milliseconds. What comes later is a new subscription.
const REPEATS: Duration = Duration::from_millis(500);
/// So many subscriptions in a row to one resource that did not change are none: Envoy refuses what it gets.
const MOST: u32 = 64;

/// Makes a directory that nobody else can look into: private keys pass through it.
pub(crate) fn private_directory(directory: &Path) -> anyhow::Result<()> {
    let context = || format!("failed to make {}: is TMPDIR writable", directory.display());
    std::fs::create_dir_all(directory).with_context(context)?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)).with_context(context)
}

/// Listens at `path`, in place of what an earlier run left there.
pub(crate) fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("failed to remove {}", path.display()));
        }
        _ => {}
    }
    UnixListener::bind(path).with_context(|| format!("failed to listen on {}", path.display()))
}

struct Server {
    snapshots: watch::Receiver<Snapshot>,
    /// The version of the clusters that Envoy has.
    clusters: watch::Sender<u64>,
    /// By section and name.
    sent: Mutex<HashMap<(&'static str, String), Sent>>,
    /// Hears of what Envoy refused.
    rejected: mpsc::UnboundedSender<Rejected>,
}

/// What was sent last.
struct Sent {
    version: u64,
    at: Instant,
    /// How often in a row, each within [`REPEATS`] of the one before.
    times: u32,
}

impl Sent {
    fn first(version: u64, at: Instant) -> Self {
        Self { version, at, times: 1 }
    }

    /// Whether a version is news to Envoy, which asks again with what it had before when it refused it; `has_some`: it has
    /// had a version at all.
    fn is_news(&mut self, version: u64, has_some: bool, now: Instant) -> bool {
        let resubscribed = !has_some && now.duration_since(self.at) > REPEATS;
        if self.version != version || resubscribed {
            *self = Self::first(version, now);
            return true;
        }
        self.times += 1;
        self.at = now;
        // a cluster that was changed subscribes anew to its endpoints, and has nothing at first
        !has_some && self.times < MOST
    }
}

/// Serves until the listener fails; what Envoy refuses goes to `rejected`.
pub(crate) async fn serve(
    listener: UnixListener,
    snapshots: watch::Receiver<Snapshot>,
    rejected: mpsc::UnboundedSender<Rejected>,
) {
    let server = Arc::new(Server { snapshots, clusters: watch::Sender::new(0), sent: Mutex::default(), rejected });
    let mut router = Router::new();
    for section in ["listeners", "clusters", "endpoints", "routes", "secrets"] {
        let handler = move |State(server): State<Arc<Server>>, body: String| async move {
            axum::Json(server.answer(section, &body).await)
        };
        router = router.route(&format!("/v3/discovery:{section}"), post(handler));
    }
    if let Err(error) = axum::serve(listener, router.with_state(server)).await {
        tracing::error!(%error, "no longer serving xDS");
    }
}

/// What matters of a `DiscoveryRequest`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Question {
    version_info: String,
    resource_names: Vec<String>,
}

impl Server {
    async fn answer(&self, section: &'static str, body: &str) -> Value {
        let question: Question = serde_json::from_str(body).unwrap_or_default();
        let has: Option<u64> = question.version_info.parse().ok();
        if section == "clusters" {
            self.clusters.send_replace(has.unwrap_or_default());
        }
        let name = match question.resource_names.first() {
            Some(name) if !TOGETHER.contains(&section) => name.clone(),
            _ => String::new(),
        };
        let mut snapshots = self.snapshots.clone();
        loop {
            if section == "listeners" && snapshots.borrow().revision > 0 {
                self.after_clusters().await;
            }
            let found = {
                let snapshot = snapshots.borrow_and_update();
                (snapshot.revision > 0).then(|| resources(&snapshot, section, &name)).flatten()
            };
            if let Some((version, resources)) = found
                && has != Some(version)
                && self.may_send(section, &name, has, version)
            {
                tracing::debug!(section, name, version, "sent");
                return json!({"version_info": version.to_string(), "resources": resources});
            }
            if snapshots.changed().await.is_err() {
                // the feed is followed for ever, so this is the end of the program
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether to send a version; where Envoy has refused it before, that is told instead.
    fn may_send(&self, section: &'static str, name: &str, has: Option<u64>, version: u64) -> bool {
        let now = Instant::now();
        // Envoy takes these together and never subscribes to them anew
        let has_some = has.is_some() || TOGETHER.contains(&section);
        {
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            let news = match sent.entry((section, name.to_owned())) {
                Entry::Vacant(vacant) => {
                    vacant.insert(Sent::first(version, now));
                    true
                }
                Entry::Occupied(mut occupied) => occupied.get_mut().is_news(version, has_some, now),
            };
            if news {
                return true;
            }
        }
        tracing::error!(section, name, version, "envoy rejected the configuration; its own log says why");
        // nobody listens only when the program ends
        let _ = self.rejected.send(Rejected { section: section.to_owned(), name: name.to_owned() });
        false
    }

    /// Waits until Envoy has the newest clusters, so that no listener leads to one it does not know.
    async fn after_clusters(&self) {
        let newest = self.snapshots.borrow().version("clusters");
        let mut has = self.clusters.subscribe();
        let _ = tokio::time::timeout(ORDER, has.wait_for(|has| *has >= newest)).await;
    }
}

fn resources(snapshot: &Snapshot, section: &str, name: &str) -> Option<(u64, Value)> {
    if TOGETHER.contains(&section) {
        return Some((snapshot.version(section), json!(snapshot.all(section))));
    }
    snapshot.one(section, name).map(|(version, value)| (version, json!([value])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_sent_once() {
        let now = Instant::now();
        let mut sent = Sent::first(1, now);
        assert!(!sent.is_news(1, true, now + REPEATS * 2), "it has an older one still, so it refused this one");
        assert!(sent.is_news(2, true, now));
    }

    #[test]
    fn new_subscriptions_get_the_version_again() {
        let mut now = Instant::now();
        let mut sent = Sent::first(1, now);
        for _ in 0..MOST * 2 {
            now += REPEATS * 2;
            assert!(sent.is_news(1, false, now), "a subscription now and then");
        }
        let in_a_row = (0..MOST * 2).take_while(|_| sent.is_news(1, false, now)).count();
        assert_eq!(in_a_row, MOST as usize - 2, "all at once is a refusal");
    }
}
