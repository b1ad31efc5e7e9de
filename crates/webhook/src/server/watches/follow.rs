//! Follows one kind of object, for as long as the program lives.

use super::rows::Row;
use super::table::Table;
use crate::server::metrics::{Metrics, Resource};
use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// First and longest pause after a watch has failed; each failure doubles it.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// Pause before a kind is looked for again that the cluster does not have.
const ABSENCE: Duration = Duration::from_secs(30);

/// How long what is known is doubted after a failure. A watch that goes on where it was says nothing about it.
const DOUBT: Duration = Duration::from_secs(15);

/// What an object must be like to be followed.
pub(super) trait Object: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static {}

impl<K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static> Object for K {}

/// Where objects come from.
pub(super) struct Source<K> {
    pub(super) api: Api<K>,
    /// The cluster may not have this kind.
    pub(super) optional: bool,
}

/// How far a watch is.
pub(super) struct State {
    name: &'static str,
    metrics: Metrics,
    synced: AtomicBool,
    failed: Mutex<Option<Instant>>,
}

impl State {
    pub(super) fn new(name: &'static str, metrics: Metrics) -> Self {
        metrics.synced.get_or_create(&Resource { resource: name }).set(0);
        Self { name, metrics, synced: AtomicBool::new(false), failed: Mutex::new(None) }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the list has been received once.
    pub(super) fn synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Whether the list has been received, and changes of it are.
    pub(super) fn current(&self) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        self.synced() && failed.is_none_or(|failed| failed.elapsed() > DOUBT)
    }

    fn set_failed(&self, failed: Option<Instant>) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }

    fn has_synced(&self) {
        self.set_failed(None);
        if !self.synced.swap(true, Ordering::AcqRel) {
            self.metrics.synced.get_or_create(&Resource { resource: self.name }).set(1);
            tracing::info!(resource = self.name, "the list is here");
        }
    }
}

/// Keeps `table` as the API server has it.
pub(super) async fn follow<K, V>(
    source: Source<K>,
    table: Arc<Table<V>>,
    state: Arc<State>,
    row: fn(&K) -> Option<Row<V>>,
) where
    K: Object,
    V: Clone,
{
    let Source { api, optional } = source;
    // no more at once than fits beside everything else; a large cluster takes some turns more
    let config = watcher::Config::default().page_size(200);
    let mut events = std::pin::pin!(watcher(api, config));
    let (first, longest) = PAUSES;
    let mut pause = first;
    let mut list = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => list.clear(),
            Ok(Event::InitApply(object)) => {
                list.extend(row(&object).map(|row| (row.namespace, row.name, row.value)));
            }
            Ok(Event::InitDone) => {
                table.replace(std::mem::take(&mut list));
                pause = first;
                state.has_synced();
            }
            Ok(Event::Apply(object)) => {
                pause = first;
                state.set_failed(None);
                match row(&object) {
                    Some(row) => table.set(&row.namespace, &row.name, Some(row.value)),
                    // it may have counted before
                    None => forget(&table, &object),
                }
            }
            Ok(Event::Delete(object)) => {
                pause = first;
                match row(&object) {
                    Some(row) => table.set(&row.namespace, &row.name, None),
                    None => forget(&table, &object),
                }
            }
            Err(error) if optional && is_absent(&error) => {
                table.replace(Vec::new());
                state.has_synced();
                tokio::time::sleep(ABSENCE).await;
            }
            Err(error) => {
                state.set_failed(Some(Instant::now()));
                state.metrics.watch_errors.get_or_create(&Resource { resource: state.name }).inc();
                tracing::warn!(resource = state.name, error = causes(&error), ?pause, "the watch failed, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}

fn forget<K: kube::Resource, V: Clone>(table: &Table<V>, object: &K) {
    let metadata = object.meta();
    let name = metadata.name.as_deref().unwrap_or_default();
    table.set(metadata.namespace.as_deref().unwrap_or_default(), name, None);
}

/// Whether the API server does not know the kind at all.
fn is_absent(error: &watcher::Error) -> bool {
    let cause = match error {
        watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause) => cause,
        _ => return false,
    };
    matches!(cause, kube::Error::Api(status) if status.code == 404)
}

/// An error with its causes. Some of these errors repeat their cause in their own text and some do not: each text comes once.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_doubted_after_a_failure() {
        let state = State::new("namespaces", Metrics::default());
        assert!(!state.current(), "nothing is known");
        state.has_synced();
        assert!(state.current());
        state.set_failed(Some(Instant::now()));
        assert!(state.synced() && !state.current(), "it may be behind");
        state.set_failed(Instant::now().checked_sub(DOUBT + Duration::from_secs(1)));
        assert!(state.current(), "the watch has gone on since");
        state.set_failed(Some(Instant::now()));
        state.has_synced();
        assert!(state.current(), "the list has been received anew");
    }
}
