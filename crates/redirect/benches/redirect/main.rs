//! Measures what redirection costs, in ratios: `cargo xtask bench redirect` sets up and runs it.
//!
//! Sections: installing and checking the usual rules against Consul's own way, a process per rule; growth with excluded blocks
//! and ports; TCP connections through the rules against none. All contestants of a section take turns in one run, each in a
//! network namespace of its own, so that only ratios of the same run are to be compared. An aim that is missed is told and is no
//! failure: a busy machine must not look like a broken program.

mod bed;
mod connect;
mod growth;
mod install;

use std::process::ExitCode;

fn main() -> ExitCode {
    measure::run(40, |report, rounds| {
        install::measure(report, rounds, false);
        install::measure(report, rounds, true);
        growth::measure(report, rounds.div_ceil(2));
        connect::measure(report, rounds);
        Ok(())
    })
}
