//! Which resolver a look-up went to.

use std::net::{IpAddr, SocketAddr};

use super::{Leg, Verdict, Window, leaves};
use crate::evidence::contains;
use crate::flow::Flow;
use crate::verdict::{Disproof, Proof};
use crate::{Host, Place, Protocol};

const DNS: u16 = 53;

impl Window<'_> {
    /// DNS-PROXY: on the Pod's loopback the query went to the sidecar's DNS listener and the answer came from port 53 of a
    /// loopback address; no query about that name left the Pod for port 53.
    ///
    /// A name that ends with a dot is that name alone. A resolver that goes through its search list asks about others
    /// too, and whom it asked about those is no part of the statement.
    ///
    /// # Errors
    /// When there is no such exchange (yet), or a query left the Pod.
    pub fn dns_proxy(&self, pod: &Host, name: Option<&str>) -> Verdict {
        let statement = format!("{} asked Consul DNS{}", pod.name, about(name));
        self.recorded(pod, Place::Loopback, &statement)?;
        self.recorded(pod, Place::Eth0, &statement)?;
        let left: Vec<String> = self.left(pod).filter(|leg| asks_for(leg.flow, name)).map(Leg::opening_line).collect();
        if !left.is_empty() {
            return Disproof::of(statement, "queries left the Pod", left);
        }
        let asked: Vec<Leg<'_>> = self.asked_proxy(pod, name).collect();
        let answered = |leg: &&Leg<'_>| {
            leg.flow.server.total() > 0
                && leg.flow.translated.is_some_and(|from| from.ip().is_loopback() && from.port() == DNS)
        };
        match asked.iter().find(answered) {
            Some(leg) => Proof::of(statement, leg.opening()),
            None => {
                let reason = "no query to its DNS listener was answered as from port 53";
                Disproof::of(statement, reason, asked.into_iter().flat_map(Leg::opening).collect())
            }
        }
    }

    /// DNS-CLUSTER: the query left the Pod for port 53 of the cluster DNS, and the sidecar was not asked, or refused to
    /// answer, upon which a resolver asks its next server.
    ///
    /// # Errors
    /// When there is no such query (yet), or the sidecar answered.
    pub fn dns_cluster(&self, pod: &Host, cluster_dns: IpAddr, name: Option<&str>) -> Verdict {
        let statement = format!("{} asked the cluster DNS{}", pod.name, about(name));
        self.recorded(pod, Place::Loopback, &statement)?;
        self.recorded(pod, Place::Eth0, &statement)?;
        let asked_proxy: Vec<String> =
            self.asked_proxy(pod, name).filter(|leg| !refused(leg.flow)).flat_map(Leg::opening).collect();
        if !asked_proxy.is_empty() {
            return Disproof::of(statement, "the sidecar was asked", asked_proxy);
        }
        let server = SocketAddr::new(cluster_dns, DNS);
        let meant = |leg: &Leg<'_>| leg.flow.responder == server && asks_for(leg.flow, name);
        match self.left(pod).find(meant) {
            Some(leg) => Proof::of(statement, leg.opening()),
            None => Disproof::of(statement, "no such query", self.left(pod).map(Leg::opening_line).collect()),
        }
    }

    fn asked_proxy<'b>(&'b self, pod: &'b Host, name: Option<&'b str>) -> impl Iterator<Item = Leg<'b>> {
        let port = self.evidence.ports.dns;
        self.begun(pod, Place::Loopback).filter(move |Leg { flow, .. }| {
            flow.responder.ip().is_loopback() && flow.responder.port() == port && asks_for(flow, name)
        })
    }

    /// Queries over either protocol that left the Pod.
    fn left<'b>(&'b self, pod: &'b Host) -> impl Iterator<Item = Leg<'b>> {
        self.begun(pod, Place::Eth0).filter(|Leg { flow, .. }| {
            leaves(flow) && flow.responder.port() == DNS && matches!(flow.protocol, Protocol::Udp | Protocol::Tcp)
        })
    }
}

fn about(name: Option<&str>) -> String {
    name.map_or(String::new(), |name| format!(" about {name}"))
}

/// Whether a query is for this name; for one that begins with it, too (a search list may have been applied), unless the
/// name ends with a dot.
fn asks_for(flow: &Flow, name: Option<&str>) -> bool {
    let Some(name) = name else { return true };
    // in a query each label is preceded by its length; a length is below 64 and never a letter
    let mut wire = name.trim_end_matches('.').split('.').fold(Vec::new(), |mut wire, label| {
        wire.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        wire
    });
    if name.ends_with('.') {
        wire.push(0);
    }
    contains(&flow.client.bytes().to_ascii_lowercase(), &wire)
}

/// Whether the answer says REFUSED.
fn refused(flow: &Flow) -> bool {
    // over TCP a length precedes the header, whose fourth byte ends with the code
    let at = if flow.protocol == Protocol::Tcp { 5 } else { 3 };
    flow.server.bytes().get(at).is_some_and(|byte| byte & 0x0f == 5)
}
