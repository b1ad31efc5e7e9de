//! The program `webhook`: reads its settings, binds its ports, serves until SIGTERM.

use anyhow::Context;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use webhook::flags::{self, Command, Options};
use webhook::resolv::ResolvConf;
use webhook::server::certificates::{Files, Managed, Policy};
use webhook::server::{Certificates, Metrics, Server, Watches};

/// Where the webhook's own resolver configuration is.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How long an API server may still call after it was told that this replica goes.
const LINGER: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let options = match flags::read(std::env::args().skip(1), &std::env::vars().collect()) {
        Ok(Command::Serve(options)) => options,
        Ok(Command::Help) => {
            let written = std::io::stdout().write_all(flags::help().as_bytes());
            return if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Err(bad) => return fail(&bad.to_string(), 2),
    };
    log_to_stderr(&options);
    // Two threads: reviews are short, and one of them may wait for a Namespace.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.context("failed to start the runtime").and_then(|runtime| runtime.block_on(serve(*options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}"), 1),
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "webhook: {message}");
    ExitCode::from(code)
}

async fn serve(mut options: Options) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let resolv = std::fs::read_to_string(RESOLV_CONF).with_context(|| format!("failed to read {RESOLV_CONF}"))?;
    options.settings.resolv = ResolvConf::parse(&resolv);
    if !options.cluster_dns.is_empty() {
        options.settings.resolv.nameservers = std::mem::take(&mut options.cluster_dns);
    }

    rustls::crypto::ring::default_provider().install_default().ok();
    let metrics = Metrics::default();
    let certificates = Certificates::none(metrics.clone());
    let files = options.tls.directory.take();
    let files = files.map(|directory| Files::load(&directory, certificates.clone())).transpose()?;
    let reviews = bind("-listen", &options.listen).await?;
    let health = bind("-health-listen", &options.health_listen).await?;
    let numbers = bind("-metrics-listen", &options.metrics_listen).await?;
    let config = kube::Config::incluster()
        .context("failed to find the API server; the webhook must run as a Pod with a service account")?;
    let client = kube::Client::try_from(config).context("failed to make a client for the API server")?;
    match files {
        Some(files) => drop(tokio::spawn(files.follow())),
        None => drop(tokio::spawn(managed(&options, client.clone(), certificates.clone()).run())),
    }
    tracing::info!(
        reviews = %reviews.local_addr()?,
        health = %health.local_addr()?,
        metrics = %numbers.local_addr()?,
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    let watches = Watches::follow(client, metrics.clone(), &options.settings);
    let settings = options.settings;
    let server = Server { reviews, health, numbers, certificates, settings, watches, metrics, linger: LINGER };
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server.run(stop).await?;
    Ok(())
}

fn managed(options: &Options, client: kube::Client, certificates: Certificates) -> Managed {
    let pod = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_default();
    Managed {
        client,
        namespace: options.settings.release_namespace.clone(),
        secret: options.tls.secret.clone(),
        configuration: options.tls.configuration.clone().unwrap_or_default(),
        hosts: options.tls.hosts.clone(),
        // the process too: a Pod's container may start again while its predecessor's claim is still there
        identity: format!("{pod}_{}", std::process::id()),
        policy: Policy::default(),
        clock: Arc::new(SystemTime::now),
        certificates,
    }
}

/// Binds `host:port`. Without a host: all addresses, of both families where the kernel has both.
async fn bind(flag: &str, address: &str) -> anyhow::Result<TcpListener> {
    let problem = || format!("failed to bind {address}, flag {flag}; allowed is host:port with a port that is free");
    match address.strip_prefix(':') {
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await.with_context(problem),
        },
        None => TcpListener::bind(address).await.with_context(problem),
    }
}

fn log_to_stderr(options: &Options) {
    let level = options.settings.log_level.parse().unwrap_or(tracing::Level::INFO);
    // The client's own report of a failed connection repeats, without its cause, what the watch reports.
    let targets = Targets::new().with_default(level).with_target("kube_client::client::builder", LevelFilter::OFF);
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry();
    if options.settings.log_json {
        registry.with(log.json().with_filter(targets)).init();
    } else {
        registry.with(log.with_ansi(false).with_filter(targets)).init();
    }
}
