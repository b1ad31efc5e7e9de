//! What people and CI run: `cargo xtask <verb>`, one module a verb.

mod args;
mod bench;
mod deny;
mod doctor;
mod e2e;
mod envoy;
mod lint;
mod packages;
mod report;
mod run;
mod test;
#[cfg(test)]
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask <verb> [arguments]

  e2e [--tags EXPR] [--name RE] [--jobs N] [--keep] [--out DIR] [--self-test] [FEATURE…]
          set up, build, and run the features on the simulator; judged by packet capture
  test    set up, build, and run unit, kernel and documentation tests
  bench [NAME] [--json] [--rounds N]
          set up and measure, in ratios, and say which aims were reached; all of them, or one: redirect, webhook, cni, mesh
  lint    rustfmt, clippy with warnings denied, licences and sources of dependencies
  ci      lint and test
  setup   only the set-up: Debian packages and the pinned Envoy
  doctor  what this machine can and cannot do, and what to do about it

Exit status: 0 pass, 1 fail, 2 could not run.
";

/// Something that ends a verb: the exit status and what to say.
#[derive(Debug)]
struct Stop {
    status: u8,
    message: String,
}

impl Stop {
    /// The thing that was asked for did not pass.
    fn failed(message: impl Into<String>) -> Self {
        Self { status: 1, message: message.into() }
    }

    /// The thing that was asked for could not even be tried.
    fn could_not_run(message: impl Into<String>) -> Self {
        Self { status: 2, message: message.into() }
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let verb = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    let done = match verb.as_str() {
        "e2e" => e2e::run(rest),
        "test" => args::none(&rest).and_then(|()| test::run()),
        "bench" => bench::run(&rest),
        "lint" => args::none(&rest).and_then(|()| lint::run()),
        "ci" => args::none(&rest).and_then(|()| lint::run()).and_then(|()| test::run()),
        "setup" => args::none(&rest).and_then(|()| packages::install()).and_then(|()| envoy::locate().map(drop)),
        "doctor" => args::none(&rest).and_then(|()| doctor::run()),
        "" | "help" | "-h" | "--help" => {
            report::line(USAGE);
            Ok(())
        }
        other => Err(Stop::could_not_run(format!("unknown verb {other:?}\n\n{USAGE}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            report::error(&stop.message);
            ExitCode::from(stop.status)
        }
    }
}
