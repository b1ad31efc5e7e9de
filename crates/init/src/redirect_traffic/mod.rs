//! `redirect-traffic`: the flags of `consul connect redirect-traffic` and the operations `apply`, `verify`, `remove` and
//! `explain`, in this network namespace or another.
//!
//! There is no agent to ask: `-proxy-id` needs `-node-name`, `-dual-stack` has to be said, and ports that an agent exposes for
//! checks are not known. Everything else is as Consul has it; `-redirect-traffic-config` takes the webhook's JSON in place of
//! flags, or with flags on top.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use netns::NetNs;
use redirect::kernel::{apply_with, remove, script, verify_with};
use redirect::rules::explain;
use redirect::{Backend, Config, Policy};

use crate::catalog::Catalog;
use crate::reader::Asked;
use crate::{log, probe_sources, with_sockets_of};

mod http_client;
mod question;
mod registration;
mod report;
mod settings;

pub use question::{Direction, Question};
pub use registration::{LookupError, config_of};
use report::Report;
pub use settings::{Operation, Settings, Source};

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, or all is as it should be.
    Success,
    /// It was not done. Exit status 1.
    Failure,
    /// `verify` found differences. Exit status 2.
    Drift,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::SUCCESS,
            Outcome::Failure => Self::FAILURE,
            Outcome::Drift => Self::from(2),
        }
    }
}

/// Runs the program with its arguments (without its own name) and a look-up of environment variables. Results go to stdout,
/// complaints to stderr.
#[must_use]
pub fn main(arguments: Vec<String>, environment: impl Fn(&str) -> Option<String>) -> Outcome {
    match Settings::read(arguments, environment) {
        Ok(Asked::Help(text)) => printed(&text, Outcome::Success),
        Ok(Asked::Run(settings)) => {
            log::start(&settings.log);
            match run(&settings) {
                Ok(report) => printed(&report.text(settings.json), report.outcome()),
                Err(error) => failed(settings.operation.failing(), &format!("{error:#}"), settings.json),
            }
        }
        // each on a line of its own, as Consul prints them
        Err(errors) => failed("", &errors.mistakes().join("\n"), false),
    }
}

fn failed(doing: &str, error: &str, json: bool) -> Outcome {
    eprintln!("{doing}{error}");
    if json {
        return printed(&format!("{}\n", serde_json::json!({ "error": error })), Outcome::Failure);
    }
    Outcome::Failure
}

fn printed(text: &str, outcome: Outcome) -> Outcome {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => outcome,
        Err(error) => {
            eprintln!("print the result: {error}");
            Outcome::Failure
        }
    }
}

fn run(settings: &Settings) -> anyhow::Result<Report> {
    let Some(path) = &settings.netns else { return operate(settings) };
    // an address of this namespace may not be one of that one, so all of it happens there but the look-up
    let config = looked_up(settings)?;
    let namespace = NetNs::open(path).with_context(|| format!("follow -netns = {}", path.display()))?;
    let here = Settings { netns: None, source: Source::Given, config, ..settings.clone() };
    namespace.run(|| operate(&here))?
}

/// In the current network namespace.
fn operate(settings: &Settings) -> anyhow::Result<Report> {
    let policy = || {
        let mut config = looked_up(settings)?;
        probe_sources::fill(&mut config, &settings.node_addresses);
        anyhow::Ok(Policy::from_config(&config, settings.dual_stack)?)
    };
    Ok(match &settings.operation {
        Operation::Apply if settings.dry_run => Report::Scripts(scripts(settings.backend, &policy()?)),
        Operation::Apply => Report::Applied(apply_with(settings.backend, &policy()?)?),
        Operation::Verify => Report::Verified(verify_with(settings.backend, &policy()?)?),
        Operation::Explain(question) => {
            let packet = question.packet().context("list the addresses of this network namespace")?;
            Report::Explained(explain(&policy()?, &packet))
        }
        Operation::Remove => Report::Removed(remove()?),
    })
}

/// What each backend would be told, or the one that was asked for.
fn scripts(asked: Backend, policy: &Policy) -> Vec<report::Script> {
    let is_wanted = |backend: &Backend| *backend != Backend::Auto && (asked == Backend::Auto || asked == *backend);
    let of = |backend| {
        let parts = script(backend, policy).into_iter();
        parts.map(move |(place, script)| report::Script { backend, place, script })
    };
    Backend::ALL.into_iter().filter(is_wanted).flat_map(of).collect()
}

fn looked_up(settings: &Settings) -> anyhow::Result<Config> {
    let config = settings.config.clone();
    match &settings.source {
        Source::Given => Ok(config),
        Source::Registration { proxy, node, servers } => {
            let catalog = Catalog::new(servers);
            let look = || registration::look_up(&catalog, node, proxy);
            // rules of an earlier run would lead to a proxy that may not listen yet
            let service = with_sockets_of(config.proxy_user_id.trim().parse().ok(), look)?;
            Ok(config_of(&service, config)?)
        }
    }
}
