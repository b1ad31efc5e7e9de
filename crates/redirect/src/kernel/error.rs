//! Why rules could not be put in force, with what to do about it.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::rules::Family;

/// Why rules could not be read or put in force. Nothing has changed when one of these is returned.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// No suitable program is installed.
    #[error(
        "find {} in PATH ({path}): install the package iptables in this container's image",
        programs.join(" or ")
    )]
    MissingProgram {
        /// The names that were looked for.
        programs: Vec<String>,
        /// Where they were looked for.
        path: String,
    },
    /// The process may not change the namespace's rules.
    #[error(
        "change the {family} rules: this process needs the capability NET_ADMIN (and to run as root) in the user \
         namespace that owns the network namespace; add it to the container's securityContext{}",
        Told(stderr)
    )]
    MissingCapability {
        /// The family that was refused.
        family: Family,
        /// What the program said; empty when it was not even tried.
        stderr: String,
    },
    /// The kernel has no table the programs know how to use.
    #[error(
        "read table nat for {family}: the node's kernel offers neither ip_tables nor nf_tables to this container, or not \
         for {family}: load ip_tables (modprobe ip_tables iptable_nat; for IPv6 ip6_tables ip6table_nat) or nf_tables \
         (nft_compat nft_chain_nat) on the node{}",
        Told(stderr)
    )]
    KernelLacksTables {
        /// The family that was refused.
        family: Family,
        /// What the programs said.
        stderr: String,
    },
    /// Table `nat` was made with `nft` and holds what iptables cannot read, so that our part of it cannot be known.
    #[error(
        "read table nat for {family}: {program} cannot, because something else in this network namespace put rules there \
         with nft; see `nft list table {} nat` and remove them, or give them a table of their own",
        if *family == Family::V4 { "ip" } else { "ip6" }
    )]
    ForeignTable {
        /// The family whose table it is.
        family: Family,
        /// The program that said so.
        program: String,
    },
    /// The transaction was refused, and had no effect.
    #[error("add the {family} rules{}: {program} refused: {}", At(*line, rule), stderr.trim())]
    Refused {
        /// The family that was refused.
        family: Family,
        /// The program that was used.
        program: String,
        /// The line of the transaction it named.
        line: Option<usize>,
        /// The text of that line.
        rule: Option<String>,
        /// What the program said.
        stderr: String,
    },
    /// The program exists and could not be run.
    #[error("run {program}")]
    Run {
        /// The program.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The program did not come to an end, and was killed.
    #[error("run {program}: it did not finish within {} s; is the node overloaded?", after.as_secs())]
    TimedOut {
        /// The program.
        program: String,
        /// How long was waited.
        after: Duration,
    },
    /// The network namespace could not be locked.
    #[error("lock the network namespace /proc/thread-self/ns/net (is /proc mounted?)")]
    Lock(#[source] io::Error),
    /// Another one of us is changing the same namespace.
    #[error("lock the network namespace: another process has been changing its rules for 30 s; see `lslocks`")]
    Busy,
}

/// What a program said, appended to a message when it said anything.
struct Told<'a>(&'a str);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.trim() {
            "" => Ok(()),
            text => write!(f, " ({})", text.replace('\n', "; ")),
        }
    }
}

/// Place of a refused rule.
struct At<'a>(Option<usize>, &'a Option<String>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Some(line), Some(rule)) => write!(f, ", line {line} `{rule}`"),
            (Some(line), None) => write!(f, ", line {line}"),
            (None, _) => Ok(()),
        }
    }
}
