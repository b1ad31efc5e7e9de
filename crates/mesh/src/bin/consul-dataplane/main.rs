//! Runs Envoy beside an application, with the configuration that the control plane has for it.
//!
//! Takes the flags that consul-k8s gives to consul-dataplane. It asks the control plane's feed for the proxy's resources,
//! serves them to Envoy over a Unix socket, answers DNS on the loopback, and stops Envoy gracefully.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{mpsc, watch};

mod bootstrap;
mod control;
mod credential;
mod dns;
mod envoy;
mod flags;
mod lifecycle;
mod rejected;
mod settings;
mod source;
mod stale;
mod state;
mod xds;

use control::Control;
use settings::Settings;

/// How long connect-init's file may take to appear.
const PROXY_ID_WAIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let settings = match Settings::from_process() {
        Ok(settings) => settings,
        Err(errors) => {
            for error in errors {
                eprintln!("{error}");
            }
            return ExitCode::from(1);
        }
    };
    let level = settings.log_level.as_str();
    let filter = tracing_subscriber::EnvFilter::new(format!("consul_dataplane={level}"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if settings.log_json {
        log.json().init();
    } else {
        log.init();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(settings)),
        Err(error) => Err(error).context("failed to start the runtime"),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(1)
        }
    }
}

async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let stop = lifecycle::Stop::on_signals().context("failed to listen for signals")?;
    if settings.check_proxy_health {
        return Ok(lifecycle::check(&settings).await);
    }
    let proxy_id = tokio::select! {
        id = proxy_id(&settings) => id?,
        () = stop.asked() => return Ok(ExitCode::SUCCESS),
    };
    tracing::info!(%proxy_id, server = settings.server(), "starting");
    let control = tokio::select! {
        control = credential::present(&settings.credential, Control::of(&settings)) => control,
        () = stop.asked() => return Ok(ExitCode::SUCCESS),
    };
    let code = serve(&settings, &control, proxy_id, stop).await;
    credential::give_back(&settings.credential, &control).await;
    code
}

/// Runs Envoy until it or somebody else wants to stop.
async fn serve(
    settings: &Settings,
    control: &Control,
    proxy_id: String,
    stop: lifecycle::Stop,
) -> anyhow::Result<ExitCode> {
    let directory = settings.directory.join(format!("envoy-{}", settings.admin_port));
    xds::private_directory(&directory)?;
    let socket = directory.join("xds.sock");
    let (publish, resources) = watch::channel(state::Snapshot::default());
    let listener = xds::listen(&socket)?;
    tokio::spawn(source::follow(control.clone(), settings.node.clone(), proxy_id.clone(), publish));
    if let Some(address) = settings.dns {
        dns::start(address, control.clone())
            .await
            .with_context(|| format!("failed to serve DNS on {address}: is the port taken"))?;
    }
    let (rejected, refusals) = mpsc::unbounded_channel();
    tokio::spawn(rejected::report(control.clone(), Control::admin(settings), proxy_id.clone(), refusals));
    tokio::spawn(xds::serve(listener, resources.clone(), rejected));

    // Envoy waits for its first resources anyway; so its own start runs while the control plane is asked
    let bootstrap = directory.join("bootstrap.json");
    let configuration = bootstrap::render(settings, &proxy_id, &socket);
    std::fs::write(&bootstrap, configuration.to_string())
        .with_context(|| format!("failed to write {}", bootstrap.display()))?;
    let mut envoy = envoy::Envoy::start(settings, &bootstrap)?;
    let graceful = lifecycle::Graceful::new(settings.clone(), stop.clone());
    graceful.serve().await?;
    let code = tokio::select! {
        status = envoy.ended() => {
            let status = status?;
            tracing::error!(%status, "envoy ended by itself");
            ExitCode::from(envoy::code(status))
        }
        () = stop.asked() => {
            graceful.drain().await;
            envoy.stop().await?;
            ExitCode::SUCCESS
        }
    };
    Ok(code)
}

/// The id from the settings, or from the file once it is there.
async fn proxy_id(settings: &Settings) -> anyhow::Result<String> {
    let path: &Path = match (&settings.proxy_id, &settings.proxy_id_path) {
        (Some(id), _) => return Ok(id.clone()),
        (None, Some(path)) => path,
        (None, None) => anyhow::bail!("failed to find the proxy's id: set -proxy-service-id or -proxy-service-id-path"),
    };
    let deadline = Instant::now() + PROXY_ID_WAIT;
    loop {
        match std::fs::read_to_string(path) {
            Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound || Instant::now() > deadline => {
                let path = path.display();
                return Err(error)
                    .with_context(|| format!("failed to read the proxy's id from {path}: did connect-init run"));
            }
            Ok(_) if Instant::now() > deadline => {
                anyhow::bail!("failed to read the proxy's id: {} stays empty", path.display());
            }
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
