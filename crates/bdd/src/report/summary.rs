//! The end of a run, in words and numbers.

use std::fmt::Write as _;

use crate::run::Reports;
use crate::selftest::Caught;
use crate::suite::{Finished, Suite};

/// Prints what happened, with everything needed to look at a failure and to see it again.
pub fn summary(suite: &Suite, reports: &Reports) {
    print(&text(suite, reports));
}

fn text(suite: &Suite, reports: &Reports) -> String {
    let all = suite.finished();
    let failed: Vec<&Finished> = all.iter().filter(|f| f.failure.is_some()).collect();
    let passed = all.len() - failed.len();
    let seconds = suite.started.elapsed().as_secs_f64();
    let proven: usize = all.iter().filter(|f| f.failure.is_none()).map(|f| f.proven).sum();
    let first = all.iter().map(|f| f.at).min().unwrap_or_default().as_secs_f64();
    let mut text = String::from("\n");
    for f in &failed {
        let (step, message) = f.failure.clone().unwrap_or_default();
        // writing to a String cannot fail
        let _ = writeln!(text, "✘ {}\n  step      {step}", f.name);
        let _ = writeln!(text, "  message   {}", message.replace('\n', "\n            "));
        let _ = writeln!(text, "  evidence  {}", f.folder.display());
        let _ = writeln!(text, "  again     {}\n", again(&f.scenario, &f.path));
    }
    #[expect(clippy::cast_precision_loss, reason = "a run has thousands of scenarios at most")]
    let per_minute = if seconds > 0.0 { passed as f64 * 60.0 / seconds } else { 0.0 };
    let _ = writeln!(text, "{} runs, {passed} passed, {} failed in {seconds:.1} s", all.len(), failed.len());
    let _ = writeln!(
        text,
        "{per_minute:.0} proven scenario runs per minute, {proven} statements proven by packets or rules"
    );
    let _ = write!(text, "first verdict after {first:.1} s");
    if let Some(median) = suite.median_ready() {
        let _ = write!(text, ", Pod create to Ready {} ms (median)", median.as_millis());
    }
    let _ = writeln!(text, "\nreports   {}\n          {}", reports.json.display(), reports.junit.display());
    let _ = writeln!(text, "evidence  {}", suite.settings.out.display());
    text
}

/// A command that runs the scenario again.
#[must_use]
pub fn again(scenario: &str, path: &str) -> String {
    format!("cargo xtask e2e --name '^{}$' {path}", regex::escape(scenario).replace('\'', "."))
}

/// Prints which scenarios caught which saboteur.
pub fn saboteurs(caught: &[Caught]) {
    let mut text = String::from("\nsaboteur            caught by\n");
    for c in caught {
        let verdict = if c.is_caught() { "" } else { "NOT CAUGHT by a scenario that is about it; " };
        let _ = writeln!(text, "{:<19} {verdict}{} of {} runs failed", c.saboteur.name(), c.by.len(), c.runs);
        for (name, step) in &c.by {
            let mark = if c.about.contains(name) { "*" } else { " " };
            let _ = writeln!(text, "                   {mark}{name} at {step:?}");
        }
    }
    let uncaught = caught.iter().filter(|c| !c.is_caught()).count();
    let _ = writeln!(text, "* is about it\n{} saboteurs, {uncaught} not caught", caught.len());
    print(&text);
}

/// Says why a run could not take place.
pub fn could_not_run(error: &anyhow::Error) {
    #[expect(clippy::print_stderr, reason = "the last word of the program")]
    {
        eprintln!("pellucid-e2e: could not run: failed to {error:#}");
    }
}

#[expect(clippy::print_stdout, reason = "the summary is what the program is run for")]
fn print(text: &str) {
    println!("{text}");
}
