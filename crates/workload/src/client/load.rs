//! Many requests over connections that are kept, for measurements.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use workload::report::Load;

use super::target::{Scheme, Target};

#[derive(Args)]
pub(crate) struct LoadOptions {
    /// `http://…`.
    url: String,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 8)]
    connections: u32,
    /// How long.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    for_ms: u64,
}

/// Requests until the time is over; one that fails ends everything. Says in one line how long each took.
pub(crate) async fn load(options: LoadOptions) -> anyhow::Result<bool> {
    let LoadOptions { url, connections, for_ms } = options;
    let target = Target::of_url(&url)?;
    if target.scheme != Scheme::Http {
        bail!("load {url:?}: only http:// can be");
    }
    let mut ready = Vec::new();
    for _ in 0..connections {
        ready.push(connection(&target).await.with_context(|| format!("load {url}"))?);
    }
    let start = Instant::now();
    let end = start + Duration::from_millis(for_ms);
    let mut busy: JoinSet<_> = ready.into_iter().map(|sender| requests(sender, target.clone(), end)).collect();
    let mut times = Vec::new();
    while let Some(done) = busy.join_next().await {
        times.extend(done.context("wait for a connection")?.with_context(|| format!("load {url}"))?);
    }
    let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let report =
        Load { took_us: microseconds(start.elapsed()), times_us: times.into_iter().map(microseconds).collect() };
    super::say(&report)?;
    Ok(true)
}

async fn connection(target: &Target) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // what becomes of it is seen by who sends
    tokio::spawn(connection);
    Ok(sender)
}

async fn requests(
    mut sender: SendRequest<Empty<Bytes>>,
    target: Target,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    while Instant::now() < end {
        let request = http::Request::get(&target.path).header("host", target.authority()).body(Empty::new())?;
        let start = Instant::now();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        ensure!(status.is_success(), "the answer has status {status}");
        response.into_body().collect().await?;
        times.push(start.elapsed());
    }
    Ok(times)
}
