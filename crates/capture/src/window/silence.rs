//! Who sent nothing to whom, and which port was used.

use super::{Leg, Verdict, Window, goes_to};
use crate::evidence::Log;
use crate::packet::Packet;
use crate::verdict::{Disproof, Proof};
use crate::{Direction, Host, Place, Protocol};

impl Window<'_> {
    /// SILENT: no packet left `from` for an address of `to`, at either end of its link.
    ///
    /// Packets without payload that end a connection from before the window do not count.
    ///
    /// # Errors
    /// The packets that did; or the interface was not recorded.
    pub fn silent_at_sender(&self, from: &Host, to: &Host) -> Verdict {
        let statement = format!("nothing left {} for {}", from.name, to.name);
        self.recorded(from, Place::Eth0, &statement)?;
        let logs = self.logs(&from.name, Place::Eth0).chain(self.logs(&from.name, Place::Veth));
        let against = logs.flat_map(|log| {
            let packets = log.packets().filter(|p| p.direction == Direction::Out && to.has(p.destination.ip()));
            self.counted(log, packets)
        });
        silent(statement, against.collect())
    }

    /// SILENT, seen from the other end: no packet from an address of `from` arrived at `to`.
    ///
    /// # Errors
    /// The packets that did; or the interface was not recorded.
    pub fn silent_at_receiver(&self, from: &Host, to: &Host) -> Verdict {
        let statement = format!("nothing from {} reached {}", from.name, to.name);
        self.recorded(to, Place::Eth0, &statement)?;
        let against = self.logs(&to.name, Place::Eth0).flat_map(|log| {
            let packets = log.packets().filter(|p| p.direction == Direction::In && from.has(p.source.ip()));
            self.counted(log, packets)
        });
        silent(statement, against.collect())
    }

    /// A flow from one host to the other goes to this port, at the sender or at the receiver.
    ///
    /// # Errors
    /// The flows between the two that go elsewhere.
    pub fn uses_port(&self, from: &Host, to: &Host, port: u16) -> Verdict {
        let statement = format!("{} used port {port} of {}", from.name, to.name);
        if self.recorded(to, Place::Eth0, &statement).is_err() {
            self.recorded(from, Place::Eth0, &statement)?;
        }
        let left = self.active(from, Place::Eth0).filter(|leg| goes_to(leg.flow, &to.addresses));
        let came = self.active(to, Place::Eth0).filter(|leg| from.has(leg.flow.initiator.ip()));
        let (used, others): (Vec<Leg<'_>>, Vec<Leg<'_>>) =
            left.chain(came).partition(|leg| leg.flow.responder.port() == port);
        if used.is_empty() {
            let others = others.into_iter().map(Leg::opening_line).collect();
            return Disproof::of(statement, "what there is between the two goes elsewhere", others);
        }
        Proof::of(statement, used.into_iter().map(Leg::opening_line).collect())
    }

    fn counted<'b>(&'b self, log: &'b Log, packets: impl Iterator<Item = &'b Packet>) -> Vec<String> {
        let counts = |packet: &&Packet| {
            packet.time >= self.since
                && packet.protocol != Protocol::Other
                && (packet.length > 0 || log.flows.get(packet.flow).is_none_or(|flow| flow.first.time >= self.since))
        };
        packets.filter(counts).map(|packet| log.line(packet)).collect()
    }
}

fn silent(statement: String, against: Vec<String>) -> Verdict {
    if against.is_empty() { Proof::of(statement, against) } else { Disproof::of(statement, "these did", against) }
}
