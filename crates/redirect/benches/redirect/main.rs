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
mod report;

use std::process::ExitCode;

use report::Report;

const USAGE: &str = "usage: cargo xtask bench redirect [--json] [--rounds N]";

fn main() -> ExitCode {
    let (mut as_json, mut rounds) = (false, 40);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            // given by cargo
            "--bench" => {}
            "--json" => as_json = true,
            "--rounds" => match words.next().and_then(|number| number.parse().ok()).filter(|number| *number > 0) {
                Some(number) => rounds = number,
                None => return wrong("--rounds takes a number above 0"),
            },
            other => return wrong(&format!("unexpected argument {other:?}")),
        }
    }
    let mut report = Report::new(as_json);
    install::measure(&mut report, rounds, false);
    install::measure(&mut report, rounds, true);
    growth::measure(&mut report, rounds.div_ceil(2));
    connect::measure(&mut report, rounds);
    report.end();
    ExitCode::SUCCESS
}

fn wrong(what: &str) -> ExitCode {
    eprintln!("{what}\n{USAGE}");
    ExitCode::from(2)
}
