//! The packet that `explain` is asked about.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use redirect::{Hook, Packet, Protocol};

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Sent by a process of the namespace.
    Out,
    /// Arriving from elsewhere.
    In,
}

/// A packet, before it is known whether its destination is in the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Which way it goes.
    pub direction: Direction,
    /// Its transport protocol.
    pub protocol: Protocol,
    /// Where it comes from; without it, from an address that no rule is about.
    pub source: Option<Endpoint>,
    /// Where it is sent.
    pub destination: Endpoint,
    /// The user that owns the sending socket.
    pub uid: Option<u32>,
    /// The group that owns the sending socket.
    pub gid: Option<u32>,
}

/// An address, and a port where the protocol has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port, or 0.
    pub port: u16,
}

impl Endpoint {
    /// Reads `10.0.0.1:80`, `10.0.0.1`, `[fd00::1]:80` or `fd00::1`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let with_port = |socket: SocketAddr| Self { address: socket.ip(), port: socket.port() };
        text.parse().map(with_port).ok().or_else(|| Some(Self { address: text.parse().ok()?, port: 0 }))
    }
}

/// Reads `tcp`, `udp` or an IP protocol number.
pub(super) fn protocol(text: &str) -> Option<Protocol> {
    match text {
        "tcp" | "6" => Some(Protocol::Tcp),
        "udp" | "17" => Some(Protocol::Udp),
        number => number.parse().ok().map(Protocol::Other),
    }
}

/// Reads `out` or `in`.
pub(super) fn direction(text: &str) -> Option<Direction> {
    match text {
        "out" => Some(Direction::Out),
        "in" => Some(Direction::In),
        _ => None,
    }
}

impl Question {
    /// The packet, as the current network namespace has it.
    ///
    /// # Errors
    /// When the addresses of the namespace cannot be listed.
    pub(super) fn packet(&self) -> io::Result<Packet> {
        let Self { direction, protocol, source, destination, uid, gid } = *self;
        let unspecified = match destination.address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let source = source.unwrap_or(Endpoint { address: unspecified, port: 0 });
        Ok(Packet {
            hook: if direction == Direction::Out { Hook::Output } else { Hook::Prerouting },
            protocol,
            source: source.address,
            source_port: source.port,
            destination: destination.address,
            destination_port: destination.port,
            uid,
            gid,
            local: direction == Direction::Out && is_here(destination.address)?,
        })
    }
}

fn is_here(address: IpAddr) -> io::Result<bool> {
    if address.is_loopback() {
        return Ok(true);
    }
    let own = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|own| IpAddr::from(own.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|own| own.ip().into()))
    };
    Ok(getifaddrs()?.filter_map(own).any(|own| own == address))
}
