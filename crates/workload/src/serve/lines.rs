//! Echo of bytes: every piece comes back as it came; after a piece that ends a line the server says who it is.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;

use super::Identity;
use workload::payload::{ANNOUNCEMENT, Sum, UNTIL_END};

const BUFFER: usize = 256 * 1024;

fn signature(name: &str) -> String {
    format!("instance={name}\n")
}

/// Echoes until the client ends its half, or digests a stream that the client announces.
pub(super) async fn echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), name: &str) -> io::Result<()> {
    let mut received = Vec::new();
    let announcement = format!("{ANNOUNCEMENT} ");
    loop {
        if stream.read_buf(&mut received).await? == 0 {
            stream.write_all(&received).await?;
            return stream.shutdown().await;
        }
        let decided = received.len() >= announcement.len();
        if received.starts_with(announcement.as_bytes()) {
            if let Some(end) = received.iter().position(|byte| *byte == b'\n') {
                let rest = received.split_off(end + 1);
                let line = String::from_utf8_lossy(&received).into_owned();
                let length = line.split_whitespace().nth(1).unwrap_or(UNTIL_END).parse().ok();
                return digest_of(stream, name, rest, length).await;
            }
        } else if decided || !announcement.as_bytes().starts_with(&received) {
            break;
        }
    }
    loop {
        if received.ends_with(b"\n") {
            received.extend_from_slice(signature(name).as_bytes());
        }
        stream.write_all(&received).await?;
        stream.flush().await?;
        received.clear();
        if stream.read_buf(&mut received).await? == 0 {
            return stream.shutdown().await;
        }
    }
}

/// Speaks first, then echoes.
pub(super) async fn server_first(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), name: &str) -> io::Result<()> {
    stream.write_all(format!("220 {name}\n").as_bytes()).await?;
    stream.flush().await?;
    echo(stream, name).await
}

/// Digests all that comes until the client ends its half.
pub(super) async fn digest(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), name: &str) -> io::Result<()> {
    digest_of(stream, name, Vec::new(), None).await
}

async fn digest_of(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    name: &str,
    first: Vec<u8>,
    length: Option<u64>,
) -> io::Result<()> {
    let mut sum = Sum::default();
    sum.update(&first);
    let mut left = length.map(|length| length.saturating_sub(first.len() as u64));
    let mut buffer = vec![0; BUFFER];
    while left != Some(0) {
        let limit = left.map_or(BUFFER, |left| BUFFER.min(usize::try_from(left).unwrap_or(BUFFER)));
        let count = stream.read(&mut buffer[..limit]).await?;
        if count == 0 {
            break;
        }
        sum.update(&buffer[..count]);
        left = left.map(|left| left - count as u64);
    }
    stream.write_all(format!("{}\n{}", sum.line(), signature(name)).as_bytes()).await?;
    stream.flush().await?;
    // the client's half may still be open: let it end the connection
    while left.is_some() && stream.read(&mut buffer).await? > 0 {}
    stream.shutdown().await
}

/// Echoes datagrams.
pub(super) async fn datagrams(socket: UdpSocket, identity: Arc<Identity>) {
    let mut buffer = vec![0; 65_536];
    loop {
        // an error is an earlier answer that nobody wanted (ICMP unreachable)
        let Ok((count, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let mut answer = buffer[..count].to_vec();
        if answer.ends_with(b"\n") {
            answer.extend_from_slice(signature(&identity.name).as_bytes());
        }
        let _ = socket.send_to(&answer, peer).await;
    }
}
