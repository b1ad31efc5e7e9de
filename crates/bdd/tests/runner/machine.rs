//! What a run must not change: the machine's rules, links, routes, mounts and named namespaces; and who runs on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

/// The state of the machine, as text that can be compared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine(BTreeMap<&'static str, String>);

impl Machine {
    /// Reads it now.
    pub(crate) fn now() -> Self {
        Self(BTreeMap::from([
            ("links", first_words("/proc/net/dev")),
            ("IPv4 routes", read("/proc/net/route")),
            ("IPv6 routes", read("/proc/net/ipv6_route")),
            ("IPv4 addresses", read("/proc/net/fib_trie")),
            ("mounts", read("/proc/self/mounts")),
            ("named namespaces", names("/run/netns")),
            ("rules, nf_tables", saved("iptables-nft-save")),
            ("rules, legacy", saved("iptables-legacy-save")),
            ("forwarding", read("/proc/sys/net/ipv4/ip_forward")),
        ]))
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Interface names without their counters.
fn first_words(path: &str) -> String {
    read(path).lines().filter_map(|line| line.split_whitespace().next()).collect::<Vec<_>>().join(" ")
}

fn names(folder: &str) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names: BTreeSet<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    format!("{names:?}")
}

/// Rules without the comments that carry the time. Empty where a plain user may not look.
fn saved(program: &str) -> String {
    let text = Command::new(program).output().map(|done| done.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
}

/// A process: its id, and when it started, so that a reused id is not taken for it.
pub(crate) type Process = (u32, u64);

/// A process and everything below it, with their names.
pub(crate) fn family(ancestor: u32) -> BTreeMap<Process, String> {
    let everybody: Vec<_> = processes().collect();
    let mut members = BTreeSet::from([ancestor]);
    loop {
        let before = members.len();
        members
            .extend(everybody.iter().filter(|one| members.contains(&one.parent)).map(|one| one.id).collect::<Vec<_>>());
        if members.len() == before {
            break;
        }
    }
    everybody.into_iter().filter(|one| members.contains(&one.id)).map(|one| ((one.id, one.start), one.name)).collect()
}

/// Which of these still run (a zombie does not).
pub(crate) fn alive(candidates: &BTreeMap<Process, String>) -> Vec<String> {
    let now: BTreeSet<Process> = processes().map(|one| (one.id, one.start)).collect();
    candidates
        .iter()
        .filter(|(process, _)| now.contains(process))
        .map(|((id, _), name)| format!("{name}({id})"))
        .collect()
}

struct Entry {
    id: u32,
    parent: u32,
    start: u64,
    name: String,
}

fn processes() -> impl Iterator<Item = Entry> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    entries.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // "pid (name) state ppid … starttime": the name may hold anything, so count from its last parenthesis.
        let (head, tail) = stat.rsplit_once(')')?;
        let fields: Vec<_> = tail.split_whitespace().collect();
        if fields.first() == Some(&"Z") {
            return None;
        }
        Some(Entry {
            id,
            parent: fields.get(1)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
            name: head.split_once('(')?.1.to_owned(),
        })
    })
}
