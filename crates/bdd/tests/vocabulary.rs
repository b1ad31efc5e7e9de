//! Every step of the published catalogue, and every step of the repository's features, matches exactly one phrase.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bdd::vocabulary::{self, Arguments};
use gherkin::{GherkinEnv, StepType};

/// All distinct step texts of the catalogue, outlines expanded.
const CATALOGUE: &str = include_str!("vocabulary.txt");

fn matching(text: &str) -> Vec<&'static str> {
    let regexes = vocabulary::all().into_iter().map(|p| (p.id, p.regex().expect("a Cucumber Expression")));
    regexes.filter(|(_, re)| re.is_match(text)).map(|(id, _)| id).collect()
}

#[test]
fn every_step_of_the_catalogue_matches_exactly_one_phrase() {
    let regexes: Vec<_> =
        vocabulary::all().into_iter().map(|p| (p.id, p.regex().expect("a Cucumber Expression"))).collect();
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for text in CATALOGUE.lines() {
        let found: Vec<_> = regexes.iter().filter(|(_, re)| re.is_match(text)).map(|(id, _)| *id).collect();
        used.extend(found.iter().copied());
        if found.len() != 1 {
            wrong.push(format!("{text:?} matches {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unused: Vec<_> = regexes.iter().map(|(id, _)| *id).filter(|id| !used.contains(id)).collect();
    // no scenario of the catalogue runs the plugin by itself
    assert_eq!(unused, ["W26"]);
}

#[test]
fn there_are_as_many_phrases_and_types_as_published() {
    assert_eq!(vocabulary::all().len(), 67);
    let own = vocabulary::parameters::all();
    // `{string}` and `{int}` are built into Cucumber Expressions
    assert_eq!(own.len() + 2, 25);
}

#[test]
fn every_step_of_the_features_matches_exactly_one_phrase() {
    let features = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../features");
    let parsed = bdd::run::parse(&[features]).expect("the repository's features");
    let regexes: Vec<_> =
        vocabulary::all().into_iter().map(|p| (p.id, p.regex().expect("a Cucumber Expression"))).collect();
    for (text, place) in parsed.steps() {
        let found: Vec<_> = regexes.iter().filter(|(_, re)| re.is_match(&text)).map(|(id, _)| *id).collect();
        assert_eq!(found.len(), 1, "{place}: {text:?} matches {found:?}");
    }
}

#[test]
fn a_phrase_may_stand_after_any_keyword() {
    let collection = vocabulary::collection().expect("phrases");
    for keyword in ["Given", "When", "Then"] {
        let text = format!("Feature: f\n  Scenario: s\n    {keyword} \"a\" may now reach \"b\"\n");
        let feature = gherkin::Feature::parse(text, GherkinEnv::default()).expect("Gherkin");
        let step = &feature.scenarios[0].steps[0];
        assert!(matches!(step.ty, StepType::Given | StepType::When | StepType::Then));
        let (_, _, _, context) = collection.find(step).expect("one phrase").expect("a phrase");
        let mut arguments = Arguments::of(&context);
        assert_eq!(arguments.string().expect("a source"), "a");
        assert_eq!(arguments.get::<vocabulary::parameters::May>().expect("a may").to_string(), "may");
        assert_eq!(arguments.string().expect("a destination"), "b");
    }
}

#[test]
fn what_is_no_phrase_matches_none() {
    assert!(matching("the moon is full").is_empty());
    assert!(matching("it is splendid").is_empty());
}
