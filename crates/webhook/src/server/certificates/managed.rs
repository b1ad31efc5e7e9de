//! Certificates that the webhook makes itself: kept in a Secret that all replicas serve from, trusted through `caBundle` of
//! the webhook's configuration.

use super::authority::{Material, unix};
use super::lease::Holder;
use super::plan::{self, Policy, Published, Step};
use super::{CertificateError, Certificates};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::{Stream, StreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often the clock is looked at: a machine that was asleep finds its certificate expired, and nobody tells it.
const PERIOD: Duration = Duration::from_secs(5);

/// Pause after the API server could not be asked.
const PAUSE: Duration = Duration::from_secs(1);

/// Steps in one go; more than all there are mean that two programs undo each other's.
const STEPS: usize = 8;

/// Certificates that the webhook makes itself.
pub struct Managed {
    /// The API server.
    pub client: Client,
    /// Namespace of Secret and Lease.
    pub namespace: String,
    /// Name of both.
    pub secret: String,
    /// Name of the MutatingWebhookConfiguration.
    pub configuration: String,
    /// Names and addresses that the server is called by.
    pub hosts: BTreeSet<String>,
    /// Who of the replicas this is.
    pub identity: String,
    /// How long certificates live.
    pub policy: Policy,
    /// What time it is.
    pub clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    /// What is served with.
    pub certificates: Certificates,
}

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("failed to {what}: {cause}; check that the webhook's service account may do so")]
    Api {
        what: String,
        #[source]
        cause: Box<kube::Error>,
    },
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// What is known of the objects, as the watches told last.
struct View {
    holder: Holder,
    secret: Option<Secret>,
    configuration: Option<MutatingWebhookConfiguration>,
    /// Both have been received once.
    told: (bool, bool),
    /// The bundle that API servers have trusted, and since when.
    trusted: Option<(String, Instant)>,
    served: Option<Material>,
}

impl Managed {
    /// Looks after the certificates for as long as the program lives.
    pub async fn run(self) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let mut secret = std::pin::pin!(one(secrets, &self.secret));
        let mut configuration = std::pin::pin!(one(configurations, &self.configuration));
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut view = View {
            holder: Holder::new(self.client.clone(), &self.namespace, &self.secret, &self.identity),
            secret: None,
            configuration: None,
            told: (false, false),
            trusted: None,
            served: None,
        };
        loop {
            tokio::select! {
                Some(now) = secret.next() => (view.secret, view.told.0) = (now, true),
                Some(now) = configuration.next() => (view.configuration, view.told.1) = (now, true),
                _ = ticks.tick() => {}
            }
            if view.told != (true, true) {
                continue;
            }
            if let Err(error) = self.attend(&mut view).await {
                self.certificates.failed();
                tracing::warn!(%error, "the certificates could not be looked after, trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Serves with what there is, and does what is to be done, if this replica may.
    async fn attend(&self, view: &mut View) -> Result<(), StepError> {
        self.serve(view);
        if self.next(view) == Step::Wait {
            return Ok(());
        }
        if !view.holder.take().await.map_err(api("take the lease"))? {
            return Ok(());
        }
        // another replica may have done it while this one waited for the lease
        self.refresh(view).await?;
        let done = self.work(view).await;
        view.holder.give_back().await.map_err(api("give the lease back"))?;
        done
    }

    async fn work(&self, view: &mut View) -> Result<(), StepError> {
        for _ in 0..STEPS {
            let (now, hosts, policy) = ((self.clock)(), &self.hosts, &self.policy);
            let material = match (self.next(view), view.material()) {
                (Step::Wait, _) => break,
                (Step::Publish, _) => {
                    self.publish(view).await?;
                    continue;
                }
                (Step::Begin, _) | (_, None) => Material::begin(hosts, now, policy)?,
                (Step::Authority, Some(kept)) => kept.with_authority(hosts, now, policy)?,
                (Step::Prune, Some(kept)) => kept.without_expired(now),
                (Step::Leaf, Some(kept)) => kept.with_leaf(hosts, now, policy)?,
            };
            self.store(view, material).await?;
        }
        self.serve(view);
        Ok(())
    }

    fn next(&self, view: &mut View) -> Step {
        let material = view.material();
        let published = view.published(material.as_ref());
        let facts = material.as_ref().and_then(Material::facts);
        plan::next(facts.as_ref(), published, &self.hosts, unix((self.clock)()), &self.policy)
    }

    /// Serves with what the Secret holds.
    fn serve(&self, view: &mut View) {
        let material = view.material();
        if material != view.served
            && let Some(now) = &material
        {
            let place = format!("Secret {}/{}", self.namespace, self.secret);
            match self.certificates.install(now.leaf.as_bytes(), now.leaf_key.as_bytes(), &place) {
                Ok(()) => view.served = material.clone(),
                Err(error) => tracing::warn!(%error, "the one before is still served with"),
            }
        }
        let untrusted = view.published(material.as_ref()) == Published::Other;
        let doubt = || format!("MutatingWebhookConfiguration {} does not trust it yet", self.configuration);
        self.certificates.doubt(untrusted.then(doubt));
    }

    async fn refresh(&self, view: &mut View) -> Result<(), StepError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        view.secret = secrets.get_opt(&self.secret).await.map_err(api("get the Secret"))?;
        let configuration = configurations.get_opt(&self.configuration).await;
        view.configuration = configuration.map_err(api("get the MutatingWebhookConfiguration"))?;
        Ok(())
    }

    async fn store(&self, view: &mut View, material: Material) -> Result<(), StepError> {
        let api_of: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let Material { bundle, authority_key, leaf, leaf_key } = material;
        let data = [("ca.crt", bundle), ("ca.key", authority_key), ("tls.crt", leaf), ("tls.key", leaf_key)];
        let data: BTreeMap<_, _> =
            data.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).collect();
        let stored = match &view.secret {
            Some(secret) => {
                // with its version: what somebody else wrote meanwhile is not overwritten
                let secret = Secret { data: Some(data), ..secret.clone() };
                api_of.replace(&self.secret, &PostParams::default(), &secret).await
            }
            None => {
                let mut secret = Secret { data: Some(data), ..Secret::default() };
                secret.metadata.name = Some(self.secret.clone());
                secret.type_ = Some("kubernetes.io/tls".to_owned());
                api_of.create(&PostParams::default(), &secret).await
            }
        };
        let what = format!("write Secret {}/{}", self.namespace, self.secret);
        view.secret = Some(stored.map_err(api(what))?);
        self.certificates.0.metrics.certificate("rotated");
        tracing::info!(secret = self.secret, "certificates were made");
        Ok(())
    }

    /// Lets API servers trust what the Secret says.
    async fn publish(&self, view: &mut View) -> Result<(), StepError> {
        let (Some(material), Some(configuration)) = (view.material(), &view.configuration) else { return Ok(()) };
        let bundle = STANDARD.encode(&material.bundle);
        let version = configuration.metadata.resource_version.as_ref();
        let mut patch = vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})];
        for index in 0..configuration.webhooks.as_ref().map_or(0, Vec::len) {
            let path = format!("/webhooks/{index}/clientConfig/caBundle");
            patch.push(json!({"op": "add", "path": path, "value": bundle}));
        }
        let what = format!("patch MutatingWebhookConfiguration {}", self.configuration);
        let patch: json_patch::Patch = serde_json::from_value(patch.into()).unwrap_or_default();
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let patched =
            configurations.patch(&self.configuration, &PatchParams::default(), &Patch::<()>::Json(patch)).await;
        view.configuration = Some(patched.map_err(api(what))?);
        self.certificates.0.metrics.certificate("published");
        tracing::info!(configuration = self.configuration, "the authority was published");
        Ok(())
    }
}

impl View {
    /// What the Secret holds, as far as it is there.
    fn material(&self) -> Option<Material> {
        let data = self.secret.as_ref()?.data.as_ref()?;
        let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
        Some(Material {
            bundle: text("ca.crt")?,
            authority_key: text("ca.key")?,
            leaf: text("tls.crt")?,
            leaf_key: text("tls.key")?,
        })
    }

    fn published(&mut self, material: Option<&Material>) -> Published {
        let Some(configuration) = &self.configuration else { return Published::Nowhere };
        let wanted = material.map(|material| material.bundle.clone()).unwrap_or_default();
        let mut webhooks = configuration.webhooks.iter().flatten();
        let trusts = webhooks.all(|webhook| {
            let bundle = webhook.client_config.ca_bundle.as_ref();
            bundle.is_some_and(|bundle| bundle.0 == wanted.as_bytes())
        });
        if !trusts {
            self.trusted = None;
            return Published::Other;
        }
        match &self.trusted {
            Some((bundle, since)) if *bundle == wanted => Published::Since(since.elapsed()),
            _ => {
                self.trusted = Some((wanted, Instant::now()));
                Published::Since(Duration::ZERO)
            }
        }
    }
}

fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> StepError {
    let what = what.into();
    move |cause| StepError::Api { what, cause: Box::new(cause) }
}

/// The object of this name, each time that it changes; `None` where there is none.
fn one<K>(api: Api<K>, name: &str) -> impl Stream<Item = Option<K>> + use<K>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    watcher::watch_object(api, name).default_backoff().filter_map(async |told| {
        told.inspect_err(|error| tracing::warn!(%error, "failed to watch what certificates are kept in, trying again"))
            .ok()
    })
}
