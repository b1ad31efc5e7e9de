//! The cluster's DNS: follows the Services and answers on port 53 of its station, by UDP and TCP.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use netns::NetNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::services::{Snapshot, follow};
use crate::Station;

mod forward;
mod zone;

use forward::{Transport, ask};
use zone::{Reply, Zone};

/// The port of every DNS server.
const PORT: u16 = 53;

/// How long a forwarded question may take: less than the five seconds of a client.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(2);

/// The largest answer by UDP that a client without EDNS takes.
const PLAIN_UDP: u16 = 512;

/// The largest answer by UDP, whatever the client says: one that is not fragmented.
const MAX_UDP: u16 = 1232;

/// A running DNS server.
pub struct Dns {
    server: Arc<Server>,
    tasks: TaskTracker,
}

struct Server {
    snapshots: watch::Receiver<Snapshot>,
    hosts: Mutex<BTreeMap<String, Vec<IpAddr>>>,
    stubs: Mutex<BTreeMap<String, SocketAddr>>,
    netns: NetNs,
    stop: CancellationToken,
}

/// What the server does with a question.
enum Answer {
    Now(Message),
    Ask(SocketAddr),
}

/// Starts serving on every address of the station.
///
/// # Errors
/// When a socket cannot be bound.
pub fn start(client: &kube::Client, station: &Station) -> io::Result<Dns> {
    let stop = CancellationToken::new();
    let server = Arc::new(Server {
        snapshots: follow(client, stop.clone()),
        hosts: Mutex::default(),
        stubs: Mutex::default(),
        netns: station.netns.clone(),
        stop: stop.clone(),
    });
    let tasks = TaskTracker::new();
    for address in &station.addresses {
        let address = SocketAddr::new(*address, PORT);
        let udp = UdpSocket::from_std(station.netns.udp_bind(address)?)?;
        let tcp = TcpListener::from_std(station.netns.tcp_listen(address)?)?;
        tasks.spawn(stop.clone().run_until_cancelled_owned(serve_udp(Arc::clone(&server), udp)));
        tasks.spawn(stop.clone().run_until_cancelled_owned(serve_tcp(Arc::clone(&server), tcp)));
    }
    tasks.close();
    Ok(Dns { server, tasks })
}

impl Dns {
    /// Gives a name outside the cluster addresses, in place of those it had. Without addresses the name goes.
    pub fn set_host(&self, name: &str, addresses: &[IpAddr]) {
        let mut hosts = lock(&self.server.hosts);
        let name = key(name);
        if addresses.is_empty() {
            hosts.remove(&name);
        } else {
            hosts.insert(name, addresses.to_vec());
        }
    }

    /// Lets another server answer for a domain and what is in it (`None`: no longer).
    pub fn set_stub_domain(&self, domain: &str, server: Option<SocketAddr>) {
        let mut stubs = lock(&self.server.stubs);
        match server {
            Some(server) => stubs.insert(key(domain), server),
            None => stubs.remove(&key(domain)),
        };
    }

    /// Stops answering.
    pub async fn stop(&self) {
        self.server.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.server.stop.cancel();
    }
}

async fn serve_udp(server: Arc<Server>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; 4096];
    loop {
        // An error here is about an answer that nobody took.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
        let limit = query.edns.as_ref().map_or(PLAIN_UDP, |_| query.max_payload().min(MAX_UDP));
        let answer = match server.answer(&query) {
            Answer::Now(answer) => answer,
            Answer::Ask(elsewhere) => {
                let (server, socket) = (Arc::clone(&server), Arc::clone(&socket));
                let bytes = buffer[..length].to_vec();
                tokio::spawn(async move {
                    if let Some(answer) = server.forwarded(elsewhere, &query, &bytes, Transport::Udp).await {
                        let _ = socket.send_to(&answer, peer).await;
                    }
                });
                continue;
            }
        };
        let bytes = match answer.to_vec() {
            Ok(bytes) if bytes.len() > usize::from(limit) => answer.truncate().to_vec(),
            other => other,
        };
        if let Ok(bytes) = bytes {
            let _ = socket.send_to(&bytes, peer).await;
        }
    }
}

async fn serve_tcp(server: Arc<Server>, listener: TcpListener) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let server = Arc::clone(&server);
            tokio::spawn(async move { server.stop.clone().run_until_cancelled(conversation(server, stream)).await });
        }
    }
}

async fn conversation(server: Arc<Server>, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await?;
        let query = Message::from_vec(&bytes).map_err(io::Error::other)?;
        let answer = match server.answer(&query) {
            Answer::Now(answer) => answer.to_vec().map_err(io::Error::other)?,
            Answer::Ask(elsewhere) => {
                server.forwarded(elsewhere, &query, &bytes, Transport::Tcp).await.unwrap_or_default()
            }
        };
        stream.write_u16(u16::try_from(answer.len()).map_err(io::Error::other)?).await?;
        stream.write_all(&answer).await?;
    }
}

impl Server {
    fn answer(&self, query: &Message) -> Answer {
        let mut answer = reply_to(query);
        let question = match query.queries.as_slice() {
            [question] if query.metadata.op_code == OpCode::Query => question,
            _ => {
                answer.metadata.response_code = ResponseCode::NotImp;
                return Answer::Now(answer);
            }
        };
        let Some(services) = self.snapshots.borrow().clone() else {
            answer.metadata.response_code = ResponseCode::ServFail;
            return Answer::Now(answer);
        };
        let (hosts, stubs) = (lock(&self.hosts), lock(&self.stubs));
        let zone = Zone { services: &services, hosts: &hosts, stubs: &stubs };
        match zone.reply(question.name(), question.query_type()) {
            Reply::Records(records) => answer.answers = records,
            Reply::NoData => answer.authorities.extend(zone::authority()),
            Reply::NoName => {
                answer.metadata.response_code = ResponseCode::NXDomain;
                answer.authorities.extend(zone::authority());
            }
            Reply::Forward(server) => return Answer::Ask(server),
        }
        Answer::Now(answer)
    }

    /// Asks the server of another domain. What it says is passed on as it is; its silence becomes a failure.
    async fn forwarded(
        &self,
        server: SocketAddr,
        query: &Message,
        bytes: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let asked = tokio::time::timeout(FORWARD_TIMEOUT, ask(&self.netns, server, bytes, transport)).await;
        match asked {
            Ok(Ok(answer)) => Some(answer),
            _ => {
                let mut answer = reply_to(query);
                answer.metadata.response_code = ResponseCode::ServFail;
                answer.to_vec().ok()
            }
        }
    }
}

/// Names as they are kept: small letters, no dot at the end.
fn key(name: &str) -> String {
    name.trim_end_matches('.').to_lowercase()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every change is one insertion or removal: a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An empty answer to a message.
fn reply_to(query: &Message) -> Message {
    let mut answer = Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.authoritative = true;
    answer.queries.clone_from(&query.queries);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP);
        answer.edns = Some(edns);
    }
    answer
}
