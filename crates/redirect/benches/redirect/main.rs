//! Measures what redirection costs, in ratios: `cargo xtask bench redirect` sets up and runs it.
//!
//! Sections: installing and checking the usual rules against Consul's own way, a process per rule; growth with excluded blocks
//! and ports; TCP connections through the rules against none. All contestants of a section take turns in one run, each in a
//! network namespace of its own, so that only ratios of the same run are to be compared. An aim that is missed is told and is no
//! failure: a busy machine must not look like a broken program.

mod bed;
mod connect;
mod consul;
mod growth;
mod install;

use std::process::ExitCode;

use measure::{Options, Report};

fn main() -> ExitCode {
    let Options { json, rounds } = match Options::read(std::env::args().skip(1), 40) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::new(json);
    install::measure(&mut report, rounds, false);
    install::measure(&mut report, rounds, true);
    growth::measure(&mut report, rounds.div_ceil(2));
    connect::measure(&mut report, rounds);
    report.end();
    ExitCode::SUCCESS
}
