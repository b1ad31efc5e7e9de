//! Our chains of iptables' tables and the jumps into them: read from a dump, compared, and turned into a transaction.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ipnet::IpNet;

use crate::contract::chain;

/// A table of iptables that we have chains in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Nat,
    Filter,
}

/// Every chain name that is ours, in any table.
pub(crate) const OURS: [&str; 7] = [
    chain::DNS,
    chain::INBOUND,
    chain::IN_REDIRECT,
    chain::OUTPUT,
    chain::REDIRECT,
    chain::GUARD_OUTPUT,
    chain::GUARD_INPUT,
];

impl Table {
    const ALL: [Self; 2] = [Self::Nat, Self::Filter];

    fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Filter => "filter",
        }
    }

    /// Whether a chain of this table is ours. Consul's own are in `nat` only; others may use those names elsewhere.
    fn owns(self, chain: &str) -> bool {
        let guard = [chain::GUARD_OUTPUT, chain::GUARD_INPUT].contains(&chain);
        OURS.contains(&chain) && guard == (self == Self::Filter)
    }
}

/// What one table holds, or shall hold, of ours. A chain's rules are the texts behind `-A <chain>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Content {
    /// Our chains, with all their rules.
    own: BTreeMap<String, Vec<String>>,
    /// Other chains, with those of their rules that jump into ours.
    jumps: BTreeMap<String, Vec<String>>,
}

/// What the tables of one family hold, or shall hold, of ours. Tables with nothing of ours are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChainSet(BTreeMap<Table, Content>);

impl ChainSet {
    /// Makes one of our chains exist.
    pub(crate) fn declare(&mut self, table: Table, chain: &str) {
        self.0.entry(table).or_default().own.entry(chain.to_owned()).or_default();
    }

    /// Appends a rule to a chain, ours or another.
    pub(crate) fn add(&mut self, table: Table, chain: &str, rule: String) {
        let content = self.0.entry(table).or_default();
        let chains = if table.owns(chain) { &mut content.own } else { &mut content.jumps };
        chains.entry(chain.to_owned()).or_default().push(rule);
    }

    /// Takes out jumps into chains of ours that were not declared.
    pub(crate) fn forget_jumps_to_nowhere(&mut self, table: Table) {
        let Some(Content { own, jumps }) = self.0.get_mut(&table) else { return };
        for rules in jumps.values_mut() {
            rules.retain(|rule| own.contains_key(target(rule)));
        }
        jumps.retain(|_, rules| !rules.is_empty());
    }

    /// Whether nothing is ours.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads an `iptables-save` dump.
    pub(crate) fn parse(dump: &str) -> Self {
        let mut set = Self::default();
        let mut within = None;
        for line in dump.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('*') {
                within = Table::ALL.into_iter().find(|table| table.name() == name);
            }
            let Some(table) = within else { continue };
            if let Some(declared) = line.strip_prefix(':') {
                let name = declared.split_whitespace().next().unwrap_or_default();
                if table.owns(name) {
                    set.declare(table, name);
                }
            } else if let Some((chain, rule)) = appended(line)
                && (table.owns(chain) || table.owns(target(rule)))
            {
                set.add(table, chain, canonical(rule));
            }
        }
        set
    }

    /// Canonical text: chains, jumps from elsewhere, rules.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (table, Content { own, jumps }) in &self.0 {
            let mark = if *table == Table::Nat { "" } else { "-t filter " };
            lines.extend(own.keys().map(|name| format!("{mark}-N {name}")));
            for (name, rules) in jumps.iter().chain(own) {
                lines.extend(rules.iter().map(|rule| format!("{mark}-A {name} {rule}")));
            }
        }
        lines
    }

    /// Input for `iptables-restore --noflush` that turns `present` into `self`, a transaction for each table that differs,
    /// touching nothing else; empty when there is nothing to do.
    pub(crate) fn script_from(&self, present: &Self) -> String {
        let nothing = Content::default();
        let mut script = String::new();
        for table in Table::ALL {
            let (wanted, found) = (self.0.get(&table).unwrap_or(&nothing), present.0.get(&table).unwrap_or(&nothing));
            if wanted != found {
                script.push_str(&wanted.script_from(found, table));
            }
        }
        script
    }
}

impl Content {
    /// Jumps that are right already keep their place among other people's rules.
    fn script_from(&self, present: &Self, table: Table) -> String {
        let mut script = format!("*{}\n", table.name());
        let mut line = |parts: &[&str]| {
            writeln!(script, "{}", parts.join(" ")).expect("writing to a string does not fail");
        };
        let gone: Vec<&str> =
            present.own.keys().filter(|name| !self.own.contains_key(*name)).map(String::as_str).collect();
        // with --noflush, declaring a chain that exists empties it
        for name in self.own.keys().map(String::as_str).chain(gone.iter().copied()) {
            line(&[&format!(":{name}"), "-", "[0:0]"]);
        }
        let settled = |name: &String| self.jumps.get(name) == present.jumps.get(name);
        for (name, rules) in present.jumps.iter().filter(|(name, _)| !settled(name)) {
            for rule in rules {
                line(&["-D", name, rule]);
            }
        }
        let jumps = self.jumps.iter().filter(|(name, _)| !settled(name));
        for (name, rules) in self.own.iter().chain(jumps) {
            for rule in rules {
                line(&["-A", name, rule]);
            }
        }
        for name in gone {
            line(&["-X", name]);
        }
        line(&["COMMIT"]);
        script
    }
}

/// Chain and rule of an `-A` line, which may be preceded by counters, as `[3:180] -A …`.
fn appended(line: &str) -> Option<(&str, &str)> {
    let line = match line.strip_prefix('[') {
        Some(counted) => counted.split_once("] ")?.1,
        None => line,
    };
    let rest = line.strip_prefix("-A ")?.trim_start();
    Some(rest.split_once(' ').unwrap_or((rest, "")))
}

/// Where a rule jumps or goes to.
fn target(rule: &str) -> &str {
    let mut words = rule.split_whitespace();
    while let Some(word) = words.next() {
        if matches!(word, "-j" | "-g") {
            return words.next().unwrap_or_default();
        }
    }
    ""
}

/// A rule's text with addresses in one spelling, whichever C library printed them.
fn canonical(rule: &str) -> String {
    let mut words = Vec::new();
    let mut is_block = false;
    for word in rule.split_whitespace() {
        match word.parse::<IpNet>() {
            Ok(block) if is_block => words.push(block.to_string()),
            _ => words.push(word.to_owned()),
        }
        is_block = matches!(word, "-d" | "-s");
    }
    words.join(" ")
}
