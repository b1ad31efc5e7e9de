//! Where the plugin asks and tells: one connection for one line each way.

use super::metrics::{Kind, Metrics};
use super::pods::Pods;
use super::status::{Status, Writer};
use crate::node::{Answer, Message, PATIENCE};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// A message is a Pod's name.
const LONGEST: u64 = 16 * 1024;
const RETRY: Duration = Duration::from_secs(5);

/// The socket, and what is done with what arrives.
#[derive(Clone)]
pub(super) struct Socket {
    pub(super) path: PathBuf,
    pub(super) pods: Pods,
    pub(super) status: Writer,
    pub(super) metrics: Metrics,
}

impl Socket {
    /// Answers until it is dropped.
    pub(super) async fn serve(self) {
        let listener = loop {
            match bind(&self.path) {
                Ok(listener) => break listener,
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "the plugin cannot ask: the socket cannot be made");
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let socket = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = socket.answer(stream).await {
                            tracing::debug!(%error, "a call of the plugin ended early");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the plugin cannot ask");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn answer(&self, stream: UnixStream) -> std::io::Result<()> {
        let (reading, mut writing) = stream.into_split();
        let mut line = Vec::new();
        let mut reader = BufReader::new(reading.take(LONGEST));
        tokio::time::timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
        let message: Message = serde_json::from_slice(&line)?;
        let pod = match message {
            Message::Annotations(pod) => pod,
            Message::Redirected(pod) => {
                self.metrics.heard(Kind::Redirected);
                self.status.set(pod, Status::Complete);
                return Ok(());
            }
            Message::Refused(pod) => {
                self.metrics.heard(Kind::Refused);
                self.status.set(pod, Status::Waiting);
                return Ok(());
            }
        };
        self.metrics.heard(Kind::Annotations);
        // a little less than the plugin's patience: a reason is better than a silence
        let asked = tokio::time::timeout(PATIENCE.mul_f32(0.8), self.pods.annotations(&pod)).await;
        let answer = match asked.unwrap_or_else(|_| Err("the API server does not answer the node agent".to_owned())) {
            Ok(annotations) => Answer::Annotations(annotations),
            Err(why) => Answer::Failed(why),
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        writing.write_all(&text).await
    }
}

/// Takes the place of an earlier agent's socket at once, so that there is always one.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let fresh = path.with_extension("fresh");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    // whoever may ask learns the annotations of every Pod here
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}
