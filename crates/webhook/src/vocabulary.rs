//! Annotations that are ours by their prefix and that nobody knows, most of them misspelt.

use crate::keys;
use redirect::contract::{self, PREFIX};

/// An annotation that only the control plane reads.
const OTHERS: [&str; 1] = ["service-tags"];

/// Beginnings of annotations with a part of the user's own, or of other programs.
const BEGINNINGS: [&str; 5] = ["service-meta-", "gateway-", "mesh-gateway-", "peering-", "api-gateway-"];

/// Annotations of Pods that some program reads or writes, without their prefix.
fn known() -> impl Iterator<Item = &'static str> {
    let keys = contract::KEYS.iter().chain(keys::KEYS);
    // a label of Services, which says nothing on a Pod
    let keys = keys.filter(|key| **key != contract::SERVICE_IGNORE);
    keys.filter_map(|key| key.strip_prefix(PREFIX)).chain(OTHERS)
}

/// A warning about a key, where it has our prefix and no meaning.
pub(crate) fn unknown(key: &str) -> Option<String> {
    let name = key.strip_prefix(PREFIX)?;
    if known().any(|known| known == name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) {
        return None;
    }
    // a name that long is nobody's slip of the pen, and comparing takes its length times theirs
    let candidates = known().filter(|_| name.len() <= 64);
    let nearest = candidates.map(|known| (strsim::osa_distance(known, name), known)).min();
    Some(match nearest {
        Some((distance, known)) if distance <= known.len() / 4 => {
            format!("annotation {key} has no meaning; is {PREFIX}{known} meant?")
        }
        _ => format!("annotation {key} has no meaning for this version of the webhook"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::known(contract::TRANSPARENT_PROXY, None)]
    #[case::foreign("example.com/connect-inject", None)]
    #[case::meta("consul.hashicorp.com/service-meta-version", None)]
    #[case::gateway("consul.hashicorp.com/gateway-kind", None)]
    #[case::misspelt("consul.hashicorp.com/transparant-proxy", Some("transparent-proxy meant?"))]
    #[case::singular(
        "consul.hashicorp.com/transparent-proxy-exclude-inbound-port",
        Some("exclude-inbound-ports meant?")
    )]
    #[case::swapped("consul.hashicorp.com/conect-inejct", Some("connect-inject meant?"))]
    #[case::of_another_program("consul.hashicorp.com/service-tags", None)]
    #[case::label_of_services(contract::SERVICE_IGNORE, Some("no meaning for this version"))]
    #[case::unknown("consul.hashicorp.com/colour", Some("no meaning for this version"))]
    fn keys(#[case] key: &str, #[case] expected: Option<&str>) {
        match (unknown(key), expected) {
            (None, None) => {}
            (Some(warning), Some(part)) => assert!(warning.contains(part) && warning.contains(key), "{warning}"),
            (warning, expected) => panic!("{warning:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_long_key_costs_nothing() {
        assert!(unknown(&format!("{PREFIX}{}", "x".repeat(1 << 20))).is_some());
    }
}
