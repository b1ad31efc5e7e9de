//! What a statement about packets comes to: a proof or a disproof, each naming the packets.

use std::fmt;

/// A statement holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Proof {
    /// The statement.
    pub statement: String,
    /// The packets that prove it: `#number time vantage protocol source→destination flags length`.
    pub packets: Vec<String>,
}

/// A statement does not hold (yet).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, thiserror::Error)]
pub struct Disproof {
    /// The statement.
    pub statement: String,
    /// What is wrong with it.
    pub reason: String,
    /// The packets that disprove it, or the nearest to what was looked for.
    pub packets: Vec<String>,
}

impl Proof {
    pub(crate) fn of(statement: impl Into<String>, packets: Vec<String>) -> Result<Self, Disproof> {
        Ok(Self { statement: statement.into(), packets })
    }
}

impl Disproof {
    pub(crate) fn of(
        statement: impl Into<String>,
        reason: impl Into<String>,
        packets: Vec<String>,
    ) -> Result<Proof, Self> {
        Err(Self { statement: statement.into(), reason: reason.into(), packets })
    }
}

/// More than anyone reads in a failure's message; the file has them all.
const SHOWN: usize = 12;

fn list(f: &mut fmt::Formatter<'_>, packets: &[String]) -> fmt::Result {
    for packet in packets.iter().take(SHOWN) {
        write!(f, "\n  {packet}")?;
    }
    match packets.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => write!(f, "\n  … and {more} more"),
        _ => Ok(()),
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.statement)?;
        list(f, &self.packets)
    }
}

impl fmt::Display for Disproof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not so: {}: {}", self.statement, self.reason)?;
        list(f, &self.packets)
    }
}
