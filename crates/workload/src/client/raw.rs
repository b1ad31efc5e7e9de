//! Bytes over TCP, in clear or in TLS: a message and its answer, or a long stream and its digest.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::attempt::{Attempt, Failure};
use super::connect::{Technique, connect};
use super::target::Target;
use super::tls;
use workload::payload::{ANNOUNCEMENT, Stream, Sum, UNTIL_END};

/// A server that is not ours does not say when its answer ends: this much silence does.
const SILENCE: Duration = Duration::from_millis(250);

/// Sends a message over TCP and waits for its answer.
pub(super) async fn exchange(
    attempt: &Attempt,
    target: &Target,
    technique: Option<Technique>,
    message: &[u8],
) -> Result<(), Failure> {
    let mut stream = connect(attempt, target, technique).await?;
    converse(attempt, &mut stream, message).await
}

/// Sends a message in TLS and waits for its answer.
pub(super) async fn exchange_tls(
    attempt: &Attempt,
    target: &Target,
    technique: Option<Technique>,
    config: Arc<rustls::ClientConfig>,
    server_name: Option<String>,
    message: &[u8],
) -> Result<(), Failure> {
    let stream = connect(attempt, target, technique).await?;
    let name = server_name.unwrap_or_else(|| target.host.clone());
    let mut stream = tls::handshake(attempt, stream, config, &name).await?;
    converse(attempt, &mut stream, message).await
}

async fn converse(
    attempt: &Attempt,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    message: &[u8],
) -> Result<(), Failure> {
    stream.write_all(message).await?;
    stream.flush().await?;
    // one of our servers is done when it has said who it is, or has returned what was no line
    let complete = |answer: &[u8]| {
        let signed = answer.ends_with(b"\n")
            && answer[..answer.len() - 1]
                .rsplit(|byte| *byte == b'\n')
                .next()
                .is_some_and(|l| l.starts_with(b"instance="));
        signed || (!message.ends_with(b"\n") && answer.ends_with(message))
    };
    let mut buffer = vec![0; 16 * 1024];
    while !attempt.has(complete) {
        let count = if attempt.has(<[u8]>::is_empty) {
            stream.read(&mut buffer).await?
        } else {
            match timeout(SILENCE, stream.read(&mut buffer)).await {
                // what has come is the answer, however the connection ends
                Ok(Ok(count)) => count,
                Ok(Err(_)) | Err(_) => 0,
            }
        };
        if count == 0 {
            break;
        }
        attempt.received(&buffer[..count]);
    }
    // an alert is no application's answer
    if attempt.has(|answer| answer.is_empty() || matches!(answer, [21, 3, 0..=4, 0, 2, ..])) {
        return Err(Failure::End);
    }
    // our side is done; whether the other end still listens to that does not matter
    let _ = stream.shutdown().await;
    Ok(())
}

/// Sends a long stream and compares the digest in the answer.
pub(super) async fn stream(attempt: &Attempt, target: &Target, stream: &Stream) -> Result<(), Failure> {
    let connection = connect(attempt, target, None).await?;
    let (mut reader, mut writer) = connection.into_split();
    let length = if stream.half_close { UNTIL_END.to_owned() } else { stream.length.to_string() };
    let canary = attempt.canary().unwrap_or_default();
    writer.write_all(format!("{ANNOUNCEMENT} {length} {canary}\n").as_bytes()).await?;

    let (mut sum, mut offset, mut buffer) = (Sum::default(), 0, vec![0; 256 * 1024]);
    let piece = if stream.pause.is_some() { 1 } else { buffer.len() };
    while offset < stream.length {
        let count = stream.fill(offset, &mut buffer[..piece]);
        writer.write_all(&buffer[..count]).await?;
        sum.update(&buffer[..count]);
        offset += count as u64;
        if let Some(pause) = stream.pause {
            tokio::time::sleep(pause).await;
        }
    }
    if stream.half_close {
        writer.shutdown().await?;
    }
    let expected = sum.line();
    while !attempt.has(|answer| answer.iter().filter(|byte| **byte == b'\n').count() >= 2) {
        let count = reader.read(&mut buffer).await?;
        if count == 0 {
            return Err(Failure::End);
        }
        attempt.received(&buffer[..count]);
    }
    let _ = writer.shutdown().await;
    // wait for the other end to finish too, so that the connection ends in order
    while reader.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    if attempt.has(|answer| answer.starts_with(format!("{expected}\n").as_bytes())) {
        attempt.received(format!("sha256 of {}\n", stream.words).as_bytes());
        return Ok(());
    }
    Err(Failure::Garbled(format!("the answer is not {expected:?}")))
}
