//! User and group ids in OpenShift, where a Namespace has ranges of its own.

use crate::Mistake;
use k8s_openapi::api::core::v1::{Container, Namespace, PodSpec};
use std::collections::HashSet;

/// Namespace annotation: the ids that its Pods may run as.
const USERS: &str = "openshift.io/sa.scc.uid-range";
/// Namespace annotation: the ids of groups that its Pods may belong to.
const GROUPS: &str = "openshift.io/sa.scc.supplemental-groups";

/// Two free ids of a Namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// For the sidecar.
    pub(crate) sidecar: u32,
    /// For the init container.
    pub(crate) init: u32,
}

/// User ids and group ids for the injected containers: the highest two of each that the Pod does not use itself.
pub(crate) fn ids(
    spec: &PodSpec,
    namespace: &Namespace,
    is_ours: impl Fn(&Container) -> bool,
) -> Result<(Pair, Pair), Mistake> {
    let used = used(spec, is_ours);
    let annotation = |key| namespace.metadata.annotations.as_ref()?.get(key).map(String::as_str);
    let filled = |key| annotation(key).filter(|text| !text.is_empty());
    let groups = if filled(GROUPS).is_some() { GROUPS } else { USERS };
    let free = |key: &'static str| {
        let text = filled(key).unwrap_or_default();
        let problem = |problem| Mistake::NamespaceAnnotation {
            key,
            namespace: namespace.metadata.name.clone().unwrap_or_default(),
            value: text.to_owned(),
            problem,
        };
        let ranges = ranges(text).ok_or_else(|| {
            problem("allowed are ranges of the form first/count, comma separated, with ids below 4294967295")
        })?;
        highest_two(&ranges, &used)
            .ok_or_else(|| problem("the namespace does not have enough available UIDs: two are needed"))
    };
    Ok((free(USERS)?, free(groups)?))
}

/// The user ids that the Pod asks for itself.
fn used(spec: &PodSpec, is_ours: impl Fn(&Container) -> bool) -> HashSet<u32> {
    let of_pod = spec.security_context.iter().filter_map(|context| context.run_as_user);
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let of_containers = containers
        .filter(|container| !is_ours(container))
        .filter_map(|container| container.security_context.as_ref()?.run_as_user);
    of_pod.chain(of_containers).filter_map(|id| u32::try_from(id).ok()).collect()
}

/// First and last id of each range. The second number is a count, whatever stands between the two.
fn ranges(text: &str) -> Option<Vec<(u32, u32)>> {
    text.split(',')
        .map(|range| {
            let (first, count) = range.trim().split_once(['/', '-'])?;
            let (first, count) = (first.trim().parse::<u32>().ok()?, count.trim().parse::<u32>().ok()?);
            // the kernel keeps the highest number for itself
            let last = first.checked_add(count.checked_sub(1)?).filter(|last| *last < u32::MAX)?;
            Some((first, last))
        })
        .collect()
}

/// A namespace may have millions of ids: they are counted down, never listed.
fn highest_two(ranges: &[(u32, u32)], used: &HashSet<u32>) -> Option<Pair> {
    let below = |limit: u32| {
        let highest = |limit: u32| {
            let reach = ranges.iter().filter(|(first, _)| *first < limit);
            reach.map(|(_, last)| (*last).min(limit - 1)).max()
        };
        let mut candidate = highest(limit)?;
        while used.contains(&candidate) {
            candidate = highest(candidate)?;
        }
        Some(candidate)
    };
    let init = below(u32::MAX)?;
    Some(Pair { sidecar: below(init)?, init })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::usual("1000700000/10000", &[], Some((1_000_709_998, 1_000_709_999)))]
    #[case::dash("100-3", &[], Some((101, 102)))]
    #[case::used("100/4", &[103, 101], Some((100, 102)))]
    #[case::several("100/2,10/5", &[101], Some((14, 100)))]
    #[case::overlapping("100/10,105/3", &[109], Some((107, 108)))]
    #[case::two_billion("1000/2147483648", &[], Some((2_147_484_646, 2_147_484_647)))]
    #[case::exactly_two("5/2", &[], Some((5, 6)))]
    #[case::one("5/1", &[], None)]
    #[case::all_used("5/3", &[5, 6], None)]
    fn the_highest_two(#[case] text: &str, #[case] used: &[u32], #[case] expected: Option<(u32, u32)>) {
        let found = highest_two(&ranges(text).expect("ranges"), &used.iter().copied().collect());
        assert_eq!(found.map(|pair| (pair.sidecar, pair.init)), expected);
    }

    #[rstest]
    #[case::empty("")]
    #[case::word("many")]
    #[case::no_count("1000")]
    #[case::none("1000/0")]
    #[case::negative("-1/5")]
    #[case::too_high("4294967290/10")]
    #[case::one_of_two("1000/10,")]
    fn not_a_range(#[case] text: &str) {
        assert_eq!(ranges(text), None);
    }
}
