//! What differs between the rules a policy demands and those a namespace holds.

use std::collections::HashMap;
use std::fmt;

use crate::rules::Family;

/// Whose rules a difference is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Those of `iptables`.
    Iptables,
    /// Those of `ip6tables`.
    Ip6tables,
    /// Our table of nf_tables.
    Nftables,
}

impl From<Family> for Place {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Iptables,
            Family::V6 => Self::Ip6tables,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iptables => "iptables",
            Self::Ip6tables => "ip6tables",
            Self::Nftables => "nf_tables",
        })
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "drift")]
pub enum Drift {
    /// A chain or rule that should be there is not.
    Missing {
        /// Where.
        place: Place,
        /// The chain (`-N …`) or rule (`-A …`), or the like of nf_tables.
        line: String,
    },
    /// A chain, rule, or jump into our chains that should not be there.
    Extra {
        /// Where.
        place: Place,
        /// The chain (`-N …`) or rule (`-A …`), or the like of nf_tables.
        line: String,
    },
    /// The right rules in another order.
    Reordered {
        /// Where.
        place: Place,
    },
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { place, line } => write!(f, "{place}: missing {line}"),
            Self::Extra { place, line } => write!(f, "{place}: extra {line}"),
            Self::Reordered { place } => write!(f, "{place}: rules are in another order"),
        }
    }
}

/// Compares as bags first, since one missing rule shifts all others, and then the order.
pub(super) fn between(place: Place, expected: &[String], found: &[String]) -> Vec<Drift> {
    if expected == found {
        return Vec::new();
    }
    let mut surplus: HashMap<&String, usize> = HashMap::new();
    for line in found {
        *surplus.entry(line).or_default() += 1;
    }
    let mut take = |line: &String| match surplus.get_mut(line) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    };
    let missing: Vec<_> = expected.iter().filter(|line| !take(line)).collect();
    let mut drift: Vec<_> = missing.into_iter().map(|line| Drift::Missing { place, line: line.clone() }).collect();
    // the last ones of equal lines are those too many
    let mut extra: Vec<_> = found.iter().rev().filter(|line| take(line)).collect();
    extra.reverse();
    drift.extend(extra.into_iter().map(|line| Drift::Extra { place, line: line.clone() }));
    if drift.is_empty() {
        drift.push(Drift::Reordered { place });
    }
    drift
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::same(&["a", "b", "a"], &["a", "b", "a"], &[])]
    #[case::missing(&["a", "b"], &["b"], &["iptables: missing a"])]
    #[case::extra_copy(&["a"], &["a", "a"], &["iptables: extra a"])]
    #[case::replaced(&["a"], &["b"], &["iptables: missing a", "iptables: extra b"])]
    #[case::order(&["a", "b"], &["b", "a"], &["iptables: rules are in another order"])]
    fn differences(#[case] expected: &[&str], #[case] found: &[&str], #[case] told: &[&str]) {
        let owned = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        let drift = between(Place::Iptables, &owned(expected), &owned(found));
        assert_eq!(drift.iter().map(ToString::to_string).collect::<Vec<_>>(), told);
    }
}
