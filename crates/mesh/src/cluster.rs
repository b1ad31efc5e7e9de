//! Follows the Kubernetes API and makes a new world of every change.

mod objects;
mod reconcile;
mod slices;
mod status;
mod watch;

pub(crate) use reconcile::{Reconciler, reconcile};
pub(crate) use watch::follow;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject};
use tokio::sync::oneshot;

use crate::abroad::Abroad;
use crate::intentions::Intention;
use crate::partition;
use crate::peering;
use crate::query::{Refused, Request};

/// A change, and the cluster where it happened by its place among those of the datacenter.
pub(crate) type Told = (usize, Change);

/// A name in a namespace.
type Key = (String, String);

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Change {
    Pod(Touch<Pod>),
    Service(Touch<Service>),
    Slice(Touch<EndpointSlice>),
    /// A custom resource of a kind of our group.
    Resource(ApiResource, Touch<DynamicObject>),
    /// These kinds of our group are defined; their resources follow.
    Defined(Vec<String>),
    /// The default intention was set.
    Default(Intention),
    /// What another datacenter tells of itself.
    Abroad(Arc<str>, Box<Abroad>),
    /// What another partition tells.
    Partition(Arc<str>, Arc<partition::Told>),
    /// What a peer tells; `None` when the peering has ended.
    Peer(Arc<str>, Option<Box<peering::Told>>),
    /// A prepared query is made, changed or forgotten; who asked for that is told when it is done.
    Query(Request, oneshot::Sender<Result<(), Refused>>),
    /// Nothing in the cluster, but proxies must be rendered anew.
    Touch,
    /// It has been waited long enough for what is not known yet.
    Enough,
}

impl Change {
    /// The kind of which this says all that there is.
    fn listed(&self) -> Option<&str> {
        match self {
            Self::Pod(Touch::All(_)) => Some("Pod"),
            Self::Service(Touch::All(_)) => Some("Service"),
            Self::Slice(Touch::All(_)) => Some("EndpointSlice"),
            Self::Resource(api, Touch::All(_)) => Some(&api.kind),
            _ => None,
        }
    }
}

/// What happened to objects of one kind.
#[derive(Debug)]
pub(crate) enum Touch<T> {
    Set(Box<T>),
    Gone(Box<T>),
    /// These are all there are.
    All(Vec<T>),
}
