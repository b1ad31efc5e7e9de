//! A client that keeps a server busy, or asks it at a fixed rate.

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use measure::Samples;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub(crate) type Failure = Box<dyn std::error::Error>;

/// So many connections, as of two API servers.
const CONNECTIONS: usize = 2;

/// Reviews under way at full load.
const UNDER_WAY: usize = 16;

/// Connections to one server.
pub(crate) struct Client {
    connections: Vec<SendRequest<Full<Bytes>>>,
    next: usize,
}

impl Client {
    /// Connects, trusting only this authority.
    pub(crate) async fn connect(peer: SocketAddr, authority: &CertificateDer<'static>) -> Result<Self, Failure> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.clone())?;
        let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(peer).await?;
            stream.set_nodelay(true)?;
            let stream = connector.connect(ServerName::try_from("localhost")?, stream).await?;
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            connections.push(sender);
        }
        Ok(Self { connections, next: 0 })
    }

    /// One review, and how long its answer took.
    fn review(&mut self, body: &Bytes) -> impl Future<Output = Result<(Duration, usize), Failure>> + use<> {
        self.next = (self.next + 1) % self.connections.len();
        let mut connection = self.connections[self.next].clone();
        let body = body.clone();
        async move {
            let start = Instant::now();
            let mut answer = ask(&mut connection, body).await?;
            let mut length = 0;
            while let Some(frame) = answer.frame().await {
                length += frame?.into_data().map(|data| data.len()).unwrap_or_default();
            }
            Ok((start.elapsed(), length))
        }
    }

    /// Asks that the server does inject.
    pub(crate) async fn injects(&mut self, body: &Bytes) -> Result<(), Failure> {
        let answer = ask(&mut self.connections[0], body.clone()).await?.collect().await?.to_bytes();
        let answer: Value = serde_json::from_slice(&answer)?;
        let patch = answer["response"]["patch"].as_str().unwrap_or_default();
        match STANDARD.decode(patch)?.windows(16).any(|window| window == b"consul-dataplane") {
            true => Ok(()),
            false => Err(format!("the webhook does not inject: {answer}").into()),
        }
    }

    /// Keeps the server busy for so long, and says how long it needed for each review.
    pub(crate) async fn full(&mut self, body: &Bytes, time: Duration) -> Result<Duration, Failure> {
        let (start, mut count) = (Instant::now(), 0_u32);
        let mut under_way: FuturesUnordered<_> = (0..UNDER_WAY).map(|_| self.review(body)).collect();
        while start.elapsed() < time {
            let Some(done) = under_way.next().await else { break };
            done?;
            count += 1;
            under_way.push(self.review(body));
        }
        let took = start.elapsed() / count;
        while let Some(done) = under_way.next().await {
            done?;
        }
        Ok(took)
    }

    /// Asks at a fixed rate per second, whether answers come or not. A review that is sent late counts from when it was due.
    pub(crate) async fn at(&mut self, rate: f64, time: Duration, body: &Bytes) -> Result<Samples, Failure> {
        let (start, period) = (Instant::now(), Duration::from_secs_f64(1.0 / rate));
        let mut due = start;
        let mut under_way = FuturesUnordered::new();
        let mut samples = Samples::default();
        loop {
            let sending = due < start + time;
            if !sending && under_way.is_empty() {
                return Ok(samples);
            }
            tokio::select! {
                biased;
                () = until(due), if sending => {
                    let (late, review) = (due.elapsed(), self.review(body));
                    under_way.push(async move { review.await.map(|(took, _)| took + late) });
                    due += period;
                }
                Some(took) = under_way.next(), if !under_way.is_empty() => samples.push(took?),
            }
        }
    }
}

/// Until this moment, more exactly than the runtime's timer, which counts milliseconds.
async fn until(moment: Instant) {
    while Instant::now() < moment {
        tokio::task::yield_now().await;
    }
}

async fn ask(connection: &mut SendRequest<Full<Bytes>>, body: Bytes) -> Result<hyper::body::Incoming, Failure> {
    connection.ready().await?;
    let request = Request::post("https://localhost/mutate?timeout=10s").header("content-type", "application/json");
    let answer = connection.send_request(request.body(Full::new(body))?).await?;
    match answer.status() {
        hyper::StatusCode::OK => Ok(answer.into_body()),
        status => Err(format!("the server answers with {status}").into()),
    }
}
