//! exec and logs through a node's agent.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, LogParams, PostParams};
use sim::{AgentError, ExecRequest, ExecSession, LogRequest, NodeAgent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::{Cluster, PATIENCE, pod, refusal};

/// Answers with what it was asked, echoes its input, and ends with a code.
struct Echo;

#[async_trait]
impl NodeAgent for Echo {
    async fn exec(&self, request: ExecRequest) -> Result<ExecSession, AgentError> {
        if request.command == ["missing"] {
            return Err(AgentError::NotRunning(request.container));
        }
        let (stdin, mut input) = tokio::io::duplex(64);
        let (mut output, stdout) = tokio::io::duplex(64);
        let (mut errors, stderr) = tokio::io::duplex(64);
        let words = format!("{}:{}\n", request.container, request.command.join(" "));
        let done = tokio::spawn(async move {
            errors.write_all(words.as_bytes()).await?;
            let mut text = Vec::new();
            if request.stdin {
                input.read_to_end(&mut text).await?;
            }
            output.write_all(&text).await
        });
        Ok(ExecSession {
            stdin: Some(Box::new(stdin)),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            exit: async move {
                let written = done.await;
                if matches!(written, Ok(Ok(()))) { 7 } else { -1 }
            }
            .boxed(),
        })
    }

    async fn logs(&self, request: LogRequest) -> Result<BoxStream<'static, io::Result<Bytes>>, AgentError> {
        let line = format!("{} {:?}\n", request.container, request.tail_lines);
        Ok(stream::iter([Ok(Bytes::from(line))]).boxed())
    }
}

async fn with_pod() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.server.register_agent("node-0", Arc::new(Echo));
    let mut placed = pod("p");
    placed.spec.as_mut().expect("a spec").node_name = Some("node-0".to_owned());
    cluster.api::<Pod>().create(&PostParams::default(), &placed).await.expect("new");
    cluster
}

#[tokio::test]
async fn exec_carries_every_stream_and_the_exit_code() {
    let cluster = with_pod().await;
    let in_process = Api::<Pod>::namespaced(cluster.server.client(), "default");
    for pods in [cluster.api::<Pod>(), in_process] {
        let params = AttachParams::default().stdin(true).stderr(true);
        let mut process = pods.exec("p", ["cat", "-"], &params).await.expect("started");
        let (mut stdin, mut stdout, mut stderr) =
            (process.stdin().expect("asked"), process.stdout().expect("asked"), process.stderr().expect("asked"));
        let status = process.take_status().expect("asked once");
        let text = "x".repeat(100_000);
        let feed = async {
            stdin.write_all(text.as_bytes()).await.expect("taken");
            stdin.shutdown().await.expect("closed");
            drop(stdin);
        };
        let (mut out, mut err) = (String::new(), String::new());
        let all =
            async { tokio::join!(feed, stdout.read_to_string(&mut out), stderr.read_to_string(&mut err), status).3 };
        let status = tokio::time::timeout(PATIENCE, all).await.expect("in time").expect("a status");
        assert_eq!(out, text);
        assert_eq!(err, "main:cat -\n");
        assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
        let cause = status.details.and_then(|details| details.causes).and_then(|causes| causes.into_iter().next());
        let cause = cause.expect("a cause");
        assert_eq!((cause.reason.as_deref(), cause.message.as_deref()), (Some("ExitCode"), Some("7")));
    }
}

#[tokio::test]
async fn exec_that_cannot_start_says_why() {
    let cluster = with_pod().await;
    let pods = cluster.api::<Pod>();
    let (code, _, message) = refusal(pods.exec("p", ["missing"], &AttachParams::default()).await.map(|_| ()));
    assert_eq!((code, message.as_str()), (400, "container \"main\" in pod \"p\" is not running"));
    let other = AttachParams::default().container("other");
    let (code, _, message) = refusal(pods.exec("p", ["x"], &other).await.map(|_| ()));
    assert_eq!((code, message.as_str()), (400, "container other is not valid for pod p"));
}

#[tokio::test]
async fn logs_come_from_the_node() {
    let cluster = with_pod().await;
    let params = LogParams { tail_lines: Some(3), ..LogParams::default() };
    assert_eq!(cluster.api::<Pod>().logs("p", &params).await.expect("a log"), "main Some(3)\n");
}
