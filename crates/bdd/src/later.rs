//! What a phrase says when the machinery behind it comes with a later issue.

use anyhow::{Error, anyhow};

/// An issue that brings machinery a phrase may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Issue {
    /// The webhook in full.
    Webhook,
    /// The CNI plugin.
    Cni,
    /// The mesh of one cluster in full.
    Mesh,
    /// Several clusters.
    Clusters,
}

impl Issue {
    /// Number and short title.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Webhook => "issue 4 (the admission webhook, complete)",
            Self::Cni => "issue 5 (the CNI way)",
            Self::Mesh => "issue 6 (the mesh in one cluster, complete)",
            Self::Clusters => "issue 7 (several clusters)",
        }
    }
}

/// The failure of a step whose machinery is not there yet.
#[must_use]
pub(crate) fn comes_with(what: &str, issue: Issue) -> Error {
    anyhow!("{what:?} comes with {}", issue.name())
}
