//! Objects by resource, namespace and name, with one resourceVersion for all and a history that watches read.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

/// How many changes of a resource a late watch can still catch up with.
const HISTORY: usize = 2048;

/// An object as stored: never changed, shared by every reader, put into JSON once.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) value: Value,
    json: OnceLock<Bytes>,
}

impl Stored {
    pub(crate) fn new(value: Value) -> Arc<Self> {
        Arc::new(Self { value, json: OnceLock::new() })
    }

    /// The object as JSON.
    pub(crate) fn json(&self) -> Bytes {
        self.json.get_or_init(|| self.value.to_string().into()).clone()
    }

    /// `metadata.resourceVersion`; 0 when absent.
    pub(crate) fn version(&self) -> u64 {
        version_of(&self.value)
    }
}

/// `metadata.resourceVersion` of an object; 0 when absent or not one of ours.
pub(crate) fn version_of(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// What happened to an object.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    /// State after the change; for a removal the last state, with the version of the removal.
    pub(crate) object: Arc<Stored>,
    /// State before, absent for a creation.
    pub(crate) previous: Option<Arc<Stored>>,
    pub(crate) removed: bool,
}

/// Why a write did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Exists,
    NotFound,
    Conflict,
}

/// The changes after the asked version are no longer all known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TooOld {
    pub(crate) oldest: u64,
}

struct Shelf {
    objects: BTreeMap<(String, String), Arc<Stored>>,
    history: VecDeque<Change>,
    /// Version of the newest change that has fallen out of the history.
    forgotten: u64,
    latest: watch::Sender<u64>,
}

impl Default for Shelf {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), history: VecDeque::new(), forgotten: 0, latest: watch::Sender::new(0) }
    }
}

impl Shelf {
    fn record(&mut self, change: Change) {
        let version = change.version;
        self.history.push_back(change);
        if self.history.len() > HISTORY
            && let Some(old) = self.history.pop_front()
        {
            self.forgotten = old.version;
        }
        self.latest.send_replace(version);
    }
}

#[derive(Default)]
struct Inner {
    version: u64,
    shelves: HashMap<String, Shelf>,
}

impl Inner {
    fn shelf(&mut self, shelf: &str) -> &mut Shelf {
        if !self.shelves.contains_key(shelf) {
            self.shelves.insert(shelf.to_owned(), Shelf::default());
        }
        self.shelves.get_mut(shelf).expect("inserted above")
    }

    fn stamp(&mut self, value: &mut Value) -> u64 {
        self.version += 1;
        value["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.version
    }
}

/// The objects of a cluster. A *shelf* is `plural.group`, whatever the served version.
#[derive(Default)]
pub(crate) struct Store(Mutex<Inner>);

impl Store {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every write below leaves the maps consistent at each step that can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, shelf: &str, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        let mut inner = self.inner();
        inner.shelf(shelf).objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The objects of a namespace, or all, in order of namespace and name, and the version at which that was so.
    pub(crate) fn list(&self, shelf: &str, namespace: Option<&str>) -> (u64, Vec<Arc<Stored>>) {
        let mut inner = self.inner();
        let version = inner.version;
        let objects = &inner.shelf(shelf).objects;
        let items = match namespace {
            None => objects.values().cloned().collect(),
            Some(namespace) => objects
                .range((namespace.to_owned(), String::new())..)
                .take_while(|((found, _), _)| found == namespace)
                .map(|(_, object)| object.clone())
                .collect(),
        };
        (version, items)
    }

    pub(crate) fn create(
        &self,
        shelf: &str,
        namespace: &str,
        name: &str,
        mut value: Value,
    ) -> Result<Arc<Stored>, Refused> {
        let mut inner = self.inner();
        let key = (namespace.to_owned(), name.to_owned());
        if inner.shelf(shelf).objects.contains_key(&key) {
            return Err(Refused::Exists);
        }
        let version = inner.stamp(&mut value);
        let object = Stored::new(value);
        let shelf = inner.shelf(shelf);
        shelf.objects.insert(key, object.clone());
        shelf.record(Change { version, object: object.clone(), previous: None, removed: false });
        Ok(object)
    }

    /// Replaces an object that is still at version `expected`. A write that changes nothing is none.
    pub(crate) fn replace(
        &self,
        shelf: &str,
        namespace: &str,
        name: &str,
        expected: u64,
        mut value: Value,
    ) -> Result<Arc<Stored>, Refused> {
        let mut inner = self.inner();
        let key = (namespace.to_owned(), name.to_owned());
        let previous = inner.shelf(shelf).objects.get(&key).cloned().ok_or(Refused::NotFound)?;
        if previous.version() != expected {
            return Err(Refused::Conflict);
        }
        value["metadata"]["resourceVersion"] = expected.to_string().into();
        if value == previous.value {
            return Ok(previous);
        }
        let version = inner.stamp(&mut value);
        let object = Stored::new(value);
        let shelf = inner.shelf(shelf);
        shelf.objects.insert(key, object.clone());
        shelf.record(Change { version, object: object.clone(), previous: Some(previous), removed: false });
        Ok(object)
    }

    /// Removes an object, when it is still at version `expected` if one is given.
    pub(crate) fn remove(
        &self,
        shelf: &str,
        namespace: &str,
        name: &str,
        expected: Option<u64>,
    ) -> Result<Arc<Stored>, Refused> {
        let mut inner = self.inner();
        let key = (namespace.to_owned(), name.to_owned());
        let previous = inner.shelf(shelf).objects.get(&key).cloned().ok_or(Refused::NotFound)?;
        if expected.is_some_and(|expected| previous.version() != expected) {
            return Err(Refused::Conflict);
        }
        let mut value = previous.value.clone();
        let version = inner.stamp(&mut value);
        let object = Stored::new(value);
        let shelf = inner.shelf(shelf);
        shelf.objects.remove(&key);
        shelf.record(Change { version, object: object.clone(), previous: Some(previous), removed: true });
        Ok(object)
    }

    /// Version of the newest write to a resource, now and from now on.
    pub(crate) fn subscribe(&self, shelf: &str) -> watch::Receiver<u64> {
        self.inner().shelf(shelf).latest.subscribe()
    }

    /// What happened to a resource after `version`.
    pub(crate) fn since(&self, shelf: &str, version: u64) -> Result<Vec<Change>, TooOld> {
        let mut inner = self.inner();
        let shelf = inner.shelf(shelf);
        if version < shelf.forgotten {
            return Err(TooOld { oldest: shelf.forgotten });
        }
        let start = shelf.history.partition_point(|change| change.version <= version);
        Ok(shelf.history.range(start..).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_grow_over_all_resources_and_conflicts_are_seen() {
        let store = Store::default();
        let first = store.create("pods", "a", "x", json!({"metadata": {}})).expect("new");
        store.create("secrets", "a", "x", json!({"metadata": {}})).expect("new");
        assert_eq!(store.create("pods", "a", "x", json!({})).err(), Some(Refused::Exists));
        let second = store.replace("pods", "a", "x", first.version(), json!({"metadata": {"n": 1}})).expect("fresh");
        assert_eq!(second.version(), 3);
        assert_eq!(store.replace("pods", "a", "x", first.version(), json!({})).err(), Some(Refused::Conflict));
        let same = store.replace("pods", "a", "x", 3, second.value.clone()).expect("fresh");
        assert_eq!(same.version(), 3, "a write that changes nothing is none");
    }

    #[test]
    fn history_is_bounded_and_says_so() {
        let store = Store::default();
        let mut version = store.create("pods", "a", "x", json!({"metadata": {}})).expect("new").version();
        for n in 0..HISTORY + 5 {
            version =
                store.replace("pods", "a", "x", version, json!({"metadata": {}, "n": n})).expect("fresh").version();
        }
        assert!(store.since("pods", 1).is_err());
        assert_eq!(store.since("pods", version - 3).expect("recent").len(), 3);
        assert_eq!(store.list("pods", Some("b")).1.len(), 0);
    }
}
