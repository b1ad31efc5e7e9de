//! The program's log: to stderr, as text or as JSON.

use tracing_subscriber::filter::LevelFilter;

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is written.
    pub level: LevelFilter,
    /// JSON instead of text.
    pub json: bool,
}

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

/// Starts logging for the whole process; a second start changes nothing.
pub(crate) fn start(log: &Log) {
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(log.level).with_target(false);
    let started = if log.json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
    if started.is_err() {
        tracing::debug!("logging had been started already");
    }
}
