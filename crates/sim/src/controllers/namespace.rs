//! Empties namespaces that are being deleted, and then lets them go.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};

use super::graph::Graph;
use super::kinds;
use super::view::{Change, Object, View};
use super::work::{Controller, Result, settled};

pub(super) struct Namespaces {
    client: kube::Client,
    view: Arc<View>,
    graph: Arc<Graph>,
}

impl Namespaces {
    pub(super) fn new((client, view): (kube::Client, Arc<View>), graph: Arc<Graph>) -> Self {
        Self { client, view, graph }
    }

    fn terminating(&self, name: &str) -> Option<Arc<Namespace>> {
        let key = (String::new(), name.to_owned());
        self.view.namespaces.get(&key).filter(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    /// Deletes what is there and says how much that was.
    async fn clear(&self, namespace: &str) -> Result<usize> {
        let mut found = 0;
        let unwatched = kinds::unwatched().into_iter().map(Arc::new);
        for known in self.graph.namespaced_kinds().into_iter().chain(unwatched) {
            let api = known.api(&self.client, namespace);
            let deleted = settled(api.delete_collection(&DeleteParams::default(), &ListParams::default()).await)?;
            found += deleted.and_then(|deleted| deleted.left()).map_or(0, |list| list.items.len());
        }
        Ok(found)
    }
}

impl Controller for Namespaces {
    type Key = String;

    fn concerns(&self, change: &Change<'_>, tell: &mut dyn FnMut(String)) {
        match (change.object, &change.metadata.namespace) {
            (Object::Namespace(namespace), _) if namespace.metadata.deletion_timestamp.is_some() && !change.gone => {
                tell(namespace.name_any());
            }
            (_, Some(namespace)) if change.gone && self.terminating(namespace).is_some() => tell(namespace.clone()),
            _ => {}
        }
    }

    async fn reconcile(&self, name: &String) -> Result {
        if self.terminating(name).is_none() {
            return Ok(());
        }
        // What is removed at once is gone in the second pass; what takes its time brings us back when it goes.
        if self.clear(name).await? > 0 && self.clear(name).await? > 0 {
            return Ok(());
        }
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let Some(mut namespace) = namespaces.get_opt(name).await? else { return Ok(()) };
        if let Some(spec) = &mut namespace.spec {
            spec.finalizers = None;
        }
        let body = serde_json::to_vec(&namespace).map_err(kube::Error::SerdeError)?;
        let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(kube::Error::HttpError)?;
        settled(self.client.request_text(request).await).map(|_| ())
    }
}
