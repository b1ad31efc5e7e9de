//! One packet: what is kept of it, and how it is read from an Ethernet frame.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

use crate::{Direction, Timestamp};

/// Transport protocols that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of either family, echo and errors; ports are 0.
    Icmp,
    /// What keeps a link going (neighbour discovery, group membership), any other protocol, and fragments that do not begin
    /// a datagram; ports are 0. No statement speaks of it.
    Other,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Other => "ip",
        })
    }
}

/// The flags of a TCP segment that matter for its connection; shown as `tcpdump` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize)]
#[serde(transparent)]
pub struct TcpFlags(u8);

impl TcpFlags {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const PSH: u8 = 8;
    const ACK: u8 = 16;

    /// End of the sender's stream.
    #[must_use]
    pub fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// Opens a connection, or agrees to one when [`TcpFlags::ack`] is set too.
    #[must_use]
    pub fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// Ends the connection at once.
    #[must_use]
    pub fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Acknowledges.
    #[must_use]
    pub fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: [(u8, &str); 5] = [
            (TcpFlags::SYN, "S"),
            (TcpFlags::FIN, "F"),
            (TcpFlags::RST, "R"),
            (TcpFlags::PSH, "P"),
            (TcpFlags::ACK, "."),
        ];
        f.write_str("[")?;
        for (bit, letter) in LETTERS {
            if self.0 & bit != 0 {
                f.write_str(letter)?;
            }
        }
        f.write_str("]")
    }
}

/// What is kept of a packet in memory; the rest is in the file, under the same number. [`crate::Log::line`] shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Packet {
    /// Its number in the capture file, from 1.
    pub number: u32,
    /// When the kernel saw it.
    pub time: Timestamp,
    /// Which way it went, seen from the vantage's host.
    pub direction: Direction,
    /// Protocol.
    pub protocol: Protocol,
    /// Sender.
    pub source: SocketAddr,
    /// Receiver.
    pub destination: SocketAddr,
    /// Flags, empty unless TCP.
    pub flags: TcpFlags,
    /// Payload bytes above the transport header (above the IP header where there is none).
    pub length: usize,
    /// Index of its flow in [`crate::Log::flows`].
    pub flow: usize,
}

/// A frame's headers and payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) flags: TcpFlags,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    /// An ICMP packet that answers another one, or speaks of one.
    pub(crate) icmp_reply: bool,
    pub(crate) payload: &'a [u8],
}

/// Reads an Ethernet frame; `None` for what is not IP (ARP, neighbour discovery is ICMP).
///
/// Lengths are taken from what was captured where the IP header's cannot be true: segments that the interface would have
/// split or joined (GSO, GRO) are longer than a header field can say. Checksums are not looked at; on virtual
/// interfaces nobody fills them in.
pub(crate) fn parse(frame: &[u8]) -> Option<Segment<'_>> {
    let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let net = sliced.net?;
    let (source, destination): (IpAddr, IpAddr) = match &net {
        LaxNetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxNetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxNetSlice::Arp(_) => return None,
    };
    let segment = |protocol, ports: (u16, u16), payload| Segment {
        protocol,
        source: SocketAddr::new(source, ports.0),
        destination: SocketAddr::new(destination, ports.1),
        flags: TcpFlags::default(),
        sequence: 0,
        acknowledgement: 0,
        icmp_reply: false,
        payload,
    };
    Some(match sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let bit = |set: bool, bit: u8| if set { bit } else { 0 };
            let flags = bit(tcp.fin(), TcpFlags::FIN)
                | bit(tcp.syn(), TcpFlags::SYN)
                | bit(tcp.rst(), TcpFlags::RST)
                | bit(tcp.psh(), TcpFlags::PSH)
                | bit(tcp.ack(), TcpFlags::ACK);
            Segment {
                flags: TcpFlags(flags),
                sequence: tcp.sequence_number(),
                acknowledgement: tcp.acknowledgment_number(),
                ..segment(Protocol::Tcp, (tcp.source_port(), tcp.destination_port()), tcp.payload())
            }
        }
        Some(TransportSlice::Udp(udp)) => {
            segment(Protocol::Udp, (udp.source_port(), udp.destination_port()), udp.payload())
        }
        // of ICMPv4 only the echo request (8) is not an answer of some kind
        Some(TransportSlice::Icmpv4(icmp)) => {
            Segment { icmp_reply: icmp.type_u8() != 8, ..segment(Protocol::Icmp, (0, 0), icmp.payload()) }
        }
        Some(TransportSlice::Icmpv6(icmp)) => match icmp.type_u8() {
            // errors, and echo
            kind @ 0..=129 => Segment { icmp_reply: kind != 128, ..segment(Protocol::Icmp, (0, 0), icmp.payload()) },
            // neighbours, routers and groups: what IPv4 leaves to ARP and IGMP
            _ => segment(Protocol::Other, (0, 0), icmp.payload()),
        },
        Some(TransportSlice::Igmp(_)) | None => {
            segment(Protocol::Other, (0, 0), net.ip_payload_ref().map_or(&[][..], |ip| ip.payload))
        }
    })
}
