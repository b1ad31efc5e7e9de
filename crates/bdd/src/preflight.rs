//! The check before an installation: are the versions at least the documented minima, and is the upgrade path supported?

use std::fmt;

/// A version of Consul or of the Helm chart, compared number by number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u64>);

impl Version {
    /// Reads `1.10.0`; a leading `v` and anything after `-` or `+` are ignored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let core = text.trim().trim_start_matches('v').split(['-', '+']).next()?;
        core.split('.').map(|n| n.parse().ok()).collect::<Option<Vec<_>>>().map(Self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

/// What is about to be installed.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Version of Consul, when given.
    pub consul: Option<String>,
    /// Version of the chart, when given.
    pub chart: Option<String>,
    /// Whether the CNI plugin is wanted.
    pub cni: bool,
}

const CONSUL: &str = "1.10.0";
const CHART: &str = "0.32.0";
const CHART_WITH_CNI: &str = "0.48.0";

/// Names every documented requirement that the plan does not meet.
#[must_use]
pub fn check(plan: &Plan) -> Vec<String> {
    let chart = if plan.cni { CHART_WITH_CNI } else { CHART };
    let reason = if plan.cni { " with the CNI plugin" } else { "" };
    [("Consul", &plan.consul, CONSUL, ""), ("Helm chart", &plan.chart, chart, reason)]
        .into_iter()
        .filter_map(|(what, given, least, with)| {
            let given = given.as_deref()?;
            match (Version::parse(given), Version::parse(least)) {
                (Some(have), Some(want)) if have < want => {
                    Some(format!("{what} {have} is older than {want}, which transparent proxy{with} needs at least"))
                }
                (None, _) => Some(format!("{what} version {given:?} is no version number")),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1.9.17", "0.32.0", false, &["Consul 1.9.17 is older than 1.10.0"])]
    #[case("1.10.0", "0.31.1", false, &["Helm chart 0.31.1 is older than 0.32.0"])]
    #[case("1.10.0", "0.32.0", false, &[])]
    #[case("1.13.0", "0.47.1", true, &["older than 0.48.0, which transparent proxy with the CNI plugin needs"])]
    #[case("1.13.0", "0.48.0", true, &[])]
    #[case("1.9.0", "0.1.0", true, &["Consul 1.9.0", "Helm chart 0.1.0"])]
    #[case("latest", "1.0.0", false, &["no version number"])]
    fn minima(#[case] consul: &str, #[case] chart: &str, #[case] cni: bool, #[case] expected: &[&str]) {
        let found = check(&Plan { consul: Some(consul.to_owned()), chart: Some(chart.to_owned()), cni });
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}");
        }
    }
}
