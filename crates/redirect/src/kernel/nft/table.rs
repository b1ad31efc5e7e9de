//! Our table of nf_tables as a value: made of a policy's program, or read from the kernel, and compared.

use ipnet::IpNet;

use super::expr::{self, Expr, Field};
use super::interval::{Interval, merged};
use crate::packet::Protocol;
use crate::range::{IdRange, Range};
use crate::rules::Family;
use crate::rules::program::{Action, Base, Chain as Called, List, Match, Program, Rule, Tracked};

/// What the elements of a set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Address(Family),
    Port,
    User,
    Group,
}

impl Kind {
    /// Number that `nft` has for the type, which it needs to print elements.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Address(Family::V4) => 7,
            Self::Address(Family::V6) => 8,
            Self::Port => 13,
            Self::User => 24,
            Self::Group => 25,
        }
    }

    /// Bytes of an element.
    pub(super) fn length(self) -> usize {
        match self {
            Self::Address(Family::V4) | Self::User | Self::Group => 4,
            Self::Address(Family::V6) => 16,
            Self::Port => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Address(Family::V4) => "ipv4_addr",
            Self::Address(Family::V6) => "ipv6_addr",
            Self::Port => "inet_service",
            Self::User => "uid",
            Self::Group => "gid",
        }
    }

    fn text(self, interval: &Interval) -> String {
        let value = |bytes: &[u8]| match self {
            Self::Address(_) => expr::address(bytes).map(|address| address.to_string()).unwrap_or_default(),
            Self::Port | Self::User | Self::Group => {
                bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)).to_string()
            }
        };
        if interval.first == interval.last {
            value(&interval.first)
        } else {
            format!("{}-{}", value(&interval.first), value(&interval.last))
        }
    }
}

/// A named set of intervals that neither overlap nor touch, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) name: String,
    /// `None` for a type that none of ours has.
    pub(super) kind: Option<Kind>,
    pub(super) intervals: Vec<Interval>,
}

/// Where and how early the kernel calls a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hook {
    /// `nat` or `filter`.
    pub(super) kind: String,
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// A chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) hook: Option<Hook>,
    pub(super) rules: Vec<Vec<Expr>>,
}

/// The table's whole content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) sets: Vec<Set>,
    pub(super) chains: Vec<Chain>,
}

impl Table {
    /// What the table must hold.
    pub(super) fn of(program: &Program) -> Self {
        let mut table = Self::default();
        for chain in &program.chains {
            let rules = chain.rules.iter().map(|rule| table.compile(rule)).collect();
            table.chains.push(Chain { name: chain.name.to_owned(), hook: hook(chain), rules });
        }
        table
    }

    /// Canonical text, a line for each set, element, chain and rule.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut sets: Vec<&Set> = self.sets.iter().collect();
        sets.sort_by_key(|set| &set.name);
        for Set { name, kind, intervals } in sets {
            lines.push(format!("add set {name} {}", kind.map_or("(another type)", Kind::name)));
            for interval in intervals {
                let element = kind.map_or_else(|| "?".to_owned(), |kind| kind.text(interval));
                lines.push(format!("add element {name} {element}"));
            }
        }
        let mut chains: Vec<&Chain> = self.chains.iter().collect();
        chains.sort_by_key(|chain| &chain.name);
        for Chain { name, hook, .. } in &chains {
            lines.push(match hook {
                None => format!("add chain {name}"),
                Some(Hook { kind, number, priority }) => {
                    format!("add chain {name} type {kind} hook {} priority {priority}", hook_name(*number))
                }
            });
        }
        for Chain { name, rules, .. } in chains {
            // what is read from the kernel has no counters
            let told = |rule: &Vec<Expr>| expr::text(rule).trim_end_matches(" counter").to_owned();
            lines.extend(rules.iter().map(|rule| format!("add rule {name} {}", told(rule))));
        }
        lines
    }

    fn compile(&mut self, rule: &Rule) -> Vec<Expr> {
        let mut expressions = Vec::new();
        // a field of one family's header is no field of the other's
        let families = rule.matches.iter().filter_map(family_of);
        if let Some(family) = families.into_iter().next() {
            let number = if family == Family::V4 { expr::NFPROTO_IPV4 } else { expr::NFPROTO_IPV6 };
            expressions.extend([Expr::Load(Field::Nfproto), Expr::Equal(vec![number])]);
        }
        for condition in &rule.matches {
            self.condition(condition, &mut expressions);
        }
        statement(rule.action, &mut expressions);
        expressions
    }

    fn condition(&mut self, condition: &Match, into: &mut Vec<Expr>) {
        match condition {
            // stands first already
            Match::Family(_) => {}
            Match::Protocol(protocol) => {
                let number = match protocol {
                    Protocol::Tcp => expr::IPPROTO_TCP,
                    Protocol::Udp => expr::IPPROTO_UDP,
                    Protocol::Other(number) => *number,
                };
                into.extend([Expr::Load(Field::L4proto), Expr::Equal(vec![number])]);
            }
            Match::Users(list) => self.ids(Field::SocketUser, list, Kind::User, into),
            Match::Groups(list) => self.ids(Field::SocketGroup, list, Kind::Group, into),
            Match::OtherGroup(group) => {
                into.extend([Expr::Load(Field::SocketGroup), Expr::NotEqual(group.to_ne_bytes().to_vec())]);
            }
            Match::Ports(list) => {
                into.push(Expr::Load(Field::DestinationPort));
                into.push(self.value_of(list, Kind::Port, |range| numbers(range, u16::to_be_bytes)));
            }
            Match::To(list) | Match::From(list) => {
                let Some(first) = list.values.first() else { return };
                let family = Family::of(first.addr());
                let field = Field::address(family, matches!(condition, Match::From(_)));
                let (bits, most) = (first.prefix_len(), first.max_prefix_len());
                if list.name.is_empty() && bits < most && bits.is_multiple_of(8) {
                    let length = bits / 8;
                    let bytes = expr::octets(first.network()).into_iter().take(length.into()).collect();
                    into.extend([Expr::LoadPart { field, length: length.into() }, Expr::Equal(bytes)]);
                    return;
                }
                into.push(Expr::Load(field));
                if list.name.is_empty() && bits < most {
                    into.push(Expr::Mask(expr::octets(first.netmask())));
                }
                into.push(self.value_of(list, Kind::Address(family), block));
            }
            Match::OutLoopback => into.extend([Expr::Load(Field::OutputName), Expr::Equal(loopback_name())]),
            Match::InLoopback => into.extend([Expr::Load(Field::InputName), Expr::Equal(loopback_name())]),
            Match::Tracked(state) => {
                let bits = match state {
                    Tracked::Known => expr::STATE_ESTABLISHED | expr::STATE_RELATED,
                    Tracked::Invalid => expr::STATE_INVALID,
                };
                let mask = Expr::Mask(bits.to_ne_bytes().to_vec());
                into.extend([Expr::Load(Field::TrackedState), mask, Expr::NotEqual(vec![0; 4])]);
            }
        }
    }

    /// Ids are the machine's numbers; in a set, where they are put in order, the network's.
    fn ids(&mut self, field: Field, list: &List<IdRange>, kind: Kind, into: &mut Vec<Expr>) {
        into.push(Expr::Load(field));
        if list.name.is_empty() {
            into.push(self.value_of(list, kind, |range| numbers(range, u32::to_ne_bytes)));
        } else {
            into.push(Expr::ToNetwork);
            into.push(self.value_of(list, kind, |range| numbers(range, u32::to_be_bytes)));
        }
    }

    /// Compares with the set of a list, which is added to the table; or with the only value of a list without a name.
    fn value_of<T>(&mut self, list: &List<T>, kind: Kind, interval: impl Fn(&T) -> Interval) -> Expr {
        let intervals: Vec<Interval> = list.values.iter().map(interval).collect();
        match intervals.first() {
            Some(only) if list.name.is_empty() => Expr::Equal(only.first.clone()),
            _ => {
                if !self.sets.iter().any(|set| set.name == list.name) {
                    let (name, intervals) = (list.name.to_owned(), merged(intervals));
                    self.sets.push(Set { name, kind: Some(kind), intervals });
                }
                Expr::In(list.name.to_owned())
            }
        }
    }
}

fn family_of(condition: &Match) -> Option<Family> {
    match condition {
        Match::Family(family) => Some(*family),
        Match::To(list) | Match::From(list) => list.values.first().map(|block| Family::of(block.addr())),
        _ => None,
    }
}

fn statement(action: Action, into: &mut Vec<Expr>) {
    let port = |number: u16, register| Expr::Value { register, bytes: number.to_be_bytes().to_vec() };
    match action {
        Action::Count => into.push(Expr::Count),
        Action::Return => into.push(Expr::Return),
        Action::Jump(chain) => into.push(Expr::Jump(chain.to_owned())),
        Action::Drop => into.push(Expr::Drop),
        Action::Reset => into.push(Expr::Reset),
        Action::Unreachable => into.push(Expr::Unreachable),
        Action::Redirect(number) => into.extend([port(number, 1), Expr::Redirect]),
        Action::Translate(to) => {
            let family = if to.is_ipv4() { expr::NFPROTO_IPV4 } else { expr::NFPROTO_IPV6 };
            into.push(Expr::Value { register: 1, bytes: expr::octets(to.ip()) });
            into.extend((to.port() != 0).then(|| port(to.port(), 2)));
            into.push(Expr::Translate { family, port: to.port() != 0 });
        }
    }
}

/// The kernel compares the whole of the field, which has room for the longest name.
fn loopback_name() -> Vec<u8> {
    let mut name = vec![0; 16];
    name[..2].copy_from_slice(b"lo");
    name
}

fn numbers<T: Copy + Ord, const N: usize>(range: &Range<T>, bytes: fn(T) -> [u8; N]) -> Interval {
    Interval { first: bytes(range.first()).to_vec(), last: bytes(range.last()).to_vec() }
}

fn block(block: &IpNet) -> Interval {
    Interval { first: expr::octets(block.network()), last: expr::octets(block.broadcast()) }
}

fn hook(chain: &Called) -> Option<Hook> {
    // NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT; NF_IP_PRI_NAT_DST, NF_IP_PRI_FILTER
    let (kind, number, priority) = match chain.base? {
        Base::NatPrerouting => ("nat", 0, -100),
        Base::NatOutput => ("nat", 3, -100),
        Base::FilterInput => ("filter", 1, 0),
        Base::FilterOutput => ("filter", 3, 0),
    };
    Some(Hook { kind: kind.to_owned(), number, priority })
}

fn hook_name(number: u32) -> &'static str {
    match number {
        0 => "prerouting",
        1 => "input",
        2 => "forward",
        3 => "output",
        4 => "postrouting",
        _ => "(another)",
    }
}

impl Table {
    /// The table's body in nft's own language, behind `head`.
    pub(super) fn script(&self, head: String) -> String {
        let mut script = head;
        for Set { name, kind, intervals } in &self.sets {
            let kind = kind.unwrap_or(Kind::Port);
            let elements: Vec<String> = intervals.iter().map(|interval| kind.text(interval)).collect();
            let (name, kind, elements) = (name, kind.name(), elements.join(", "));
            script += &format!(
                "\tset {name} {{\n\t\ttype {kind}\n\t\tflags interval\n\t\telements = {{ {elements} }}\n\t}}\n"
            );
        }
        for Chain { name, hook, rules } in &self.chains {
            script += &format!("\tchain {name} {{\n");
            if let Some(Hook { kind, number, priority }) = hook {
                script += &format!("\t\ttype {kind} hook {} priority {priority}; policy accept;\n", hook_name(*number));
            }
            for rule in rules {
                script += &format!("\t\t{}\n", expr::text(rule));
            }
            script += "\t}\n";
        }
        script
    }
}
