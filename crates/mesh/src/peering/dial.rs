//! The dialling side of a peering: asks for what the other side exports, and brings what is exported to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::token::Token;
use super::{PATH, SECRET, Told};
use crate::abroad::Dial;
use crate::cluster::{self, Change};
use crate::serve::peering::Answer;
use crate::world::World;

/// How long the others may hold a question.
const HOLD: Duration = Duration::from_secs(60);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between attempts while they are away.
const PAUSE: Duration = Duration::from_millis(200);

/// What a dialling side needs.
#[derive(Clone)]
pub(super) struct Dialler {
    pub(super) name: Arc<str>,
    pub(super) token: Token,
    pub(super) roots: String,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) changes: mpsc::UnboundedSender<cluster::Told>,
    pub(super) worlds: watch::Receiver<Arc<World>>,
}

/// The other side has ended the peering.
#[derive(Debug, thiserror::Error)]
#[error("the other side knows no such peering (any more)")]
struct Ended;

impl Dialler {
    /// Keeps the peering up until the other side ends it, or this is dropped.
    pub(super) async fn run(self) {
        loop {
            let both = async { tokio::try_join!(self.ask(), self.bring()) };
            if let Err(error) = both.await {
                tracing::debug!(peer = %self.name, "a peering: {error:#}");
                if error.is::<Ended>() {
                    self.tell(None);
                    return;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends the peering at the other side, if it can be reached.
    pub(super) async fn end(self) {
        let ended = async {
            let (mut requests, _connection) = self.connect().await?;
            self.send(&mut requests, Method::DELETE, "", Bytes::new()).await
        };
        if let Err(error) = tokio::time::timeout(PATIENCE, ended).await.unwrap_or_else(|late| Err(late.into())) {
            tracing::warn!(peer = %self.name, "the other side does not know that the peering has ended: {error:#}");
        }
    }

    fn tell(&self, told: Option<Told>) {
        // nobody receives after the end, when changes no longer matter
        let _ = self.changes.send((0, Change::Peer(self.name.clone(), told.map(Box::new))));
    }

    async fn ask(&self) -> anyhow::Result<()> {
        let (mut requests, _connection) = self.connect().await?;
        let mut index = 0;
        loop {
            let query = format!("index={index}&wait={}s", HOLD.as_secs());
            let held = self.send(&mut requests, Method::GET, &query, Bytes::new());
            let Some(body) = tokio::time::timeout(HOLD + PATIENCE, held).await.context("held too long")?? else {
                continue;
            };
            let Answer { index: newer, told } = serde_json::from_slice(&body).context("read what a peer tells")?;
            index = newer;
            self.tell(Some(told));
        }
    }

    async fn bring(&self) -> anyhow::Result<()> {
        let (mut requests, _connection) = self.connect().await?;
        let mut worlds = self.worlds.clone();
        let mut brought = None;
        loop {
            let world = worlds.borrow_and_update().clone();
            let told = Told::of(&world, &self.name, &self.roots);
            if world.knows_itself() && brought.as_ref() != Some(&told) {
                let body = serde_json::to_vec(&told)?.into();
                let sent = self.send(&mut requests, Method::PUT, "", body);
                tokio::time::timeout(PATIENCE, sent).await.context("bring what is exported")??;
                brought = Some(told);
            }
            // no more worlds: the servers stop
            if worlds.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    async fn connect(&self) -> anyhow::Result<(SendRequest<Full<Bytes>>, AbortOnDropHandle<()>)> {
        let mut last = anyhow::anyhow!("the token names no server");
        for address in &self.token.server_addresses {
            let dialled = async {
                let address: SocketAddr = address.parse().with_context(|| format!("read {address:?}"))?;
                let stream = tokio::time::timeout(PATIENCE, self.dial.dial(address)).await.context("connect")??;
                let (requests, connection) = handshake(TokioIo::new(stream)).await?;
                let connection = tokio::spawn(async { drop(connection.await) });
                anyhow::Ok((requests, AbortOnDropHandle::new(connection)))
            };
            match dialled.await {
                Ok(connected) => return Ok(connected),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The body of the answer; nothing when there is nothing new.
    async fn send(
        &self,
        requests: &mut SendRequest<Full<Bytes>>,
        method: Method,
        query: &str,
        body: Bytes,
    ) -> anyhow::Result<Option<Bytes>> {
        let Token { peer_id, establishment_secret, server_name, partition, .. } = &self.token;
        let partition: String = partition.iter().map(|name| format!("&partition={name}")).collect();
        let request = Request::builder()
            .method(method)
            .uri(format!("{PATH}{peer_id}?{query}{partition}"))
            .header(header::HOST, server_name)
            .header(header::CONTENT_TYPE, "application/json")
            .header(SECRET, establishment_secret)
            .body(Full::new(body))?;
        requests.ready().await?;
        let answer = requests.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        match status {
            StatusCode::NOT_MODIFIED => Ok(None),
            StatusCode::NOT_FOUND => Err(Ended.into()),
            status if status.is_success() => Ok(Some(body)),
            status => bail!("{status}: {}", String::from_utf8_lossy(&body)),
        }
    }
}
