//! HTTP/1.1 and gRPC requests on a connection of their own.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{HOST, HeaderMap};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::attempt::{Attempt, Failure};
use super::connect::{Technique, connect};
use super::target::{Scheme, Target};
use super::tls;

const CANARY: &str = "x-canary";
const INSTANCE: &str = "x-instance";

/// What to ask.
pub(super) struct Request {
    pub(super) method: http::Method,
    pub(super) host: Option<String>,
    pub(super) body: Vec<u8>,
}

/// One request over HTTP/1.1.
pub(super) async fn request(
    attempt: &Attempt,
    target: &Target,
    technique: Option<Technique>,
    request: Request,
) -> Result<(), Failure> {
    let Request { method, host, body } = request;
    let mut builder = http::Request::builder()
        .method(method)
        .uri(&target.path)
        .header(HOST, host.unwrap_or_else(|| target.authority()))
        .header("connection", "close");
    if let Some(canary) = attempt.canary() {
        builder = builder.header(CANARY, canary);
    }
    let request = builder.body(Full::new(Bytes::from(body))).map_err(|error| Failure::Local(error.to_string()))?;

    let stream = connect(attempt, target, technique).await?;
    match target.scheme {
        Scheme::Https => {
            let config = tls::anonymous().map_err(|error| Failure::Local(format!("{error:#}")))?;
            let stream = tls::handshake(attempt, stream, config, &target.host).await?;
            speak(attempt, Watched { inner: stream, attempt: attempt.clone() }, request).await
        }
        Scheme::Http | Scheme::Tcp => {
            speak(attempt, Watched { inner: stream, attempt: attempt.clone() }, request).await
        }
    }
}

async fn speak(
    attempt: &Attempt,
    stream: Watched<impl AsyncRead + AsyncWrite + Unpin>,
    request: http::Request<Full<Bytes>>,
) -> Result<(), Failure> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| failure(&e))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| failure(&e))?;
        let (head, body) = response.into_parts();
        attempt.note(|report| {
            report.status = Some(head.status.as_u16());
            report.headers = Some(lines(&head.headers));
            report.instance = text(&head.headers, INSTANCE);
        });
        let body = body.collect().await.map_err(|e| failure(&e))?;
        attempt.answer(body.to_bytes().to_vec());
        Ok(())
    };
    drive(exchange, connection).await
}

/// One gRPC call, HTTP/2 without negotiation; the answer is the message.
pub(super) async fn grpc(
    attempt: &Attempt,
    target: &Target,
    technique: Option<Technique>,
    message: Vec<u8>,
) -> Result<(), Failure> {
    let stream = connect(attempt, target, technique).await?;
    let stream = Watched { inner: stream, attempt: attempt.clone() };
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|e| failure(&e))?;
    // a message is preceded by a byte that says that it is not compressed, and its length
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(&message);
    let mut builder = http::Request::post(format!("http://{}/workload.Echo/Echo", target.authority()))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(canary) = attempt.canary() {
        builder = builder.header(CANARY, canary);
    }
    let request = builder.body(Full::new(Bytes::from(framed))).map_err(|error| Failure::Local(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| failure(&e))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|e| failure(&e))?;
        // an answer of nothing but headers has its status there
        let code = body.trailers().and_then(|t| text(t, "grpc-status")).or_else(|| text(&head.headers, "grpc-status"));
        let said =
            body.trailers().and_then(|t| text(t, "grpc-message")).or_else(|| text(&head.headers, "grpc-message"));
        attempt.note(|report| {
            report.status = Some(head.status.as_u16());
            report.instance = text(&head.headers, INSTANCE);
        });
        let message = body.to_bytes();
        attempt.answer(message.get(5..).unwrap_or_default().to_vec());
        match code.as_deref() {
            Some("0") => Ok(()),
            Some(code) => Err(Failure::Garbled(format!("gRPC status {code} {}", said.unwrap_or_default()))),
            None => Err(Failure::Garbled(format!("HTTP status {} without a gRPC status", head.status))),
        }
    };
    drive(exchange, connection).await
}

/// An exchange needs its connection to be driven; what happens to the connection is the exchange's to tell.
async fn drive<C: Future>(exchange: impl Future<Output = Result<(), Failure>>, connection: C) -> Result<(), Failure> {
    let rest = async {
        connection.await;
        std::future::pending::<Result<(), Failure>>().await
    };
    tokio::select! {
        biased;
        done = exchange => done,
        never = rest => never,
    }
}

fn lines(headers: &HeaderMap) -> String {
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))
    };
    headers.iter().map(line).collect()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn failure(error: &hyper::Error) -> Failure {
    use std::error::Error;
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return std::io::Error::new(io.kind(), io.to_string()).into();
        }
        source = cause.source();
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return Failure::End;
    }
    Failure::Garbled(error.to_string())
}

/// Shows the attempt every byte that comes in, so that it knows what came where HTTP made no sense of it.
struct Watched<S> {
    inner: S,
    attempt: Attempt,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        self.attempt.received(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
