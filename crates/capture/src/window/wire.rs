//! What is readable on the wire: mutual TLS, plaintext, plaintext that a TLS listener refused.

use std::net::IpAddr;

use super::{Leg, Verdict, Window, arrives, goes_to, leaves};
use crate::flow::Flow;
use crate::tls;
use crate::verdict::{Disproof, Proof};
use crate::{Host, Place, Protocol};

impl Window<'_> {
    /// MTLS: one connection, seen leaving the client and arriving at the server at `port`, begins with a TLS greeting for
    /// the server name, came up, and is TLS records in both directions and nothing else.
    ///
    /// With TLS 1.3 the client's certificate is encrypted; that TLS is *mutual* is shown by a dial without one.
    ///
    /// # Errors
    /// When there is no such connection (yet); with what there is between the two instead.
    pub fn mtls(&self, client: &Host, server: &Host, port: Option<u16>, server_name: Option<&str>) -> Verdict {
        let name = server_name.map_or(String::new(), |name| format!(" for {name}"));
        let at = port.map_or(String::new(), |port| format!(" at port {port}"));
        let statement = format!("{} spoke TLS{name} with {}{at}", client.name, server.name);
        self.recorded(client, Place::Eth0, &statement)?;
        self.recorded(server, Place::Eth0, &statement)?;
        let arrived: Vec<Leg<'_>> = self.active(server, Place::Eth0).filter(|leg| arrives(leg.flow)).collect();
        let mut nearest = Vec::new();
        for leg in
            self.active(client, Place::Eth0).filter(|leg| leaves(leg.flow) && goes_to(leg.flow, &server.addresses))
        {
            if leg.flow.protocol != Protocol::Tcp {
                continue;
            }
            let twin = arrived.iter().find(|twin| same_sockets(twin.flow, leg.flow));
            let fault =
                twin.map_or(Some("it did not arrive as it left".to_owned()), |_| tls_fault(leg.flow, server_name));
            let fault = fault.or_else(|| {
                let other = port.filter(|port| *port != leg.flow.responder.port());
                other.map(|_| format!("it goes to port {}", leg.flow.responder.port()))
            });
            match (fault, twin) {
                (None, Some(twin)) => {
                    let hello = [leg.flow.client.first_data(), leg.flow.server.first_data()];
                    let mut packets = leg.opening();
                    packets.push(twin.opening_line());
                    packets.extend(leg.lines(hello));
                    return Proof::of(statement, packets);
                }
                (fault, _) => nearest.push(format!("{} ({})", leg.opening_line(), fault.unwrap_or_default())),
            }
        }
        let reason = if nearest.is_empty() { "no connection between the two" } else { "none of these is it" };
        Disproof::of(statement, reason, nearest)
    }

    /// The canary went from one host to the other in clear: it is readable in a packet that leaves the one for the other
    /// or arrives at the other from the one, over any protocol.
    ///
    /// A sender may have `dialled` an address that is none of the receiver's: a node forwards its ports. What left for
    /// such an address counts when the canary is readable where it arrived too.
    ///
    /// # Errors
    /// When no such packet was seen (yet), or neither end was recorded.
    pub fn plaintext(&self, from: &Host, to: &Host, dialled: Option<IpAddr>, canary: &str) -> Verdict {
        let statement = format!("canary {canary} went from {} to {} in clear", from.name, to.name);
        if self.recorded(to, Place::Eth0, &statement).is_err() {
            self.recorded(from, Place::Eth0, &statement)?;
        }
        let left = self.active(from, Place::Eth0).filter(|leg| leaves(leg.flow) && goes_to(leg.flow, &to.addresses));
        let came = self.active(to, Place::Eth0).filter(|leg| arrives(leg.flow) && from.has(leg.flow.initiator.ip()));
        let mut legs: Vec<Leg<'_>> = left.chain(came).collect();
        if let Some(dialled) = dialled {
            let carries = |leg: &Leg<'_>| !self.found(*leg, &leg.flow.client, canary).is_empty();
            let forwarded = || self.active(from, Place::Eth0).filter(|l| leaves(l.flow) && goes_to(l.flow, &[dialled]));
            if forwarded().any(|leg| carries(&leg)) {
                legs.extend(self.active(to, Place::Eth0).filter(|leg| arrives(leg.flow) && carries(leg)));
            }
        }
        let mut packets = Vec::new();
        for leg in &legs {
            packets.extend(self.found(*leg, &leg.flow.client, canary).into_iter().map(|p| leg.log.line(p)));
        }
        if packets.is_empty() {
            let seen = legs.into_iter().map(Leg::opening_line).collect();
            return Disproof::of(statement, "no packet between the two carries it", seen);
        }
        Proof::of(statement, packets)
    }

    /// RESET: a connection to the Pod's port came up, the client spoke plaintext (the canary), and the answer was RST, FIN
    /// or a TLS alert, without a byte of an application; the loopback did not see the canary.
    ///
    /// # Errors
    /// When there is no such connection (yet).
    pub fn reset(&self, pod: &Host, port: u16, canary: Option<&str>) -> Verdict {
        let statement = format!("{} reset plaintext to port {port}", pod.name);
        self.recorded(pod, Place::Eth0, &statement)?;
        self.recorded(pod, Place::Loopback, &statement)?;
        if let Some(canary) = canary {
            let inner: Vec<String> =
                self.inner_legs_with(pod, canary).into_iter().flat_map(|(_, lines)| lines).collect();
            if !inner.is_empty() {
                return Disproof::of(statement, "the loopback saw the canary", inner);
            }
        }
        let mut nearest = Vec::new();
        for leg in self.begun(pod, Place::Eth0).filter(|l| arrives(l.flow) && l.flow.responder.port() == port) {
            let Flow { client, server, established, .. } = leg.flow;
            let carries = canary.is_none_or(|canary| !self.found(leg, client, canary).is_empty());
            let alert = tls::is_only_alerts(server.bytes());
            let fault = if established.is_none() {
                "it did not come up"
            } else if client.total() == 0 || client.is_tls() || !carries {
                "the client did not send the canary in clear"
            } else if server.total() > 0 && !alert {
                "it was answered"
            } else if server.fin.is_none() && server.rst.is_none() && !alert {
                "it is neither answered nor ended"
            } else {
                let end = server.rst.or(server.fin).map(|seen| seen.number);
                let mut packets = leg.opening();
                packets.extend(leg.lines([client.first_data(), server.first_data(), end]));
                return Proof::of(statement, packets);
            };
            nearest.push(format!("{} ({fault})", leg.opening_line()));
        }
        let reason = if nearest.is_empty() { "no connection to that port arrived" } else { "none of these is it" };
        Disproof::of(statement, reason, nearest)
    }
}

fn same_sockets(one: &Flow, other: &Flow) -> bool {
    one.initiator == other.initiator
        && one.responder == other.responder
        && one.client.syn_sequence == other.client.syn_sequence
}

/// What keeps a connection from being TLS that came up for this name.
fn tls_fault(flow: &Flow, server_name: Option<&str>) -> Option<String> {
    let Some(hello) = flow.client_hello() else {
        let fault = if flow.client.total() == 0 { "nothing was sent" } else { "it does not begin with a TLS greeting" };
        return Some(fault.to_owned());
    };
    let is_for = |wanted: &str| {
        // a subset of a service, or one of its ports, stands before the name as a label of its own
        let rest = hello.server_name.as_deref().and_then(|name| name.strip_suffix(wanted));
        rest.is_some_and(|label| label.is_empty() || label.strip_suffix('.').is_some_and(|label| !label.contains('.')))
    };
    if let Some(wanted) = server_name.filter(|name| !is_for(name)) {
        let found = hello.server_name.unwrap_or("none".to_owned());
        return Some(format!("it asks for {found}, not {wanted}"));
    }
    if !flow.server_hello() {
        return Some("the server did not greet back".to_owned());
    }
    if flow.is_plaintext() {
        return Some("it is not TLS all through".to_owned());
    }
    let both = [&flow.client, &flow.server].iter().all(|side| side.record_types().contains(&tls::APPLICATION_DATA));
    (!both).then(|| "the handshake was not finished".to_owned())
}
