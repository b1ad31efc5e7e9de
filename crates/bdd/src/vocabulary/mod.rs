//! The published vocabulary: every phrase a feature file may use, as a Cucumber Expression with the function behind it.

mod arguments;
pub mod parameters;

use std::time::Duration;

use anyhow::{Context as _, Result};
use cucumber::step::{Collection, Step};
use cucumber_expressions::Expression;
use regex::Regex;

pub use arguments::Arguments;

use crate::world::World;

/// One phrase.
#[derive(Clone, Copy)]
pub struct Phrase {
    /// Its number in the catalogue: `G1`, `W14` …
    pub id: &'static str,
    /// The Cucumber Expression.
    pub expression: &'static str,
    /// What it does.
    pub step: Step<World>,
}

/// Writes a table of phrases: `"G1" "a mesh" => function;`, where a function is
/// `async fn(&mut World, Arguments) -> anyhow::Result<()>`.
macro_rules! phrases {
    ($($id:literal $expression:literal => $function:path;)*) => {
        &[$({
            fn step<'a>(
                world: &'a mut $crate::world::World,
                context: cucumber::step::Context,
            ) -> futures::future::LocalBoxFuture<'a, ()> {
                Box::pin(async move {
                    let arguments = $crate::vocabulary::Arguments::of(&context);
                    world.enter($id, &context.step);
                    let result = match arguments.belong() {
                        Ok(()) => $crate::vocabulary::guarded($function(world, arguments)).await,
                        Err(error) => Err(error),
                    };
                    world.leave(result);
                })
            }
            $crate::vocabulary::Phrase { id: $id, expression: $expression, step }
        }),*]
    };
}
pub(crate) use phrases;

/// A step that hangs in something without a deadline of its own ends all the same.
pub(crate) async fn guarded(step: impl Future<Output = Result<()>>) -> Result<()> {
    match tokio::time::timeout(STEP, step).await {
        Ok(result) => result,
        Err(_) => anyhow::bail!("end the step within {} s; the timeline says what it did last", STEP.as_secs()),
    }
}

/// More than any step takes whose waits have deadlines.
const STEP: Duration = Duration::from_secs(180);

/// All phrases.
#[must_use]
pub fn all() -> Vec<Phrase> {
    [crate::steps::state(), crate::steps::events(), crate::steps::results(), crate::steps::evidence()].concat()
}

impl Phrase {
    /// The expression, compiled.
    ///
    /// # Errors
    /// When the expression is not one.
    pub fn regex(&self) -> Result<Regex> {
        let parameters = parameters::all();
        Expression::regex_with_parameters(self.expression, &parameters)
            .map_err(|e| anyhow::anyhow!("{e}"))
            .with_context(|| format!("compile the phrase {} {:?}", self.id, self.expression))
    }
}

/// The phrases as Cucumber wants them: each under Given, When and Then, because a keyword is for the reader.
///
/// # Errors
/// When an expression is not one.
pub fn collection() -> Result<Collection<World>> {
    let mut collection = Collection::new();
    for phrase in all() {
        let regex = phrase.regex()?;
        collection = collection.given(None, regex.clone(), phrase.step).when(None, regex.clone(), phrase.step).then(
            None,
            regex,
            phrase.step,
        );
    }
    Ok(collection)
}
