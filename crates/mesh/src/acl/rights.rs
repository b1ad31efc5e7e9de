//! What the holder of a token may do.

/// What somebody may do. Reading is all or nothing, because no token here reads a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Everything: there are no ACLs, or it is an operator.
    All,
    /// To write one service and its proxies, and to read all.
    Service {
        /// The token's public name.
        accessor: String,
        service: String,
    },
    /// To read, if anything.
    Anonymous { reads: bool },
}

impl Rights {
    /// `service:read` and `node:read` on everything, with the intentions that come with it.
    pub(crate) fn reads(&self) -> bool {
        !matches!(self, Self::Anonymous { reads: false })
    }

    /// `service:write` on a service and on its proxies.
    pub(crate) fn writes(&self, service: &str) -> bool {
        match self {
            Self::All => true,
            Self::Service { service: own, .. } => own == service,
            Self::Anonymous { .. } => false,
        }
    }

    /// What no service has a right to: `query:write` and the like.
    pub(crate) fn operates(&self) -> bool {
        *self == Self::All
    }

    /// Says that a right is lacking, as Consul does.
    pub(crate) fn lacking(&self, permission: &str, of: &str) -> String {
        match self {
            Self::Service { accessor, .. } => {
                format!(
                    "Permission denied: token with AccessorID '{accessor}' lacks permission '{permission}' on {of:?}"
                )
            }
            Self::Anonymous { .. } | Self::All => {
                format!("Permission denied: anonymous token lacks permission '{permission}' on {of:?}: show a token")
            }
        }
    }
}
