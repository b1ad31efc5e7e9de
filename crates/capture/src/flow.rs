//! A conversation between two sockets as one vantage saw it.

use std::net::SocketAddr;

use crate::stream::Stream;
use crate::{ClientHello, Direction, Protocol, Timestamp, tls};

/// When a packet was seen, and its number in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Seen {
    /// Number in the file.
    pub number: u32,
    /// When.
    pub time: Timestamp,
}

/// What one of the two ends sent.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// Its first SYN.
    pub syn: Option<Seen>,
    /// Its first FIN.
    pub fin: Option<Seen>,
    /// Its first RST.
    pub rst: Option<Seen>,
    /// Packets.
    pub packets: u64,
    pub(crate) syn_sequence: u32,
    pub(crate) stream: Stream,
}

impl Side {
    /// Payload bytes in order, the first [`crate::STREAM_CAP`] of them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.stream.bytes()
    }

    /// How many payload bytes, without repetitions.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.stream.total()
    }

    /// Whether more was sent than is kept in memory.
    #[must_use]
    pub fn is_capped(&self) -> bool {
        self.stream.is_capped()
    }

    /// Numbers of the packets in which `needle` begins.
    pub fn find<'a>(&'a self, needle: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
        self.stream.find(needle).filter_map(|offset| self.stream.packet_at(offset))
    }

    /// The packet with the side's first payload byte.
    #[must_use]
    pub fn first_data(&self) -> Option<u32> {
        self.stream.packet_at(0)
    }

    /// Types of the TLS records that were sent, each once, in the order of their first appearance.
    #[must_use]
    pub fn record_types(&self) -> Vec<u8> {
        tls::record_types(self.bytes())
    }

    /// Whether all that was sent (and kept) is TLS records.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        tls::is_tls(self.bytes())
    }
}

/// A conversation: a TCP connection, one exchange of datagrams, ICMP between two hosts.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Its protocol.
    pub protocol: Protocol,
    /// Who spoke first.
    pub initiator: SocketAddr,
    /// Whom it addressed, as the packet says at this vantage: after a redirection, the proxy's listener.
    pub responder: SocketAddr,
    /// Who seems to answer, where that is somebody else: on the loopback the kernel puts the address that the
    /// application dialled back into the answers of a redirected connection, but not into its questions.
    pub translated: Option<SocketAddr>,
    /// Whether the host began it (`Out`) or somebody else (`In`).
    pub direction: Direction,
    /// Its first packet.
    pub first: Seen,
    /// When its last packet so far was seen.
    pub last: Timestamp,
    /// The first acknowledgement of the responder's SYN: the connection is up.
    pub established: Option<Seen>,
    /// What the initiator sent.
    pub client: Side,
    /// What the responder sent.
    pub server: Side,
}

impl Flow {
    /// Where the initiator thinks it is connected to.
    #[must_use]
    pub fn dialled(&self) -> SocketAddr {
        self.translated.unwrap_or(self.responder)
    }

    /// The TLS greeting, when the initiator's first bytes are one.
    #[must_use]
    pub fn client_hello(&self) -> Option<ClientHello> {
        tls::client_hello(self.client.bytes())
    }

    /// Whether the initiator's first bytes begin a TLS handshake.
    #[must_use]
    pub fn begins_tls(&self) -> bool {
        tls::begins_handshake(self.client.bytes())
    }

    /// Whether the responder agreed to TLS, which its first record says.
    #[must_use]
    pub fn server_hello(&self) -> bool {
        tls::begins_handshake(self.server.bytes())
    }

    /// Whether a TLS record of application data came from the responder. In TLS 1.3 the handshake's encrypted part is such
    /// a record too, so that only its absence proves something.
    #[must_use]
    pub fn server_sent_application_data(&self) -> bool {
        self.server.record_types().contains(&tls::APPLICATION_DATA)
    }

    /// Whether a payload byte was sent that is not TLS.
    #[must_use]
    pub fn is_plaintext(&self) -> bool {
        [&self.client, &self.server].iter().any(|side| side.total() > 0 && !side.is_tls())
    }
}
