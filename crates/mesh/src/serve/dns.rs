//! Consul DNS: names of services in the domain `consul`.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use rand::seq::SliceRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::task::TaskTracker;

use super::{Gate, Shared, accept};
use crate::registration::{Health, Instance};
use crate::world::World;

/// How a query came, which says how long the answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// Answers over UDP without EDNS are cut to this many, as Consul's default `udp_answer_limit` does.
const UDP_ANSWERS: usize = 3;
/// Longest answer over TCP.
const TCP_LIMIT: usize = 65_523;

/// Serves both transports while the gate is open.
pub(crate) fn start(
    udp: UdpSocket,
    tcp: TcpListener,
    shared: Arc<Shared>,
    gate: &Gate,
    tasks: &TaskTracker,
) -> std::io::Result<()> {
    let socket = tokio::net::UdpSocket::from_std(udp)?;
    let (state, open) = (shared.clone(), gate.clone());
    tasks.spawn(gate.stopped().run_until_cancelled_owned(async move {
        let mut buffer = vec![0; 65_535];
        loop {
            // an error is an ICMP answer to something that was sent before
            let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
            if !open.is_open() {
                continue;
            }
            if let Some(reply) = answer(&state.world(), &buffer[..length], Transport::Udp) {
                let _ = socket.send_to(&reply, peer).await;
            }
        }
    }));
    accept(tcp, gate, tasks, move |mut stream| {
        let shared = shared.clone();
        async move {
            loop {
                let length = stream.read_u16().await?;
                let mut query = vec![0; usize::from(length)];
                stream.read_exact(&mut query).await?;
                let Some(reply) = answer(&shared.world(), &query, Transport::Tcp) else { break };
                let length = u16::try_from(reply.len()).map_err(std::io::Error::other)?;
                stream.write_all(&[&length.to_be_bytes(), reply.as_slice()].concat()).await?;
            }
            Ok::<(), std::io::Error>(())
        }
    })
}

/// The answer to a message; `None` when it is not a query.
pub(crate) fn answer(world: &World, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let query = Message::from_vec(message).ok()?;
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.queries = query.queries.clone();
    reply.edns = query.edns.clone();
    match query.queries.first() {
        _ if query.metadata.op_code != OpCode::Query => reply.metadata.response_code = ResponseCode::NotImp,
        None => reply.metadata.response_code = ResponseCode::FormErr,
        Some(question) => fill(world, &mut reply, question.name(), question.query_type()),
    }
    limit(&mut reply, query.edns.as_ref().map(|e| e.max_payload()), transport);
    reply.to_vec().ok()
}

fn fill(world: &World, reply: &mut Message, name: &Name, kind: RecordType) {
    let text = name.to_ascii().to_ascii_lowercase();
    let labels: Vec<&str> = text.trim_end_matches('.').split('.').collect();
    let [labels @ .., "consul"] = labels.as_slice() else {
        // no recursors: somebody else must be asked
        reply.metadata.response_code = ResponseCode::Refused;
        return;
    };
    if matches!(kind, RecordType::AXFR | RecordType::IXFR) {
        reply.metadata.response_code = ResponseCode::NotImp;
        return;
    }
    reply.metadata.authoritative = true;
    let records = match question(labels, world.names.datacenter()) {
        Some(Asked::Virtual(service)) => {
            // an unknown service is an empty answer without SOA, as in Consul
            if let Some(address) = world.vips.get(service) {
                let record = Record::from_rdata(name.clone(), 0, RData::A(address.into()));
                if matches!(kind, RecordType::A | RecordType::ANY) {
                    reply.add_answer(record);
                } else {
                    reply.add_additional(record);
                }
            }
            return;
        }
        Some(Asked::Instances { service, tag, proxies }) => instances(world, reply, name, kind, service, tag, proxies),
        Some(Asked::Address(address)) => Some(address_record(name, kind, address).into_iter().collect()),
        None => None,
    };
    match records {
        None => reply.metadata.response_code = ResponseCode::NXDomain,
        Some(records) if !records.is_empty() => {
            reply.add_answers(records);
            return;
        }
        Some(_) => {}
    }
    if let Some(soa) = soa() {
        reply.add_authority(soa);
    }
}

/// What a name in the domain asks for.
enum Asked<'a> {
    Virtual(&'a str),
    Instances { service: &'a str, tag: Option<&'a str>, proxies: bool },
    Address(IpAddr),
}

/// Reads the labels left of `consul`.
fn question<'a>(labels: &[&'a str], datacenter: &str) -> Option<Asked<'a>> {
    let labels = match labels {
        // `.dc1` and `.dc1.dc` name the datacenter; a bare label after `virtual` names a peer
        [rest @ .., dc, "dc"] if *dc == datacenter => rest,
        [rest @ .., kind, dc] if *dc == datacenter && matches!(*kind, "service" | "connect" | "addr") => {
            &labels[..rest.len() + 1]
        }
        all => all,
    };
    match labels {
        [service, "virtual"] => Some(Asked::Virtual(service)),
        [service, "connect"] => Some(Asked::Instances { service, tag: None, proxies: true }),
        [hex, "addr"] => u32::from_str_radix(hex, 16).ok().map(|n| Asked::Address(IpAddr::from(n.to_be_bytes()))),
        [service, tag, rest @ ..]
            if matches!(rest, [] | ["service"]) && service.starts_with('_') && tag.starts_with('_') =>
        {
            let tag = Some(&tag[1..]).filter(|t| *t != "tcp");
            Some(Asked::Instances { service: &service[1..], tag, proxies: false })
        }
        [service, "service"] => Some(Asked::Instances { service, tag: None, proxies: false }),
        [tag, service, "service"] => Some(Asked::Instances { service, tag: Some(tag), proxies: false }),
        _ => None,
    }
}

/// Records of the healthy instances; `None` when there are none of any type.
fn instances(
    world: &World,
    reply: &mut Message,
    name: &Name,
    kind: RecordType,
    service: &str,
    tag: Option<&str>,
    proxies: bool,
) -> Option<Vec<Record>> {
    let healthy = |i: &&Arc<Instance>| i.health != Health::NotReady && i.health != Health::Terminating;
    let tagged = |i: &&Arc<Instance>| tag.is_none_or(|t| i.tags.iter().any(|own| own == t));
    let mut found: Vec<_> = world.catalog.instances(service).iter().filter(healthy).filter(tagged).collect();
    if found.is_empty() {
        return None;
    }
    found.shuffle(&mut rand::rng());
    let mut records = Vec::new();
    for instance in found {
        if kind == RecordType::SRV {
            let port = if proxies { instance.proxy_port } else { instance.port };
            let Some(target) = target(world, instance.address) else { continue };
            reply.add_additionals(address_record(&target, RecordType::ANY, instance.address));
            records.push(Record::from_rdata(name.clone(), 0, RData::SRV(SRV::new(1, 1, port, target))));
        } else {
            records.extend(address_record(name, kind, instance.address));
        }
    }
    Some(records)
}

/// `<hex>.addr.<datacenter>.consul`.
fn target(world: &World, address: IpAddr) -> Option<Name> {
    let hex: String = match address {
        IpAddr::V4(v4) => v4.octets().iter().map(|b| format!("{b:02x}")).collect(),
        IpAddr::V6(v6) => v6.octets().iter().map(|b| format!("{b:02x}")).collect(),
    };
    Name::from_ascii(format!("{hex}.addr.{}.consul.", world.names.datacenter())).ok()
}

fn address_record(name: &Name, kind: RecordType, address: IpAddr) -> Option<Record> {
    let data = match address {
        IpAddr::V4(v4) if matches!(kind, RecordType::A | RecordType::ANY) => RData::A(v4.into()),
        IpAddr::V6(v6) if matches!(kind, RecordType::AAAA | RecordType::ANY) => RData::AAAA(v6.into()),
        _ => return None,
    };
    Some(Record::from_rdata(name.clone(), 0, data))
}

fn soa() -> Option<Record> {
    let name = |text| Name::from_ascii(text).ok();
    let serial = u32::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
    let soa = SOA::new(name("ns.consul.")?, name("hostmaster.consul.")?, serial, 3600, 600, 86_400, 0);
    Some(Record::from_rdata(name("consul.")?, 0, RData::SOA(soa)))
}

/// Leaves out what does not fit, without saying so: Consul's `enable_truncate` is off by default.
fn limit(reply: &mut Message, edns: Option<u16>, transport: Transport) {
    let bytes = match (transport, edns) {
        (Transport::Tcp, _) => TCP_LIMIT,
        (Transport::Udp, Some(size)) => usize::from(size.max(512)),
        (Transport::Udp, None) => {
            reply.answers.truncate(UDP_ANSWERS);
            reply.additionals.truncate(UDP_ANSWERS);
            512
        }
    };
    while reply.to_vec().is_ok_and(|v| v.len() > bytes) && reply.answers.pop().is_some() {
        reply.additionals.truncate(reply.answers.len());
    }
}

#[cfg(test)]
mod tests;
