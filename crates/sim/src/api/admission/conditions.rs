//! `matchConditions` of a webhook: CEL over the request, the last say in whether the webhook is asked.

use std::collections::HashMap;

use cel::{Context, Program, Value as Cel};
use serde_json::Value;

/// Whether the webhook is to be asked. One condition that is false is enough for no, whatever becomes of the others.
///
/// # Errors
/// A condition cannot be evaluated, and none is false.
pub(super) fn hold(webhook: &Value, review: &Value) -> Result<bool, String> {
    let Some(conditions) = webhook["matchConditions"].as_array().filter(|conditions| !conditions.is_empty()) else {
        return Ok(true);
    };
    let scene = Scene::of(review);
    let evaluated: Vec<Result<bool, String>> = conditions
        .iter()
        .map(|condition| {
            let name = condition["name"].as_str().unwrap_or_default();
            let expression = condition["expression"].as_str().unwrap_or_default();
            let wrong = |why| format!("match condition \"{name}\": expression '{expression}': {why}");
            scene.evaluate(expression).map_err(wrong)
        })
        .collect();
    if evaluated.contains(&Ok(false)) {
        return Ok(false);
    }
    evaluated.into_iter().collect::<Result<Vec<_>, _>>().map(|_| true)
}

/// What expressions see of a request.
pub(super) struct Scene(Context<'static, 'static>);

impl Scene {
    pub(super) fn of(review: &Value) -> Self {
        let request = &review["request"];
        let mut about = request.clone();
        if let Some(about) = about.as_object_mut() {
            about.retain(|key, _| !matches!(key.as_str(), "object" | "oldObject" | "options"));
        }
        let variables = [("object", value(&request["object"])), ("oldObject", value(&request["oldObject"]))];
        let mut context = Context::default();
        for (name, value) in variables.into_iter().chain([("request", value(&about))]) {
            context.add_variable_from_value(name, value);
        }
        Self(context)
    }

    /// An expression that is true or false.
    ///
    /// # Errors
    /// It is neither, or cannot be evaluated.
    pub(super) fn evaluate(&self, expression: &str) -> Result<bool, String> {
        let program = Program::compile(expression).map_err(|error| error.to_string())?;
        match program.execute(&self.0) {
            Ok(Cel::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("must yield a bool and yields {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// JSON as CEL sees objects of Kubernetes: whole numbers are `int`, whatever their sign.
fn value(json: &Value) -> Cel {
    match json {
        Value::Null => Cel::Null,
        Value::Bool(flag) => Cel::Bool(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Cel::Int(whole),
            None => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cel::from(text.as_str()),
        Value::Array(items) => Cel::from(items.iter().map(value).collect::<Vec<_>>()),
        Value::Object(members) => {
            Cel::from(members.iter().map(|(key, member)| (key.clone(), value(member))).collect::<HashMap<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    const HOST: &str = "has(object.spec.hostNetwork) && object.spec.hostNetwork";

    #[rstest]
    #[case::none(&[], json!({}), Ok(true))]
    #[case::absent(&[HOST], json!({"spec": {}}), Ok(false))]
    #[case::holds(&[HOST], json!({"spec": {"hostNetwork": true}}), Ok(true))]
    #[case::all_of_them(&[HOST, "false"], json!({"spec": {"hostNetwork": true}}), Ok(false))]
    #[case::numbers(&["object.spec.priority > 5"], json!({"spec": {"priority": 6}}), Ok(true))]
    #[case::request(&["request.operation == 'CREATE' && !has(request.object)"], json!({}), Ok(true))]
    #[case::old(&["oldObject == null"], json!({}), Ok(true))]
    #[case::every(&["object.spec.containers.all(c, c.name.startsWith('a'))"], json!({"spec": {"containers": [{"name": "ab"}]}}), Ok(true))]
    #[case::false_beats_errors(&["object.spec.nothing", "false"], json!({"spec": {}}), Ok(false))]
    #[case::missing(&["object.spec.nothing"], json!({"spec": {}}), Err("nothing"))]
    #[case::no_bool(&["1"], json!({}), Err("must yield a bool"))]
    #[case::unreadable(&["has("], json!({}), Err("expression 'has('"))]
    fn conditions(#[case] expressions: &[&str], #[case] object: Value, #[case] expected: Result<bool, &str>) {
        let conditions: Vec<Value> =
            expressions.iter().map(|expression| json!({"name": "c", "expression": expression})).collect();
        let review = json!({"request": {"operation": "CREATE", "object": object, "oldObject": null}});
        match (hold(&json!({"matchConditions": conditions}), &review), expected) {
            (Ok(seen), Ok(expected)) => assert_eq!(seen, expected),
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (seen, expected) => panic!("{seen:?}, expected {expected:?}"),
        }
    }
}
