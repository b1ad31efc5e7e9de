//! The cluster's Namespaces, followed by a watch, so that a review need not ask the API server.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// How long a review waits for the one question that it may have to ask.
const PATIENCE: Duration = Duration::from_secs(3);

/// First and longest pause after a watch has failed; each failure doubles it.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// A Namespace that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The API server answered with an error, or could not be reached.
    #[error(
        "failed to get namespace {name}: {cause}; check that the webhook's service account may get namespaces and that \
         the API server is reachable"
    )]
    Api {
        /// The Namespace.
        name: String,
        /// Why, down to the first cause.
        cause: String,
    },
    /// The API server did not answer.
    #[error("failed to get namespace {name}: no answer from the API server within {} s", PATIENCE.as_secs())]
    Timeout {
        /// The Namespace.
        name: String,
    },
}

/// The cluster's Namespaces. Clones share what they know.
#[derive(Clone)]
pub struct Namespaces {
    store: Store<Namespace>,
    synced: Arc<AtomicBool>,
    api: Api<Namespace>,
}

impl Namespaces {
    /// Starts to follow the cluster's Namespaces, for as long as the runtime lives.
    #[must_use]
    pub fn follow(client: Client) -> Self {
        let api = Api::all(client);
        let (store, writer) = reflector::store();
        let namespaces = Self { store, synced: Arc::new(AtomicBool::new(false)), api };
        tokio::spawn(watch(namespaces.api.clone(), writer, Arc::clone(&namespaces.synced)));
        namespaces
    }

    /// Whether the list has been received once.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// The Namespace of this name: as the watch knows it, or asked for once.
    ///
    /// # Errors
    /// The watch does not know it, and the API server did not give it.
    pub async fn get(&self, name: &str) -> Result<Arc<Namespace>, NamespaceError> {
        if let Some(namespace) = self.store.get(&ObjectRef::new(name)) {
            return Ok(namespace);
        }
        match timeout(PATIENCE, self.api.get(name)).await {
            Ok(Ok(namespace)) => Ok(Arc::new(namespace)),
            Ok(Err(cause)) => Err(NamespaceError::Api { name: name.to_owned(), cause: causes(&cause) }),
            Err(_) => Err(NamespaceError::Timeout { name: name.to_owned() }),
        }
    }
}

async fn watch(api: Api<Namespace>, writer: reflector::store::Writer<Namespace>, synced: Arc<AtomicBool>) {
    let mut events = std::pin::pin!(reflector::reflector(writer, watcher(api, watcher::Config::default())));
    let (first, longest) = PAUSES;
    let mut pause = first;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                // The beginning of a list is no success yet: it comes before the first request.
                if !matches!(event, watcher::Event::Init) {
                    pause = first;
                }
                if matches!(event, watcher::Event::InitDone) && !synced.swap(true, Ordering::AcqRel) {
                    tracing::info!("the list of namespaces is here");
                }
            }
            Err(error) => {
                tracing::warn!(error = causes(&error), ?pause, "failed to watch namespaces, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}

/// An error with its causes. Some of these errors repeat their cause in their own text and some do not: each text comes once.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
