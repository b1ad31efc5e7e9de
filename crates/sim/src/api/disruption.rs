//! PodDisruptionBudgets: whether a Pod may be evicted now.

use serde_json::Value;

use super::call::Call;
use super::kinds::shelf;
use super::metadata;
use super::selector::Labels;

/// The budget that forbids the eviction of this Pod.
pub(crate) fn exhausted(call: &Call, pod: &Value) -> Option<String> {
    // what has not started disturbs nobody
    if matches!(pod["status"]["phase"].as_str(), None | Some("Pending" | "Succeeded" | "Failed")) {
        return None;
    }
    let store = &call.cluster.store;
    let (_, budgets) = store.list(&shelf("policy", "poddisruptionbudgets"), Some(call.namespace()));
    let (_, pods) = store.list(&call.kind.shelf, Some(call.namespace()));
    let forbidding = budgets.iter().find(|budget| {
        let Some(selector) = Labels::from_object(&budget.value["spec"]["selector"]) else { return false };
        if !selector.matches(pod) {
            return false;
        }
        let selected: Vec<&Value> = pods.iter().map(|pod| &pod.value).filter(|pod| selector.matches(pod)).collect();
        let healthy = selected.iter().filter(|pod| is_healthy(pod)).count();
        !allows(&budget.value["spec"], selected.len(), healthy, is_healthy(pod))
    });
    forbidding.and_then(|budget| budget.value["metadata"]["name"].as_str().map(str::to_owned))
}

fn is_healthy(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
    ready && !metadata::is_being_deleted(pod)
}

fn allows(spec: &Value, expected: usize, healthy: usize, is_healthy: bool) -> bool {
    let wanted = match (count(&spec["minAvailable"], expected), count(&spec["maxUnavailable"], expected)) {
        (Some(least), _) => least,
        (None, Some(most)) => expected.saturating_sub(most),
        (None, None) => return true,
    };
    match is_healthy {
        true => healthy > wanted,
        false => spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || healthy >= wanted,
    }
}

/// A number, or a share of all, rounded up.
fn count(value: &Value, expected: usize) -> Option<usize> {
    match value.as_str().and_then(|text| text.strip_suffix('%')) {
        Some(percent) => Some((percent.parse::<usize>().ok()? * expected).div_ceil(100)),
        None => value.as_u64().and_then(|number| usize::try_from(number).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::enough(json!({"minAvailable": 1}), 2, 2, true, true)]
    #[case::the_last(json!({"minAvailable": 1}), 2, 1, true, false)]
    #[case::one_at_a_time(json!({"maxUnavailable": 1}), 3, 3, true, true)]
    #[case::one_is_out(json!({"maxUnavailable": 1}), 3, 2, true, false)]
    #[case::a_share(json!({"minAvailable": "50%"}), 3, 2, true, false)]
    #[case::sick_with_enough_others(json!({"minAvailable": 1}), 2, 1, false, true)]
    #[case::sick_and_too_few_others(json!({"minAvailable": 1}), 2, 0, false, false)]
    #[case::sick_ones_may_always_go(json!({"minAvailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"}), 2, 0, false, true)]
    fn budgets(
        #[case] spec: Value,
        #[case] expected: usize,
        #[case] healthy: usize,
        #[case] is_healthy: bool,
        #[case] allowed: bool,
    ) {
        assert_eq!(allows(&spec, expected, healthy, is_healthy), allowed);
    }
}
