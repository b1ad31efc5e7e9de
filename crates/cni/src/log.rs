//! The logs: the plugin's to standard error, which runtimes keep, or to a file; the node agent's to standard error.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Mutex;
use tracing_subscriber::filter::LevelFilter;

/// Starts the node agent's log.
pub(crate) fn to_stderr(level: &str, json: bool) {
    let format =
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(self::level(level)).with_target(false);
    // started once in a process; a second start changes nothing
    let _ = if json { format.json().try_init() } else { format.with_ansi(false).try_init() };
}

fn level(name: &str) -> LevelFilter {
    match name.to_ascii_lowercase().as_str() {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "warn" => LevelFilter::WARN,
        "error" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}

/// Starts the plugin's log. A file that cannot be opened is no reason to fail: standard error is written to instead.
pub(crate) fn start(level: &str, file: Option<&Path>) {
    let level = self::level(level);
    let format = || tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_target(false);
    let file = file.filter(|file| file.is_absolute());
    let opened = file.and_then(|file| OpenOptions::new().create(true).append(true).open(file).ok());
    // started once in a process; a second start changes nothing
    let _ = match opened {
        Some(file) => format().with_writer(Mutex::new(file)).try_init(),
        None => format().with_writer(std::io::stderr).try_init(),
    };
}
