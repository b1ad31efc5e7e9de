//! What a phrase says when the machinery behind it comes with a later issue.

use anyhow::{Error, anyhow};

/// An issue that brings machinery a phrase may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Issue {
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

/// The failure of a step that asks for programs of another version.
#[must_use]
pub(crate) fn other_version(what: &str) -> Error {
    anyhow!(
        "{what:?}: the simulator runs the programs of this build; those of other versions need a kind cluster and their images"
    )
}
