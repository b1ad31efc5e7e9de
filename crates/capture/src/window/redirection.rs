//! Through or around the proxy: statements that need the loopback to be told.

use std::net::SocketAddr;

use super::{Leg, Verdict, Window, arrives, leaves, matches};
use crate::verdict::{Disproof, Proof};
use crate::{Host, Place, Protocol};

impl Window<'_> {
    /// OUT-PROXY: the Pod's application began a connection that the kernel gave to the proxy's outbound listener, and the
    /// answer bears the address that was dialled.
    ///
    /// `local` is the port of the application's socket, any when `None`; `dialled` where it thought to connect to.
    ///
    /// # Errors
    /// When there is no such pair of packets (yet).
    pub fn out_proxy(&self, pod: &Host, local: Option<u16>, dialled: Option<SocketAddr>) -> Verdict {
        let statement = format!("{} sent tcp{}{} through its proxy", pod.name, from(local), to(dialled));
        self.recorded(pod, Place::Loopback, &statement)?;
        let redirected: Vec<Leg<'_>> = self.redirected(pod, local).collect();
        let meant = |leg: &&Leg<'_>| {
            leg.flow.server.syn.is_some() && dialled.is_none_or(|meant| matches(meant, leg.flow.dialled()))
        };
        if let Some(leg) = redirected.iter().find(meant) {
            return Proof::of(statement, leg.opening());
        }
        let around: Vec<String> = self
            .direct(pod, Protocol::Tcp, local)
            .filter(|leg| dialled.is_none_or(|meant| matches(meant, leg.flow.responder)))
            .map(Leg::opening_line)
            .collect();
        if !redirected.is_empty() {
            let packets = redirected.into_iter().flat_map(Leg::opening).collect();
            return Disproof::of(statement, "connections to the outbound listener have no answer from there", packets);
        }
        let reason = if around.is_empty() {
            format!("no SYN to the outbound listener (port {})", self.evidence.ports.outbound)
        } else {
            "it was sent around the proxy".to_owned()
        };
        Disproof::of(statement, reason, around)
    }

    /// BYPASS-OUT: a packet left the Pod (or stayed on its loopback) for the address that the application dialled, from the
    /// application's own socket, and the proxy's outbound listener was not asked. Port 0 stands for any.
    ///
    /// # Errors
    /// When there is no such packet (yet), or the proxy was asked.
    pub fn bypass_out(&self, pod: &Host, protocol: Protocol, local: Option<u16>, dialled: SocketAddr) -> Verdict {
        let statement = format!("{} sent {protocol}{}{} around its proxy", pod.name, from(local), to(Some(dialled)));
        self.recorded(pod, Place::Loopback, &statement)?;
        self.recorded(pod, Place::Eth0, &statement)?;
        let through: Vec<String> = self
            .redirected(pod, local)
            .filter(|leg| protocol == Protocol::Tcp && (local.is_some() || matches(dialled, leg.flow.dialled())))
            .flat_map(Leg::opening)
            .collect();
        if !through.is_empty() {
            return Disproof::of(statement, "it was redirected to the outbound listener", through);
        }
        match self.direct(pod, protocol, local).find(|leg| matches(dialled, leg.flow.responder)) {
            Some(leg) => Proof::of(statement, leg.opening()),
            None => {
                let others = self.direct(pod, protocol, None).map(Leg::opening_line).collect();
                Disproof::of(statement, "no such packet; what left the Pod instead", others)
            }
        }
    }

    /// IN-PROXY: something arrived for the Pod, and on its loopback the proxy handed the canary to the application's port.
    ///
    /// That the proxy's user owns the socket is not in a packet: the application has no reason to dial itself over
    /// 127.0.0.1 with a canary that another host sent.
    ///
    /// # Errors
    /// When there is no such leg (yet).
    pub fn in_proxy(&self, pod: &Host, port: Option<u16>, canary: Option<&str>) -> Verdict {
        let what = canary.map_or("something".to_owned(), |canary| format!("canary {canary}"));
        let app = port.map_or(String::new(), |port| format!(" at port {port}"));
        let statement = format!("{} received {what}{app} through its proxy", pod.name);
        self.recorded(pod, Place::Loopback, &statement)?;
        self.recorded(pod, Place::Eth0, &statement)?;
        let arrived: Vec<Leg<'_>> = self
            .active(pod, Place::Eth0)
            .filter(|leg| leg.flow.protocol == Protocol::Tcp && arrives(leg.flow))
            .collect();
        let Some(first) = arrived.iter().map(|leg| leg.flow.first.time).min() else {
            return Disproof::of(statement, "no connection arrived", Vec::new());
        };
        let inner = self.inner(pod, port).filter(|leg| leg.flow.first.time >= first);
        let mut nearest = Vec::new();
        for leg in inner {
            let carried: Vec<Option<u32>> = match canary {
                Some(canary) => {
                    self.found(leg, &leg.flow.client, canary).into_iter().map(|packet| Some(packet.number)).collect()
                }
                None if leg.flow.first.time >= self.since && leg.flow.client.total() + leg.flow.server.total() > 0 => {
                    vec![leg.flow.client.first_data()]
                }
                None => Vec::new(),
            };
            if carried.is_empty() {
                nearest.push(leg.opening_line());
                continue;
            }
            let came = arrived.iter().rfind(|a| a.flow.first.time <= leg.flow.first.time);
            let mut packets: Vec<String> = came.map(|a| a.opening_line()).into_iter().collect();
            packets.extend(leg.opening());
            packets.extend(leg.lines(carried));
            packets.dedup();
            return Proof::of(statement, packets);
        }
        if nearest.is_empty() {
            let seen = arrived.into_iter().map(Leg::opening_line).collect();
            return Disproof::of(statement, "connections arrived, and none was handed to the application", seen);
        }
        Disproof::of(statement, "no connection to the application carries it", nearest)
    }

    /// BYPASS-IN: on one connection that arrived for the Pod's port the canary is readable both ways, and the loopback
    /// did not see it.
    ///
    /// # Errors
    /// When there is no such connection (yet), or the proxy handed the canary over.
    pub fn bypass_in(&self, pod: &Host, port: u16, canary: &str) -> Verdict {
        let statement = format!("{} received canary {canary} at port {port} around its proxy", pod.name);
        self.recorded(pod, Place::Loopback, &statement)?;
        self.recorded(pod, Place::Eth0, &statement)?;
        let inner: Vec<String> = self.inner_legs_with(pod, canary).into_iter().flat_map(|(_, lines)| lines).collect();
        if !inner.is_empty() {
            return Disproof::of(statement, "the loopback saw it too", inner);
        }
        let mut nearest = Vec::new();
        for leg in self.active(pod, Place::Eth0).filter(|l| arrives(l.flow) && l.flow.responder.port() == port) {
            let asked = self.found(leg, &leg.flow.client, canary);
            let answered = self.found(leg, &leg.flow.server, canary);
            if !asked.is_empty() && !answered.is_empty() {
                let packets = [asked, answered].concat().into_iter().map(|p| leg.log.line(p)).collect();
                return Proof::of(statement, packets);
            }
            nearest.push(leg.opening_line());
        }
        Disproof::of(statement, "no connection to that port carries it both ways in clear", nearest)
    }

    /// The application of a Pod got nothing: no connection of the loopback carries the canary, no answered connection carries
    /// it in clear past the proxy, and no connection to one of the application's ports carried a byte to it. (Leave those
    /// out where probes reach them.) A bare handshake is not counted: Envoy dials the application once the client's TLS is up,
    /// before its intentions have judged the client's first byte.
    ///
    /// # Errors
    /// When there is such a connection, or the interfaces were not recorded.
    pub fn no_proxy_leg(&self, pod: &Host, canary: Option<&str>, app_ports: &[u16]) -> Verdict {
        let statement = format!("nothing reached the application of {}", pod.name);
        self.recorded(pod, Place::Loopback, &statement)?;
        self.recorded(pod, Place::Eth0, &statement)?;
        if canary.is_none() && app_ports.is_empty() {
            return Disproof::of(statement, "neither a canary nor a port to look for was given", Vec::new());
        }
        let mut against: Vec<String> = app_ports
            .iter()
            .flat_map(|port| self.inner(pod, Some(*port)))
            .filter(|leg| leg.flow.first.time >= self.since && leg.flow.client.total() > 0)
            .map(Leg::opening_line)
            .collect();
        if let Some(canary) = canary {
            against.extend(self.inner_legs_with(pod, canary).into_iter().flat_map(|(_, lines)| lines));
            for leg in self.active(pod, Place::Eth0).filter(|leg| arrives(leg.flow)) {
                let carried = self.found(leg, &leg.flow.client, canary);
                if !carried.is_empty() && leg.flow.server.total() > 0 && !leg.flow.server.is_tls() {
                    against.extend(carried.into_iter().map(|packet| leg.log.line(packet)));
                }
            }
        }
        if against.is_empty() { Proof::of(statement, against) } else { Disproof::of(statement, "it did", against) }
    }

    /// TCP connections begun on the loopback to the proxy's outbound listener.
    fn redirected<'b>(&'b self, pod: &'b Host, local: Option<u16>) -> impl Iterator<Item = Leg<'b>> {
        let outbound = self.evidence.ports.outbound;
        self.begun(pod, Place::Loopback).filter(move |Leg { flow, .. }| {
            flow.protocol == Protocol::Tcp
                && flow.responder.ip().is_loopback()
                && flow.responder.port() == outbound
                && local.is_none_or(|port| port == flow.initiator.port())
        })
    }

    /// Flows that left the Pod, or stayed on its loopback, untouched.
    fn direct<'b>(&'b self, pod: &'b Host, protocol: Protocol, local: Option<u16>) -> impl Iterator<Item = Leg<'b>> {
        let left = self.begun(pod, Place::Eth0).filter(|leg| leaves(leg.flow));
        let stayed = self.begun(pod, Place::Loopback).filter(|leg| leg.flow.translated.is_none());
        left.chain(stayed).filter(move |leg| {
            leg.flow.protocol == protocol
                && (protocol == Protocol::Icmp || local.is_none_or(|port| port == leg.flow.initiator.port()))
        })
    }

    /// Loopback connections with a packet in the window to a port that is not the proxy's own.
    fn inner<'b>(&'b self, pod: &'b Host, port: Option<u16>) -> impl Iterator<Item = Leg<'b>> {
        let ports = self.evidence.ports;
        self.active(pod, Place::Loopback).filter(move |Leg { flow, .. }| {
            flow.protocol == Protocol::Tcp
                && flow.initiator.ip().is_loopback()
                && flow.responder.ip().is_loopback()
                && port.map_or(![ports.outbound, ports.dns].contains(&flow.responder.port()), |p| {
                    p == flow.responder.port()
                })
        })
    }
}

fn from(local: Option<u16>) -> String {
    local.map_or(String::new(), |port| format!(" from port {port}"))
}

fn to(dialled: Option<SocketAddr>) -> String {
    dialled.map_or(String::new(), |address| format!(" to {address}"))
}
