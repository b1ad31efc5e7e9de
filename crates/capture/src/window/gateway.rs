//! Mesh gateways: what crossed one, unopened.
//!
//! Addresses say little about a connection through gateways: each makes a new one, and networks between may translate them. The
//! TLS inside is the client's all the way, and begins with 32 bytes that it chose at random.

use super::{Leg, Verdict, Window, arrives, leaves};
use crate::verdict::{Disproof, Proof};
use crate::{Host, Place};

impl Window<'_> {
    /// GATEWAY: a TLS connection of the client arrived at the gateway, and left it again with the same greeting: the gateway
    /// passed it on and did not end it.
    ///
    /// # Errors
    /// When there is no such connection (yet); with what came to the gateway instead.
    pub fn gateway(&self, client: &Host, gateway: &Host) -> Verdict {
        let statement = format!("TLS of {} crossed the gateway {} unopened", client.name, gateway.name);
        self.recorded(client, Place::Eth0, &statement)?;
        self.recorded(gateway, Place::Eth0, &statement)?;
        let passed_on: Vec<(Leg<'_>, [u8; 32])> = self.greetings(gateway, leaves).collect();
        let mut nearest = Vec::new();
        for (leg, random) in self.greetings(client, leaves) {
            let arrived = self.greetings(gateway, arrives).find(|(_, r)| *r == random);
            let left = passed_on.iter().find(|(_, r)| *r == random);
            match (arrived, left) {
                (Some((arrived, _)), Some((left, _))) if !left.flow.is_plaintext() => {
                    let mut packets = vec![leg.opening_line(), arrived.opening_line(), left.opening_line()];
                    packets.extend(left.lines([left.flow.client.first_data(), left.flow.server.first_data()]));
                    return Proof::of(statement, packets);
                }
                (Some((arrived, _)), _) => {
                    let line = arrived.opening_line();
                    nearest.push(format!("{line} (it arrived, and its greeting did not leave the gateway again)"));
                }
                (None, _) => nearest.push(format!("{} (it did not arrive at the gateway)", leg.opening_line())),
            }
        }
        let reason = if nearest.is_empty() { "the client began no TLS" } else { "none of these is it" };
        Disproof::of(statement, reason, nearest)
    }

    /// No TLS connection of the client arrived at the gateway.
    ///
    /// # Errors
    /// When one did, or nobody looked.
    pub fn no_gateway(&self, client: &Host, gateway: &Host) -> Verdict {
        let statement = format!("no TLS of {} came to the gateway {}", client.name, gateway.name);
        self.recorded(client, Place::Eth0, &statement)?;
        self.recorded(gateway, Place::Eth0, &statement)?;
        let own: Vec<[u8; 32]> = self.greetings(client, leaves).map(|(_, random)| random).collect();
        let found: Vec<String> = self
            .greetings(gateway, arrives)
            .filter(|(_, random)| own.contains(random))
            .map(|(leg, _)| leg.opening_line())
            .collect();
        match found.is_empty() {
            true => Proof::of(statement, Vec::new()),
            false => Disproof::of(statement, "these did", found),
        }
    }

    /// TLS connections at a host's own interface that are at work, with what each greeting chose at random.
    fn greetings<'a>(
        &'a self,
        host: &'a Host,
        which: impl Fn(&crate::flow::Flow) -> bool + 'a,
    ) -> impl Iterator<Item = (Leg<'a>, [u8; 32])> {
        let legs = self.active(host, Place::Eth0).filter(move |leg| which(leg.flow));
        legs.filter_map(|leg| Some((leg, leg.flow.client_hello()?.random)))
    }
}
