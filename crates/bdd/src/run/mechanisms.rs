//! Scenarios that must hold whoever redirects, said once and run for each mechanism.

use gherkin::{Feature, Scenario, Step, StepType};

/// Tag of a feature, or of a scenario: it runs once as it is, and once with the CNI plugin.
const EACH: &str = "each-mechanism";
/// Tag of a scenario of such a feature that is about the init container.
const ONE: &str = "one-mechanism";
/// What a scenario says that chooses by itself.
const CHOOSES: [&str; 4] = ["redirection", "rule backend", "failing rule", "connectInject.cni"];

/// Adds the scenarios with the CNI plugin.
pub(super) fn each(mut feature: Feature) -> Feature {
    let all = feature.tags.iter().any(|tag| tag == EACH);
    feature.scenarios = feature.scenarios.into_iter().flat_map(|scenario| twice(scenario, all)).collect();
    for rule in &mut feature.rules {
        let all = all || rule.tags.iter().any(|tag| tag == EACH);
        rule.scenarios = std::mem::take(&mut rule.scenarios).into_iter().flat_map(|s| twice(s, all)).collect();
    }
    feature
}

fn twice(scenario: Scenario, all: bool) -> Vec<Scenario> {
    let tagged = |name: &str| scenario.tags.iter().any(|tag| tag == name);
    let chooses = |text: &str| CHOOSES.iter().any(|word| text.contains(word));
    let by_itself = scenario.steps.iter().any(|step| {
        let cells = step.table.iter().flat_map(|table| table.rows.iter().filter_map(|row| row.first()));
        chooses(&step.value) || cells.into_iter().any(|cell| chooses(cell))
    });
    if !(all || tagged(EACH)) || tagged(ONE) || by_itself {
        return vec![scenario];
    }
    let mut other = scenario.clone();
    other.name = format!("{}, by the CNI plugin", scenario.name);
    other.steps.insert(0, by_the_plugin(&scenario));
    vec![scenario, other]
}

fn by_the_plugin(scenario: &Scenario) -> Step {
    Step {
        keyword: "Given ".to_owned(),
        ty: StepType::Given,
        value: "redirection by the CNI plugin".to_owned(),
        docstring: None,
        table: None,
        span: scenario.span,
        position: scenario.position,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gherkin::GherkinEnv;
    use rstest::rstest;

    #[rstest]
    #[case::untagged("", "Given a mesh", 1)]
    #[case::tagged("@each-mechanism", "Given a mesh", 2)]
    #[case::of_the_init_container("@each-mechanism @one-mechanism", "Given a mesh", 1)]
    #[case::chooses("@each-mechanism", "Given redirection by the init container", 1)]
    #[case::chooses_in_a_table("@each-mechanism", "Given a mesh with:\n      | rule backend | nftables |", 1)]
    fn scenarios(#[case] tags: &str, #[case] step: &str, #[case] expected: usize) {
        let text = format!("Feature: F\n  {tags}\n  Scenario: s\n    {step}\n");
        let feature = each(Feature::parse(&text, GherkinEnv::default()).expect("a feature"));
        assert_eq!(feature.scenarios.len(), expected);
        let steps: Vec<_> = feature.scenarios.iter().map(|scenario| scenario.steps[0].value.as_str()).collect();
        assert_eq!(steps.iter().filter(|step| step.ends_with("by the CNI plugin")).count(), expected - 1);
    }
}
