//! The node agent: puts the plugin on its node and keeps it there.

use cni::install::settings::Settings;
use cni::install::{Installation, run};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let settings = match Settings::read(std::env::args()) {
        Ok(settings) => settings,
        Err(error) => {
            // help is no failure; with standard error gone there is nobody left to tell
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let Settings { check, once, remove, .. } = settings;
    let (level, json) = (settings.log_level.clone(), settings.log_json);
    let installation = Installation::new(settings);
    if check {
        return match installation.ready() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(&why),
        };
    }
    cni::log_to_stderr(&level, json);
    if once || remove {
        let done = if remove { installation.remove() } else { installation.bring_about().map(drop) };
        return match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        };
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => match runtime.block_on(serve(&installation)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        },
        Err(error) => fail(&format!("failed to start the runtime: {error}")),
    }
}

async fn serve(installation: &Installation) -> Result<(), Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(run(installation, stop).await?)
}

fn fail(why: &str) -> ExitCode {
    eprintln!("install-cni: {why}");
    ExitCode::FAILURE
}
