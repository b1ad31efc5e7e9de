//! All that was recorded, at one moment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use memchr::memmem::Finder;

use crate::flow::{Flow, Seen};
use crate::packet::{self, Packet};
use crate::table::Table;
use crate::verdict::{Disproof, Proof};
use crate::{Direction, Place, ProxyPorts, Timestamp, Vantage, Window};

/// Packets are kept in pieces of this many, so that a snapshot copies at most one piece.
const PIECE: usize = 512;

/// What one vantage saw.
#[derive(Debug, Clone)]
pub struct Log {
    /// Which vantage.
    pub vantage: Vantage,
    /// The interface's name in its namespace.
    pub interface: String,
    /// The capture file; complete up to the last settlement. Of long streams it has the beginning, and the headers.
    pub file: PathBuf,
    /// Conversations, in the order of their first packets.
    pub flows: Vec<Arc<Flow>>,
    /// Packets that passed and were not recorded. Anything but 0 makes the evidence worthless.
    pub dropped: u64,
    /// Whether recording has ended: stopped, or the interface is gone.
    pub ended: bool,
    packets: Vec<Arc<Vec<Packet>>>,
    /// How many frames the file has.
    frames: u32,
    /// Numbers of frames beyond what memory holds in which a canary begins.
    pub(crate) marked: Vec<u32>,
}

impl Log {
    pub(crate) fn new(vantage: Vantage, interface: &str, file: PathBuf) -> Self {
        Self {
            vantage,
            interface: interface.to_owned(),
            file,
            flows: Vec::new(),
            dropped: 0,
            ended: false,
            packets: Vec::new(),
            frames: 0,
            marked: Vec::new(),
        }
    }

    /// Adds the next frame of the file. Says whether it is bulk: further bytes of a flow of which memory is full.
    pub(crate) fn absorb(&mut self, table: &mut Table, time: Timestamp, direction: Direction, frame: &[u8]) -> bool {
        self.frames += 1;
        let Some(segment) = packet::parse(frame) else { return false };
        let seen = Seen { number: self.frames, time };
        let flow = table.absorb(&mut self.flows, &segment, seen, direction);
        if self.packets.last().is_none_or(|piece| piece.len() == PIECE) {
            self.packets.push(Arc::new(Vec::with_capacity(PIECE)));
        }
        let Some(piece) = self.packets.last_mut() else { return false };
        Arc::make_mut(piece).push(Packet {
            number: seen.number,
            time,
            direction,
            protocol: segment.protocol,
            source: segment.source,
            destination: segment.destination,
            flags: segment.flags,
            length: segment.payload.len(),
            flow,
        });
        let flow = &self.flows[flow];
        !segment.payload.is_empty() && (flow.client.is_capped() || flow.server.is_capped())
    }

    /// Whether a marker begins in the last frame, or in the packet before it in the same stream and ends in it.
    pub(crate) fn last_has(&self, marker: &Finder<'_>, frame: &[u8]) -> bool {
        let last = self.packets.last().and_then(|piece| piece.last()).and_then(|packet| self.flows.get(packet.flow));
        marker.find(frame).is_some()
            || last.is_some_and(|flow| {
                [&flow.client, &flow.server].iter().any(|side| marker.find(side.stream.seam()).is_some())
            })
    }

    /// Notes that the last frame carries the beginning of a canary.
    pub(crate) fn mark(&mut self) {
        self.marked.push(self.frames);
    }

    /// Every IP packet, in the file's order.
    pub fn packets(&self) -> impl Iterator<Item = &Packet> {
        self.packets.iter().flat_map(|piece| piece.iter())
    }

    /// The packet of this number.
    #[must_use]
    pub fn packet(&self, number: u32) -> Option<&Packet> {
        let piece = self.packets.partition_point(|piece| piece.last().is_some_and(|last| last.number < number));
        let piece = self.packets.get(piece)?;
        piece.binary_search_by_key(&number, |packet| packet.number).ok().map(|at| &piece[at])
    }

    /// A packet in words: `#number time vantage protocol source→destination flags length`.
    #[must_use]
    pub fn line(&self, packet: &Packet) -> String {
        let Packet { number, time, protocol, source, destination, flags, length, .. } = packet;
        let flags = if *protocol == crate::Protocol::Tcp { format!(" {flags}") } else { String::new() };
        format!("#{number} {time} {} {protocol} {source}→{destination}{flags} len {length}", self.vantage)
    }
}

/// All that a [`crate::Recorder`] recorded up to one moment.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// One per interface; two of the same vantage when a host of the same name came twice.
    pub logs: Vec<Arc<Log>>,
    /// Ports of the sidecars.
    pub ports: ProxyPorts,
    /// Whether long streams were searched for canaries.
    pub(crate) marked: bool,
}

impl Evidence {
    /// What happened at or after a moment, to make statements about.
    #[must_use]
    pub fn since(&self, since: Timestamp) -> Window<'_> {
        Window::new(self, since)
    }

    /// Whether any interface of a host was recorded.
    #[must_use]
    pub fn has_recorded(&self, host: &str) -> bool {
        self.logs.iter().any(|log| log.vantage.host == host)
    }

    /// The vantages with dropped packets, and how many.
    #[must_use]
    pub fn dropped(&self) -> Vec<(Vantage, u64)> {
        self.logs.iter().filter(|log| log.dropped > 0).map(|log| (log.vantage.clone(), log.dropped)).collect()
    }

    /// None of the tokens occurs in any packet outside the loopbacks, from the first packet on; and at least one of them
    /// was seen on a loopback, so that there was something to find. Or each of the connections that were to carry them, by host and
    /// local address, is one on which its host was seen to send nothing, or was never made: who is cut off at once sends none.
    ///
    /// Of a flow of which memory is full, packets in which any canary begins count ([`crate::Recorder::with_marker`]).
    ///
    /// # Errors
    /// The packets in which one occurs; or no loopback saw one.
    pub fn canary_free(&self, canaries: &[&str], carriers: &[(String, Option<SocketAddr>)]) -> Result<Proof, Disproof> {
        let statement = "no canary was ever in clear outside a loopback";
        let (inside, outside): (Vec<_>, Vec<_>) =
            self.logs.iter().partition(|log| log.vantage.place == Place::Loopback);
        let found: Vec<String> = outside.iter().flat_map(|log| carrying(log, canaries)).collect();
        if !found.is_empty() {
            return Disproof::of(statement, "these packets carry one", found);
        }
        let seen: Vec<String> = inside.iter().filter_map(|log| carrying(log, canaries).into_iter().next()).collect();
        if seen.is_empty()
            && let Some(cut_off) = self.sent_nothing(carriers)
        {
            return Proof::of(format!("{statement}; none was sent:"), cut_off);
        }
        if seen.is_empty() {
            let reason = "no loopback saw one either, and a capture without any proves nothing";
            return Disproof::of(statement, reason, Vec::new());
        }
        let bulk = outside.iter().flat_map(|log| &log.flows).any(|f| f.client.is_capped() || f.server.is_capped());
        if bulk && !self.marked {
            let reason =
                "there are long streams, and the recorder was not told how canaries begin to look for them there";
            return Disproof::of(statement, reason, Vec::new());
        }
        Proof::of(format!("{statement}; inside one, for example:"), seen)
    }

    /// The beginnings of these connections, if nothing was sent on any.
    fn sent_nothing(&self, carriers: &[(String, Option<SocketAddr>)]) -> Option<Vec<String>> {
        let mut beginnings = Vec::new();
        for (host, local) in carriers {
            let mut logs = self.logs.iter().filter(|log| log.vantage.host == *host).peekable();
            logs.peek()?;
            let Some(local) = local else { continue };
            let flows = logs.flat_map(|log| log.flows.iter().map(move |flow| (log, flow)));
            let (log, flow) = flows.into_iter().find(|(_, flow)| flow.initiator == *local)?;
            if flow.client.total() > 0 {
                return None;
            }
            beginnings.extend(log.packet(flow.first.number).map(|packet| log.line(packet)));
        }
        (!carriers.is_empty()).then_some(beginnings)
    }
}

/// The packets of a log that carry one of the canaries.
fn carrying(log: &Log, canaries: &[&str]) -> Vec<String> {
    let sides = log.flows.iter().flat_map(|flow| [&flow.client, &flow.server]);
    let mut numbers: Vec<u32> =
        sides.flat_map(|side| canaries.iter().flat_map(|canary| side.find(canary.as_bytes()))).collect();
    numbers.extend(&log.marked);
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into_iter().filter_map(|number| log.packet(number)).map(|packet| log.line(packet)).collect()
}

/// Whether `needle` occurs in `data`.
pub(crate) fn contains(data: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && memchr::memmem::find(data, needle).is_some()
}
