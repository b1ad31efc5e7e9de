//! A connection from the node, and the words for how it failed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use netns::NetNs;
use tokio::net::TcpStream;

use super::Attempt;
use crate::ProbeResult;

/// A connection being made: its own address is known before it is up.
pub(super) struct Dialled {
    pub(super) local: Option<SocketAddr>,
    stream: io::Result<TcpStream>,
}

/// Begins to connect.
pub(super) fn dial(node: &NetNs, peer: SocketAddr) -> Dialled {
    match node.tcp_connect(peer) {
        Ok(stream) => Dialled { local: stream.local_addr().ok(), stream: TcpStream::from_std(stream) },
        Err(error) => Dialled { local: None, stream: Err(error) },
    }
}

impl Dialled {
    /// Waits until it is up.
    pub(super) async fn up(self) -> io::Result<TcpStream> {
        let stream = self.stream?;
        stream.writable().await?;
        stream.take_error()?.map_or(Ok(stream), Err)
    }
}

/// How a connection that did not come up counts. No route to the host is a refusal that a router spoke.
pub(super) fn refusal(error: &io::Error) -> ProbeResult {
    if error.kind() == io::ErrorKind::TimedOut { ProbeResult::TimedOut } else { ProbeResult::Refused }
}

/// Go's words for a connection that did not come up.
pub(super) fn words(peer: SocketAddr, error: &io::Error) -> String {
    let reason = match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_lowercase(),
        None => error.to_string(),
    };
    format!("dial tcp {peer}: connect: {reason}")
}

/// A `tcpSocket` probe.
pub(super) async fn run(peer: SocketAddr, node: &NetNs, timeout: Duration) -> Attempt {
    let dialled = dial(node, peer);
    let local = dialled.local;
    let attempt = match tokio::time::timeout(timeout, dialled.up()).await {
        Ok(Ok(_)) => Attempt::new(true, ProbeResult::Answered, ""),
        Ok(Err(error)) => Attempt::new(false, refusal(&error), words(peer, &error)),
        Err(_) => Attempt::new(false, ProbeResult::TimedOut, format!("dial tcp {peer}: i/o timeout")),
    };
    attempt.between(local, peer)
}
