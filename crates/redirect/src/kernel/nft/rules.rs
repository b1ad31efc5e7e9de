//! Rules as the kernel tells them: each expression that ours have, and the names of others.

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{NfTablesMessage, RuleAttribute, RuleMessage};

use super::attributes;
use super::expr::{Expr, Field};
use super::socket::{Netlink, Refused};

/// A rule of anybody's.
pub(super) struct Found {
    pub(super) chain: String,
    pub(super) handle: u64,
    /// Packets that its counter has seen, if it has one.
    pub(super) counted: Option<u64>,
    pub(super) expressions: Vec<Expr>,
}

/// The rules of a table, in order.
pub(super) fn of(netlink: &Netlink, family: NetfilterProtoFamily, table: &str) -> Result<Vec<Found>, Refused> {
    let attributes = vec![RuleAttribute::Table(table.to_owned())];
    let question = NfTablesMessage::GetRule(RuleMessage { attributes });
    let found = netlink.dump_unread(family, question, &format!("list rules of table {table}"))?;
    Ok(found.iter().filter_map(|message| rule(&message.0, table)).collect())
}

fn rule(message: &[u8], table: &str) -> Option<Found> {
    // NFTA_RULE_TABLE, _CHAIN, _HANDLE, _EXPRESSIONS
    let (own, chain) = (attributes::text(message, 1)?, attributes::text(message, 2)?);
    let handle = attributes::number(message, 3).unwrap_or_default();
    let expressions = || attributes::entries(attributes::value(message, 4).unwrap_or_default());
    let counted = expressions().find_map(counted);
    let expressions = expressions();
    (own == table).then(|| Found {
        chain: chain.to_owned(),
        handle,
        counted,
        expressions: expressions.filter_map(expression).collect(),
    })
}

fn counted(element: &[u8]) -> Option<u64> {
    let (name, data) = (attributes::text(element, 1)?, attributes::value(element, 2)?);
    // NFTA_COUNTER_PACKETS
    (name == "counter").then(|| attributes::number(data, 2)).flatten()
}

fn expression(element: &[u8]) -> Option<Expr> {
    // NFTA_EXPR_NAME, NFTA_EXPR_DATA
    let (name, data) = (attributes::text(element, 1)?, attributes::value(element, 2).unwrap_or_default());
    // counters come and go without changing what a rule does
    if name == "counter" {
        return None;
    }
    Some(ours(name, data).unwrap_or_else(|| Expr::Other(name.to_owned())))
}

/// The expression, when it is one that our rules have. The numbers are those of `linux/netfilter/nf_tables.h`, as
/// `NFTA_<NAME>_…`.
fn ours(name: &str, data: &[u8]) -> Option<Expr> {
    let number = |kind| attributes::number(data, kind);
    let bytes = |kind| attributes::value(attributes::value(data, kind)?, 1);
    match name {
        // DREG, KEY
        "meta" if number(1).is_some() => match number(2)? {
            6 => Some(Expr::Load(Field::InputName)),
            7 => Some(Expr::Load(Field::OutputName)),
            10 => Some(Expr::Load(Field::SocketUser)),
            11 => Some(Expr::Load(Field::SocketGroup)),
            15 => Some(Expr::Load(Field::Nfproto)),
            16 => Some(Expr::Load(Field::L4proto)),
            _ => None,
        },
        // BASE, OFFSET, LEN
        "payload" => load(number(2)?, number(3)?, number(4)?),
        // OP (equal, not equal), DATA
        "cmp" => match number(2)? {
            0 => Some(Expr::Equal(bytes(3)?.to_vec())),
            1 => Some(Expr::NotEqual(bytes(3)?.to_vec())),
            _ => None,
        },
        // MASK, XOR
        "bitwise" if bytes(5).is_none_or(|bits| bits.iter().all(|byte| *byte == 0)) => {
            Some(Expr::Mask(bytes(4)?.to_vec()))
        }
        // SET, FLAGS (inverted)
        "lookup" if number(5).unwrap_or_default() == 0 => Some(Expr::In(attributes::text(data, 1)?.to_owned())),
        "immediate" => immediate(data),
        // OP (to the network's order), LEN
        "byteorder" if (number(3), number(4)) == (Some(1), Some(4)) => Some(Expr::ToNetwork),
        // KEY (the state)
        "ct" if number(2) == Some(0) => Some(Expr::Load(Field::TrackedState)),
        "redir" => Some(Expr::Redirect),
        // TYPE (destination), FAMILY, REG_PROTO_MIN
        "nat" if number(1) == Some(1) => {
            let family = number(2).and_then(|family| u8::try_from(family).ok())?;
            Some(Expr::Translate { family, port: number(5).is_some() })
        }
        // TYPE, ICMP_CODE
        "reject" if number(1) == Some(1) => Some(Expr::Reset),
        "reject" if (number(1), number(2)) == (Some(2), Some(1)) => Some(Expr::Unreachable),
        _ => None,
    }
}

fn load(base: u64, offset: u64, length: u64) -> Option<Expr> {
    const FIELDS: [Field; 5] =
        [Field::SourceV4, Field::SourceV6, Field::DestinationV4, Field::DestinationV6, Field::DestinationPort];
    let length = u32::try_from(length).ok()?;
    FIELDS.into_iter().find_map(|field| {
        let (own, at, whole) = field.place()?;
        let is_here = (u64::from(own), u64::from(at)) == (base, offset) && length <= whole;
        is_here.then_some(if length == whole { Expr::Load(field) } else { Expr::LoadPart { field, length } })
    })
}

/// A value or a verdict.
fn immediate(data: &[u8]) -> Option<Expr> {
    // NFTA_IMMEDIATE_DATA; NFTA_DATA_VALUE, NFTA_DATA_VERDICT; NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN
    let given = attributes::value(data, 2)?;
    if let Some(bytes) = attributes::value(given, 1) {
        let register = if attributes::number(data, 1) == Some(2) { 2 } else { 1 };
        return Some(Expr::Value { register, bytes: bytes.to_vec() });
    }
    let verdict = attributes::value(given, 2)?;
    let code = attributes::number(verdict, 1).and_then(|code| u32::try_from(code).ok())?.cast_signed();
    match (code, attributes::text(verdict, 2)) {
        (0, _) => Some(Expr::Drop),
        (-5, _) => Some(Expr::Return),
        (-3, Some(chain)) => Some(Expr::Jump(chain.to_owned())),
        (-4, Some(chain)) => Some(Expr::Goto(chain.to_owned())),
        _ => None,
    }
}
