//! `httpGet` probes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ::http::{HeaderName, HeaderValue, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use netns::NetNs;
use tokio::io::{AsyncRead, AsyncWrite};

use super::dial::{dial, refusal, words};
use super::{Attempt, tls};
use crate::ProbeResult;

/// A request, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kubelet) struct Get {
    peer: SocketAddr,
    tls: bool,
    path: String,
    headers: Vec<(String, String)>,
}

impl Get {
    pub(super) fn new(action: &HTTPGetAction, peer: SocketAddr) -> Self {
        let path = action.path.clone().unwrap_or_default();
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let headers = action.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone()));
        let tls = action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        Self { peer, tls, path, headers: headers.collect() }
    }

    fn url(&self) -> String {
        format!("{}://{}{}", if self.tls { "https" } else { "http" }, self.peer, self.path)
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, ::http::Error> {
        let mut request = Request::get(self.path.as_str()).body(Empty::new())?;
        let headers = request.headers_mut();
        for (name, value) in &self.headers {
            headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        let mut otherwise = |name: HeaderName, value: String| {
            if !headers.contains_key(&name) {
                headers.insert(name, HeaderValue::try_from(value)?);
            }
            Ok::<_, ::http::Error>(())
        };
        otherwise(header::HOST, self.peer.to_string())?;
        otherwise(header::USER_AGENT, "kube-probe/1.34".into())?;
        otherwise(header::ACCEPT, "*/*".into())?;
        otherwise(header::CONNECTION, "close".into())?;
        Ok(request)
    }
}

/// Why there was no answer on a connection that was up.
struct NoAnswer(String);

/// Sends the request once. A redirect counts as success without being followed.
pub(super) async fn run(get: &Get, node: &NetNs, timeout: Duration) -> Attempt {
    let dialled = dial(node, get.peer);
    let local = dialled.local;
    let quoted = |why: String| format!("Get {:?}: {why}", get.url());
    let asking = async {
        let stream = match dialled.up().await {
            Ok(stream) => stream,
            Err(error) => return Attempt::new(false, refusal(&error), quoted(words(get.peer, &error))),
        };
        let answer = if get.tls {
            match tls::connect(stream, get.peer).await {
                Ok(stream) => ask(get, stream, local).await,
                Err(error) => Err(NoAnswer(reading(&error, local, get.peer))),
            }
        } else {
            ask(get, stream, local).await
        };
        match answer {
            Ok(status) if (200..400).contains(&status.as_u16()) => Attempt::new(true, ProbeResult::Answered, ""),
            Ok(status) => Attempt::new(
                false,
                ProbeResult::Answered,
                format!("HTTP probe failed with statuscode: {}", status.as_u16()),
            ),
            Err(NoAnswer(why)) => Attempt::new(false, ProbeResult::Reset, quoted(why)),
        }
    };
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    let attempt = tokio::time::timeout(timeout, asking).await;
    attempt.unwrap_or_else(|_| Attempt::new(false, ProbeResult::TimedOut, quoted(late.into()))).between(local, get.peer)
}

async fn ask<S>(get: &Get, stream: S, local: Option<SocketAddr>) -> Result<StatusCode, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = get.request().map_err(|error| NoAnswer(error.to_string()))?;
    let failed = |error: hyper::Error| NoAnswer(in_go(&error, local, get.peer));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // The connection ends with the answer: the request said so, and dropping the sender says it again.
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    connection.abort();
    answer.map(|answer| answer.status()).map_err(failed)
}

fn in_go(error: &hyper::Error, local: Option<SocketAddr>, peer: SocketAddr) -> String {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return reading(error, local, peer);
        }
        cause = inner.source();
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return "EOF".into();
    }
    if error.is_parse() {
        return "net/http: HTTP/1.x transport connection broken: malformed HTTP response".into();
    }
    error.to_string()
}

fn reading(error: &io::Error, local: Option<SocketAddr>, peer: SocketAddr) -> String {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::UnexpectedEof, _) => "EOF".into(),
        (_, Some(code)) => {
            let local = local.map_or_else(String::new, |local| format!("{local}->"));
            format!("read tcp {local}{peer}: read: {}", nix::errno::Errno::from_raw(code).desc().to_lowercase())
        }
        _ => error.to_string(),
    }
}
