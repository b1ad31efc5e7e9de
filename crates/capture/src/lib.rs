//! Packets on an interface, as flows one can make statements about.
//!
//! A [`Recorder`] listens on any interface of any network namespace, writes what it sees to one `.pcap` file per interface and
//! assembles it into [`Flow`]s. [`Recorder::snapshot`] gives the [`Evidence`] so far; a [`Window`] of it
//! ([`Evidence::since`]) answers statements such as "this Pod sent that connection through its proxy" with a
//! [`Proof`] or a [`Disproof`], both of which name the packets.
//!
//! What is absent: waiting. A statement is a pure function of the evidence; whoever makes it decides how often to ask
//! ([`Recorder::settle`] makes sure that nothing is under way). Nothing here knows Kubernetes or the product: ports,
//! names and addresses come from the caller.

mod evidence;
mod flow;
mod loopback;
mod packet;
mod reader;
mod recorder;
#[cfg(test)]
mod scene;
mod stream;
mod table;
mod time;
mod tls;
mod verdict;
mod window;

pub use evidence::{Evidence, Log};
pub use flow::{Flow, Seen, Side};
pub use packet::{Packet, Protocol, TcpFlags};
pub use recorder::{Error, Recorder, Tap};
pub use stream::STREAM_CAP;
pub use time::Timestamp;
pub use tls::ClientHello;
pub use verdict::{Disproof, Proof};
pub use window::{Content, Count, Query, Window};

use std::fmt;
use std::net::IpAddr;

/// Where an interface is, seen from the host it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The loopback inside the host.
    Loopback,
    /// The host's end of its link.
    Eth0,
    /// The node's end of a Pod's link. Directions are still the Pod's: what the Pod sends is `Out`.
    Veth,
    /// A node's link to the rest of the lab.
    Uplink,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "lo",
            Self::Eth0 => "eth0",
            Self::Veth => "veth",
            Self::Uplink => "uplink",
        })
    }
}

/// A point from which packets are seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Vantage {
    /// The host: `namespace/pod`, or the name of a station or node.
    pub host: String,
    /// Which of its interfaces.
    pub place: Place,
}

impl fmt::Display for Vantage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.place)
    }
}

/// Which way a packet or a connection goes, seen from the host of the vantage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the host.
    In,
    /// From the host.
    Out,
    /// On the loopback: both.
    Within,
}

/// A host that statements are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As in [`Vantage::host`].
    pub name: String,
    /// Every address it may be dialled by: its own, and where it is a Service's, the Service's.
    pub addresses: Vec<IpAddr>,
}

impl Host {
    /// A host of this name and these addresses.
    #[must_use]
    pub fn new(name: impl Into<String>, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { name: name.into(), addresses: addresses.into_iter().collect() }
    }

    /// Whether the address is one of the host's.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }
}

/// Ports of the sidecar that statements speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct ProxyPorts {
    /// Where redirected outbound connections arrive, on the loopback.
    pub outbound: u16,
    /// Where redirected inbound connections arrive.
    pub inbound: u16,
    /// Where redirected DNS queries arrive, on the loopback.
    pub dns: u16,
}
