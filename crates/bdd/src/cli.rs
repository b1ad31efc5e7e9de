//! The command line of `pellucid-e2e`.

use std::path::PathBuf;

use clap::Parser;
use gherkin::tagexpr::TagOperation;
use regex::Regex;

use crate::selftest::Saboteur;

/// Runs Gherkin features against a simulated cluster and judges them by captured packets.
///
/// Exit status: 0 all scenarios passed, 1 some failed, 2 the run could not take place.
#[derive(Debug, Clone, Parser)]
#[command(name = "pellucid-e2e", version)]
pub struct Options {
    /// Only scenarios with these tags, as in `@EX-03 or (@documented and not @slow)`.
    #[arg(long, value_name = "EXPR")]
    pub tags: Option<TagOperation>,
    /// Only scenarios whose name matches this regular expression.
    #[arg(long, value_name = "RE")]
    pub name: Option<Regex>,
    /// How many scenarios run at once; scenarios tagged `@serial` always run alone.
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Leave the labs of failed scenarios running until Enter is pressed or the run is interrupted.
    #[arg(long)]
    pub keep: bool,
    /// Where reports and evidence go.
    #[arg(long, value_name = "DIR", default_value = "target/e2e")]
    pub out: PathBuf,
    /// Where the workspace's programs are [default: beside this one].
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Envoy [default: `envoy` on PATH].
    #[arg(long, value_name = "FILE", env = "PELLUCID_ENVOY")]
    pub envoy: Option<PathBuf>,
    /// Break things on purpose, one at a time, and report which scenarios notice.
    #[arg(long)]
    pub self_test: bool,
    /// Break this one thing on purpose.
    #[arg(long, value_name = "NAME")]
    pub saboteur: Option<Saboteur>,
    /// Feature files, or directories of them.
    #[arg(value_name = "FEATURE", default_value = "features")]
    pub features: Vec<PathBuf>,
}

/// Scenarios at once when nobody says: each waits more than it computes.
#[must_use]
pub fn default_jobs() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    (cores * 4).clamp(4, 32)
}
