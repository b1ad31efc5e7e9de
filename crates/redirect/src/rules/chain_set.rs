//! Our chains of table `nat` and the jumps into them: read from a dump, compared, and turned into a transaction.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ipnet::IpNet;

use crate::contract::chain;

/// Every chain name that is ours.
const OURS: [&str; 5] = [chain::DNS, chain::INBOUND, chain::IN_REDIRECT, chain::OUTPUT, chain::REDIRECT];

/// What a table holds, or shall hold, of ours. A chain's rules are the texts behind `-A <chain>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChainSet {
    /// Our chains, with all their rules.
    own: BTreeMap<String, Vec<String>>,
    /// Other chains, with those of their rules that jump into ours.
    jumps: BTreeMap<String, Vec<String>>,
}

fn is_ours(chain: &str) -> bool {
    OURS.contains(&chain)
}

impl ChainSet {
    /// Chains that exist and are empty.
    pub(crate) fn declaring<const N: usize>(chains: [&str; N]) -> Self {
        let own = chains.into_iter().map(|name| (name.to_owned(), Vec::new())).collect();
        Self { own, jumps: BTreeMap::new() }
    }

    /// Appends a rule to a chain, ours or another.
    pub(crate) fn add(&mut self, chain: &str, rule: String) {
        let chains = if is_ours(chain) { &mut self.own } else { &mut self.jumps };
        chains.entry(chain.to_owned()).or_default().push(rule);
    }

    /// Reads the `nat` table of an `iptables-save` dump.
    pub(crate) fn parse(dump: &str) -> Self {
        let mut set = Self::default();
        let mut in_nat = false;
        for line in dump.lines().map(str::trim) {
            if let Some(table) = line.strip_prefix('*') {
                in_nat = table == "nat";
            } else if !in_nat {
            } else if let Some(declared) = line.strip_prefix(':') {
                let name = declared.split_whitespace().next().unwrap_or_default();
                if is_ours(name) {
                    set.own.entry(name.to_owned()).or_default();
                }
            } else if let Some((chain, rule)) = appended(line)
                && (is_ours(chain) || is_ours(target(rule)))
            {
                set.add(chain, canonical(rule));
            }
        }
        set
    }

    /// Canonical text: chains, jumps from elsewhere, rules.
    pub(crate) fn lines(&self) -> Vec<String> {
        let declared = self.own.keys().map(|name| format!("-N {name}"));
        let rules = self.jumps.iter().chain(&self.own);
        let appended = rules.flat_map(|(name, rules)| rules.iter().map(move |rule| format!("-A {name} {rule}")));
        declared.chain(appended).collect()
    }

    /// Input for `iptables-restore --noflush` that turns `present` into `self` in one transaction, touching nothing else;
    /// empty when there is nothing to do. Jumps that are right already keep their place among other people's rules.
    pub(crate) fn script_from(&self, present: &Self) -> String {
        if self == present {
            return String::new();
        }
        let mut script = String::from("*nat\n");
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
