//! Where instances are, seen from a datacenter: in it, or where other servers are.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Whose servers know the instances.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum Place {
    /// Ours.
    #[default]
    Here,
    /// Those of another datacenter of the federation.
    Datacenter(Arc<str>),
    /// Ours, in another partition.
    Partition(Arc<str>),
    /// Those of another mesh.
    Peer(Arc<str>),
}

impl Place {
    /// The datacenter of this name, when `own` is ours.
    pub(crate) fn datacenter(name: &str, own: &str) -> Self {
        if name == own { Self::Here } else { Self::Datacenter(name.into()) }
    }
}

/// Through which mesh gateways connections go to another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GatewayMode {
    /// Through none.
    None,
    /// Through ours, and theirs.
    Local,
    /// Through theirs.
    Remote,
}

impl GatewayMode {
    /// As annotations and entries spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }

    /// What `text` spells, if it does.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Local, Self::Remote].into_iter().find(|mode| mode.as_str() == text)
    }
}
