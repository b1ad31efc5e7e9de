//! What xtask says: results on standard output, everything else on standard error.

/// A line of the result.
#[expect(clippy::print_stdout, reason = "a command-line tool answers on standard output")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// A line about what is being done.
pub(crate) fn step(text: &str) {
    eprintln!("xtask: {text}");
}

/// Why it ended badly.
pub(crate) fn error(text: &str) {
    eprintln!("xtask: error: {text}");
}
