//! Keeps up with another datacenter.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc::UnboundedSender;

use super::{Abroad, Dial, PATH, Told};
use crate::cluster::{self, Change};

/// How long the others may hold a question.
const HOLD: Duration = Duration::from_secs(60);
/// How long an answer may take beyond that.
const MARGIN: Duration = Duration::from_secs(10);
/// Pauses between attempts while they are away.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Sends what the servers of `datacenter` tell whenever it is something else, until it is dropped.
pub(crate) async fn follow(
    datacenter: Arc<str>,
    server: SocketAddr,
    dial: Arc<dyn Dial>,
    changes: UnboundedSender<cluster::Told>,
) {
    let (mut known, mut pause) = (None, FIRST_PAUSE);
    loop {
        let told = |told: Abroad| {
            // nobody receives after the end, when changes no longer matter
            let _ = changes.send((0, Change::Abroad(datacenter.clone(), Box::new(told))));
        };
        let error = match connection(server, &*dial, &mut known, told).await {
            Ok(()) => anyhow::anyhow!("the connection ended"),
            Err(error) => error,
        };
        tracing::debug!(%datacenter, %server, "following another datacenter: {error:#}");
        tokio::time::sleep(pause).await;
        pause = if known.is_some() { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
    }
}

/// Asks over one connection again and again.
async fn connection(
    server: SocketAddr,
    dial: &dyn Dial,
    known: &mut Option<Abroad>,
    told: impl Fn(Abroad),
) -> anyhow::Result<()> {
    let stream = tokio::time::timeout(MARGIN, dial.dial(server)).await.context("connect")?.context("connect")?;
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let mut index = 0;
    while !connection.is_finished() {
        let uri = format!("{PATH}?index={index}&wait={}s", HOLD.as_secs());
        let request = Request::get(uri).header(header::HOST, server.to_string()).body(Empty::<Bytes>::new())?;
        requests.ready().await?;
        let answer = tokio::time::timeout(HOLD + MARGIN, async {
            let answer = requests.send_request(request).await?;
            let status = answer.status();
            anyhow::Ok((status, answer.into_body().collect().await?.to_bytes()))
        });
        let (status, body) = answer.await.context("an answer is held too long")??;
        if status == StatusCode::NOT_MODIFIED {
            continue;
        }
        ensure!(status.is_success(), "{status}");
        let Told { index: newer, abroad } = serde_json::from_slice(&body).context("read what is told")?;
        index = newer;
        // their world may have changed in what does not concern us
        if known.as_ref() != Some(&abroad) {
            *known = Some(abroad.clone());
            told(abroad);
        }
    }
    Ok(())
}
