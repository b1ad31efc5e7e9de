//! What is to be done next about certificates that the webhook makes itself.
//!
//! An API server trusts what `caBundle` of the webhook's configuration holds. So a new authority is published beside the old
//! one first, and only signs the server's certificate when that has had time to arrive everywhere.

use super::facts::{Facts, Leaf};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long certificates live. Each is replaced when two thirds of its life are over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// An authority's life.
    pub authority: Duration,
    /// A server certificate's life.
    pub leaf: Duration,
    /// How long a published authority takes to arrive at every API server.
    pub settling: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Self { authority: 365 * day, leaf: 7 * day, settling: Duration::from_secs(30) }
    }
}

/// What API servers trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// There is no webhook configuration, so that nobody calls.
    Nowhere,
    /// Something else than what should be trusted.
    Other,
    /// What should be trusted, for so long.
    Since(Duration),
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make the first authority and server certificate.
    Begin,
    /// Make a new authority, and trust it beside those before.
    Authority,
    /// Stop trusting authorities that have expired.
    Prune,
    /// Let the API servers trust what should be trusted.
    Publish,
    /// Make a new server certificate.
    Leaf,
    /// Nothing, for now.
    Wait,
}

/// The next step. `facts` are those of the Secret, if there is one of any use; `now` is in Unix seconds.
pub(super) fn next(
    facts: Option<&Facts>,
    published: Published,
    hosts: &BTreeSet<String>,
    now: i64,
    policy: &Policy,
) -> Step {
    let Some(facts) = facts else { return Step::Begin };
    if facts.authority.is_due(now) {
        return Step::Authority;
    }
    if facts.earlier.iter().any(|life| life.is_over(now)) {
        return Step::Prune;
    }
    if published == Published::Other {
        return Step::Publish;
    }
    let Some(Leaf { life, by_authority, hosts: named }) = &facts.leaf else { return Step::Leaf };
    let arrived = match published {
        Published::Nowhere => true,
        Published::Other => false,
        Published::Since(since) => since >= policy.settling,
    };
    // a certificate that nobody accepts any more is better replaced by one that some accept
    let is_useless = life.is_over(now);
    match by_authority {
        false if arrived || is_useless => Step::Leaf,
        false => Step::Wait,
        true if life.is_due(now) || named != hosts => Step::Leaf,
        true => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Life;
    use super::*;
    use rstest::rstest;

    const NOW: i64 = 1_000;
    /// Lives that have just begun, are two thirds over, are over, and have not begun.
    const FRESH: Life = Life { from: 990, until: 1_290 };
    const DUE: Life = Life { from: 790, until: 1_090 };
    const OVER: Life = Life { from: 600, until: 900 };
    const TO_COME: Life = Life { from: 1_010, until: 1_310 };

    const SETTLED: Published = Published::Since(Duration::from_secs(30));
    const NEW: Published = Published::Since(Duration::from_secs(29));

    fn leaf(life: Life, by_authority: bool, host: &str) -> Option<Leaf> {
        Some(Leaf { life, by_authority, hosts: BTreeSet::from([host.to_owned()]) })
    }

    fn facts(authority: Life, earlier: &[Life], leaf: Option<Leaf>) -> Option<Facts> {
        Some(Facts { authority, earlier: earlier.to_vec(), leaf })
    }

    #[rstest]
    #[case::nothing_there(None, Published::Other, Step::Begin)]
    #[case::all_is_well(facts(FRESH, &[], leaf(FRESH, true, "a")), SETTLED, Step::Wait)]
    #[case::nobody_calls(facts(FRESH, &[], leaf(FRESH, true, "a")), Published::Nowhere, Step::Wait)]
    #[case::not_trusted(facts(FRESH, &[], leaf(FRESH, true, "a")), Published::Other, Step::Publish)]
    #[case::leaf_due(facts(FRESH, &[], leaf(DUE, true, "a")), SETTLED, Step::Leaf)]
    #[case::leaf_over(facts(FRESH, &[], leaf(OVER, true, "a")), SETTLED, Step::Leaf)]
    #[case::clock_went_back(facts(FRESH, &[], leaf(TO_COME, true, "a")), SETTLED, Step::Leaf)]
    #[case::other_names(facts(FRESH, &[], leaf(FRESH, true, "b")), SETTLED, Step::Leaf)]
    #[case::leaf_unreadable(facts(FRESH, &[], None), SETTLED, Step::Leaf)]
    #[case::authority_due(facts(DUE, &[], leaf(FRESH, true, "a")), SETTLED, Step::Authority)]
    #[case::paused_for_long(facts(OVER, &[], leaf(OVER, true, "a")), SETTLED, Step::Authority)]
    #[case::new_authority_untrusted(facts(FRESH, &[DUE], leaf(FRESH, false, "a")), Published::Other, Step::Publish)]
    #[case::new_authority_on_its_way(facts(FRESH, &[DUE], leaf(DUE, false, "a")), NEW, Step::Wait)]
    #[case::new_authority_arrived(facts(FRESH, &[DUE], leaf(FRESH, false, "a")), SETTLED, Step::Leaf)]
    #[case::no_time_to_wait(facts(FRESH, &[DUE], leaf(OVER, false, "a")), NEW, Step::Leaf)]
    #[case::untrusted_and_over(facts(FRESH, &[DUE], leaf(OVER, false, "a")), Published::Other, Step::Publish)]
    #[case::earlier_over(facts(FRESH, &[DUE, OVER], leaf(FRESH, true, "a")), SETTLED, Step::Prune)]
    fn one_step_after_the_other(#[case] facts: Option<Facts>, #[case] published: Published, #[case] step: Step) {
        let hosts = BTreeSet::from(["a".to_owned()]);
        assert_eq!(next(facts.as_ref(), published, &hosts, NOW, &Policy::default()), step);
    }
}
