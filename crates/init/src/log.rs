//! The program's log: to stderr, as text or as JSON.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is written.
    pub level: LevelFilter,
    /// JSON instead of text.
    pub json: bool,
}

/// The crates whose messages are written in full.
const OURS: [&str; 3] = ["init", "redirect", "netns"];

/// The level when none is given.
pub(crate) const DEFAULT_LEVEL: LevelFilter = LevelFilter::INFO;

/// Reads a level name; `None` when there is no such level.
pub(crate) fn level(name: &str) -> Option<LevelFilter> {
    match name.to_ascii_lowercase().as_str() {
        "trace" => Some(LevelFilter::TRACE),
        "debug" => Some(LevelFilter::DEBUG),
        "info" => Some(LevelFilter::INFO),
        "warn" => Some(LevelFilter::WARN),
        "error" => Some(LevelFilter::ERROR),
        _ => None,
    }
}

/// An error with what led to it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Starts logging for the whole process; a second start changes nothing.
pub(crate) fn start(log: &Log) {
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(log.level).with_target(false);
    // what the HTTP client says below that is every byte that it sends, tokens too
    let others = log.level.min(LevelFilter::INFO);
    let targets = OURS.map(|ours| (ours, log.level)).into_iter().collect::<Targets>().with_default(others);
    let started = if log.json {
        builder.json().finish().with(targets).try_init()
    } else {
        builder.with_ansi(false).finish().with(targets).try_init()
    };
    if started.is_err() {
        tracing::debug!("logging had been started already");
    }
}
