//! Who owns whom, of every kind that is watched.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::kinds::Known;
use super::view::Listener;

/// An object's place among the others.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) known: Arc<Known>,
    pub(super) metadata: Arc<ObjectMeta>,
}

#[derive(Default)]
struct Inner {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, HashSet<String>>,
    /// By apiVersion and kind.
    kinds: HashMap<(String, String), Arc<Known>>,
}

/// The objects by uid.
#[derive(Default)]
pub(super) struct Graph(RwLock<Inner>);

impl Graph {
    /// Keeps the graph up to date; must hear of a change before those who look into it.
    pub(super) fn listener(self: Arc<Self>) -> Listener {
        Box::new(move |change| {
            let Some(uid) = &change.metadata.uid else { return };
            let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
            inner.disown(uid);
            if change.gone {
                inner.nodes.remove(uid);
                return;
            }
            for owner in change.metadata.owner_references.iter().flatten() {
                inner.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            }
            let key = (change.known.resource.api_version.clone(), change.known.resource.kind.clone());
            let known = inner.kinds.get(&key).cloned().unwrap_or_else(|| Arc::new(change.known.clone()));
            inner.nodes.insert(uid.clone(), Node { known, metadata: Arc::new(change.metadata.clone()) });
        })
    }

    pub(super) fn know(&self, known: Known) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let key = (known.resource.api_version.clone(), known.resource.kind.clone());
        inner.kinds.insert(key, Arc::new(known));
    }

    /// Drops a kind that is no longer served, with its objects.
    pub(super) fn forget(&self, known: &Known) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        inner.kinds.remove(&(known.resource.api_version.clone(), known.resource.kind.clone()));
        inner.nodes.retain(|_, node| {
            node.known.resource.kind != known.resource.kind || node.known.resource.group != known.resource.group
        });
    }

    pub(super) fn get(&self, uid: &str) -> Option<Node> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).nodes.get(uid).cloned()
    }

    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Option<Arc<Known>> {
        let key = (api_version.to_owned(), kind.to_owned());
        self.0.read().unwrap_or_else(PoisonError::into_inner).kinds.get(&key).cloned()
    }

    /// Every namespaced kind.
    pub(super) fn namespaced_kinds(&self) -> Vec<Arc<Known>> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inner.kinds.values().filter(|known| known.namespaced).cloned().collect()
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<Node> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let uids = inner.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| inner.nodes.get(uid).cloned()).collect()
    }
}

impl Inner {
    fn disown(&mut self, uid: &str) {
        let Some(node) = self.nodes.get(uid) else { return };
        for owner in node.metadata.owner_references.iter().flatten() {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
            }
        }
    }
}
