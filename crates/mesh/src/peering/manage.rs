//! Follows the resources that ask for peerings: makes tokens, reads tokens, dials.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::Accepted;
use super::dial::Dialler;
use super::token::Token;
use crate::abroad::Dial;
use crate::cluster::{self, Change};
use crate::config::accept::Resource;
use crate::names::DEFAULT;
use crate::world::World;

/// Kind of the resource that has a token made.
const ACCEPTOR: &str = "PeeringAcceptor";
/// Kind of the resource that uses one.
const DIALER: &str = "PeeringDialer";
/// How long to wait before a Secret is looked at again.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(100);

/// A resource that asks for a peering.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) api: ApiResource,
    pub(crate) resource: Resource,
}

impl Wanted {
    /// Whether resources of this kind ask for peerings.
    pub(crate) fn is_kind(kind: &str) -> bool {
        [ACCEPTOR, DIALER].contains(&kind)
    }

    fn key(&self) -> (String, String) {
        (self.resource.kind.clone(), self.resource.name.clone())
    }
}

/// What peerings are made with.
pub(crate) struct Manager {
    pub(crate) client: Client,
    pub(crate) accepted: Arc<Accepted>,
    pub(crate) changes: mpsc::UnboundedSender<cluster::Told>,
    pub(crate) worlds: watch::Receiver<Arc<World>>,
    /// Root of the trust domain, PEM.
    pub(crate) roots: String,
    /// Where the servers are reached by those of peers, `host:port`.
    pub(crate) address: String,
    pub(crate) dial: Arc<dyn Dial>,
}

/// A peering that is being kept.
enum Kept {
    Accepting { id: String },
    Dialling { dialler: Box<Dialler>, _run: AbortOnDropHandle<()> },
}

impl Manager {
    /// Follows what is wanted until that ends.
    pub(crate) async fn run(self, mut wanted: watch::Receiver<Vec<Wanted>>) {
        let mut kept: BTreeMap<(String, String), (Wanted, Kept)> = BTreeMap::new();
        let mut worlds = self.worlds.clone();
        let mut is_complete = false;
        loop {
            // in this order: what is wanted is told before the world that knows it
            let knows_all = worlds.borrow().is_whole;
            let now = wanted.borrow_and_update().clone();
            let gone: Vec<_> = kept.keys().filter(|key| !now.iter().any(|w| w.key() == **key)).cloned().collect();
            for key in gone {
                if let Some((_, peering)) = kept.remove(&key) {
                    self.end(key.1.as_str().into(), peering).await;
                }
            }
            let (mut is_missing, mut accepts_all) = (false, true);
            for one in now {
                if kept.get(&one.key()).is_some_and(|(known, _)| known.resource.uid == one.resource.uid) {
                    continue;
                }
                match self.begin(&one).await {
                    Ok(peering) => {
                        self.say(&one, None).await;
                        kept.insert(one.key(), (one, peering));
                    }
                    Err(error) => {
                        is_missing = true;
                        accepts_all &= one.resource.kind != ACCEPTOR;
                        self.say(&one, Some(format!("{error:#}"))).await;
                    }
                }
            }
            if knows_all && accepts_all && !is_complete {
                is_complete = true;
                self.accepted.complete();
            }
            let changed = async {
                match is_missing {
                    // nobody tells when a Secret appears
                    true => tokio::time::timeout(AGAIN, wanted.changed()).await.unwrap_or(Ok(())),
                    false => wanted.changed().await,
                }
            };
            let ended = tokio::select! {
                changed = changed => changed.is_err(),
                known = worlds.wait_for(|world| world.is_whole), if !knows_all => known.is_err(),
            };
            if ended {
                return;
            }
        }
    }

    async fn begin(&self, wanted: &Wanted) -> anyhow::Result<Kept> {
        let secret = &wanted.resource.spec["peer"]["secret"];
        let text = |field: &str| secret[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let (name, key) = match (text("name"), text("key"), text("backend").as_deref()) {
            (Some(name), Some(key), Some("kubernetes")) => (name, key),
            (Some(_), Some(_), backend) => {
                bail!("spec.peer.secret.backend is {backend:?}; it must be \"kubernetes\"")
            }
            _ => bail!("spec.peer.secret needs a name and a key"),
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &wanted.resource.namespace);
        let found = secrets.get_opt(&name).await.context("read the Secret with the token")?;
        let found = found
            .and_then(|secret| secret.data?.remove(&key))
            .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
        let peer: Arc<str> = wanted.resource.name.as_str().into();
        if wanted.resource.kind == ACCEPTOR {
            return self.accept(&secrets, (&name, &key), peer, found).await;
        }
        let token = found.with_context(|| {
            format!("there is no Secret {name} with the key {key}: bring it here from the acceptor's cluster")
        })?;
        let token = Token::decode(&token)?;
        let dialler = Dialler {
            name: peer,
            token,
            roots: self.roots.clone(),
            dial: self.dial.clone(),
            changes: self.changes.clone(),
            worlds: self.worlds.clone(),
        };
        let run = AbortOnDropHandle::new(tokio::spawn(dialler.clone().run()));
        Ok(Kept::Dialling { dialler: Box::new(dialler), _run: run })
    }

    /// Makes a token, or goes on with the one that servers before these have made.
    async fn accept(
        &self,
        secrets: &Api<Secret>,
        (name, key): (&str, &str),
        peer: Arc<str>,
        found: Option<String>,
    ) -> anyhow::Result<Kept> {
        let names = self.worlds.borrow().names.clone();
        let server_name = format!("server.{}.peering.{}", names.datacenter(), names.trust_domain());
        let before = found.and_then(|text| Token::decode(&text).ok()).filter(|token| token.server_name == server_name);
        let token = match before {
            Some(token) => token,
            None => {
                let token = Token {
                    ca: vec![self.roots.clone()],
                    server_addresses: vec![self.address.clone()],
                    server_name,
                    partition: (names.partition() != DEFAULT).then(|| names.partition().to_owned()),
                    peer_id: crate::mesh::uuid(),
                    establishment_secret: crate::mesh::uuid(),
                };
                let data = BTreeMap::from([(key.to_owned(), ByteString(token.encode().into_bytes()))]);
                let mut secret = Secret { data: Some(data), ..Secret::default() };
                secret.metadata.name = Some(name.to_owned());
                let apply = PatchParams::apply("consul-servers").force();
                secrets.patch(name, &apply, &Patch::Apply(&secret)).await.context("write the Secret with the token")?;
                token
            }
        };
        self.accepted.add(&token.peer_id, &peer, &token.establishment_secret);
        Ok(Kept::Accepting { id: token.peer_id })
    }

    async fn end(&self, name: Arc<str>, peering: Kept) {
        match peering {
            Kept::Accepting { id } => self.accepted.remove(&id),
            Kept::Dialling { dialler, _run: run } => {
                drop(run);
                dialler.end().await;
            }
        }
        // nobody receives after the end, when changes no longer matter
        let _ = self.changes.send((0, Change::Peer(name, None)));
    }

    /// Writes the condition `Synced`.
    async fn say(&self, Wanted { api, resource }: &Wanted, wrong: Option<String>) {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &resource.namespace, api);
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut status: Value = json!({"conditions": [{
            "type": "Synced",
            "status": if wrong.is_none() { "True" } else { "False" },
            "reason": if wrong.is_none() { "" } else { "InternalError" },
            "message": wrong.clone().unwrap_or_default(),
            "observedGeneration": resource.generation,
            "lastTransitionTime": now,
        }]});
        if wrong.is_none() {
            status["lastSyncedTime"] = json!(now);
            status["secret"] = resource.spec["peer"]["secret"].clone();
        }
        let patch = Patch::Merge(json!({"status": status}));
        if let Err(error) = api.patch_status(&resource.name, &PatchParams::default(), &patch).await {
            tracing::debug!(kind = resource.kind, name = resource.name, %error, "no status written");
        }
    }
}
