//! What is known of the cluster: followed by watches, so that a review need not ask the API server.

mod follow;
mod rows;
mod table;

use super::metrics::Metrics;
use crate::surroundings::{AllowedUsers, ProxyDefaults, ServiceDefaults};
use crate::{Settings, Surroundings};
use follow::{Source, State};
use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use rows::{Marks, Selector};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use table::Table;
use tokio::time::timeout;

/// How long a review waits for the one question that it may have to ask.
const PATIENCE: Duration = Duration::from_secs(3);

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

/// What is known of the cluster. Clones share it.
#[derive(Clone)]
pub struct Watches(Arc<Known>);

struct Known {
    api: Api<Namespace>,
    metrics: Metrics,
    namespaces: Followed<Arc<Namespace>>,
    services: Followed<Selector>,
    proxy_defaults: Followed<Arc<ProxyDefaults>>,
    service_defaults: Followed<ServiceDefaults>,
    /// Only where Pods log in to Consul.
    token_secrets: Option<Followed<String>>,
    /// Only in OpenShift.
    constraints: Option<Followed<AllowedUsers>>,
}

struct Followed<V> {
    table: Arc<Table<V>>,
    state: Arc<State>,
}

impl Watches {
    /// Starts to follow what reviews with these settings need to know of the cluster, for as long as the runtime lives.
    #[must_use]
    pub fn follow(client: Client, metrics: Metrics, settings: &Settings) -> Self {
        let custom = |group: &str, version: &str, kind: &str, plural: &str| {
            let kind = GroupVersionKind::gvk(group, version, kind);
            let resource = ApiResource::from_gvk_with_plural(&kind, plural);
            let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
            // a cluster without these kinds has none of their objects
            Source { api, optional: true }
        };
        let mesh = |kind: &str, plural: &str| custom("consul.hashicorp.com", "v1alpha1", kind, plural);
        let constraints = || {
            let kind = "SecurityContextConstraints";
            let source = custom("security.openshift.io", "v1", kind, "securitycontextconstraints");
            followed("securitycontextconstraints", source, &metrics, rows::constraint)
        };
        let accounts = || {
            let source = Source { api: Api::<ServiceAccount>::all(client.clone()), optional: false };
            followed("serviceaccounts", source, &metrics, rows::token_secret)
        };
        let namespaces = Source { api: Api::all(client.clone()), optional: false };
        let services = Source { api: Api::<Service>::all(client.clone()), optional: false };
        Self(Arc::new(Known {
            api: namespaces.api.clone(),
            namespaces: followed("namespaces", namespaces, &metrics, rows::namespace),
            services: followed("services", services, &metrics, rows::service),
            proxy_defaults: followed(
                "proxydefaults",
                mesh("ProxyDefaults", "proxydefaults"),
                &metrics,
                rows::proxy_defaults,
            ),
            service_defaults: followed(
                "servicedefaults",
                mesh("ServiceDefaults", "servicedefaults"),
                &metrics,
                rows::service_defaults,
            ),
            token_secrets: settings.acl.is_some().then(accounts),
            constraints: settings.openshift.then(constraints),
            metrics,
        }))
    }

    /// Names of what has not been received once.
    #[must_use]
    pub fn waiting(&self) -> Vec<&'static str> {
        let known = &*self.0;
        let states = [
            &known.namespaces.state,
            &known.services.state,
            &known.proxy_defaults.state,
            &known.service_defaults.state,
        ];
        let accounts = known.token_secrets.iter().map(|followed| &followed.state);
        let constraints = known.constraints.iter().map(|followed| &followed.state);
        states
            .into_iter()
            .chain(accounts)
            .chain(constraints)
            .filter(|state| !state.synced())
            .map(|state| state.name())
            .collect()
    }

    /// What surrounds a Pod with these labels in the Namespace of this name.
    ///
    /// # Errors
    /// The watch does not know the Namespace, and the API server did not give it.
    pub async fn surroundings(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Surroundings, NamespaceError> {
        let known = &*self.0;
        let services = known.services.table.of(namespace);
        let marks = Marks::of(labels);
        let selecting = services.iter().filter(|(_, selector)| selector.selects(labels, marks));
        let mut services: Vec<String> = selecting.map(|(name, _)| name.clone()).collect();
        services.sort_unstable();
        Ok(Surroundings {
            namespace: self.namespace(namespace).await?,
            services,
            proxy_defaults: known.proxy_defaults.table.get("", "global").unwrap_or_default(),
            service_defaults: known.service_defaults.table.of(""),
            token_secrets: known.token_secrets.as_ref().map(|known| known.table.of(namespace)).unwrap_or_default(),
            constraints: known.constraints.as_ref().map(|known| known.table.of("")).unwrap_or_default(),
        })
    }

    /// As the watch knows it, or asked for once where it does not, or could be behind.
    async fn namespace(&self, name: &str) -> Result<Arc<Namespace>, NamespaceError> {
        let Followed { table, state } = &self.0.namespaces;
        let known = table.get("", name);
        if let (Some(namespace), true) = (&known, state.current()) {
            return Ok(Arc::clone(namespace));
        }
        self.0.metrics.asked.inc();
        let error = match timeout(PATIENCE, self.0.api.get(name)).await {
            Ok(Ok(namespace)) => return Ok(rows::namespace(&namespace).map_or_else(Arc::default, |row| row.value)),
            Ok(Err(cause)) => NamespaceError::Api { name: name.to_owned(), cause: follow::causes(&cause) },
            Err(_) => NamespaceError::Timeout { name: name.to_owned() },
        };
        // what was true a moment ago is better than no Pod at all
        known.ok_or(error)
    }
}

fn followed<K, V>(
    name: &'static str,
    source: Source<K>,
    metrics: &Metrics,
    row: fn(&K) -> Option<rows::Row<V>>,
) -> Followed<V>
where
    K: follow::Object,
    V: Clone + Send + Sync + 'static,
{
    let table = Arc::new(Table::default());
    let state = Arc::new(State::new(name, metrics.clone()));
    tokio::spawn(follow::follow(source, Arc::clone(&table), Arc::clone(&state), row));
    Followed { table, state }
}
