//! One watch per kind, started again for ever; kinds of our group are watched once their definition appears.

use std::collections::HashSet;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use super::{Change, Told, Touch};

/// API group of the custom resources.
const GROUP: &str = "consul.hashicorp.com";
/// How long to wait before a watch that failed is started again.
const AGAIN: Duration = Duration::from_millis(50);

/// Sends every change of a cluster, until it is dropped.
pub(crate) async fn follow(cluster: usize, client: Client, changes: UnboundedSender<Told>) {
    let all = Sender { cluster, changes };
    tokio::join!(
        kind(Api::all(client.clone()), |t| all.send(Change::Pod(t))),
        kind(Api::all(client.clone()), |t| all.send(Change::Service(t))),
        kind(Api::all(client.clone()), |t| all.send(Change::Slice(t))),
        resources(client, all.clone()),
    );
}

/// Where the changes of one cluster go.
#[derive(Clone)]
struct Sender {
    cluster: usize,
    changes: UnboundedSender<Told>,
}

impl Sender {
    fn send(&self, change: Change) {
        // nobody receives after the end, when changes no longer matter
        let _ = self.changes.send((self.cluster, change));
    }
}

/// Watches the definitions, and the resources of each one that is of our group.
async fn resources(client: Client, changes: Sender) {
    let (found, mut definitions) = tokio::sync::mpsc::unbounded_channel::<ApiResource>();
    let told = changes.clone();
    let definitions_watch = kind(Api::all(client.clone()), move |touch: Touch<CustomResourceDefinition>| {
        let defined = match touch {
            Touch::Set(definition) => vec![*definition],
            Touch::All(definitions) => {
                let kinds = definitions.iter().filter_map(of_our_group).map(|resource| resource.kind).collect();
                told.send(Change::Defined(kinds));
                definitions
            }
            Touch::Gone(_) => vec![],
        };
        for definition in defined {
            if let Some(resource) = of_our_group(&definition) {
                let _ = found.send(resource);
            }
        }
    });
    let mut definitions_watch = pin!(definitions_watch);
    let (mut watches, mut known) = (JoinSet::new(), HashSet::new());
    loop {
        let resource = tokio::select! {
            resource = definitions.recv() => resource,
            () = &mut definitions_watch => None,
        };
        let Some(resource) = resource else { return };
        if known.insert(resource.kind.clone()) {
            let (api, changes) = (Api::all_with(client.clone(), &resource), changes.clone());
            let named = resource;
            watches.spawn(kind(api, move |touch: Touch<DynamicObject>| {
                changes.send(Change::Resource(named.clone(), touch));
            }));
        }
    }
}

fn of_our_group(definition: &CustomResourceDefinition) -> Option<ApiResource> {
    let spec = &definition.spec;
    let version = spec.versions.iter().find(|v| v.served)?;
    (spec.group == GROUP).then(|| ApiResource {
        group: spec.group.clone(),
        version: version.name.clone(),
        api_version: format!("{}/{}", spec.group, version.name),
        kind: spec.names.kind.clone(),
        plural: spec.names.plural.clone(),
    })
}

/// Watches one kind. Failures are retried quietly: a definition may be younger than the API that serves it.
async fn kind<T>(api: Api<T>, tell: impl Fn(Touch<T>) + Send)
where
    T: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    loop {
        let mut events = pin!(watcher::watcher(api.clone(), watcher::Config::default()));
        let mut listed = Vec::new();
        loop {
            match events.next().await {
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(object))) => listed.push(object),
                Some(Ok(Event::InitDone)) => tell(Touch::All(std::mem::take(&mut listed))),
                Some(Ok(Event::Apply(object))) => tell(Touch::Set(Box::new(object))),
                Some(Ok(Event::Delete(object))) => tell(Touch::Gone(Box::new(object))),
                Some(Err(error)) => {
                    tracing::debug!(resource = api.resource_url(), %error, "the watch begins again");
                    tokio::time::sleep(AGAIN).await;
                }
                None => break,
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
