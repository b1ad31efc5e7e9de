//! One run: features in, verdicts out.

mod features;
mod machine;
mod mechanisms;

use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cucumber::event::ScenarioFinished;
use cucumber::writer::{self, Verbosity};
use cucumber::{WriterExt as _, cli, runner};
use futures::FutureExt as _;
use workload::payload::Payload;

pub use features::{Parsed, Selection, parse};
pub use machine::{envoy, require};

use crate::evidence::Folder;
use crate::suite::{Finished, Suite};
use crate::world::World;

/// Files that a run leaves besides the evidence.
#[derive(Debug, Clone)]
pub struct Reports {
    /// Cucumber JSON.
    pub json: PathBuf,
    /// JUnit XML.
    pub junit: PathBuf,
}

/// Runs the features; the verdicts are in the suite.
///
/// # Errors
/// When the reports cannot be written or a phrase of ours does not compile.
pub async fn run(suite: &Arc<Suite>, features: Parsed, jobs: usize) -> Result<Reports> {
    let out = &suite.settings.out;
    std::fs::create_dir_all(out).with_context(|| format!("make {}", out.display()))?;
    let reports = Reports { json: out.join("cucumber.json"), junit: out.join("junit.xml") };
    let create = |path: &PathBuf| File::create(path).with_context(|| format!("write {}", path.display()));
    let writer = writer::Json::for_tee(create(&reports.json)?)
        .tee::<World, _>(writer::JUnit::for_tee(create(&reports.junit)?, Verbosity::Default))
        .normalized::<World>()
        .fail_on_skipped();
    let names = Rc::new(features.names());
    let (before, after) = (Arc::clone(suite), Arc::clone(suite));
    let (named, renamed) = (Rc::clone(&names), names);
    let runner = runner::Basic::<World>::default()
        .max_concurrent_scenarios(jobs)
        .steps(crate::vocabulary::collection()?)
        .before(move |feature, rule, scenario, world| {
            let named = named.of(feature, scenario);
            let folder = Folder::new(before.settings.out.join(&named.folder));
            let again = crate::report::again(&scenario.name, &named.path);
            let backgrounds = feature.background.iter().chain(rule.and_then(|rule| rule.background.as_ref()));
            let steps = backgrounds.flat_map(|background| &background.steps).chain(&scenario.steps);
            let bulk = steps.map(|step| longest_stream(&step.value)).max().unwrap_or_default();
            world.begin(Arc::clone(&before), named.name, again, folder, bulk);
            futures::future::ready(()).boxed_local()
        })
        .after(move |feature, rule, scenario, finished, world| {
            let suite = Arc::clone(&after);
            let named = renamed.of(feature, scenario);
            let tags = features::tags(feature, rule, scenario).map(str::to_owned).collect();
            let failure = failure(finished, &scenario.steps);
            async move {
                let Some(world) = world else { return };
                world.finish(failure).await;
                suite.finish(Finished {
                    name: named.name,
                    path: named.path,
                    scenario: scenario.name.clone(),
                    tags,
                    failure: world.failure.clone(),
                    took: world.elapsed(),
                    at: std::time::Duration::ZERO,
                    folder: world.folder.path().to_owned(),
                    proven: world.proven,
                });
            }
            .boxed_local()
        });
    cucumber::Cucumber::<World, _, _, _, _, cli::Empty>::custom(features, runner, writer)
        .with_default_cli()
        .run(())
        .await;
    Ok(reports)
}

/// Bytes of the longest stream that a step speaks of.
fn longest_stream(step: &str) -> u64 {
    step.split('"').skip(1).step_by(2).map(Payload::stream_length).max().unwrap_or_default()
}

/// What cucumber knows of a failure that the World does not: a step that matches no phrase.
fn failure(finished: &ScenarioFinished, steps: &[gherkin::Step]) -> Option<String> {
    match finished {
        ScenarioFinished::StepPassed => None,
        ScenarioFinished::StepSkipped => {
            let unknown = steps.iter().find(|step| {
                !crate::vocabulary::all()
                    .iter()
                    .any(|phrase| phrase.regex().is_ok_and(|regex| regex.is_match(&step.value)))
            });
            let text = unknown.map_or("the next step", |step| step.value.as_str());
            Some(format!("\"{text}\" matches no phrase of the vocabulary"))
        }
        ScenarioFinished::StepFailed(_, _, error) => Some(error.to_string()),
        ScenarioFinished::BeforeHookFailed(_) => Some("the scenario could not begin".to_owned()),
    }
}
