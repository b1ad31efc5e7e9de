//! ValidatingAdmissionPolicies: CEL over the request, bound by ValidatingAdmissionPolicyBindings with action `Deny`. Parameters,
//! variables and `matchResources` of bindings are not followed.

use serde_json::{Value, json};

use super::conditions::{self, Scene};
use super::{GROUP, Operation, matching, review};
use crate::api::call::Call;
use crate::api::kinds::shelf;
use crate::api::status;

/// Refuses what a policy denies.
pub(super) fn check(
    call: &Call,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> status::Result<()> {
    let list = |plural| call.cluster.store.list(&shelf(GROUP, plural), None).1;
    let bindings = list("validatingadmissionpolicybindings");
    if bindings.is_empty() || call.kind.group == GROUP {
        return Ok(());
    }
    for policy in list("validatingadmissionpolicies") {
        let name = policy.value["metadata"]["name"].as_str().unwrap_or_default();
        let denying = bindings.iter().find(|binding| {
            let actions = binding.value["spec"]["validationActions"].as_array();
            binding.value["spec"]["policyName"] == name && actions.into_iter().flatten().any(|action| action == "Deny")
        });
        let Some(binding) = denying.and_then(|binding| binding.value["metadata"]["name"].as_str()) else { continue };
        let spec = &policy.value["spec"];
        let constraints = &spec["matchConstraints"];
        let asked = json!({
            "rules": constraints["resourceRules"],
            "namespaceSelector": constraints["namespaceSelector"],
            "objectSelector": constraints["objectSelector"],
        });
        if !matching::matches(call, &asked, operation, object, old) {
            continue;
        }
        let review = review::request(call, operation, object, old);
        if let Err(why) = verdict(spec, &review) {
            let object_name = review["request"]["name"].as_str().unwrap_or_default();
            let message = format!("ValidatingAdmissionPolicy '{name}' with binding '{binding}' denied request: {why}");
            return Err(call.forbidden(object_name, &message));
        }
    }
    Ok(())
}

/// Why a policy denies. What cannot be evaluated is denied, unless failures are to be ignored.
fn verdict(spec: &Value, review: &Value) -> Result<(), String> {
    let ignored = |why: String| if spec["failurePolicy"] == "Ignore" { Ok(()) } else { Err(why) };
    match conditions::hold(spec, review) {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        Err(why) => return ignored(why),
    }
    let scene = Scene::of(review);
    for validation in spec["validations"].as_array().into_iter().flatten() {
        let expression = validation["expression"].as_str().unwrap_or_default();
        match scene.evaluate(expression) {
            Ok(true) => {}
            Ok(false) => {
                let message = validation["message"].as_str();
                return Err(message.map_or_else(|| format!("failed expression: {expression}"), str::to_owned));
            }
            Err(why) => ignored(format!("expression '{expression}' resulted in error: {why}"))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::holds(json!({"validations": [{"expression": "object.a == 1"}]}), Ok(()))]
    #[case::does_not(json!({"validations": [{"expression": "object.a == 2", "message": "a must be 2"}]}), Err("a must be 2"))]
    #[case::without_a_message(json!({"validations": [{"expression": "object.a == 2"}]}), Err("failed expression: object.a == 2"))]
    #[case::not_meant(json!({"matchConditions": [{"name": "n", "expression": "false"}], "validations": [{"expression": "false"}]}), Ok(()))]
    #[case::broken(json!({"validations": [{"expression": "object.b == 2"}]}), Err("expression 'object.b == 2' resulted in error"))]
    #[case::broken_and_ignored(json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.b == 2"}]}), Ok(()))]
    #[case::the_old_one(json!({"validations": [{"expression": "object.a != oldObject.a"}]}), Ok(()))]
    #[case::who(json!({"validations": [{"expression": "object.node == request.userInfo.extra[\"k/n\"][0]"}]}), Ok(()))]
    #[case::all_but_one(json!({"validations": [{"expression": "object.m.all(k, k == \"x\" || object.m[k] == oldObject.m[k])"}]}), Ok(()))]
    fn verdicts(#[case] spec: Value, #[case] expected: Result<(), &str>) {
        let object = json!({"a": 1, "node": "n", "m": {"x": "1", "y": "2"}});
        let old = json!({"a": 0, "m": {"x": "0", "y": "2"}});
        let review = json!({"request": {"object": object, "oldObject": old, "userInfo": {"extra": {"k/n": ["n"]}}}});
        let found = verdict(&spec, &review);
        assert_eq!(found.is_ok(), expected.is_ok(), "{found:?}");
        assert!(found.err().unwrap_or_default().starts_with(expected.err().unwrap_or_default()));
    }
}
