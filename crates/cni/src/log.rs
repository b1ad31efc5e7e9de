//! The plugin's log: to standard error, which runtimes keep, or to a file.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Mutex;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging. A file that cannot be opened is no reason to fail: standard error is written to instead.
pub(crate) fn start(level: &str, file: Option<&Path>) {
    let level = match level.to_ascii_lowercase().as_str() {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "warn" => LevelFilter::WARN,
        "error" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    let format = || tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_target(false);
    let file = file.filter(|file| file.is_absolute());
    let opened = file.and_then(|file| OpenOptions::new().create(true).append(true).open(file).ok());
    // started once in a process; a second start changes nothing
    let _ = match opened {
        Some(file) => format().with_writer(Mutex::new(file)).try_init(),
        None => format().with_writer(std::io::stderr).try_init(),
    };
}
