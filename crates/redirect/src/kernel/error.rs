//! Why rules could not be put in force, with what to do about it.

use std::fmt;
use std::io;
use std::time::Duration;

use nix::libc;

use super::Backend;
use super::nft::Refused;
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
        "change rules: this process needs the capability NET_ADMIN (and to run as root) in the user \
         namespace that owns the network namespace; add it to the container's securityContext{}",
        Told(stderr)
    )]
    MissingCapability {
        /// What the program said; empty when it was not even tried.
        stderr: String,
    },
    /// The kernel has no table the programs know how to use.
    #[error("read table nat for {family}: the kernel does not offer it{}", Told(stderr))]
    KernelLacksTables {
        /// The family that was refused.
        family: Family,
        /// What the programs said.
        stderr: String,
    },
    /// The kernel has no nf_tables, or lacks a part of it that the rules need.
    #[error("{what}: {source}{}", Told(told))]
    KernelLacksNftables {
        /// What was asked for.
        what: String,
        /// The kernel's own words, if it has any.
        told: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// None of the ways to install rules works here.
    #[error(
        "find a way to install rules that works here: {}; on the node, load nf_tables (modprobe nf_tables nft_chain_nat \
         nft_redir) or ip_tables (modprobe ip_tables iptable_nat; for IPv6 ip6_tables ip6table_nat); for the latter, and for \
         nft_compat, install the package iptables in this container's image",
        Tried(tried)
    )]
    NoBackend {
        /// Each of them, and why it does not.
        tried: Vec<(Backend, ApplyError)>,
    },
    /// nf_tables refused the transaction, which had no effect.
    #[error("{what}: nf_tables refused: {source}{}", Told(told))]
    RefusedByNftables {
        /// The change that it refused.
        what: String,
        /// The kernel's own words, if it has any.
        told: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
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
    /// The network namespace belongs to a user namespace that is not this process's, where iptables may not match owners.
    #[error(
        "add the {family} rules: {program} refused: {}; this network namespace belongs to another user namespace (a Pod with \
         hostUsers: false), where the owner match of iptables is refused to programs from outside: use the backend nftables, or \
         redirect from within the Pod",
        stderr.trim()
    )]
    ForeignUserNamespace {
        /// The family that was refused.
        family: Family,
        /// The program that was used.
        program: String,
        /// What the program said.
        stderr: String,
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
    #[error("run {program}: {source}")]
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

/// Ways that were tried, each with its reason.
struct Tried<'a>(&'a [(Backend, ApplyError)]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (backend, error)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{backend}: {error}")?;
        }
        Ok(())
    }
}

impl ApplyError {
    /// The same again, for whoever asks second. System errors keep their number and their words.
    pub(super) fn copied(&self) -> Self {
        match self {
            Self::KernelLacksNftables { what, told, source } => {
                let source = source.raw_os_error().map_or_else(|| source.kind().into(), io::Error::from_raw_os_error);
                Self::KernelLacksNftables { what: what.clone(), told: told.clone(), source }
            }
            other => Self::KernelLacksNftables {
                what: other.to_string(),
                told: String::new(),
                source: io::ErrorKind::Unsupported.into(),
            },
        }
    }

    /// Whether another way may work where this one does not.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::MissingProgram { .. }
                | Self::KernelLacksTables { .. }
                | Self::KernelLacksNftables { .. }
                | Self::ForeignUserNamespace { .. }
        )
    }
}

impl From<Refused> for ApplyError {
    fn from(refused: Refused) -> Self {
        const MISSING: [i32; 6] =
            [libc::ENOENT, libc::EOPNOTSUPP, libc::EPROTONOSUPPORT, libc::EAFNOSUPPORT, libc::EINVAL, libc::ENOSYS];
        let Refused { what, told, source } = refused;
        let told = told.unwrap_or_default();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) if told.is_empty() => {
                Self::MissingCapability { stderr: format!("{what}: {source}") }
            }
            Some(code) if MISSING.contains(&code) => Self::KernelLacksNftables { what, told, source },
            _ => Self::RefusedByNftables { what, told, source },
        }
    }
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
