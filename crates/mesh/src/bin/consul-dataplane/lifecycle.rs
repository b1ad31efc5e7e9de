//! Graceful start and stop: signals, the lifecycle server on the loopback, draining.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use axum::http::{Method, StatusCode};
use axum::routing::any;
use bytes::Bytes;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::control::Control;
use crate::settings::Settings;

/// A wish to stop, by whoever has it first.
#[derive(Clone)]
pub(crate) struct Stop(watch::Sender<bool>);

impl Stop {
    /// Is asked by SIGTERM and SIGINT.
    pub(crate) fn on_signals() -> std::io::Result<Self> {
        let stop = Self(watch::Sender::new(false));
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let on_signal = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            on_signal.ask();
        });
        Ok(stop)
    }

    fn ask(&self) {
        self.0.send_replace(true);
    }

    /// Returns when somebody wants to stop.
    pub(crate) async fn asked(&self) {
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
    }
}

/// What happens between the wish and the end.
#[derive(Clone)]
pub(crate) struct Graceful {
    settings: Settings,
    admin: Control,
    stop: Stop,
}

impl Graceful {
    pub(crate) fn new(settings: Settings, stop: Stop) -> Self {
        Self { admin: Control::admin(&settings), settings, stop }
    }

    /// Starts the server for `/graceful_shutdown` and `/graceful_startup`.
    pub(crate) async fn serve(&self) -> anyhow::Result<()> {
        let address = self.settings.graceful;
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .with_context(|| format!("failed to serve the lifecycle on {address}: is -graceful-port taken"))?;
        let (stopping, starting) = (self.clone(), self.clone());
        // answers at once; the rest happens as after SIGTERM
        let shutdown = any(move || async move { stopping.stop.ask() });
        let startup = any(move || async move {
            starting.started().await;
            StatusCode::OK
        });
        let mut router = Router::new().route(&rooted(&self.settings.shutdown_path), shutdown);
        if self.settings.startup_path != self.settings.shutdown_path {
            router = router.route(&rooted(&self.settings.startup_path), startup);
        }
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "no longer serving the lifecycle");
            }
        });
        Ok(())
    }

    /// Returns when Envoy is ready, or when the grace period for that is over.
    async fn started(&self) {
        let deadline = Instant::now() + self.settings.startup_grace;
        while Instant::now() < deadline && !ready(&self.admin).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lets inbound connections end, for as long as the grace period.
    pub(crate) async fn drain(&self) {
        if self.settings.drain_listeners && !self.settings.shutdown_grace.is_zero() {
            let drained = self.admin.send(Method::POST, "/drain_listeners?inboundonly&graceful", Bytes::new()).await;
            if let Err(error) = drained {
                tracing::warn!("failed to drain listeners: {error:#}");
            }
        }
        tokio::time::sleep(self.settings.shutdown_grace).await;
    }
}

/// `-check-proxy-health`: whether the Envoy of another process of this Pod is ready.
pub(crate) async fn check(settings: &Settings) -> ExitCode {
    if ready(&Control::admin(settings)).await { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

async fn ready(admin: &Control) -> bool {
    let answer = tokio::time::timeout(Duration::from_secs(1), admin.send(Method::GET, "/ready", Bytes::new())).await;
    matches!(answer, Ok(Ok((status, _))) if status.is_success())
}

fn rooted(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}
