//! The command line of the test program.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod client;
mod serve;

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
    let done = runtime.block_on(async {
        match command {
            Command::Serve(options) => serve::run(options).await.map(|()| true),
            Command::Request(options) => client::request(options).await,
            Command::Loop(options) => client::repeat(options).await,
            Command::Dial(options) => client::dial(options).await,
            Command::Send(options) => client::send(options).await,
            Command::Lookup(options) => client::look_up(options).await,
            Command::Tls(options) => client::tls(options).await,
            Command::Exit { status } => std::process::exit(status.into()),
            Command::Sleep => terminated().await.map(|()| true),
        }
    });
    // a name look-up that the system has not given up would be waited for
    runtime.shutdown_background();
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("workload: failed to {error:#}");
    ExitCode::from(2)
}

/// Returns when the process is asked to end.
async fn terminated() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
