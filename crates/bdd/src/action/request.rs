//! Something a client is asked to do.

use std::fmt;

use anyhow::{Result, bail};

use crate::vocabulary::parameters::{Certificate, Protocol};

/// A socket technique that an application might try to get past redirection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Technique {
    /// `SO_BINDTODEVICE`.
    BindToDevice,
    /// A source port below 1024.
    LowSourcePort,
    /// A source address of 127.0.0.2.
    BindLoopback,
    /// An AF_INET6 socket and an IPv4-mapped address.
    MappedAddress,
    /// Data in the SYN.
    FastOpen,
    /// MPTCP.
    Multipath,
}

impl std::str::FromStr for Technique {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "binding the socket to eth0" => Self::BindToDevice,
            "a source port below 1024" => Self::LowSourcePort,
            "a bind to 127.0.0.2" => Self::BindLoopback,
            "an IPv4-mapped IPv6 socket" => Self::MappedAddress,
            "TCP fast open" => Self::FastOpen,
            "multipath TCP" => Self::Multipath,
            _ => bail!(
                "dial by {text:?}: the techniques are binding the socket to eth0, a source port below 1024, a bind to \
                 127.0.0.2, an IPv4-mapped IPv6 socket, TCP fast open, multipath TCP"
            ),
        })
    }
}

/// What to do. Addresses stand as the step wrote them; they are resolved anew for each attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// GET, or for `tcp://` the canary line.
    Get(String),
    /// Connect, send the canary line, wait for an answer.
    Dial(Protocol, String, Option<Technique>),
    /// Send a payload.
    Send(Protocol, String, String),
    /// A TLS dial of a proxy.
    Present(Certificate, String),
    /// A DNS question.
    Lookup(Protocol, String),
}

impl Request {
    /// The address as the step wrote it.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            Self::Get(target)
            | Self::Dial(_, target, _)
            | Self::Send(_, _, target)
            | Self::Present(_, target)
            | Self::Lookup(_, target) => target,
        }
    }

    /// Whether asking again changes nothing at the other end.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Send(..))
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(url) => write!(f, "requests {url}"),
            Self::Dial(protocol, target, None) => write!(f, "dials {protocol} {target}"),
            Self::Dial(protocol, target, Some(technique)) => write!(f, "dials {protocol} {target} by {technique:?}"),
            Self::Send(protocol, payload, target) => write!(f, "sends {payload:?} over {protocol} to {target}"),
            Self::Present(certificate, target) => write!(f, "presents {certificate:?} to {target}"),
            Self::Lookup(protocol, name) => write!(f, "looks up {name} over {protocol}"),
        }
    }
}

/// Who does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The client, as the step names it.
    pub client: String,
    /// The user it does it as, when the step names one.
    pub uid: Option<u32>,
    /// What.
    pub request: Request,
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.client)?;
        if let Some(uid) = self.uid {
            write!(f, " as user {uid}")?;
        }
        write!(f, " {}", self.request)
    }
}
