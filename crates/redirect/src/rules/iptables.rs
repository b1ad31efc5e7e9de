//! A program in the words of iptables: one rule for each value of a list, as `iptables-save` prints them.

use std::net::SocketAddr;

use super::program::{Action, Base, Chain, Match, Program, Rule, Tracked};
use super::{ChainSet, Family, Table};
use crate::contract::chain;
use crate::packet::Protocol;

/// The rules of one family. A table that would only let pass what passes anyway is left out.
pub(crate) fn render(program: &Program, family: Family) -> ChainSet {
    let mut set = ChainSet::default();
    for table in [Table::Nat, Table::Filter] {
        let chains: Vec<(&Chain, Vec<String>)> = program
            .chains
            .iter()
            .filter(|chain| table_of(chain) == table)
            .map(|chain| (chain, chain.rules.iter().flat_map(|rule| texts(rule, family)).collect()))
            .collect();
        let called = |(chain, texts): &(&Chain, Vec<String>)| chain.base.is_some() && !texts.is_empty();
        let decides = |(chain, texts): &(&Chain, Vec<String>)| {
            chain.base.is_none() && texts.iter().any(|text| !text.ends_with("-j RETURN"))
        };
        if !chains.iter().any(called) || !chains.iter().any(decides) {
            continue;
        }
        for entry @ (chain, texts) in &chains {
            match chain.base {
                Some(base) => texts.iter().for_each(|text| set.add(table, built_in(base), text.clone())),
                None if table == Table::Nat || decides(entry) => {
                    set.declare(table, chain.name);
                    texts.iter().for_each(|text| set.add(table, chain.name, text.clone()));
                }
                None => {}
            }
        }
        set.forget_jumps_to_nowhere(table);
    }
    set
}

fn table_of(chain: &Chain) -> Table {
    match chain.base {
        Some(Base::FilterOutput | Base::FilterInput) => Table::Filter,
        Some(Base::NatOutput | Base::NatPrerouting) => Table::Nat,
        None if [chain::GUARD_OUTPUT, chain::GUARD_INPUT].contains(&chain.name) => Table::Filter,
        None => Table::Nat,
    }
}

fn built_in(base: Base) -> &'static str {
    match base {
        Base::NatOutput | Base::FilterOutput => "OUTPUT",
        Base::NatPrerouting => "PREROUTING",
        Base::FilterInput => "INPUT",
    }
}

/// The texts behind `-A <chain>`; none where the rule is about the other family. Consul installs exclusions at the head of
/// the chain one by one, so that they stand there in reverse.
fn texts(rule: &Rule, family: Family) -> Vec<String> {
    // nobody asks iptables for numbers, and Consul's chains stay as they are
    if rule.action == Action::Count {
        return Vec::new();
    }
    let mut texts = vec![Words::default()];
    for condition in &rule.matches {
        texts = match condition {
            Match::Family(other) if *other != family => return Vec::new(),
            Match::Family(_) => texts,
            Match::Protocol(protocol) => each(&texts, [word(*protocol)], |w, p| w.protocol = Some(p)),
            Match::Users(list) => {
                each(&texts, list.values.iter().rev(), |w, r| w.modules.push(format!("-m owner --uid-owner {r}")))
            }
            Match::Groups(list) => {
                each(&texts, list.values.iter().rev(), |w, r| w.modules.push(format!("-m owner --gid-owner {r}")))
            }
            Match::OtherGroup(group) => {
                each(&texts, [group], |w, group| w.modules.push(format!("-m owner ! --gid-owner {group}")))
            }
            Match::To(list) | Match::From(list) => {
                let flag = if matches!(condition, Match::To(_)) { "-d" } else { "-s" };
                let own = list.values.iter().rev().filter(|block| Family::of(block.addr()) == family);
                // iptables leaves "everything" unsaid
                let text = |block: &ipnet::IpNet| match block.prefix_len() {
                    0 => String::new(),
                    _ => format!("{flag} {block}"),
                };
                each(&texts, own.map(text), |w, block| w.address = block)
            }
            Match::Ports(list) => each(&texts, list.values.iter().rev(), |w, ports| {
                let protocol = w.protocol.unwrap_or_default();
                w.modules.push(format!("-m {protocol} --dport {ports}"));
            }),
            Match::OutLoopback => each(&texts, ["-o lo"], |w, link| w.link = link),
            Match::InLoopback => each(&texts, ["-i lo"], |w, link| w.link = link),
            Match::Tracked(state) => {
                let states = match state {
                    Tracked::Known => "RELATED,ESTABLISHED",
                    Tracked::Invalid => "INVALID",
                };
                each(&texts, [states], |w, s| w.modules.push(format!("-m conntrack --ctstate {s}")))
            }
        };
    }
    texts.iter().map(|words| words.with(&target(rule.action, family))).collect()
}

/// Each text with each value.
fn each<T>(texts: &[Words], values: impl IntoIterator<Item = T>, put: impl Fn(&mut Words, T)) -> Vec<Words>
where
    T: Clone,
{
    let values: Vec<T> = values.into_iter().collect();
    let mut all = Vec::with_capacity(texts.len() * values.len());
    for words in texts {
        for value in &values {
            let mut words = words.clone();
            put(&mut words, value.clone());
            all.push(words);
        }
    }
    all
}

/// The parts of a rule in the order in which iptables prints them.
#[derive(Debug, Clone, Default)]
struct Words {
    address: String,
    link: &'static str,
    protocol: Option<&'static str>,
    modules: Vec<String>,
}

impl Words {
    fn with(&self, target: &str) -> String {
        let Self { address, link, protocol, modules } = self;
        let protocol = protocol.map(|protocol| format!("-p {protocol}")).unwrap_or_default();
        let parts = [address.as_str(), link, &protocol].into_iter().chain(modules.iter().map(String::as_str));
        let words: Vec<&str> = parts.chain([target]).filter(|part| !part.is_empty()).collect();
        words.join(" ")
    }
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Other(_) => "all",
    }
}

fn target(action: Action, family: Family) -> String {
    match action {
        // without a target a rule counts
        Action::Count => String::new(),
        Action::Return => "-j RETURN".to_owned(),
        Action::Jump(chain) => format!("-j {chain}"),
        Action::Redirect(port) => format!("-j REDIRECT --to-ports {port}"),
        Action::Translate(to) if to.port() == 0 => format!("-j DNAT --to-destination {}", to.ip()),
        Action::Translate(to) => format!("-j DNAT --to-destination {}", SocketAddr::new(to.ip(), to.port())),
        Action::Reset => "-j REJECT --reject-with tcp-reset".to_owned(),
        Action::Unreachable if family == Family::V4 => "-j REJECT --reject-with icmp-port-unreachable".to_owned(),
        Action::Unreachable => "-j REJECT --reject-with icmp6-port-unreachable".to_owned(),
        Action::Drop => "-j DROP".to_owned(),
    }
}
