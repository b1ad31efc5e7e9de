//! Why a Pod is not admitted: every mistake found, each naming its place, its value and what is allowed.

use crate::probes::LISTENERS_PER_PROBE;
use std::fmt;

/// A message names no more mistakes than these; a list can have many thousands.
const NAMED: usize = 50;

/// One thing that is wrong with a Pod or with what was asked for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mistake {
    /// An annotation of the Pod has a value that cannot be used.
    #[error("annotation {key}: {problem}")]
    Annotation {
        /// The annotation's key.
        key: &'static str,
        /// The value, what is wrong with it, and what is allowed.
        problem: String,
    },
    /// A label of the Pod's Namespace has a value that cannot be used.
    #[error("label {key} of namespace {namespace}: {problem}")]
    NamespaceLabel {
        /// The label's key.
        key: &'static str,
        /// The Namespace that carries it.
        namespace: String,
        /// The value, what is wrong with it, and what is allowed.
        problem: String,
    },
    /// An annotation of the Pod's Namespace has a value that cannot be used.
    #[error("annotation {key} of namespace {namespace} is {value:?}: {problem}")]
    NamespaceAnnotation {
        /// The annotation's key.
        key: &'static str,
        /// The Namespace that carries it.
        namespace: String,
        /// The value.
        value: String,
        /// What is wrong with it, and what is allowed.
        problem: &'static str,
    },
    /// What OpenShift allows the Pod leaves no user ids for the injected containers.
    #[error(
        "security context constraint {name} allows {allowed}: the injected containers need two user ids of their own; let \
         another constraint admit the pod, with a range of runAsUser"
    )]
    Constraint {
        /// Name of the constraint that admitted the Pod.
        name: String,
        /// Whom it allows.
        allowed: String,
    },
    /// ACLs are on, and no container has the token of the Pod's service account.
    #[error(
        "unable to find service account token volumeMount: logging in to Consul needs the token in a container of the \
         pod; set automountServiceAccountToken to true, or leave it out"
    )]
    NoToken,
    /// An init container is to be let past the proxy and cannot be told from the application.
    #[error(
        "init container {name:?} has no user id of its own, so that annotation {} cannot let it past the proxy alone; set \
         securityContext.runAsUser of every container, and give the init container one that no other has",
        redirect::contract::INIT_CONTAINERS
    )]
    InitContainerUser {
        /// The init container.
        name: String,
    },
    /// The Pod shares its node's network.
    #[error(
        "spec.hostNetwork is true: a pod in the host network cannot be injected, because the redirection would be the \
         node's own; remove hostNetwork, or set annotation {} to \"false\"",
        redirect::contract::CONNECT_INJECT
    )]
    HostNetwork,
    /// A container would run as a user whose traffic is not redirected.
    #[error(
        "{place}.runAsUser is {uid}, which is the user id of {owner}, whose traffic is not redirected; choose another user id, \
         or set annotation {} to \"true\"",
        redirect::contract::ALLOW_PROXY_UIDS
    )]
    ReservedUser {
        /// Path of the security context.
        place: String,
        /// The user id.
        uid: i64,
        /// Whose id it is.
        owner: &'static str,
    },
    /// A container has the name of an injected one.
    #[error(
        "container name {name:?} is reserved for an injected container; rename the container, or, if this is a copy of an \
         injected pod, remove what was injected"
    )]
    ReservedName {
        /// The name.
        name: String,
    },
    /// A volume has the name of the injected one.
    #[error("volume name {name:?} is reserved for the injected volume; rename the volume")]
    ReservedVolume {
        /// The name.
        name: String,
    },
    /// Consul DNS was asked for and the Pod brings its own resolver configuration.
    #[error(
        "spec.dnsConfig is set: DNS redirection to Consul is not supported with an already defined DNSConfig on the pod; \
         remove it, or set annotation {} to \"false\"",
        redirect::contract::CONSUL_DNS
    )]
    DnsConfig,
    /// One Pod for several services, together with something that cannot be had for such a Pod.
    #[error(
        "annotation {}: {value:?} names several services: multi protocol multi port services are not compatible with {with}",
        redirect::contract::CONNECT_SERVICE
    )]
    SeveralServices {
        /// The annotation's value.
        value: String,
        /// What it cannot be combined with.
        with: &'static str,
    },
    /// More containers than there are listeners for overwritten probes.
    #[error(
        "the pod has {containers} containers, and HTTP probes can be overwritten for {LISTENERS_PER_PROBE} at most; \
         set annotation {} to \"false\"",
        redirect::contract::OVERWRITE_PROBES
    )]
    TooManyContainers {
        /// How many there are.
        containers: usize,
    },
}

impl Mistake {
    /// An annotation whose value is not one of the allowed ones.
    pub(crate) fn value(key: &'static str, value: &str, allowed: &str) -> Self {
        Self::Annotation { key, problem: format!("{value:?} is not allowed; allowed is {allowed}") }
    }
}

/// A Pod that is not admitted. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    mistakes: Vec<Mistake>,
}

impl Refusal {
    /// All mistakes, in the order in which they were found.
    #[must_use]
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// Refuses when there are mistakes.
    pub(crate) fn check(mistakes: Vec<Mistake>) -> Result<(), Self> {
        if mistakes.is_empty() { Ok(()) } else { Err(Self { mistakes }) }
    }
}

impl From<Mistake> for Refusal {
    fn from(mistake: Mistake) -> Self {
        Self { mistakes: vec![mistake] }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().take(NAMED).enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{mistake}")?;
        }
        match self.mistakes.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more mistakes"),
        }
    }
}
