//! The rules against the specification, without a kernel: both say the same of any packet under any policy.

use proptest::prelude::*;
use redirect::rules::explain;

mod arbitrary;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn rules_decide_as_the_policy_does(policy in arbitrary::policy(), packet in arbitrary::packet()) {
        let explanation = explain(&policy, &packet);
        prop_assert_eq!(explanation.decided(), policy.verdict(&packet), "{}", explanation);
    }
}
