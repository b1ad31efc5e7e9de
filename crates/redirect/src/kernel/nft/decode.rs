//! Tables as the kernel tells them: ours in full, other people's as far as they concern us.

use netlink_packet_core::Nla as _;
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook as HookAttribute,
    Immediate, ListAttribute, Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, RuleAttribute,
    RuleMessage, SetAttribute, SetElementAttribute, SetElementFlags, SetElementList, SetElementMessage, SetMessage,
    TableAttribute, TableMessage, Verdict, VerdictAttribute,
};

use super::expr::{Expr, Field};
use super::interval::{Interval, predecessor};
use super::socket::{Netlink, Refused};
use super::table::{Chain, Hook, Kind, Set, Table};
use crate::contract::NFT_TABLE;
use crate::rules::Family;

/// A chain of anybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) family: NetfilterProtoFamily,
    pub(super) table: String,
    pub(super) name: String,
    hook: Option<Hook>,
}

/// A rule of anybody's.
pub(super) struct Found {
    pub(super) chain: String,
    pub(super) handle: u64,
    pub(super) expressions: Vec<Expr>,
}

/// All chains of the namespace.
pub(super) fn chains(netlink: &Netlink) -> Result<Vec<Known>, Refused> {
    let question = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
    let found = netlink.dump(NetfilterProtoFamily::Unspec, question, "list chains")?;
    let chain = |(family, message)| match message {
        NfTablesMessage::NewChain(chain) => Some(known(family, &chain)),
        _ => None,
    };
    Ok(found.into_iter().filter_map(chain).collect())
}

/// Whether a table of family `inet` is there, with or without chains.
pub(super) fn has_table(netlink: &Netlink, name: &str) -> Result<bool, Refused> {
    let question = NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() });
    let found = netlink.dump(NetfilterProtoFamily::Inet, question, "list tables")?;
    Ok(found.iter().any(|(family, message)| match message {
        NfTablesMessage::NewTable(TableMessage { attributes }) => {
            *family == NetfilterProtoFamily::Inet
                && attributes.iter().any(|attribute| matches!(attribute, TableAttribute::Name(own) if own == name))
        }
        _ => false,
    }))
}

/// The rules of a table.
pub(super) fn rules(netlink: &Netlink, family: NetfilterProtoFamily, table: &str) -> Result<Vec<Found>, Refused> {
    let attributes = vec![RuleAttribute::Table(table.to_owned())];
    let question = NfTablesMessage::GetRule(RuleMessage { attributes });
    let found = netlink.dump(family, question, &format!("list rules of table {table}"))?;
    let rule = |(own, message)| match message {
        NfTablesMessage::NewRule(rule) if own == family => rule_of(&rule, table),
        _ => None,
    };
    Ok(found.into_iter().filter_map(rule).collect())
}

/// Our table's content; `chains` are all of the namespace.
pub(super) fn table(netlink: &Netlink, chains: &[Known]) -> Result<Table, Refused> {
    let own = chains.iter().filter(|chain| chain.family == NetfilterProtoFamily::Inet && chain.table == NFT_TABLE);
    let mut table = Table::default();
    for Known { name, hook, .. } in own {
        table.chains.push(Chain { name: name.clone(), hook: hook.clone(), rules: Vec::new() });
    }
    for Found { chain, expressions, .. } in rules(netlink, NetfilterProtoFamily::Inet, NFT_TABLE)? {
        if let Some(own) = table.chains.iter_mut().find(|own| own.name == chain) {
            own.rules.push(expressions);
        }
    }
    let question = NfTablesMessage::GetSet(SetMessage { attributes: vec![SetAttribute::Table(NFT_TABLE.to_owned())] });
    for (_, message) in netlink.dump(NetfilterProtoFamily::Inet, question, "list sets")? {
        let NfTablesMessage::NewSet(set) = message else { continue };
        let (name, kind) = set_of(&set);
        let intervals = elements(netlink, &name)?;
        table.sets.push(Set { name, kind, intervals });
    }
    Ok(table)
}

fn known(family: NetfilterProtoFamily, message: &ChainMessage) -> Known {
    let mut chain = Known { family, table: String::new(), name: String::new(), hook: None };
    let mut hook = Hook { kind: String::new(), number: 0, priority: 0 };
    let mut is_called = false;
    for attribute in &message.attributes {
        match attribute {
            ChainAttribute::Table(name) => chain.table.clone_from(name),
            ChainAttribute::Name(name) => chain.name.clone_from(name),
            ChainAttribute::Type(kind) => hook.kind.clone_from(kind),
            ChainAttribute::Hook(attributes) => {
                is_called = true;
                for attribute in attributes {
                    match attribute {
                        HookAttribute::Number(number) => hook.number = (*number).into(),
                        HookAttribute::Priority(priority) => hook.priority = priority.cast_signed(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Known { hook: is_called.then_some(hook), ..chain }
}

fn rule_of(message: &RuleMessage, table: &str) -> Option<Found> {
    let mut found = Found { chain: String::new(), handle: 0, expressions: Vec::new() };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Table(name) if name != table => return None,
            RuleAttribute::Chain(name) => found.chain.clone_from(name),
            RuleAttribute::Handle(handle) => found.handle = *handle,
            RuleAttribute::Expressions(list) => {
                found.expressions = list.iter().filter_map(expression).collect();
            }
            _ => {}
        }
    }
    Some(found)
}

fn set_of(message: &SetMessage) -> (String, Option<Kind>) {
    const KINDS: [Kind; 5] =
        [Kind::Address(Family::V4), Kind::Address(Family::V6), Kind::Port, Kind::User, Kind::Group];
    let (mut name, mut kind) = (String::new(), None);
    for attribute in &message.attributes {
        match attribute {
            SetAttribute::Name(own) => name.clone_from(own),
            SetAttribute::KeyType(number) => kind = KINDS.into_iter().find(|kind| kind.number() == *number),
            _ => {}
        }
    }
    (name, kind)
}

/// The elements of one of our sets, in order.
fn elements(netlink: &Netlink, set: &str) -> Result<Vec<Interval>, Refused> {
    let attributes = vec![SetElementList::Table(NFT_TABLE.to_owned()), SetElementList::Set(set.to_owned())];
    let question = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
    let mut edges: Vec<(Vec<u8>, bool)> = Vec::new();
    for (_, message) in netlink.dump(NetfilterProtoFamily::Inet, question, &format!("list elements of set {set}"))? {
        let NfTablesMessage::NewSetElement(SetElementMessage { attributes }) = message else { continue };
        for attribute in attributes {
            let SetElementList::Elements(list) = attribute else { continue };
            edges.extend(list.iter().filter_map(edge));
        }
    }
    // an end and a beginning of the same value: what ends, ends before
    edges.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    let mut intervals: Vec<Interval> = Vec::new();
    let mut open: Option<Vec<u8>> = None;
    for (value, is_end) in edges {
        match (is_end, open.take()) {
            (true, Some(first)) => {
                let last = predecessor(&value).unwrap_or(value);
                intervals.push(Interval { first, last });
            }
            (true, None) => {}
            (false, _) => open = Some(value),
        }
    }
    if let Some(first) = open {
        let last = vec![0xff; first.len()];
        intervals.push(Interval { first, last });
    }
    Ok(intervals)
}

/// A value, and whether an interval ends before it.
fn edge(element: &ListAttribute<SetElementAttribute>) -> Option<(Vec<u8>, bool)> {
    let ListAttribute::Element(attributes) = element else { return None };
    let (mut value, mut is_end) = (None, false);
    for attribute in attributes {
        match attribute {
            SetElementAttribute::Key(DataAttribute::Value(bytes)) => value = Some(bytes.clone()),
            SetElementAttribute::Flags(flags) => is_end = flags.contains(SetElementFlags::IntervalEnd),
            _ => {}
        }
    }
    value.map(|value| (value, is_end))
}

fn expression(element: &ListAttribute<ExpressionAttribute>) -> Option<Expr> {
    let ListAttribute::Element(attributes) = element else { return None };
    let name = attributes.iter().find_map(|attribute| match attribute {
        ExpressionAttribute::Name(name) => Some(name.as_str()),
        _ => None,
    })?;
    let data = attributes.iter().find_map(|attribute| match attribute {
        ExpressionAttribute::Data(data) => Some(data),
        _ => None,
    });
    // counters come and go without changing what a rule does
    if name == "counter" {
        return None;
    }
    Some(data.and_then(|data| ours(name, data)).unwrap_or_else(|| Expr::Other(name.to_owned())))
}

/// The expression, when it is one that our rules have.
fn ours(name: &str, data: &Expressions) -> Option<Expr> {
    match data {
        Expressions::Meta(attributes) => attributes.iter().find_map(|attribute| match attribute {
            Meta::Key(MetaKey::Nfproto) => Some(Expr::Load(Field::Nfproto)),
            Meta::Key(MetaKey::L4Proto) => Some(Expr::Load(Field::L4proto)),
            Meta::Key(MetaKey::SocketUserId) => Some(Expr::Load(Field::SocketUser)),
            Meta::Key(MetaKey::SocketGroupId) => Some(Expr::Load(Field::SocketGroup)),
            Meta::Key(MetaKey::Iifname) => Some(Expr::Load(Field::InputName)),
            Meta::Key(MetaKey::Oifname) => Some(Expr::Load(Field::OutputName)),
            _ => None,
        }),
        Expressions::Payload(attributes) => {
            let (mut base, mut offset, mut length) = (0, 0, 0);
            for attribute in attributes {
                match attribute {
                    Payload::Base(number) => base = *number,
                    Payload::Offset(number) => offset = *number,
                    Payload::Len(number) => length = *number,
                    _ => {}
                }
            }
            const FIELDS: [Field; 5] =
                [Field::SourceV4, Field::SourceV6, Field::DestinationV4, Field::DestinationV6, Field::DestinationPort];
            let field = FIELDS.into_iter().find(|field| {
                field.place().is_some_and(|(own, at, most)| (own, at) == (base, offset) && length <= most)
            })?;
            let is_whole = field.place().is_some_and(|(.., most)| most == length);
            Some(if is_whole { Expr::Load(field) } else { Expr::LoadPart { field, length } })
        }
        Expressions::Cmp(attributes) => {
            let (mut operator, mut value) = (Operator::Equal, Vec::new());
            for attribute in attributes {
                match attribute {
                    Cmp::Op(own) => operator = *own,
                    Cmp::Data(DataAttribute::Value(bytes)) => value.clone_from(bytes),
                    _ => {}
                }
            }
            match operator {
                Operator::Equal => Some(Expr::Equal(value)),
                Operator::NotEqual => Some(Expr::NotEqual(value)),
                _ => None,
            }
        }
        Expressions::Bitwise(attributes) => attributes.iter().find_map(|attribute| match attribute {
            Bitwise::Mask(DataAttribute::Value(bits)) => Some(Expr::Mask(bits.clone())),
            _ => None,
        }),
        Expressions::Lookup(attributes) => attributes.iter().find_map(|attribute| match attribute {
            Lookup::Set(set) => Some(Expr::In(set.clone())),
            _ => None,
        }),
        Expressions::Immediate(attributes) => immediate(attributes),
        Expressions::Other { attributes, .. } => {
            let number = |kind: u16| {
                let found = attributes.iter().find(|attribute| attribute.kind() == kind)?;
                let mut bytes = vec![0; found.value_len()];
                found.emit_value(&mut bytes);
                Some(bytes.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)))
            };
            named(name, number)
        }
        _ => None,
    }
}

/// An expression that the library does not know; `number` gives the value of an attribute.
fn named(name: &str, number: impl Fn(u16) -> Option<u32>) -> Option<Expr> {
    match name {
        "byteorder" if (number(3), number(4)) == (Some(1), Some(4)) => Some(Expr::ToNetwork),
        "ct" if number(2) == Some(0) => Some(Expr::Load(Field::TrackedState)),
        "redir" => Some(Expr::Redirect),
        "nat" if number(1) == Some(1) => {
            let family = number(2).and_then(|family| u8::try_from(family).ok())?;
            Some(Expr::Translate { family, port: number(5).is_some() })
        }
        "reject" if number(1) == Some(1) => Some(Expr::Reset),
        "reject" if (number(1), number(2)) == (Some(2), Some(1)) => Some(Expr::Unreachable),
        _ => None,
    }
}

fn immediate(attributes: &[Immediate]) -> Option<Expr> {
    let (mut register, mut data) = (Register::Verdict, None);
    for attribute in attributes {
        match attribute {
            Immediate::DestinationRegister(own) => register = *own,
            Immediate::Data(own) => data = Some(own),
            _ => {}
        }
    }
    match data? {
        DataAttribute::Value(bytes) => {
            let register = if register == Register::Reg2 { 2 } else { 1 };
            Some(Expr::Value { register, bytes: bytes.clone() })
        }
        DataAttribute::Verdict(attributes) => {
            let code = attributes.iter().find_map(|attribute| match attribute {
                VerdictAttribute::Code(code) => Some(*code),
                _ => None,
            })?;
            let chain = attributes.iter().find_map(|attribute| match attribute {
                VerdictAttribute::Chain(chain) => Some(chain.clone()),
                _ => None,
            });
            match (code, chain) {
                (Verdict::Return, _) => Some(Expr::Return),
                (Verdict::Jump | Verdict::Goto, Some(chain)) => Some(Expr::Jump(chain)),
                (Verdict::Other(0), _) => Some(Expr::Drop),
                _ => None,
            }
        }
        _ => None,
    }
}
