//! The evidence from one moment on, and how statements find what they speak of in it.

use std::net::{IpAddr, SocketAddr};

use crate::evidence::{Evidence, Log};
use crate::flow::{Flow, Side};
use crate::packet::Packet;
use crate::{Direction, Disproof, Host, Place, Proof, Timestamp};

mod count;
mod dns;
mod gateway;
mod redirection;
mod silence;
#[cfg(test)]
mod tests;
mod wire;

pub use count::{Content, Count, Query};

/// The evidence from one moment on.
///
/// A statement about connections *begun* in the window looks at flows whose first packet is in it; where a proxy may use an
/// older connection of its own for new bytes, flows with any packet in it count, and bytes (a canary) must be in it.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    evidence: &'a Evidence,
    since: Timestamp,
}

/// What a statement's function answers.
type Verdict = Result<Proof, Disproof>;

/// A flow and the log it is in.
#[derive(Clone, Copy)]
struct Leg<'a> {
    log: &'a Log,
    flow: &'a Flow,
}

impl<'a> Window<'a> {
    pub(crate) fn new(evidence: &'a Evidence, since: Timestamp) -> Self {
        Self { evidence, since }
    }

    /// Logs of one interface of a host: none when nobody recorded it.
    fn logs(self, host: &'a str, place: Place) -> impl Iterator<Item = &'a Log> {
        let logs = self.evidence.logs.iter().map(|log| &**log);
        logs.filter(move |log| log.vantage.host == host && log.vantage.place == place)
    }

    /// An absence is only proven where somebody looked.
    fn recorded(self, host: &Host, place: Place, statement: &str) -> Result<(), Disproof> {
        if self.logs(&host.name, place).next().is_some() {
            return Ok(());
        }
        Err(Disproof {
            statement: statement.to_owned(),
            reason: format!("nobody recorded {}/{place}, and what was not recorded proves nothing", host.name),
            packets: Vec::new(),
        })
    }

    /// Flows at one interface of a host with a packet in the window.
    fn active(self, host: &'a Host, place: Place) -> impl Iterator<Item = Leg<'a>> {
        self.logs(&host.name, place)
            .flat_map(|log| log.flows.iter().map(move |flow| Leg { log, flow }))
            .filter(move |leg| leg.flow.last >= self.since)
    }

    /// Flows at one interface of a host that began in the window.
    fn begun(self, host: &'a Host, place: Place) -> impl Iterator<Item = Leg<'a>> {
        self.active(host, place).filter(move |leg| leg.flow.first.time >= self.since)
    }

    /// Packets of a leg, in the window, in which the needle begins on one side.
    fn found(self, leg: Leg<'a>, side: &'a Side, needle: &str) -> Vec<&'a Packet> {
        let packets = side.find(needle.as_bytes()).filter_map(|number| leg.log.packet(number));
        packets.filter(|packet| packet.time >= self.since).collect()
    }

    /// Flows on a host's loopback that carry the canary, whoever sent it.
    fn inner_legs_with(self, pod: &'a Host, canary: &str) -> Vec<(Leg<'a>, Vec<String>)> {
        let legs = self.active(pod, Place::Loopback).filter_map(|leg| {
            let mut packets = self.found(leg, &leg.flow.client, canary);
            packets.extend(self.found(leg, &leg.flow.server, canary));
            (!packets.is_empty()).then(|| (leg, packets.into_iter().map(|p| leg.log.line(p)).collect()))
        });
        legs.collect()
    }
}

impl Leg<'_> {
    fn line(self, number: u32) -> Option<String> {
        self.log.packet(number).map(|packet| self.log.line(packet))
    }

    /// Lines of the packets of these numbers, in the file's order.
    fn lines(self, numbers: impl IntoIterator<Item = Option<u32>>) -> Vec<String> {
        let mut numbers: Vec<u32> = numbers.into_iter().flatten().collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().filter_map(|number| self.line(number)).collect()
    }

    /// The first packet, and the other side's first.
    fn opening(self) -> Vec<String> {
        let Flow { first, server, .. } = self.flow;
        self.lines([Some(first.number), server.syn.map(|s| s.number).or_else(|| server.first_data())])
    }

    fn opening_line(self) -> String {
        self.line(self.flow.first.number).unwrap_or_default()
    }
}

/// Whether an address is the one meant; port 0 stands for any.
fn matches(meant: SocketAddr, found: SocketAddr) -> bool {
    meant.ip() == found.ip() && (meant.port() == 0 || meant.port() == found.port())
}

/// Whether a flow goes to one of the addresses.
fn goes_to(flow: &Flow, addresses: &[IpAddr]) -> bool {
    addresses.contains(&flow.responder.ip())
}

/// Whether a flow leaves the host whose vantage this is.
fn leaves(flow: &Flow) -> bool {
    flow.direction == Direction::Out
}

/// Whether a flow comes to the host whose vantage this is.
fn arrives(flow: &Flow) -> bool {
    flow.direction == Direction::In
}
