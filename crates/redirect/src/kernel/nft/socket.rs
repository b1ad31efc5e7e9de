//! Talking to nf_tables: dumps, and batches that the kernel takes as a whole or not at all.

use std::convert::Infallible;
use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::{Socket, SocketAddr, constants::NETLINK_NETFILTER};
use nix::sys::socket::{setsockopt, sockopt};

/// Something that the kernel refused, and what it was.
#[derive(Debug)]
pub(in crate::kernel) struct Refused {
    /// What was asked for, in words.
    pub(in crate::kernel) what: String,
    /// What the kernel said besides the number.
    pub(in crate::kernel) told: Option<String>,
    pub(in crate::kernel) source: io::Error,
}

/// One message of a batch, with the words for it.
pub(super) struct Order {
    pub(super) family: NetfilterProtoFamily,
    message: NfTablesMessage,
    flags: u16,
    what: String,
}

impl Order {
    /// Makes an object of family `inet`, or finds it made.
    pub(super) fn create(message: NfTablesMessage, what: String) -> Self {
        Self { family: NetfilterProtoFamily::Inet, message, flags: NLM_F_CREATE, what }
    }

    /// Puts an object of family `inet` behind others.
    pub(super) fn append(message: NfTablesMessage, what: String) -> Self {
        Self { flags: NLM_F_CREATE | NLM_F_APPEND, ..Self::create(message, what) }
    }

    /// Changes what is there, of family `inet`.
    pub(super) fn change(message: NfTablesMessage, what: String) -> Self {
        Self { flags: 0, ..Self::create(message, what) }
    }

    /// Refused when the object is there already.
    pub(super) fn alone(self) -> Self {
        Self { flags: self.flags | NLM_F_EXCL, ..self }
    }

    /// The same for another family.
    pub(super) fn of(self, family: NetfilterProtoFamily) -> Self {
        Self { family, ..self }
    }
}

/// A socket of the *calling thread's* network namespace.
pub(super) struct Netlink(Socket);

/// What answers of the kernel are read into: a dump gives as much at a time as there is room.
const ROOM: usize = 64 * 1024;
/// A dump that somebody's change has spoilt is made again.
const TRIES: u32 = 5;

impl Netlink {
    pub(super) fn open() -> Result<Self, Refused> {
        let opened = || {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket =
            opened().map_err(|source| Refused { what: "open a socket to netfilter".to_owned(), told: None, source })?;
        // only for better words: a kernel without it says the number
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self(socket))
    }

    /// Everything that answers a question, with the family it is of. Nothing when the object asked for is not there.
    pub(super) fn dump(
        &self,
        family: NetfilterProtoFamily,
        question: NfTablesMessage,
        what: &str,
    ) -> Result<Vec<(NetfilterProtoFamily, NfTablesMessage)>, Refused> {
        let found: Vec<NetfilterMessage> = self.answers(family, question, what)?;
        let of_nftables = |NetfilterMessage { header, inner, .. }| match inner {
            NetfilterMessageInner::NfTables(inner) => Some((header.family, inner)),
            _ => None,
        };
        Ok(found.into_iter().filter_map(of_nftables).collect())
    }

    /// [`Netlink::dump`], with what the answers carry unread: the library takes time that grows with the square of a list.
    pub(super) fn dump_unread(
        &self,
        family: NetfilterProtoFamily,
        question: NfTablesMessage,
        what: &str,
    ) -> Result<Vec<Unread>, Refused> {
        self.answers(family, question, what)
    }

    fn answers<T: NetlinkDeserializable>(
        &self,
        family: NetfilterProtoFamily,
        question: NfTablesMessage,
        what: &str,
    ) -> Result<Vec<T>, Refused> {
        let refused = |source| Refused { what: what.to_owned(), told: None, source };
        for _ in 0..TRIES {
            let message = wrap(family, 0, NetfilterMessageInner::NfTables(question.clone()));
            let mut bytes = Vec::new();
            put(&mut bytes, message, NLM_F_REQUEST | NLM_F_DUMP, 1);
            self.0.send(&bytes, 0).map_err(refused)?;
            match self.collect() {
                Ok(found) => return Ok(found),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(refused(error)),
            }
        }
        Err(refused(io::Error::other("somebody else keeps changing the rules")))
    }

    /// Reads the parts of a dump. [`io::ErrorKind::Interrupted`] when the rules were changed meanwhile.
    fn collect<T: NetlinkDeserializable>(&self) -> io::Result<Vec<T>> {
        let (mut found, mut spoilt) = (Vec::new(), false);
        loop {
            let mut buffer = Vec::with_capacity(ROOM);
            self.0.recv(&mut buffer, 0)?;
            // somebody else's object that the library cannot read is nothing that concerns us
            for message in messages(&buffer).filter_map(Result::ok) {
                spoilt |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::Done(_) if spoilt => return Err(io::ErrorKind::Interrupted.into()),
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    _ => {}
                }
            }
        }
    }

    /// Has the kernel follow all orders or, when it refuses one, none.
    pub(super) fn commit(&self, orders: &[Order]) -> Result<(), Refused> {
        const NFTABLES: u16 = 10;
        let mut bytes = Vec::new();
        let edge = |message| wrap(NetfilterProtoFamily::Unspec, NFTABLES, NetfilterMessageInner::None(message));
        put(&mut bytes, edge(ControlMessage::BatchBegin), NLM_F_REQUEST, 0);
        let last = u32::try_from(orders.len()).unwrap_or(u32::MAX);
        for (number, order) in (1..).zip(orders) {
            let message = wrap(order.family, 0, NetfilterMessageInner::NfTables(order.message.clone()));
            // what is refused is told anyway
            let answer = if number == last { NLM_F_ACK } else { 0 };
            put(&mut bytes, message, NLM_F_REQUEST | answer | order.flags, number);
        }
        put(&mut bytes, edge(ControlMessage::BatchEnd), NLM_F_REQUEST, 0);
        self.make_room(&bytes, orders.len());
        let whole = |source: io::Error| {
            let limit = source.raw_os_error() == Some(nix::libc::EMSGSIZE);
            let told = limit.then(|| {
                format!(
                    "{} bytes are more than this user namespace may send at once: raise net.core.wmem_max",
                    bytes.len()
                )
            });
            Refused { what: format!("send {} changes", orders.len()), told, source }
        };
        self.0.send(&bytes, 0).map_err(whole)?;
        // the kernel has acted when `send` returns, and every answer is there already
        loop {
            let mut buffer = Vec::with_capacity(ROOM);
            self.0.recv(&mut buffer, 0).map_err(whole)?;
            for message in messages::<NetfilterMessage>(&buffer) {
                let message = message.map_err(whole)?;
                let number = message.header.sequence_number;
                let NetlinkPayload::Error(answer) = message.payload else { continue };
                if answer.code.is_some() {
                    self.forget_answers();
                    let order =
                        usize::try_from(number).unwrap_or_default().checked_sub(1).and_then(|at| orders.get(at));
                    return Err(Refused {
                        what: order
                            .map_or_else(|| "follow the changes as a whole".to_owned(), |order| order.what.clone()),
                        told: words(&answer.header),
                        source: answer.to_io(),
                    });
                }
                if number == last {
                    return Ok(());
                }
            }
        }
    }

    /// Leaves nothing for the next question to take for its own answer.
    fn forget_answers(&self) {
        while self.0.recv(&mut Vec::with_capacity(ROOM), nix::libc::MSG_DONTWAIT).is_ok() {}
    }

    /// A batch must fit into one message, and its answers into the queue. Raised where the limits allow it.
    fn make_room(&self, batch: &[u8], orders: usize) {
        const USUAL: usize = 200 * 1024;
        let (wanted, answers) = (batch.len() + 1024, orders * 1024);
        if wanted > USUAL && setsockopt(&self.0, sockopt::SndBufForce, &wanted).is_err() {
            let _ = setsockopt(&self.0, sockopt::SndBuf, &wanted);
        }
        if answers > USUAL && setsockopt(&self.0, sockopt::RcvBufForce, &answers).is_err() {
            let _ = setsockopt(&self.0, sockopt::RcvBuf, &answers);
        }
    }
}

/// What a message carries behind its header, and behind the header that all of netfilter's have: attributes.
pub(super) struct Unread(pub(super) Vec<u8>);

impl NetlinkDeserializable for Unread {
    type Error = Infallible;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        const NETFILTER_HEADER: usize = 4;
        Ok(Self(payload.get(NETFILTER_HEADER..).unwrap_or_default().to_vec()))
    }
}

fn wrap(family: NetfilterProtoFamily, resource: u16, inner: NetfilterMessageInner) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, resource), inner)
}

fn put(bytes: &mut Vec<u8>, message: NetfilterMessage, flags: u16, number: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = number;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}

/// The messages that one answer holds.
fn messages<T: NetlinkDeserializable>(buffer: &[u8]) -> impl Iterator<Item = io::Result<NetlinkMessage<T>>> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let length = rest.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes))?;
        let length = usize::try_from(length).ok().filter(|length| *length >= 16 && *length <= rest.len())?;
        let (one, more) = rest.split_at(length);
        rest = &more[(length.next_multiple_of(4) - length).min(more.len())..];
        Some(NetlinkMessage::deserialize(one).map_err(io::Error::other))
    })
}

/// The kernel's own words, which follow the header of the message that they are about.
fn words(answer: &[u8]) -> Option<String> {
    const HEADER: usize = 16;
    const MESSAGE: u16 = 1;
    let mut rest = answer.get(HEADER..)?;
    while let Some((head, _)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]);
        let value = rest.get(4..length)?;
        if kind == MESSAGE {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}
