//! The command line of the test program.

use std::pin::Pin;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

mod client;
mod serve;
mod termination;

use termination::{CUT_OFF, Termination};

/// Servers and a client for trying what a mesh does to traffic.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM.
    Serve(serve::Options),
    /// Request a URL, each time on a fresh connection; exit 0 when every attempt was answered.
    Request(client::RequestOptions),
    /// Request a URL until SIGTERM, or until a pipe on standard input ends.
    Loop(client::LoopOptions),
    /// Request a URL as often as can be over connections that are kept; exit 0 when all were answered.
    Load(client::LoadOptions),
    /// Connect, send the canary and wait for an answer.
    Dial(client::DialOptions),
    /// Send a payload or a stream and wait for its answer.
    Send(client::SendOptions),
    /// Look a name up, by asking the name servers of /etc/resolv.conf.
    Lookup(client::LookupOptions),
    /// Dial with TLS, presenting a certificate; the server's is not verified.
    Tls(client::TlsOptions),
    /// Exit with this status.
    Exit {
        /// The status.
        status: u8,
    },
    /// Do nothing until SIGTERM.
    Sleep,
}

fn main() -> ExitCode {
    // an error only says that there is one already
    let _ = rustls::crypto::ring::default_provider().install_default();
    let command = Arguments::parse().command;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let done = runtime.block_on(run(command));
    // a name look-up that the system has not given up would be waited for
    runtime.shutdown_background();
    done.unwrap_or_else(|error| fail(&error))
}

/// Runs a command to its end, or until SIGTERM.
async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let mut termination = Termination::listen().context("listen for signals")?;
    let attempts: Pin<Box<dyn Future<Output = anyhow::Result<bool>>>> = match command {
        Command::Serve(options) => {
            return serve::run(options, &mut termination).await.map(|()| ExitCode::SUCCESS);
        }
        Command::Loop(options) => return client::repeat(options, &mut termination).await.map(code),
        Command::Exit { status } => return Ok(ExitCode::from(status)),
        Command::Sleep => {
            termination.asked().await;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Request(options) => Box::pin(client::request(options)),
        Command::Load(options) => Box::pin(client::load(options)),
        Command::Dial(options) => Box::pin(client::dial(options)),
        Command::Send(options) => Box::pin(client::send(options)),
        Command::Lookup(options) => Box::pin(client::look_up(options)),
        Command::Tls(options) => Box::pin(client::tls(options)),
    };
    tokio::select! {
        answered = attempts => answered.map(code),
        () = termination.asked() => Ok(ExitCode::from(CUT_OFF)),
    }
}

/// Whether every attempt was answered, as an exit status.
fn code(answered: bool) -> ExitCode {
    if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("workload: failed to {error:#}");
    ExitCode::from(2)
}
