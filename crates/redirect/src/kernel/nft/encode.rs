//! Our table as messages to nf_tables.

use netlink_packet_core::{DefaultNla, Nla as _};
use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook as HookAttribute,
    HookNumber, Immediate, InetHookNumber, ListAttribute, Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload,
    Register, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetElementFlags, SetElementList,
    SetElementMessage, SetFlags, SetMessage, TableAttribute, TableMessage, Verdict, VerdictAttribute,
};

use super::expr::{Expr, Field};
use super::interval::successor;
use super::socket::Order;
use super::table::{Chain, Kind, Set, Table};
use crate::contract::NFT_TABLE;

/// Elements of a set in one message: the kernel measures an attribute in 16 bits.
const ELEMENTS: usize = 500;

const ACCEPT: u32 = 1;
/// `drop` as a verdict.
const DROP: u32 = 0;

/// Brings our table into being where there is none.
pub(super) fn install(table: &Table) -> Vec<Order> {
    let mut orders = vec![new_table().alone()];
    orders.extend(content(table));
    orders
}

/// Brings our table into being, whether there is one already or not. The kernel destroys what was deleted only after a grace
/// period, and keeps whoever closes the socket waiting for it: several times as long as all the rest takes.
pub(super) fn replace(table: &Table) -> Vec<Order> {
    let mut orders = vec![new_table(), delete_table(NFT_TABLE), new_table()];
    orders.extend(content(table));
    orders
}

fn content(table: &Table) -> Vec<Order> {
    let mut orders = Vec::new();
    for (number, set) in (1..).zip(&table.sets) {
        orders.push(new_set(set, number));
        orders.extend(elements(set));
    }
    orders.extend(table.chains.iter().map(new_chain));
    for chain in &table.chains {
        orders.extend(chain.rules.iter().map(|rule| new_rule(&chain.name, rule)));
    }
    orders
}

fn new_table() -> Order {
    let message = TableMessage { attributes: vec![TableAttribute::Name(NFT_TABLE.to_owned())] };
    Order::create(NfTablesMessage::NewTable(message), format!("add table inet {NFT_TABLE}"))
}

/// Takes a table away with all that is in it.
pub(super) fn delete_table(name: &str) -> Order {
    let message = TableMessage { attributes: vec![TableAttribute::Name(name.to_owned())] };
    Order::change(NfTablesMessage::DeleteTable(message), format!("delete table inet {name}"))
}

fn new_set(set: &Set, number: u32) -> Order {
    let kind = set.kind.unwrap_or(Kind::Port);
    let attributes = vec![
        SetAttribute::Table(NFT_TABLE.to_owned()),
        SetAttribute::Name(set.name.clone()),
        SetAttribute::Flags(SetFlags::Interval),
        SetAttribute::KeyType(kind.number()),
        SetAttribute::KeyLen(u32::try_from(kind.length()).unwrap_or_default()),
        SetAttribute::Id(number),
        SetAttribute::UserData(byte_order(kind)),
    ];
    Order::create(NfTablesMessage::NewSet(SetMessage { attributes }), format!("add set {}", set.name))
}

/// A note for `nft`, which prints ids right only when it knows that they are the machine's numbers (1) and not the network's (2).
fn byte_order(kind: Kind) -> Vec<u8> {
    let order: u32 = if matches!(kind, Kind::User | Kind::Group) { 1 } else { 2 };
    [&[0, 4][..], &order.to_ne_bytes()].concat()
}

/// The kernel has the first value of each interval, and the first one beyond it where there is one.
fn elements(set: &Set) -> Vec<Order> {
    let key = |bytes: &[u8]| SetElementAttribute::Key(DataAttribute::Value(bytes.to_vec()));
    let mut all = Vec::with_capacity(set.intervals.len() * 2);
    for interval in &set.intervals {
        all.push(ListAttribute::Element(vec![key(&interval.first)]));
        if let Some(beyond) = successor(&interval.last) {
            let end = SetElementAttribute::Flags(SetElementFlags::IntervalEnd);
            all.push(ListAttribute::Element(vec![key(&beyond), end]));
        }
    }
    all.chunks(ELEMENTS)
        .map(|some| {
            let attributes = vec![
                SetElementList::Table(NFT_TABLE.to_owned()),
                SetElementList::Set(set.name.clone()),
                SetElementList::Elements(some.to_vec()),
            ];
            let message = NfTablesMessage::NewSetElement(SetElementMessage { attributes });
            Order::create(message, format!("add elements to set {}", set.name))
        })
        .collect()
}

fn new_chain(chain: &Chain) -> Order {
    let mut attributes = vec![ChainAttribute::Table(NFT_TABLE.to_owned()), ChainAttribute::Name(chain.name.clone())];
    if let Some(hook) = &chain.hook {
        attributes.extend([
            ChainAttribute::Hook(vec![
                HookAttribute::Number(HookNumber::Inet(InetHookNumber::from(hook.number))),
                HookAttribute::Priority(hook.priority.cast_unsigned()),
            ]),
            ChainAttribute::Policy(ACCEPT),
            ChainAttribute::Type(hook.kind.clone()),
        ]);
    }
    Order::create(NfTablesMessage::NewChain(ChainMessage { attributes }), format!("add chain {}", chain.name))
}

fn new_rule(chain: &str, rule: &[Expr]) -> Order {
    let attributes = vec![
        RuleAttribute::Table(NFT_TABLE.to_owned()),
        RuleAttribute::Chain(chain.to_owned()),
        RuleAttribute::Expressions(rule.iter().map(expression).collect()),
    ];
    let what = format!("add rule {chain} {}", super::expr::text(rule));
    Order::append(NfTablesMessage::NewRule(RuleMessage { attributes }), what)
}

/// Takes one rule of somebody's chain away.
pub(super) fn delete_rule(table: &str, chain: &str, handle: u64) -> NfTablesMessage {
    NfTablesMessage::DeleteRule(RuleMessage {
        attributes: vec![
            RuleAttribute::Table(table.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Handle(handle),
        ],
    })
}

/// Takes all rules of a chain away.
pub(super) fn flush_chain(table: &str, chain: &str) -> NfTablesMessage {
    let attributes = vec![RuleAttribute::Table(table.to_owned()), RuleAttribute::Chain(chain.to_owned())];
    NfTablesMessage::DeleteRule(RuleMessage { attributes })
}

/// Takes an empty chain away.
pub(super) fn delete_chain(table: &str, chain: &str) -> NfTablesMessage {
    let attributes = vec![ChainAttribute::Table(table.to_owned()), ChainAttribute::Name(chain.to_owned())];
    NfTablesMessage::DeleteChain(ChainMessage { attributes })
}

fn expression(expression: &Expr) -> ListAttribute<ExpressionAttribute> {
    let first = Register::Reg1;
    let value = |bytes: &[u8]| DataAttribute::Value(bytes.to_vec());
    let compare = |operator, bytes: &[u8]| {
        Expressions::Cmp(vec![Cmp::SourceRegister(first), Cmp::Op(operator), Cmp::Data(value(bytes))])
    };
    let made = match expression {
        Expr::Load(field) => load(*field, None),
        Expr::LoadPart { field, length } => load(*field, Some(*length)),
        Expr::ToNetwork => other("byteorder", &[(1, 1), (2, 1), (3, 1), (4, 4), (5, 4)]),
        Expr::Mask(bits) => Expressions::Bitwise(vec![
            Bitwise::SourceRegister(first),
            Bitwise::DestinationRegister(first),
            Bitwise::Length(u32::try_from(bits.len()).unwrap_or_default()),
            Bitwise::Mask(value(bits)),
            Bitwise::Xor(value(&vec![0; bits.len()])),
        ]),
        Expr::Equal(bytes) => compare(Operator::Equal, bytes),
        Expr::NotEqual(bytes) => compare(Operator::NotEqual, bytes),
        Expr::In(set) => Expressions::Lookup(vec![Lookup::Set(set.clone()), Lookup::SourceRegister(first)]),
        Expr::Value { register, bytes } => Expressions::Immediate(vec![
            Immediate::DestinationRegister(if *register == 2 { Register::Reg2 } else { first }),
            Immediate::Data(value(bytes)),
        ]),
        Expr::Count => other("counter", &[]),
        Expr::Return => verdict(vec![VerdictAttribute::Code(Verdict::Return)]),
        Expr::Jump(chain) => {
            verdict(vec![VerdictAttribute::Code(Verdict::Jump), VerdictAttribute::Chain(chain.clone())])
        }
        Expr::Goto(chain) => {
            verdict(vec![VerdictAttribute::Code(Verdict::Goto), VerdictAttribute::Chain(chain.clone())])
        }
        Expr::Drop => verdict(vec![VerdictAttribute::Code(Verdict::Other(DROP))]),
        Expr::Redirect => other("redir", &[(1, 1)]),
        Expr::Translate { family, port } => {
            // type (destination), family, address register, and where it is used the port's
            let mut attributes = vec![(1, 1), (2, u32::from(*family)), (3, 1)];
            attributes.extend(port.then_some((5, 2)));
            other("nat", &attributes)
        }
        Expr::Reset => reject(1, 0),
        Expr::Unreachable => reject(2, 1),
        Expr::Other(name) => other(name, &[]),
    };
    made.into()
}

/// The whole of a field, or its first bytes.
fn load(field: Field, part: Option<u32>) -> Expressions {
    let first = Register::Reg1;
    if let Some((base, offset, length)) = field.place() {
        return Expressions::Payload(vec![
            Payload::DestinationRegister(first),
            Payload::Base(base),
            Payload::Offset(offset),
            Payload::Len(part.unwrap_or(length)),
        ]);
    }
    let key = match field {
        Field::Nfproto => MetaKey::Nfproto,
        Field::L4proto => MetaKey::L4Proto,
        Field::SocketUser => MetaKey::SocketUserId,
        Field::SocketGroup => MetaKey::SocketGroupId,
        Field::InputName => MetaKey::Iifname,
        Field::OutputName => MetaKey::Oifname,
        // register, key (the state)
        _ => return other("ct", &[(1, 1), (2, 0)]),
    };
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(first)])
}

fn verdict(attributes: Vec<VerdictAttribute>) -> Expressions {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(attributes)),
    ])
}

/// Type (1 TCP reset, 2 ICMP of either family) and, for ICMP, the code (1 port unreachable), which is one byte.
fn reject(kind: u32, code: u8) -> Expressions {
    let mut attributes = vec![DefaultNla::new(1, kind.to_be_bytes().to_vec())];
    attributes.push(DefaultNla::new(2, vec![code]));
    debug_assert_eq!(attributes[1].value_len(), 1);
    Expressions::Other { expression_type: "reject".to_owned(), attributes }
}

/// An expression of four-byte numbers that the library does not know.
fn other(name: &str, attributes: &[(u16, u32)]) -> Expressions {
    let attributes =
        attributes.iter().map(|(kind, number)| DefaultNla::new(*kind, number.to_be_bytes().to_vec())).collect();
    Expressions::Other { expression_type: name.to_owned(), attributes }
}
