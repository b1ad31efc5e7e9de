//! Expressions of nf_tables: the few that our rules are made of, and their text.
//!
//! The kernel gives back what it was given, so that a rule is compared by what its expressions say. Expressions of other people
//! are kept by name only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::rules::Family;

/// The protocol families of rules in an `inet` table.
pub(super) const NFPROTO_IPV4: u8 = 2;
pub(super) const NFPROTO_IPV6: u8 = 10;
pub(super) const IPPROTO_TCP: u8 = 6;
pub(super) const IPPROTO_UDP: u8 = 17;
/// States of connection tracking, as bits.
pub(super) const STATE_INVALID: u32 = 1;
pub(super) const STATE_ESTABLISHED: u32 = 2;
pub(super) const STATE_RELATED: u32 = 4;

/// A part of a packet, or of what the kernel knows about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Nfproto,
    L4proto,
    SocketUser,
    SocketGroup,
    InputName,
    OutputName,
    TrackedState,
    SourceV4,
    SourceV6,
    DestinationV4,
    DestinationV6,
    DestinationPort,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Nfproto => "meta nfproto",
            Self::L4proto => "meta l4proto",
            Self::SocketUser => "meta skuid",
            Self::SocketGroup => "meta skgid",
            Self::InputName => "iifname",
            Self::OutputName => "oifname",
            Self::TrackedState => "ct state",
            Self::SourceV4 => "ip saddr",
            Self::SourceV6 => "ip6 saddr",
            Self::DestinationV4 => "ip daddr",
            Self::DestinationV6 => "ip6 daddr",
            Self::DestinationPort => "th dport",
        }
    }

    /// Where a field of the packet stands: the header (1 network, 2 transport), offset and length.
    pub(super) fn place(self) -> Option<(u32, u32, u32)> {
        Some(match self {
            Self::SourceV4 => (1, 12, 4),
            Self::DestinationV4 => (1, 16, 4),
            Self::SourceV6 => (1, 8, 16),
            Self::DestinationV6 => (1, 24, 16),
            Self::DestinationPort => (2, 2, 2),
            _ => return None,
        })
    }

    /// The address field of a family.
    pub(super) fn address(family: Family, is_source: bool) -> Self {
        match (family, is_source) {
            (Family::V4, true) => Self::SourceV4,
            (Family::V4, false) => Self::DestinationV4,
            (Family::V6, true) => Self::SourceV6,
            (Family::V6, false) => Self::DestinationV6,
        }
    }

    /// A value of this field, as `nft` would write it.
    fn value(self, bytes: &[u8]) -> String {
        match (self, bytes) {
            (Self::Nfproto, [NFPROTO_IPV4]) => "ipv4".to_owned(),
            (Self::Nfproto, [NFPROTO_IPV6]) => "ipv6".to_owned(),
            (Self::L4proto, [IPPROTO_TCP]) => "tcp".to_owned(),
            (Self::L4proto, [IPPROTO_UDP]) => "udp".to_owned(),
            (Self::DestinationPort, [a, b]) => u16::from_be_bytes([*a, *b]).to_string(),
            (Self::SocketUser | Self::SocketGroup, [a, b, c, d]) => u32::from_ne_bytes([*a, *b, *c, *d]).to_string(),
            (Self::InputName | Self::OutputName, name) => {
                let name: Vec<u8> = name.iter().copied().take_while(|byte| *byte != 0).collect();
                format!("{:?}", String::from_utf8_lossy(&name))
            }
            (_, bytes) => address(bytes).map_or_else(|| hexadecimal(bytes), |address| address.to_string()),
        }
    }
}

/// An expression. Values are in network order, but for ids that are compared one by one and bits of connection tracking, which are
/// in the machine's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    /// Takes a field into the first register.
    Load(Field),
    /// Takes the first bytes of an address into the first register, as `nft` does for blocks whose length is whole bytes.
    LoadPart {
        field: Field,
        length: u32,
    },
    /// Turns a number of four bytes from the machine's into network order, so that ranges of it can be compared.
    ToNetwork,
    /// Keeps these bits.
    Mask(Vec<u8>),
    /// The rule goes on when the first register is this.
    Equal(Vec<u8>),
    /// The rule goes on when the first register is not this.
    NotEqual(Vec<u8>),
    /// The rule goes on when the first register is in this set.
    In(String),
    /// A value for a statement that follows.
    Value {
        register: u32,
        bytes: Vec<u8>,
    },
    /// Counts packets and bytes. Not read back: see [`super::rules::Found`].
    Count,
    Return,
    Jump(String),
    /// Somebody else's: our rules come back.
    Goto(String),
    Drop,
    /// To a port of the namespace, which is in the first register.
    Redirect,
    /// To the address in the first register, and the port in the second if that is used.
    Translate {
        family: u8,
        port: bool,
    },
    /// TCP's own answer.
    Reset,
    /// An ICMP error: port unreachable.
    Unreachable,
    /// Somebody else's, by its name.
    Other(String),
}

/// The canonical text of a rule, close to what `nft list ruleset` prints.
pub(super) fn text(expressions: &[Expr]) -> String {
    let mut words: Vec<String> = Vec::new();
    let (mut loaded, mut part) = (None, None);
    let mut mask: Option<&[u8]> = None;
    let mut values: [&[u8]; 2] = [&[], &[]];
    for expression in expressions {
        let left = || loaded.map_or("?", Field::name);
        match expression {
            Expr::Load(field) => (loaded, mask, part) = (Some(*field), None, None),
            Expr::LoadPart { field, length } => (loaded, mask, part) = (Some(*field), None, Some(*length)),
            Expr::ToNetwork => {}
            Expr::Mask(bits) => mask = Some(bits),
            Expr::Equal(bytes) => {
                let mut whole = bytes.clone();
                if let (Some(_), Some((.., length))) = (part, loaded.and_then(Field::place)) {
                    whole.resize(usize::try_from(length).unwrap_or_default(), 0);
                }
                let value = loaded.map_or_else(|| hexadecimal(bytes), |field| field.value(&whole));
                let masked = mask.map(|mask| mask.iter().map(|byte| byte.count_ones()).sum::<u32>());
                let length = masked.or(part.map(|bytes| bytes * 8)).map(|bits| format!("/{bits}"));
                words.push(format!("{} {value}{}", left(), length.unwrap_or_default()));
            }
            Expr::NotEqual(bytes) if loaded == Some(Field::SocketGroup) => {
                words.push(format!("{} != {}", left(), Field::SocketGroup.value(bytes)));
            }
            // all else that is compared so: one of these bits is set
            Expr::NotEqual(_) => words.push(format!("{} {}", left(), states(mask.unwrap_or_default()))),
            Expr::In(set) => words.push(format!("{} @{set}", left())),
            Expr::Value { register, bytes } => values[usize::from(*register == 2)] = bytes,
            Expr::Count => words.push("counter".to_owned()),
            Expr::Return => words.push("return".to_owned()),
            Expr::Goto(chain) => words.push(format!("goto {chain}")),
            Expr::Jump(chain) => words.push(format!("jump {chain}")),
            Expr::Drop => words.push("drop".to_owned()),
            Expr::Redirect => words.push(format!("redirect to :{}", Field::DestinationPort.value(values[0]))),
            Expr::Translate { family, port } => {
                let to = address(values[0]).map_or_else(
                    || hexadecimal(values[0]),
                    |address| match address {
                        IpAddr::V6(v6) if *port => format!("[{v6}]"),
                        other => other.to_string(),
                    },
                );
                let port = port.then(|| format!(":{}", Field::DestinationPort.value(values[1]))).unwrap_or_default();
                let family = if *family == NFPROTO_IPV6 { "ip6" } else { "ip" };
                words.push(format!("dnat {family} to {to}{port}"));
            }
            Expr::Reset => words.push("reject with tcp reset".to_owned()),
            Expr::Unreachable => words.push("reject with icmpx port-unreachable".to_owned()),
            Expr::Other(name) => words.push(format!("({name})")),
        }
    }
    words.join(" ")
}

fn states(bits: &[u8]) -> String {
    let bits = <[u8; 4]>::try_from(bits).map(u32::from_ne_bytes).unwrap_or_default();
    let names = [(STATE_INVALID, "invalid"), (STATE_ESTABLISHED, "established"), (STATE_RELATED, "related")];
    let set: Vec<_> = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    set.join(",")
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// Bytes of an address, in network order.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
