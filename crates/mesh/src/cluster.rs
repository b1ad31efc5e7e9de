//! Follows the Kubernetes API and makes a new world of every change.

mod objects;
mod reconcile;
mod slices;
mod status;
mod watch;

#[cfg(test)]
pub(crate) use reconcile::Reconciler;
pub(crate) use reconcile::reconcile;
pub(crate) use watch::follow;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject};

use crate::intentions::Intention;

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
    /// Nothing in the cluster, but proxies must be rendered anew.
    Touch,
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
