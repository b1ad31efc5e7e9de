//! Many services, and many clients of the feed that wait as proxies do.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::{Api, pod, service, slice};

/// The argument that makes this program a crowd.
pub(crate) const WORD: &str = "crowd";

/// How long an update may take before something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many Pods are on a node.
const ON_NODE: usize = 30;

/// Puts services `s0`, `s1` … with so many instances each into the cluster.
pub(crate) fn populate(api: &Api, services: usize, instances: usize) {
    for s in 0..services {
        api.apply("services", service(&format!("s{s}"), &format!("10.96.{}.{}", s / 250, s % 250 + 1)));
        for i in 0..instances {
            let mut pod = pod(&format!("s{s}-{i}"), &address(s * instances + i), true);
            pod["spec"]["nodeName"] = json!(format!("node-{}", (s * instances + i) / ON_NODE));
            api.apply("pods", pod);
        }
        api.apply("endpointslices", endpoints(s, instances, true));
    }
}

fn address(n: usize) -> String {
    format!("10.{}.{}.{}", 128 + n / 62_500, n / 250 % 250, n % 250 + 1)
}

/// The slice of a service, whose first instance is ready or not.
pub(crate) fn endpoints(s: usize, instances: usize, first_ready: bool) -> Value {
    let name = format!("s{s}");
    let one = |i: usize| {
        slice(&name, &format!("{name}-{i}"), &address(s * instances + i), i > 0 || first_ready)["endpoints"][0].take()
    };
    let mut whole = slice(&name, &name, "10.128.0.1", true);
    whole["endpoints"] = (0..instances).map(one).collect();
    whole
}

/// A client of the feed has read an update.
pub(crate) struct Heard {
    pub(crate) client: usize,
    at: Instant,
    body: Bytes,
}

/// The clients: the `i`-th one is the proxy of an instance of service `i % services`.
pub(crate) struct Crowd {
    heard: mpsc::UnboundedReceiver<Result<Heard>>,
    services: usize,
    size: usize,
    _clients: JoinSet<()>,
}

impl Crowd {
    /// Starts so many clients, and waits until each has its first configuration.
    pub(crate) async fn gather(feed: SocketAddr, services: usize, instances: usize, size: usize) -> Result<Self> {
        ensure!(size <= services * instances, "{size} proxies, and {services} services of {instances} instances");
        let (tell, heard) = mpsc::unbounded_channel();
        let mut clients = JoinSet::new();
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
        for client in 0..size {
            let (s, i) = (client % services, client / services);
            let node = (s * instances + i) / ON_NODE;
            let ask = format!(
                "http://{feed}{}s{s}-{i}-s{s}-sidecar-proxy?node=node-{node}-virtual&wait=60s&index=",
                mesh::feed::PROXY_PATH
            );
            clients.spawn(wait(http.clone(), client, ask, tell.clone()));
        }
        let mut crowd = Self { heard, services, size, _clients: clients };
        let everybody: Vec<usize> = (0..size).collect();
        crowd.all_hear(Instant::now(), &everybody, "").await?;
        crowd.calm(Duration::from_millis(500)).await;
        Ok(crowd)
    }

    /// The clients whose service is, or is not, among these.
    pub(crate) fn of(&self, services: &[usize], among: bool) -> Vec<usize> {
        (0..self.size).filter(|client| services.contains(&(client % self.services)) == among).collect()
    }

    /// How long after `start` each of the clients has read an update in which `word` occurs.
    pub(crate) async fn all_hear(&mut self, start: Instant, clients: &[usize], word: &str) -> Result<Vec<Duration>> {
        let mut waiting: HashSet<usize> = clients.iter().copied().collect();
        let mut times = Vec::new();
        while !waiting.is_empty() {
            let next = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
            let heard = next.with_context(|| format!("{} clients heard nothing of {word:?}", waiting.len()))?;
            let heard = heard.context("the clients are gone")??;
            let has_word = word.is_empty() || heard.body.windows(word.len()).any(|w| w == word.as_bytes());
            if has_word && waiting.remove(&heard.client) {
                times.push(heard.at.duration_since(start));
            }
        }
        Ok(times)
    }

    /// How many updates are read until then.
    pub(crate) async fn heard_until(&mut self, deadline: Instant) -> usize {
        let mut heard = 0;
        while tokio::time::timeout_at(deadline.into(), self.heard.recv()).await.is_ok_and(|h| h.is_some()) {
            heard += 1;
        }
        heard
    }

    /// Waits until nobody has heard anything for so long.
    pub(crate) async fn calm(&mut self, quiet: Duration) -> usize {
        let mut heard = 0;
        while tokio::time::timeout(quiet, self.heard.recv()).await.is_ok_and(|h| h.is_some()) {
            heard += 1;
        }
        heard
    }
}

/// Asks again and again, each time with what it heard.
async fn wait(
    http: Client<HttpConnector, Empty<Bytes>>,
    client: usize,
    ask: String,
    tell: mpsc::UnboundedSender<Result<Heard>>,
) {
    let mut index = 0;
    loop {
        let heard = update(&http, &format!("{ask}{index}")).await;
        let heard = match heard {
            Ok(None) => continue,
            Ok(Some((new, body))) => {
                index = new;
                Ok(Heard { client, at: Instant::now(), body })
            }
            Err(error) => Err(error),
        };
        let failed = heard.is_err();
        // nobody listens when the measurement is over
        if tell.send(heard).is_err() || failed {
            return;
        }
    }
}

async fn update(http: &Client<HttpConnector, Empty<Bytes>>, ask: &str) -> Result<Option<(u64, Bytes)>> {
    let response = http.get(ask.parse()?).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    match status {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED => return Ok(None),
        status => bail!("{ask}: {status}: {}", String::from_utf8_lossy(&body)),
    }
    // the index is the first field; reading megabytes of JSON would cost more than what is measured
    let begin = std::str::from_utf8(&body[..body.len().min(64)]).context("JSON")?;
    let index = begin.strip_prefix("{\"index\":").and_then(|text| text.split(',').next()?.parse().ok());
    Ok(Some((index.with_context(|| format!("no index in {begin}"))?, body)))
}

/// Waits at a feed as so many proxies do, until standard input ends.
pub(crate) fn stand(feed: &str, [services, instances, proxies]: &[usize; 3]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut crowd = Crowd::gather(feed.parse()?, *services, *instances, *proxies).await?;
        let end = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        tokio::select! {
            end = end => drop(end??),
            _ = async { loop { crowd.calm(PATIENCE).await; } } => {}
        }
        Ok(())
    })
}
