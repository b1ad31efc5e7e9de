//! HTTP: an answer that says what was asked, of whom, and with which headers. gRPC is a content type of it.

use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Identity;

/// While this file exists the server says that it is not well.
const UNHEALTHY: &str = "/tmp/unhealthy";
const INSTANCE: HeaderName = HeaderName::from_static("x-instance");
const CANARY: HeaderName = HeaderName::from_static("x-canary");
const PORT: HeaderName = HeaderName::from_static("x-port");
const GRPC: &str = "application/grpc";
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// Whether what the client has sent begins an HTTP request of either version. Waits for as much as it takes to tell.
pub(super) async fn is_spoken(stream: &TcpStream) -> io::Result<bool> {
    const METHODS: [&[u8]; 10] =
        [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"TRACE ", b"CONNECT ", b"PRI * "];
    let mut start = [0; 8];
    loop {
        let count = stream.peek(&mut start).await?;
        let seen = &start[..count];
        if METHODS.iter().any(|method| seen.starts_with(method)) {
            return Ok(true);
        }
        if count == 0 || !METHODS.iter().any(|method| method.starts_with(seen)) {
            return Ok(false);
        }
        // a request that trickles in: what was peeked stays readable, so readiness tells nothing new
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Serves one connection that has come to a port, HTTP/1.1 or HTTP/2 without negotiation.
pub(super) async fn serve<S>(stream: S, port: u16, identity: Arc<Identity>) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let identity = Arc::clone(&identity);
        async move { answer(request, &identity, port).await }
    });
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    server.serve_connection(TokioIo::new(stream), service).await.map_err(|error| anyhow!(error))
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(request: Request<Incoming>, identity: &Identity, port: u16) -> Result<Answer, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let is_grpc = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()));
    let mut answer = if is_grpc {
        grpc(head.uri.path(), body)
    } else {
        let status = status(head.uri.path());
        let text = describe(&head, &body, identity, port);
        let mut answer = Response::new(Full::new(Bytes::from(text)).boxed());
        *answer.status_mut() = status;
        answer
    };
    let headers = answer.headers_mut();
    headers.insert(PORT, port.into());
    if let Ok(name) = HeaderValue::from_str(&identity.name) {
        headers.insert(INSTANCE, name);
    }
    if let Some(canary) = head.headers.get(CANARY) {
        headers.insert(CANARY, canary.clone());
    }
    Ok(answer)
}

fn status(path: &str) -> StatusCode {
    match path {
        "/healthz" | "/ready" if Path::new(UNHEALTHY).exists() => StatusCode::SERVICE_UNAVAILABLE,
        _ => {
            let asked = path.strip_prefix("/status/").and_then(|number| number.parse::<StatusCode>().ok());
            // an informational status would not be an answer
            asked.filter(|code| !code.is_informational()).unwrap_or(StatusCode::OK)
        }
    }
}

fn describe(head: &http::request::Parts, body: &[u8], identity: &Identity, port: u16) -> Vec<u8> {
    let mut text = format!("{}\ninstance={}\nport={port}", identity.text, identity.name);
    if let Some(name) = identity.port_names.get(&port) {
        text.push(' ');
        text.push_str(name);
    }
    // writing to a string cannot fail
    let _ = write!(text, "\npath={}\nmethod={}\n", head.uri.path(), head.method);
    for (name, value) in &head.headers {
        let _ = writeln!(text, "header {name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Echoes the message; to a health check, says whether the server is well.
fn grpc(path: &str, message: Bytes) -> Answer {
    let message = if path == HEALTH_CHECK {
        // HealthCheckResponse { status: SERVING | NOT_SERVING }
        let status = if Path::new(UNHEALTHY).exists() { 2 } else { 1 };
        let mut framed = BytesMut::from(&[0, 0, 0, 0, 2][..]);
        framed.extend_from_slice(&[0x08, status]);
        framed.freeze()
    } else {
        message
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut answer = Response::new(body.boxed());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    answer
}
