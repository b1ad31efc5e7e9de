//! Several rtnetlink requests in one send, from the thread that is in the namespace they are about.
//!
//! `rtnetlink`'s handle asks and awaits one request at a time; a Pod needs a dozen. The messages are its, the socket is
//! `netlink-sys`'s, and the answers are read in one go.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteMessage, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netns::NetNs;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::Error;

/// Index of `lo`, in every namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// Requests to send together, each with what it is for.
#[derive(Default)]
pub(crate) struct Batch(Vec<(String, u16, RouteNetlinkMessage)>);

/// One end of a pair of links.
pub(super) struct End<'a> {
    pub(super) name: &'a str,
    pub(super) index: u32,
    pub(super) mac: [u8; 6],
}

impl Batch {
    /// Brings up a link that exists.
    pub(crate) fn up(&mut self, index: u32) {
        let link = LinkUnspec::new_with_index(index).up().build();
        self.push(format!("bring up link {index}"), 0, RouteNetlinkMessage::SetLink(link));
    }

    /// Sets the size of the largest packets of a link, in bytes.
    pub(super) fn mtu(&mut self, index: u32, bytes: u32) {
        let link = LinkUnspec::new_with_index(index).mtu(bytes).build();
        self.push(format!("set the MTU of link {index} to {bytes}"), 0, RouteNetlinkMessage::SetLink(link));
    }

    /// Makes a pair of links: `here` in the namespace of the batch and up, `there` in another and down, because the kernel
    /// makes it first and can open no link that has no peer.
    pub(super) fn pair(&mut self, here: &End<'_>, there: &End<'_>, other: &NetNs) {
        let peer = LinkUnspec::new_with_name(there.name)
            .index(there.index)
            .address(there.mac.to_vec())
            .setns_by_fd(other.as_fd().as_raw_fd())
            .build();
        let link = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .name(here.name)
            .index(here.index)
            .address(here.mac.to_vec())
            .up()
            .build();
        self.push(format!("create link {}", here.name), NLM_F_CREATE | NLM_F_EXCL, RouteNetlinkMessage::NewLink(link));
    }

    /// Removes a link, and its other end with it.
    pub(super) fn remove(&mut self, name: &str) {
        let link = LinkUnspec::new_with_name(name).build();
        self.push(format!("remove link {name}"), 0, RouteNetlinkMessage::DelLink(link));
    }

    /// Gives a link a host address, without duplicate address detection; [`super::ready`] says when it is served.
    pub(super) fn address(&mut self, index: u32, address: IpAddr) {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = full_length(address);
        message.header.flags = AddressHeaderFlags::Nodad;
        message.header.index = index;
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        self.push(
            format!("add address {address}"),
            NLM_F_CREATE | NLM_F_REPLACE,
            RouteNetlinkMessage::NewAddress(message),
        );
    }

    /// Says once and for all which station has an address on a link, so that nobody has to ask.
    pub(super) fn neighbour(&mut self, index: u32, address: IpAddr, mac: [u8; 6]) {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.attributes = vec![
            NeighbourAttribute::Destination(match address {
                IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
                IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
            }),
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        ];
        self.push(
            format!("add neighbour {address}"),
            NLM_F_CREATE | NLM_F_REPLACE,
            RouteNetlinkMessage::NewNeighbour(message),
        );
    }

    /// Adds a route.
    pub(super) fn route(&mut self, route: Route) {
        let name = format!("add route {}/{}", route.to, route.prefix);
        self.push(name, NLM_F_CREATE | NLM_F_EXCL, RouteNetlinkMessage::NewRoute(route.message()));
    }

    fn push(&mut self, what: String, flags: u16, message: RouteNetlinkMessage) {
        self.0.push((what, flags, message));
    }

    /// Sends everything to the namespace of the calling thread. The kernel tries each request even when one before it
    /// failed; the first failure is returned, or else the socket, which stays in that namespace.
    pub(crate) fn commit(self) -> Result<Socket, Error> {
        let socket = open()?;
        if self.0.is_empty() {
            return Ok(socket);
        }
        let mut bytes = Vec::new();
        let mut what = Vec::with_capacity(self.0.len());
        for (sequence, (name, flags, message)) in (1..).zip(self.0) {
            append(&mut bytes, sequence, NLM_F_REQUEST | NLM_F_ACK | flags, message);
            what.push(name);
        }
        socket.send(&bytes, 0).map_err(Error::Netlink)?;
        let mut waiting = what.len();
        let mut refused = None;
        while waiting > 0 {
            let (answer, _) = socket.recv_from_full().map_err(Error::Netlink)?;
            for message in messages(&answer).map_err(Error::Netlink)? {
                if let NetlinkPayload::Error(error) = message.payload {
                    waiting -= 1;
                    let name = what.get(message.header.sequence_number as usize - 1);
                    if error.code.is_some() && refused.is_none() {
                        let what = name.cloned().unwrap_or_default();
                        refused = Some(Error::Refused { what, source: error.to_io() });
                    }
                }
            }
        }
        refused.map_or(Ok(socket), Err)
    }
}

/// A route to make in the main table.
pub(super) struct Route {
    to: IpAddr,
    prefix: u8,
    link: Option<u32>,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
}

impl Route {
    /// To an address that is on the link.
    pub(super) fn on_link(to: IpAddr, link: u32) -> Self {
        Self::to_network(to, full_length(to), link)
    }

    /// To a network that is on the link.
    pub(super) fn to_network(to: IpAddr, prefix: u8, link: u32) -> Self {
        Self { to, prefix, link: Some(link), gateway: None, source: None }
    }

    /// To a network through a gateway that is on the link, whatever the addresses say.
    pub(super) fn via(to: IpAddr, prefix: u8, gateway: IpAddr, link: u32) -> Self {
        Self { to, prefix, link: Some(link), gateway: Some(gateway), source: None }
    }

    /// To everywhere of the gateway's family.
    pub(super) fn default_via(gateway: IpAddr, link: u32) -> Self {
        let everywhere = match gateway {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self::via(everywhere, 0, gateway, link)
    }

    /// To nowhere: senders are told that there is no way.
    pub(super) fn unreachable(to: IpAddr, prefix: u8) -> Self {
        Self { to, prefix, link: None, gateway: None, source: None }
    }

    /// The source address of what starts here and takes this route.
    pub(super) fn from(mut self, source: Option<IpAddr>) -> Self {
        self.source = source;
        self
    }

    fn message(self) -> RouteMessage {
        let Self { to, prefix, link, gateway, source } = self;
        let mut message = match to {
            IpAddr::V4(to) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(to, prefix).build(),
            IpAddr::V6(to) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(to, prefix).build(),
        };
        use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags};
        match link {
            Some(link) => message.attributes.push(RouteAttribute::Oif(link)),
            None => message.header.kind = RouteType::Unreachable,
        }
        if let Some(gateway) = gateway {
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
            message.header.flags = RouteFlags::Onlink;
        } else if to.is_ipv4() && link.is_some() {
            message.header.scope = RouteScope::Link;
        }
        if let Some(source) = source {
            message.attributes.push(RouteAttribute::PrefSource(RouteAddress::from(source)));
        }
        message
    }
}

fn open() -> Result<Socket, Error> {
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(Error::Netlink)?;
    socket.bind_auto().map_err(Error::Netlink)?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(Error::Netlink)?;
    Ok(socket)
}

/// Puts a message behind others of one datagram.
pub(super) fn append(bytes: &mut Vec<u8>, sequence: u32, flags: u16, message: RouteNetlinkMessage) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = bytes.len();
    // Messages of one datagram are aligned to four bytes.
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..start + message.buffer_len()]);
}

/// The messages of a datagram.
pub(super) fn messages(mut bytes: &[u8]) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
    let strange = |error: rtnetlink::packet_core::DecodeError| io::Error::other(error);
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = NetlinkBuffer::new_checked(&bytes).map_err(strange)?.length() as usize;
        found.push(NetlinkMessage::deserialize(&bytes[..length]).map_err(strange)?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// Length of the prefix that is one address.
pub(super) fn full_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
