//! exec over WebSocket: the channels of `v5.channel.k8s.io` and `v4.channel.k8s.io`.

use std::time::Duration;

use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{Message, WebSocket};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::call::Call;
use super::status::{ApiError, Result};
use crate::{AgentError, ExecRequest, ExecSession};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
/// v5 only: the channel in the next byte is at its end.
const CLOSE: u8 = 255;

/// A process's children may hold its pipes open after its end; this is how long their output is waited for.
const DRAIN: Duration = Duration::from_secs(1);

/// Starts the command and takes the connection over.
pub(crate) async fn start(call: &Call, upgrade: WebSocketUpgrade) -> Result<Response> {
    let (agent, container) = agent_of(call)?;
    let command: Vec<_> = call.params("command").map(str::to_owned).collect();
    if command.is_empty() {
        return Err(ApiError::bad_request("you must specify at least 1 command for the container"));
    }
    let request = ExecRequest {
        namespace: call.namespace().to_owned(),
        pod: call.name().to_owned(),
        container,
        command,
        stdin: call.flag("stdin"),
    };
    let session = agent.exec(request).await.map_err(|error| agent_error(call, error))?;
    let wants = (call.flag("stdout"), call.flag("stderr"));
    let stop = call.cluster.stop.clone();
    let upgrade = upgrade.protocols(["v5.channel.k8s.io", "v4.channel.k8s.io"]);
    Ok(upgrade.on_upgrade(async move |socket| {
        // The connection is no longer the listener's: it must hear of the server's end itself.
        if let Some(Err(error)) = stop.run_until_cancelled_owned(serve(socket, session, wants)).await {
            tracing::debug!(%error, "exec connection ended early");
        }
    }))
}

/// The kubelet of the call's Pod, and the container meant.
pub(super) fn agent_of(call: &Call) -> Result<(std::sync::Arc<dyn crate::NodeAgent>, String)> {
    let pod = call.current()?;
    let container = container(call, &pod.value)?;
    let node = pod.value["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", call.name())));
    }
    let agent = call
        .cluster
        .agent(node)
        .ok_or_else(|| ApiError::internal(format!("no kubelet of node {node} is registered with the API server")))?;
    Ok((agent, container))
}

fn container(call: &Call, pod: &Value) -> Result<String> {
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let all = lists.iter().flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten());
    let names: Vec<_> = all.filter_map(|container| container["name"].as_str()).collect();
    match call.param("container").filter(|name| !name.is_empty()) {
        Some(wanted) if names.contains(&wanted) => Ok(wanted.to_owned()),
        Some(wanted) => Err(ApiError::bad_request(format!("container {wanted} is not valid for pod {}", call.name()))),
        None => {
            let chosen = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
            let chosen = chosen.filter(|chosen| names.contains(chosen)).or(names.first().copied());
            Ok(chosen.unwrap_or_default().to_owned())
        }
    }
}

pub(super) fn agent_error(call: &Call, error: AgentError) -> ApiError {
    match error {
        AgentError::NotFound(_) => ApiError::not_found("", "pods", call.name()),
        AgentError::NotRunning(container) => {
            ApiError::bad_request(format!("container \"{container}\" in pod \"{}\" is not running", call.name()))
        }
        AgentError::Io(error) => ApiError::internal(error),
    }
}

async fn serve(mut socket: WebSocket, session: ExecSession, wants: (bool, bool)) -> Result<(), axum::Error> {
    let ExecSession { stdin, mut stdout, mut stderr, mut exit } = session;
    let mut input = stdin.map(forward_input);
    let mut out = (BytesMut::new(), true);
    let mut err = (BytesMut::new(), true);
    let mut code = None;
    let mut drained = None;
    while code.is_none() || out.1 || err.1 {
        tokio::select! {
            read = read(&mut stdout, &mut out.0), if out.1 => match read {
                Some(bytes) if wants.0 => socket.send(frame(STDOUT, &bytes)).await?,
                Some(_) => {}
                None => out.1 = false,
            },
            read = read(&mut stderr, &mut err.0), if err.1 => match read {
                Some(bytes) if wants.1 => socket.send(frame(STDERR, &bytes)).await?,
                Some(_) => {}
                None => err.1 = false,
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Binary(bytes))) => take(&mut input, &bytes),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                Some(Ok(_)) => {}
            },
            ended = &mut exit, if code.is_none() => {
                code = Some(ended);
                drained = Some(tokio::time::Instant::now() + DRAIN);
            },
            () = deadline(drained) => break,
        }
    }
    socket.send(frame(ERROR, status(code.unwrap_or(-1)).to_string().as_bytes())).await?;
    socket.send(Message::Close(None)).await
}

async fn deadline(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Writes input in a task of its own: a process that does not read must not stop its output.
fn forward_input(mut stdin: Box<dyn AsyncWrite + Send + Unpin>) -> mpsc::UnboundedSender<Bytes> {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Bytes>();
    tokio::spawn(async move {
        while let Some(bytes) = receiver.recv().await {
            if stdin.write_all(&bytes).await.is_err() {
                return;
            }
            let _ = stdin.flush().await;
        }
        let _ = stdin.shutdown().await;
    });
    sender
}

fn take(input: &mut Option<mpsc::UnboundedSender<Bytes>>, message: &Bytes) {
    match message.as_ref() {
        [STDIN, ..] => {
            if let Some(input) = input {
                let _ = input.send(message.slice(1..));
            }
        }
        [CLOSE, STDIN, ..] => *input = None,
        // A terminal's size: there are no terminals.
        _ => {}
    }
}

async fn read(pipe: &mut (dyn AsyncRead + Send + Unpin), buffer: &mut BytesMut) -> Option<Bytes> {
    buffer.reserve(16 * 1024);
    match pipe.read_buf(buffer).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(buffer.split().freeze()),
    }
}

fn frame(channel: u8, bytes: &[u8]) -> Message {
    let mut frame = BytesMut::with_capacity(bytes.len() + 1);
    frame.put_u8(channel);
    frame.put_slice(bytes);
    Message::Binary(frame.freeze())
}

/// How the command ended, as `kubectl exec` reads it.
fn status(code: i32) -> Value {
    if code == 0 {
        return json!({ "metadata": {}, "status": "Success" });
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    })
}
