//! The node agent: puts the plugin on its node and keeps it there, and looks after the Pods of the mesh on it.

use anyhow::Context;
use cni::agent::{self, Metrics};
use cni::install::settings::Settings;
use cni::install::{Installation, Progress, run};
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

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
    let installation = Installation::new(settings.clone());
    if check {
        return match installation.ready() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(&why),
        };
    }
    cni::log_to_stderr(&settings.log_level, settings.log_json);
    if once || remove {
        let done = if remove { installation.remove() } else { installation.bring_about(false).map(drop) };
        return match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        };
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => match runtime.block_on(serve(&installation, &settings)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{error:#}")),
        },
        Err(error) => fail(&format!("failed to start the runtime: {error}")),
    }
}

async fn serve(installation: &Installation, settings: &Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let (progress, watched) = watch::channel(Progress::default());
    let metrics = Metrics::default();
    if !settings.metrics_listen.is_empty() {
        let address = &settings.metrics_listen;
        let problem = || format!("failed to bind {address}, flag -metrics-listen; allowed is address:port");
        let listener = TcpListener::bind(address).await.with_context(problem)?;
        tokio::spawn(agent::serve_metrics(metrics.clone(), watched.clone(), listener));
    }
    match options(settings, watched, metrics) {
        Ok(Some(options)) => drop(tokio::spawn(agent::run(options))),
        Ok(None) => tracing::info!("without -node-name no pods are followed, and none is repaired"),
        // the node is to have its plugin all the same
        Err(error) => tracing::error!(error = format!("{error:#}"), "no pods are followed, and none is repaired"),
    }
    Ok(run(installation, &progress, stop).await?)
}

fn options(
    settings: &Settings,
    progress: watch::Receiver<Progress>,
    metrics: Metrics,
) -> anyhow::Result<Option<agent::Options>> {
    if settings.node_name.is_empty() {
        return Ok(None);
    }
    rustls::crypto::ring::default_provider().install_default().ok();
    let config = kube::Config::incluster()
        .context("failed to find the API server; install-cni must run as a Pod with a service account")?;
    let client = kube::Client::try_from(config).context("failed to make a client for the API server")?;
    Ok(Some(agent::Options {
        client,
        node: settings.node_name.clone(),
        socket: settings.agent_socket.clone(),
        netns_dir: settings.netns_dir.clone(),
        repair: settings.repair,
        progress,
        metrics,
    }))
}

fn fail(why: &str) -> ExitCode {
    eprintln!("install-cni: {why}");
    ExitCode::FAILURE
}
