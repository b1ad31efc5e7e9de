//! User and group ids in OpenShift, where a Namespace has ranges of its own, and the security context constraint that admitted
//! the Pod may have another one.

use crate::surroundings::AllowedUsers;
use crate::{Mistake, Surroundings};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use redirect::contract::{INIT_UID, PROXY_UID};
use std::collections::HashSet;

/// Pod annotation: the security context constraint that admitted the Pod. OpenShift writes it before webhooks are called.
const CONSTRAINT: &str = "openshift.io/scc";

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
    pod: &Pod,
    spec: &PodSpec,
    surroundings: &Surroundings,
    is_ours: impl Fn(&Container) -> bool,
) -> Result<(Pair, Pair), Mistake> {
    let used = used(spec, is_ours);
    let namespace = &surroundings.namespace;
    let annotation = |key| namespace.metadata.annotations.as_ref()?.get(key).map(String::as_str);
    let filled = |key| annotation(key).filter(|text| !text.is_empty());
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
    let constraint = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(CONSTRAINT));
    let allowed = constraint.and_then(|name| Some((name, *surroundings.constraints.get(name)?)));
    let too_few = |name: &str, allowed| Mistake::Constraint { name: name.to_owned(), allowed };
    let users = match allowed {
        Some((name, AllowedUsers::Range(first, last))) => highest_two(&[(first, last)], &used)
            .ok_or_else(|| too_few(name, format!("users {first} to {last}, of which the pod leaves none or one")))?,
        Some((name, AllowedUsers::One(user))) => return Err(too_few(name, format!("user {user} alone"))),
        Some((_, AllowedUsers::Any)) if filled(USERS).is_none() => Pair { sidecar: PROXY_UID, init: INIT_UID },
        Some((_, AllowedUsers::OfNamespace | AllowedUsers::Any)) | None => free(USERS)?,
    };
    let groups = match (filled(GROUPS), filled(USERS)) {
        (Some(_), _) => free(GROUPS)?,
        (None, Some(_)) => free(USERS)?,
        // which group a process runs as is nothing that constraints are about
        (None, None) => users,
    };
    Ok((users, groups))
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

    /// A Pod that a constraint of this name admitted, in a Namespace with a range.
    fn under(allowed: Option<AllowedUsers>, range: Option<&str>) -> Result<(u32, u32), String> {
        let mut pod = Pod::default();
        pod.metadata.annotations = Some([(CONSTRAINT.to_owned(), "own".to_owned())].into());
        let mut namespace = k8s_openapi::api::core::v1::Namespace::default();
        namespace.metadata.annotations = range.map(|range| [(USERS.to_owned(), range.to_owned())].into());
        let mut surroundings = Surroundings::of(namespace);
        surroundings.constraints = allowed
            .into_iter()
            .map(|allowed| ("own".to_owned(), allowed))
            .collect::<std::collections::HashMap<_, _>>()
            .into();
        let found = ids(&pod, &PodSpec::default(), &surroundings, |_| false);
        found.map(|(users, _)| (users.sidecar, users.init)).map_err(|mistake| mistake.to_string())
    }

    #[rstest]
    #[case::range_of_its_own(Some(AllowedUsers::Range(5, 2_147_483_652)), Some("100/9"), Ok((2_147_483_651, 2_147_483_652)))]
    #[case::range_of_the_namespace(Some(AllowedUsers::OfNamespace), Some("100/9"), Ok((107, 108)))]
    #[case::any(Some(AllowedUsers::Any), Some("100/9"), Ok((107, 108)))]
    #[case::any_without_a_range(Some(AllowedUsers::Any), None, Ok((PROXY_UID, INIT_UID)))]
    #[case::unknown(None, Some("100/9"), Ok((107, 108)))]
    #[case::one(Some(AllowedUsers::One(7)), Some("100/9"), Err("constraint own allows user 7 alone"))]
    #[case::too_small(Some(AllowedUsers::Range(5, 5)), Some("100/9"), Err("constraint own allows users 5 to 5"))]
    #[case::nothing(Some(AllowedUsers::OfNamespace), None, Err(USERS))]
    fn what_the_constraint_allows(
        #[case] allowed: Option<AllowedUsers>,
        #[case] range: Option<&str>,
        #[case] expected: Result<(u32, u32), &str>,
    ) {
        match (under(allowed, range), expected) {
            (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
            (found, expected) => assert_eq!(found, expected.map_err(str::to_owned)),
        }
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
