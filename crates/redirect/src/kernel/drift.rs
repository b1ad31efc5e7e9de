//! What differs between the rules a policy demands and those a namespace holds.

use std::fmt;

use crate::rules::Family;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drift {
    /// A chain or rule that should be there is not.
    Missing {
        /// Where.
        family: Family,
        /// The chain (`-N …`) or rule (`-A …`).
        line: String,
    },
    /// A chain, rule, or jump into our chains that should not be there.
    Extra {
        /// Where.
        family: Family,
        /// The chain (`-N …`) or rule (`-A …`).
        line: String,
    },
    /// The right rules in another order.
    Reordered {
        /// Where.
        family: Family,
    },
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { family, line } => write!(f, "{family}: missing {line}"),
            Self::Extra { family, line } => write!(f, "{family}: extra {line}"),
            Self::Reordered { family } => write!(f, "{family}: rules are in another order"),
        }
    }
}

/// Compares as bags first, since one missing rule shifts all others, and then the order.
pub(super) fn between(family: Family, expected: &[String], found: &[String]) -> Vec<Drift> {
    let mut extra = found.to_vec();
    let mut drift = Vec::new();
    for line in expected {
        match extra.iter().position(|other| other == line) {
            Some(index) => drop(extra.remove(index)),
            None => drift.push(Drift::Missing { family, line: line.clone() }),
        }
    }
    drift.extend(extra.into_iter().map(|line| Drift::Extra { family, line }));
    if drift.is_empty() && expected != found {
        drift.push(Drift::Reordered { family });
    }
    drift
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::same(&["a", "b", "a"], &["a", "b", "a"], &[])]
    #[case::missing(&["a", "b"], &["b"], &["IPv4: missing a"])]
    #[case::extra_copy(&["a"], &["a", "a"], &["IPv4: extra a"])]
    #[case::replaced(&["a"], &["b"], &["IPv4: missing a", "IPv4: extra b"])]
    #[case::order(&["a", "b"], &["b", "a"], &["IPv4: rules are in another order"])]
    fn differences(#[case] expected: &[&str], #[case] found: &[&str], #[case] told: &[&str]) {
        let owned = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        let drift = between(Family::V4, &owned(expected), &owned(found));
        assert_eq!(drift.iter().map(ToString::to_string).collect::<Vec<_>>(), told);
    }
}
