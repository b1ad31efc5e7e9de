//! What the measurements of `cargo xtask bench` share: samples, ratios of one run, the aims that they are held against, and how
//! all of it is told.
//!
//! Only ratios of contestants that took turns in the same run are to be compared. An aim that is missed is told and is no
//! failure: a busy machine must not look like a broken program.
//!
//! And what tests of several crates share: [`stepping`].

pub mod consul;
mod options;
mod report;
mod samples;
pub mod stepping;

pub use options::{Options, WrongArgument};
pub use report::{Aim, Report};
pub use samples::Samples;

use std::error::Error;
use std::process::ExitCode;

/// Runs a measurement with this program's arguments, and tells its report; `rounds` are the turns of who says nothing.
///
/// Ends with 0, with 1 where something could not be measured, and with 2 for wrong arguments.
#[expect(clippy::print_stderr, reason = "a measurement that does not take place says why")]
pub fn run(rounds: usize, measure: impl FnOnce(&mut Report, usize) -> Result<(), Box<dyn Error>>) -> ExitCode {
    let options = match Options::read(std::env::args().skip(1), rounds) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::new(options.json);
    match measure(&mut report, options.rounds) {
        Ok(()) => {
            report.end();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("failed to measure: {error}");
            ExitCode::FAILURE
        }
    }
}
