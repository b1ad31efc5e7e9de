//! The state behind the router.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::admission::WebhookClient;
use super::allocate::Allocator;
use super::auth::{Auth, User};
use super::kinds::{Kind, Registry};
use super::patch::Applied;
use super::store::Store;
use crate::{Dial, NodeAgent, Tamper};

/// One cluster.
pub(crate) struct Cluster {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) auth: Auth,
    pub(crate) allocator: Allocator,
    pub(crate) agents: RwLock<HashMap<String, Arc<dyn NodeAgent>>>,
    pub(crate) applied: Applied,
    pub(crate) webhooks: WebhookClient,
    /// The authority's certificate, for `kube-root-ca.crt` in every namespace.
    pub(crate) ca_pem: String,
    pub(crate) stop: CancellationToken,
    tamper: Option<Arc<dyn Tamper>>,
}

impl Cluster {
    pub(crate) fn new(
        dial: Arc<dyn Dial>,
        tamper: Option<Arc<dyn Tamper>>,
        service_cidrs: Vec<IpNet>,
        ca_pem: String,
    ) -> Self {
        Self {
            store: Store::default(),
            registry: Registry::new(),
            auth: Auth::new(),
            allocator: Allocator::new(service_cidrs),
            agents: RwLock::default(),
            applied: Applied::default(),
            webhooks: WebhookClient::new(dial),
            ca_pem,
            stop: CancellationToken::new(),
            tamper,
        }
    }

    pub(crate) fn agent(&self, node: &str) -> Option<Arc<dyn NodeAgent>> {
        self.agents.read().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }

    /// A custom resource in the version asked for, where it was written in another.
    pub(crate) fn shown_version(&self, kind: &Kind, object: &Value) -> Option<Value> {
        if kind.codec.is_some() || object["apiVersion"] == kind.api_version().as_str() {
            return None;
        }
        let mut object = object.clone();
        object["apiVersion"] = kind.api_version().into();
        Some(object)
    }

    /// What a user is shown of an object when that is not just what is stored: another version, a saboteur's edit.
    pub(crate) fn shown(&self, user: &User, kind: &Kind, object: &Value) -> Option<Value> {
        let converted = self.shown_version(kind, object);
        let Some(tamper) = &self.tamper else { return converted };
        let mut object = converted.unwrap_or_else(|| object.clone());
        tamper.response(&user.name, &kind.plural, &mut object);
        Some(object)
    }
}
