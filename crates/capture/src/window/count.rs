//! Counting flows, for what no other statement says.

use std::net::SocketAddr;

use super::{Leg, Window};
use crate::{Direction, Disproof, Host, Place, Protocol};

/// What a counted flow must carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// Anything, or nothing.
    Any,
    /// It begins with a TLS handshake.
    Tls,
    /// At least one byte of it is not TLS.
    Plaintext,
    /// It left the host, not for the proxy's inbound port of another, and no redirected connection for the same
    /// destination can have caused it: each accounts for one.
    Unproxied,
}

/// Which flows to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// At this host.
    pub host: &'a Host,
    /// At this interface; at any when `None` (a link is then counted at the host's end only).
    pub place: Option<Place>,
    /// Begun in this direction; any when `None`, and always any on a loopback.
    pub direction: Option<Direction>,
    /// To one of these; to any when empty.
    pub to: &'a [SocketAddr],
    /// To this port; to any when `None`.
    pub port: Option<u16>,
    /// With this content.
    pub content: Content,
}

/// How many, and which.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Count {
    /// How many flows.
    pub number: usize,
    /// The first packet of each.
    pub packets: Vec<String>,
}

impl Window<'_> {
    /// Counts the flows that began in the window. In `to`, port 0 stands for any.
    ///
    /// # Errors
    /// When the interface was not recorded: no packets there is not the same as none.
    pub fn count(&self, query: Query<'_>) -> Result<Count, Disproof> {
        let Query { host, place, direction, to, port, content } = query;
        let places = match &place {
            Some(place) => std::slice::from_ref(place),
            None => &[Place::Loopback, Place::Eth0],
        };
        let mut found: Vec<String> = Vec::new();
        for place in places {
            self.recorded(host, *place, &format!("flows at {}/{place} can be counted", host.name))?;
            let mut redirected = self.redirected_destinations(host);
            let mut legs: Vec<Leg<'_>> = self.begun(host, *place).collect();
            legs.sort_by_key(|leg| leg.flow.first.time);
            for leg in legs {
                let flow = leg.flow;
                let wanted = flow.protocol != Protocol::Other
                    && (flow.direction == Direction::Within || direction.is_none_or(|d| d == flow.direction))
                    && port.is_none_or(|port| port == flow.responder.port())
                    && (to.is_empty() || to.iter().any(|meant| super::matches(*meant, flow.responder)))
                    && match content {
                        Content::Any => true,
                        Content::Tls => flow.begins_tls(),
                        Content::Plaintext => flow.is_plaintext(),
                        Content::Unproxied => self.is_unproxied(leg, &mut redirected),
                    };
                if wanted {
                    found.push(leg.opening_line());
                }
            }
        }
        Ok(Count { number: found.len(), packets: found })
    }

    /// Where redirected connections were meant to go, and when they began.
    fn redirected_destinations(&self, host: &Host) -> Vec<(SocketAddr, crate::Timestamp)> {
        let outbound = self.evidence.ports.outbound;
        self.begun(host, Place::Loopback)
            .filter(|leg| leg.flow.protocol == Protocol::Tcp && leg.flow.responder.port() == outbound)
            .filter_map(|leg| leg.flow.translated.map(|dialled| (dialled, leg.flow.first.time)))
            .collect()
    }

    /// Uses up one redirected connection to the same destination, if there is one that began before.
    fn is_unproxied(&self, leg: Leg<'_>, redirected: &mut Vec<(SocketAddr, crate::Timestamp)>) -> bool {
        let flow = leg.flow;
        if flow.direction != Direction::Out || flow.responder.port() == self.evidence.ports.inbound {
            return false;
        }
        let cause =
            redirected.iter().position(|(dialled, time)| *dialled == flow.responder && *time <= flow.first.time);
        cause.map(|at| redirected.swap_remove(at)).is_none()
    }
}
