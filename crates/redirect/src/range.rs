//! Consecutive numbers: ports and ids that settings name by their ends.

use std::fmt;

/// Consecutive numbers, both ends included. The first is never above the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range<T> {
    first: T,
    last: T,
}

/// Ports of TCP or UDP.
pub type PortRange = Range<u16>;
/// User or group ids.
pub type IdRange = Range<u32>;

impl<T: Copy + Ord> Range<T> {
    /// From the first to the last; `None` when they are the wrong way round.
    pub fn new(first: T, last: T) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The lower end.
    pub fn first(&self) -> T {
        self.first
    }

    /// The upper end.
    pub fn last(&self) -> T {
        self.last
    }

    /// Whether it is a single number.
    pub fn is_single(&self) -> bool {
        self.first == self.last
    }

    /// Whether a number is in it.
    pub fn contains(&self, number: T) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// As text: the number, or both ends with a separator between them.
    pub fn with(&self, separator: char) -> String
    where
        T: fmt::Display,
    {
        if self.is_single() { self.first.to_string() } else { format!("{}{separator}{}", self.first, self.last) }
    }
}

impl<T: Copy> From<T> for Range<T> {
    fn from(number: T) -> Self {
        Self { first: number, last: number }
    }
}

impl fmt::Display for PortRange {
    /// As iptables writes them, and annotations too: `8000:8010`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with(':'))
    }
}

impl fmt::Display for IdRange {
    /// As iptables writes them: `1000-2000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with('-'))
    }
}

/// Whether a number is in any of the ranges.
pub(crate) fn any<T: Copy + Ord>(ranges: &[Range<T>], number: T) -> bool {
    ranges.iter().any(|range| range.contains(number))
}
