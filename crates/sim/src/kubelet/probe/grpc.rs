//! `grpc` probes: the standard health service over HTTP/2.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use netns::NetNs;

use super::Attempt;
use super::dial::{dial, refusal, words};
use crate::ProbeResult;

/// `grpc.health.v1.HealthCheckResponse.SERVING`.
const SERVING: u8 = 1;

/// Asks for the health of `service`.
pub(super) async fn run(peer: SocketAddr, service: &str, node: &NetNs, timeout: Duration) -> Attempt {
    let dialled = dial(node, peer);
    let local = dialled.local;
    let asking = async {
        let stream = match dialled.up().await {
            Ok(stream) => stream,
            Err(error) => {
                let message =
                    format!("error: failed to connect service {:?}: {}", peer.to_string(), words(peer, &error));
                return Attempt::new(false, refusal(&error), message);
            }
        };
        match ask(peer, service, TokioIo::new(stream)).await {
            Ok(Answer::Status(SERVING)) => Attempt::new(true, ProbeResult::Answered, ""),
            Ok(Answer::Status(status)) => {
                let name =
                    ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"].get(usize::from(status)).unwrap_or(&"?");
                Attempt::new(false, ProbeResult::Answered, format!("service unhealthy (responded with {name:?})"))
            }
            Ok(Answer::Code(code)) => {
                let message = match code.as_str() {
                    "12" => {
                        "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".into()
                    }
                    code => format!("error: health rpc probe failed: rpc error: code = {code}"),
                };
                Attempt::new(false, ProbeResult::Answered, message)
            }
            Err(error) => {
                let message = format!("error: failed to connect service {:?}: {error}", peer.to_string());
                Attempt::new(false, ProbeResult::Reset, message)
            }
        }
    };
    let attempt = tokio::time::timeout(timeout, asking).await;
    let late = || {
        format!(
            "timeout: failed to connect service {:?} within {timeout:?}: context deadline exceeded",
            peer.to_string()
        )
    };
    attempt.unwrap_or_else(|_| Attempt::new(false, ProbeResult::TimedOut, late())).between(local, peer)
}

enum Answer {
    /// The service's status.
    Status(u8),
    /// A gRPC status code other than OK.
    Code(String),
}

async fn ask(peer: SocketAddr, service: &str, stream: TokioIo<tokio::net::TcpStream>) -> anyhow::Result<Answer> {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let request = Request::post(format!("http://{peer}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "kube-probe/1.34")
            .body(Full::new(message(service)))?;
        let answer = sender.send_request(request).await?;
        // Errors may come without a body, in the headers alone.
        if let Some(code) = code(answer.headers()) {
            return Ok(Answer::Code(code));
        }
        let body = answer.into_body().collect().await?;
        if let Some(code) = body.trailers().and_then(code) {
            return Ok(Answer::Code(code));
        }
        Ok(Answer::Status(status(&body.to_bytes())))
    };
    let answer = answer.await;
    connection.abort();
    answer
}

fn code(headers: &HeaderMap) -> Option<String> {
    let code = headers.get("grpc-status")?.to_str().ok()?;
    (code != "0").then(|| code.to_owned())
}

/// A `HealthCheckRequest` in its frame: field 1, the service's name.
fn message(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.extend_from_slice(&message);
    frame.freeze()
}

/// The status in a framed `HealthCheckResponse`; field 1, a small number, absent when it is 0.
fn status(frame: &[u8]) -> u8 {
    match frame.get(5..) {
        Some([0x08, status, ..]) => *status,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_are_what_protobuf_makes() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), SERVING);
        assert_eq!(status(&[0, 0, 0, 0, 0]), 0);
    }
}
