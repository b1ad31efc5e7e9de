//! The DNS proxy on the loopback: raw messages to the control plane and back.
//!
//! Where Consul's own proxy reads 512 bytes and is silent when the servers do not answer, this one takes messages of any
//! length and answers as it did last while they are away. Where it has no answer it says so: then a resolver asks its next server at
//! once, and not when its patience is over.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;

use crate::control::{Control, Denied};
use crate::stale::Stale;

/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(5);
/// How long the control plane may take: less than any resolver waits before it asks again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Answers that wait to be written to one connection.
const WAITING: usize = 16;

/// Serves UDP and TCP at `address`.
pub(crate) async fn start(address: SocketAddr, control: Control) -> std::io::Result<()> {
    let udp = UdpSocket::bind(address).await?;
    let tcp = TcpListener::bind(address).await?;
    serve(udp, tcp, control);
    Ok(())
}

fn serve(udp: UdpSocket, tcp: TcpListener, control: Control) {
    let servers = Servers { control, stale: Arc::default() };
    tokio::spawn(serve_udp(Arc::new(udp), servers.clone()));
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = tcp.accept().await else {
                // out of file descriptors: others must close first
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            tokio::spawn(serve_tcp(stream, servers.clone()));
        }
    });
}

async fn serve_udp(socket: Arc<UdpSocket>, servers: Servers) {
    let mut buffer = vec![0; 65_535];
    loop {
        // an error is an ICMP answer to something that was sent before
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let (query, socket, servers) = (buffer[..length].to_vec(), socket.clone(), servers.clone());
        tokio::spawn(async move {
            if let Some(reply) = servers.answer(query, "udp").await {
                // a client that is gone does not want it any more
                let _ = socket.send_to(&reply, peer).await;
            }
        });
    }
}

/// Queries that come before the answer to an earlier one are asked beside it; each is answered when its answer is there.
async fn serve_tcp(stream: TcpStream, servers: Servers) {
    let (mut reader, mut writer) = stream.into_split();
    let (sender, mut answers) = mpsc::channel::<Vec<u8>>(WAITING);
    let asking = async move {
        while let Ok(Ok(query)) = tokio::time::timeout(IDLE, read(&mut reader)).await {
            let (sender, servers) = (sender.clone(), servers.clone());
            tokio::spawn(async move {
                if let Some(reply) = servers.answer(query, "tcp").await {
                    // the connection may have ended
                    let _ = sender.send(reply).await;
                }
            });
        }
    };
    let answering = async {
        while let Some(reply) = answers.recv().await {
            let Ok(length) = u16::try_from(reply.len()) else { continue };
            if writer.write_all(&[&length.to_be_bytes()[..], &reply].concat()).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(asking, answering);
}

async fn read(reader: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let mut query = vec![0; usize::from(reader.read_u16().await?)];
    reader.read_exact(&mut query).await?;
    Ok(query)
}

/// Who answers queries, and what they answered.
#[derive(Clone)]
struct Servers {
    control: Control,
    stale: Arc<Mutex<Stale>>,
}

impl Servers {
    /// What they say to a query, what they said to it last while they are away, or that they say nothing.
    async fn answer(&self, query: Vec<u8>, protocol: &str) -> Option<Vec<u8>> {
        let asked = tokio::time::timeout(PATIENCE, self.control.dns(query.clone(), protocol)).await;
        let mut stale = self.stale.lock().unwrap_or_else(PoisonError::into_inner);
        match asked {
            Ok(Ok(reply)) => {
                stale.keep(&query, protocol, &reply);
                return Some(reply.to_vec());
            }
            Ok(Err(error)) => {
                tracing::debug!("no answer to a DNS query: {error:#}");
                if error.is::<Denied>() {
                    return failure(&query);
                }
            }
            Err(_) => tracing::debug!("no answer to a DNS query within {PATIENCE:?}"),
        }
        stale.answer(&query, protocol).or_else(|| failure(&query))
    }
}

/// The answer to a query that cannot be answered; nothing to what is no query.
fn failure(query: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok().filter(|query| query.metadata.message_type == MessageType::Query)?;
    let mut reply = Message::error_msg(query.metadata.id, query.metadata.op_code, ResponseCode::ServFail);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.queries = query.queries;
    reply.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::Router;
    use axum::body::Bytes;
    use axum::http::StatusCode;
    use axum::routing::post;
    use hickory_proto::op::{OpCode, Query};
    use hickory_proto::rr::rdata::TXT;
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use mesh::feed::DNS_PATH;
    use rstest::rstest;
    use tokio::sync::Notify;

    use super::*;

    /// A control plane that answers by the first label: `large`, `broken`, `never`, `slow` once `fast` was asked, and once only:
    /// `away` and `denied`.
    async fn control_plane() -> Control {
        let (fast, was_asked) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let handler = move |body: Bytes| {
            let (fast, was_asked) = (fast.clone(), was_asked.clone());
            async move {
                let query = Message::from_vec(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
                let name = query.queries[0].name().clone();
                let mut reply = Message::response(query.metadata.id, OpCode::Query);
                match &*name.iter().next().map(String::from_utf8_lossy).unwrap_or_default() {
                    "broken" => return Err(StatusCode::INTERNAL_SERVER_ERROR),
                    "never" => std::future::pending().await,
                    "away" if was_asked.swap(true, Ordering::Relaxed) => return Err(StatusCode::SERVICE_UNAVAILABLE),
                    "denied" if was_asked.swap(true, Ordering::Relaxed) => return Err(StatusCode::FORBIDDEN),
                    "slow" => fast.notified().await,
                    "fast" => fast.notify_one(),
                    _ => {}
                }
                let text = TXT::new(vec!["x".repeat(255); 5]);
                reply.add_answer(Record::from_rdata(name, 0, RData::TXT(text)));
                reply.to_vec().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, Router::new().route(DNS_PATH, post(handler))).await });
        Control::new(address.to_string())
    }

    async fn proxy(control: Control) -> SocketAddr {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = udp.local_addr().expect("an address");
        serve(udp, TcpListener::bind(address).await.expect("the same port"), control);
        address
    }

    fn query(name: &str, length: usize) -> Message {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::TXT));
        if length > 0 {
            let text = TXT::new(vec!["y".repeat(250); length.div_ceil(250)]);
            query.add_additional(Record::from_rdata(Name::root(), 0, RData::TXT(text)));
        }
        query
    }

    async fn over_udp(address: SocketAddr, query: &[u8]) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        socket.connect(address).await.expect("a peer");
        socket.send(query).await.expect("a query");
        let mut buffer = vec![0; 65_535];
        let length = socket.recv(&mut buffer).await.expect("a reply");
        Message::from_vec(&buffer[..length]).expect("a message")
    }

    async fn send(stream: &mut TcpStream, query: &Message) {
        let bytes = query.to_vec().expect("a query");
        let length = u16::try_from(bytes.len()).expect("a length");
        stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await.expect("a query");
    }

    async fn receive(stream: &mut TcpStream) -> Message {
        let mut bytes = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
        stream.read_exact(&mut bytes).await.expect("a reply");
        Message::from_vec(&bytes).expect("a message")
    }

    #[rstest]
    #[case::longer_than_512_bytes("large.consul.", 2000, ResponseCode::NoError, 1)]
    #[case::of_a_server_that_fails("broken.consul.", 0, ResponseCode::ServFail, 0)]
    #[case::of_a_server_that_is_silent("never.consul.", 0, ResponseCode::ServFail, 0)]
    #[tokio::test]
    async fn queries_are_answered(
        #[case] name: &str,
        #[case] length: usize,
        #[case] code: ResponseCode,
        #[case] answers: usize,
        #[values(false, true)] tcp: bool,
    ) {
        let address = proxy(control_plane().await).await;
        let query = query(name, length);
        let begun = std::time::Instant::now();
        let reply = if tcp {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            send(&mut stream, &query).await;
            receive(&mut stream).await
        } else {
            over_udp(address, &query.to_vec().expect("a query")).await
        };
        assert_eq!((reply.metadata.id, reply.metadata.response_code), (query.metadata.id, code));
        assert_eq!(reply.answers.len(), answers);
        assert!(begun.elapsed() < IDLE, "a resolver has given up by now");
    }

    #[tokio::test]
    async fn nobody_serves() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
        let address = proxy(Control::new(nobody.to_string())).await;
        let query = query("web.consul.", 0);
        let reply = over_udp(address, &query.to_vec().expect("a query")).await;
        assert_eq!((reply.metadata.response_code, reply.queries), (ResponseCode::ServFail, query.queries));
    }

    #[rstest]
    #[case::the_servers_are_away("away.consul.", ResponseCode::NoError, 1)]
    #[case::the_servers_do_not_want_to_tell("denied.consul.", ResponseCode::ServFail, 0)]
    #[tokio::test]
    async fn what_was_answered_once(#[case] name: &str, #[case] code: ResponseCode, #[case] answers: usize) {
        let address = proxy(control_plane().await).await;
        let mut query = query(name, 0);
        let first = over_udp(address, &query.to_vec().expect("a query")).await;
        assert_eq!(first.answers.len(), 1);
        query.metadata.id = query.metadata.id.wrapping_add(1);
        let again = over_udp(address, &query.to_vec().expect("a query")).await;
        assert_eq!((again.metadata.id, again.metadata.response_code), (query.metadata.id, code));
        assert_eq!(again.answers, first.answers[..answers]);
    }

    #[tokio::test]
    async fn one_connection_carries_several_queries_at_a_time() {
        let address = proxy(control_plane().await).await;
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let (slow, fast) = (query("slow.consul.", 0), query("fast.consul.", 0));
        send(&mut stream, &slow).await;
        send(&mut stream, &fast).await;
        // the client has no more to ask, and still wants its answers
        stream.shutdown().await.expect("half a connection");
        let mut answered = Vec::new();
        for _ in 0..2 {
            let reply = receive(&mut stream).await;
            assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{reply}");
            answered.push(reply.metadata.id);
        }
        answered.sort_unstable();
        let mut asked = [slow.metadata.id, fast.metadata.id];
        asked.sort_unstable();
        assert_eq!(answered, asked);
        assert_eq!(stream.read(&mut [0]).await.expect("an end"), 0);
    }

    #[rstest]
    #[case::no_message(b"nonsense")]
    #[case::a_response(b"\x12\x34\x80\0\0\0\0\0\0\0\0\0")]
    fn what_is_no_query_gets_no_failure(#[case] message: &[u8]) {
        assert_eq!(failure(message), None);
    }
}
