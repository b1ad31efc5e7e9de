//! The node agent's socket: what the runtime does not hand over is asked there, and what was done is told there.
//!
//! One connection for one question: a JSON object on one line each way. The agent follows the Pods of its node, so that an answer
//! needs no API server.

use crate::node::{Answer, Message, PATIENCE, PodName};
use crate::protocol::{Args, CniError, Code};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The longest answer: all annotations of a Pod, escaped.
const LONGEST: u64 = 4 * 1024 * 1024;

impl From<&Args> for PodName {
    fn from(args: &Args) -> Self {
        Self { namespace: args.pod_namespace.clone(), name: args.pod_name.clone(), uid: args.pod_uid.clone() }
    }
}

/// Asks for the Pod's annotations.
pub(super) fn annotations(socket: &Path, args: &Args) -> Result<BTreeMap<String, String>, CniError> {
    let failed = |why: String| {
        let message = format!("error retrieving pod {}: {why}", args.pod());
        CniError::new(Code::TryAgainLater, message).hint(format!(
            "the runtime does not hand over annotations, so the node agent is asked at {}; check the Pods of DaemonSet \
             consul-cni on this node, and their credentials",
            socket.display()
        ))
    };
    match ask(socket, &Message::Annotations(args.into())) {
        Ok(Answer::Annotations(annotations)) => Ok(annotations),
        Ok(Answer::Failed(why)) => Err(failed(why)),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Tells what became of a Pod. Nobody waits for the agent, and nothing depends on its hearing.
pub(super) fn tell(socket: &Path, args: &Args, redirected: bool) {
    let message = if redirected { Message::Redirected(args.into()) } else { Message::Refused(args.into()) };
    if let Err(error) = send(socket, &message) {
        tracing::debug!(%error, "the node agent does not hear");
    }
}

fn send(socket: &Path, message: &Message) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(stream)
}

fn ask(socket: &Path, message: &Message) -> std::io::Result<Answer> {
    let stream = send(socket, message)?;
    let mut line = Vec::new();
    BufReader::new(stream.take(LONGEST)).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}
