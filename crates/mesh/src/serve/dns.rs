//! Consul DNS: names of services in the domain `consul`, as the community edition answers them; where there are admin partitions,
//! as the Enterprise edition does.
//!
//! A name is read ([`name`]), its records are found in the world ([`find`]), and what does not fit is left out ([`fit`]).
//! What Consul answers is answered even where it is no good answer: a virtual name of an unknown service gets an empty one
//! and not `NXDOMAIN`, upon which some resolvers stop searching. Clients must live with it, and features are to show how.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use futures::FutureExt as _;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use rand::seq::SliceRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::task::TaskTracker;

use super::{Gate, Shared, accept};
use crate::acl::Rights;
use crate::world::World;

mod find;
mod fit;
mod name;

pub(crate) use fit::Transport;

/// Length of a message's header.
const HEADER: usize = 12;

/// Serves both transports while the gate is open.
pub(crate) fn start(
    udp: UdpSocket,
    tcp: TcpListener,
    shared: Arc<Shared>,
    gate: &Gate,
    tasks: &TaskTracker,
) -> std::io::Result<()> {
    let socket = Arc::new(tokio::net::UdpSocket::from_std(udp)?);
    let (state, open, answers, stopped) = (shared.clone(), gate.clone(), tasks.clone(), gate.stopped());
    tasks.spawn(gate.stopped().run_until_cancelled_owned(async move {
        let mut buffer = vec![0; 65_535];
        loop {
            // an error is an ICMP answer to something that was sent before
            let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
            if !open.is_open() {
                continue;
            }
            let query = &buffer[..length];
            if let Some(world) = state.world_to_answer(query).now_or_never() {
                send(&socket, state.answer_dns(&world, query, Transport::Udp), peer).await;
                continue;
            }
            // those that wait are not to hold up the others
            let (query, socket, state, open) = (query.to_owned(), socket.clone(), state.clone(), open.clone());
            answers.spawn(stopped.clone().run_until_cancelled_owned(async move {
                let world = state.world_to_answer(&query).await;
                if open.is_open() {
                    send(&socket, state.answer_dns(&world, &query, Transport::Udp), peer).await;
                }
            }));
        }
    }));
    accept(tcp, gate, tasks, move |mut stream| {
        let shared = shared.clone();
        async move {
            loop {
                let length = stream.read_u16().await?;
                let mut query = vec![0; usize::from(length)];
                stream.read_exact(&mut query).await?;
                let world = shared.world_to_answer(&query).await;
                let Some(reply) = shared.answer_dns(&world, &query, Transport::Tcp) else { break };
                let length = u16::try_from(reply.len()).map_err(std::io::Error::other)?;
                stream.write_all(&[&length.to_be_bytes(), reply.as_slice()].concat()).await?;
            }
            Ok::<(), std::io::Error>(())
        }
    })
}

async fn send(socket: &tokio::net::UdpSocket, reply: Option<Vec<u8>>, peer: SocketAddr) {
    if let Some(reply) = reply {
        // who does not listen any more need not know
        let _ = socket.send_to(&reply, peer).await;
    }
}

impl Shared {
    /// The world to answer a query from. A name of ours that is asked for before everything is known, as after a restart, is
    /// answered once it is: clients keep what they were told of names that do not exist.
    pub(crate) async fn world_to_answer(&self, query: &[u8]) -> Arc<World> {
        let world = self.world();
        let is_ours = || {
            let query = Message::from_vec(query);
            query.is_ok_and(|query| query.queries.iter().any(|question| find::is_ours(question.name())))
        };
        if world.is_partial && is_ours() { self.complete_world().await } else { world }
    }

    /// The answer to somebody without a token; `None` where there is none.
    fn answer_dns(&self, world: &World, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        answer(world, &self.rights(None).ok()?, query, transport)
    }
}

/// The answer to a message of somebody; `None` when it is not a query.
pub(crate) fn answer(world: &World, rights: &Rights, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let Ok(query) = Message::from_vec(message) else { return malformed(message) };
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.queries.clone_from(&query.queries);
    reply.edns = query.edns.as_ref().map(mirrored);
    match query.queries.as_slice() {
        _ if query.metadata.op_code != OpCode::Query => reply.metadata.response_code = ResponseCode::NotImp,
        [question] => {
            let serial = u32::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
            let find = if rights.reads() { find::find } else { find::find_nothing };
            let found = find(world, question.name(), question.query_type(), serial);
            reply.metadata.response_code = found.code;
            reply.metadata.authoritative = found.authoritative;
            reply.answers = found.answers;
            reply.authorities = found.authorities;
            reply.additionals = found.additionals;
            reply.answers.shuffle(&mut rand::rng());
            let size = query.edns.as_ref().map(Edns::max_payload);
            fit::fit(&mut reply, fit::limits(transport, size, question.query_type()));
        }
        _ => reply.metadata.response_code = ResponseCode::FormErr,
    }
    reply.to_vec().ok()
}

/// The answer to a query of which only the header can be read.
fn malformed(message: &[u8]) -> Option<Vec<u8>> {
    let header = message.get(..HEADER)?;
    let (id, flags) = (u16::from_be_bytes([header[0], header[1]]), header[2]);
    let is_query = flags & 0x80 == 0;
    let reply = Message::error_msg(id, OpCode::from_u8(flags >> 3 & 0xf), ResponseCode::FormErr);
    is_query.then(|| reply.to_vec().ok()).flatten()
}

/// The client's own size and subnet. Answers are for everybody: the subnet's scope is empty.
fn mirrored(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(asked.max_payload());
    if let Some(EdnsOption::Subnet(subnet)) = asked.option(EdnsCode::Subnet) {
        let mut subnet = *subnet;
        subnet.set_scope_prefix(0);
        edns.options_mut().insert(EdnsOption::Subnet(subnet));
    }
    edns
}

#[cfg(test)]
mod tests;
