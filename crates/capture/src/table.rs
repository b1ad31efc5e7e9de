//! Puts packets into flows.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::flow::{Flow, Seen, Side};
use crate::packet::Segment;
use crate::{Direction, Protocol};

/// Where the flows of one vantage are found again.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// By initiator and responder; also by initiator and [`Flow::translated`].
    pairs: HashMap<(Protocol, SocketAddr, SocketAddr), usize>,
    /// By initiator alone, newest last: how the answers of redirected connections find their questions.
    initiators: HashMap<(Protocol, SocketAddr), Vec<usize>>,
}

impl Table {
    /// Adds a packet to its flow, or to a new one at the end of `flows`, and says which.
    pub(crate) fn absorb(
        &mut self,
        flows: &mut Vec<Arc<Flow>>,
        segment: &Segment<'_>,
        seen: Seen,
        direction: Direction,
    ) -> usize {
        let (index, from_client) = self.place(flows, segment, seen, direction);
        let flow = Arc::make_mut(&mut flows[index]);
        flow.last = flow.last.max(seen.time);
        if from_client && segment.flags.ack() && !segment.flags.rst() && flow.server.syn.is_some() {
            flow.established.get_or_insert(seen);
        }
        record(if from_client { &mut flow.client } else { &mut flow.server }, segment, seen);
        index
    }

    fn place(
        &mut self,
        flows: &mut Vec<Arc<Flow>>,
        segment: &Segment<'_>,
        seen: Seen,
        direction: Direction,
    ) -> (usize, bool) {
        let Segment { protocol, source, destination, flags, .. } = *segment;
        if let Some(&index) = self.pairs.get(&(protocol, source, destination)) {
            if !begins_anew(&flows[index], segment) {
                return (index, true);
            }
        } else if let Some(&index) = self.pairs.get(&(protocol, destination, source)) {
            if !flags.syn() || flags.ack() {
                return (index, false);
            }
        } else if direction == Direction::Within
            && let Some(index) = self.asked_by(flows, segment)
        {
            Arc::make_mut(&mut flows[index]).translated = Some(source);
            self.pairs.entry((protocol, destination, source)).or_insert(index);
            return (index, false);
        }
        // an answer whose question was not seen still says who asked
        let from_client = !(segment.icmp_reply || flags.syn() && flags.ack());
        let (initiator, responder) = if from_client { (source, destination) } else { (destination, source) };
        let index = flows.len();
        flows.push(Arc::new(Flow {
            protocol,
            initiator,
            responder,
            translated: None,
            direction: if from_client { direction } else { opposite(direction) },
            first: seen,
            last: seen.time,
            established: None,
            client: Side::default(),
            server: Side::default(),
        }));
        if let Some(before) = self.pairs.insert((protocol, initiator, responder), index)
            && let Some(translated) = flows[before].translated
        {
            // answers to the new conversation must find it, not the old one
            self.pairs.remove(&(protocol, initiator, translated));
        }
        self.initiators.entry((protocol, initiator)).or_default().push(index);
        (index, from_client)
    }

    /// The flow that a packet answers although it comes from an address that nobody asked.
    fn asked_by(&self, flows: &[Arc<Flow>], segment: &Segment<'_>) -> Option<usize> {
        let asked = self.initiators.get(&(segment.protocol, segment.destination))?;
        asked.iter().rev().copied().find(|&index| {
            let flow = &flows[index];
            let answers = match segment.protocol {
                Protocol::Tcp => {
                    segment.flags.ack()
                        && flow.client.syn.is_some()
                        && segment.acknowledgement == flow.client.syn_sequence.wrapping_add(1)
                }
                Protocol::Udp => true,
                Protocol::Icmp | Protocol::Other => false,
            };
            flow.translated.is_none() && flow.server.packets == 0 && answers
        })
    }
}

/// Whether a packet between the same two sockets is not of the same conversation.
fn begins_anew(flow: &Flow, segment: &Segment<'_>) -> bool {
    match segment.protocol {
        Protocol::Tcp => {
            let opens = segment.flags.syn() && !segment.flags.ack();
            opens && (flow.client.syn.is_none() || flow.client.syn_sequence != segment.sequence)
        }
        Protocol::Udp | Protocol::Icmp => flow.server.packets > 0,
        Protocol::Other => false,
    }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::In => Direction::Out,
        Direction::Out => Direction::In,
        Direction::Within => Direction::Within,
    }
}

fn record(side: &mut Side, segment: &Segment<'_>, seen: Seen) {
    side.packets += 1;
    if segment.protocol != Protocol::Tcp {
        side.stream.datagram(segment.payload, seen.number);
        return;
    }
    let flags = segment.flags;
    let mut sequence = segment.sequence;
    if flags.syn() {
        if side.syn.is_none() {
            side.syn = Some(seen);
            side.syn_sequence = sequence;
            side.stream.begin(sequence);
        }
        sequence = sequence.wrapping_add(1);
    }
    if flags.rst() {
        // what a reset carries is no part of the stream
        side.rst.get_or_insert(seen);
        return;
    }
    side.stream.segment(sequence, segment.payload, seen.number);
    if flags.fin() {
        side.fin.get_or_insert(seen);
    }
}

#[cfg(test)]
mod tests {
    use crate::scene::{Scene, Talk, address, tcp, udp};
    use crate::{Direction, Flow, Place, Protocol};

    const POD: &str = "10.244.0.5:41000";
    const OUTBOUND: &str = "127.0.0.1:15001";
    const CLUSTER_IP: &str = "10.96.0.20:80";

    fn flows(scene: &Scene) -> Vec<&Flow> {
        scene.log().flows.iter().map(|flow| &**flow).collect()
    }

    #[test]
    fn the_answer_of_a_redirected_connection_finds_its_question() {
        let mut scene = Scene::new("default/client", Place::Loopback);
        let talk =
            Talk { answers: CLUSTER_IP, asked: b"ask", answered: b"answer", end: "F", ..Talk::new(POD, OUTBOUND) };
        scene.connection(Direction::Within, &talk);
        let [flow] = flows(&scene)[..] else { panic!("one flow") };
        assert_eq!((flow.initiator, flow.responder), (address(POD), address(OUTBOUND)));
        assert_eq!(flow.dialled(), address(CLUSTER_IP));
        assert_eq!((flow.client.bytes(), flow.server.bytes()), (&b"ask"[..], &b"answer"[..]));
        assert!(flow.established.is_some() && flow.server.fin.is_some() && flow.server.rst.is_none());
    }

    #[test]
    fn one_port_used_towards_two_listeners_is_two_flows() {
        let mut scene = Scene::new("default/client", Place::Loopback);
        let (from, application) = ("127.0.0.1:41000", "127.0.0.1:8080");
        scene.frame(Direction::Within, &tcp(from, OUTBOUND, "S", 100, 0, b""));
        scene.frame(Direction::Within, &tcp(from, application, "S", 900, 0, b""));
        scene.frame(Direction::Within, &tcp(application, from, "S.", 1, 901, b""));
        scene.frame(Direction::Within, &tcp("127.0.0.2:80", from, "S.", 1, 101, b""));
        let [redirected, direct] = flows(&scene)[..] else { panic!("two flows") };
        assert_eq!(redirected.translated, Some(address("127.0.0.2:80")));
        assert_eq!(direct.translated, None);
        assert!(direct.server.syn.is_some());
    }

    #[test]
    fn off_the_loopback_nothing_is_paired_by_port_alone() {
        let mut scene = Scene::new("default/client", Place::Eth0);
        scene.frame(Direction::Out, &tcp(POD, "10.0.0.1:80", "S", 100, 0, b""));
        scene.frame(Direction::In, &tcp("10.0.0.2:80", POD, "S.", 1, 101, b""));
        let [asked, answered] = flows(&scene)[..] else { panic!("two flows") };
        assert_eq!(asked.translated, None);
        assert_eq!((answered.initiator, answered.direction), (address(POD), Direction::Out));
    }

    #[test]
    fn a_syn_sent_again_is_the_same_connection_and_a_new_one_is_not() {
        let mut scene = Scene::new("default/client", Place::Eth0);
        for sequence in [100, 100, 7000] {
            scene.frame(Direction::Out, &tcp(POD, CLUSTER_IP, "S", sequence, 0, b""));
        }
        assert_eq!(flows(&scene).len(), 2);
    }

    #[test]
    fn a_refused_redirected_connection_is_paired_by_its_reset() {
        let mut scene = Scene::new("default/client", Place::Loopback);
        scene.frame(Direction::Within, &tcp(POD, OUTBOUND, "S", 100, 0, b""));
        scene.frame(Direction::Within, &tcp(CLUSTER_IP, POD, "R.", 0, 101, b""));
        let [flow] = flows(&scene)[..] else { panic!("one flow") };
        assert!(flow.server.rst.is_some() && flow.server.syn.is_none());
        assert_eq!(flow.dialled(), address(CLUSTER_IP));
    }

    #[test]
    fn each_exchange_of_datagrams_is_a_flow() {
        let mut scene = Scene::new("default/client", Place::Loopback);
        let (dns, resolver) = ("127.0.0.1:8600", "127.0.0.1:53");
        for _ in 0..2 {
            scene.frame(Direction::Within, &udp("127.0.0.1:5000", dns, b"query"));
            scene.frame(Direction::Within, &udp(resolver, "127.0.0.1:5000", b"answer"));
        }
        let flows = flows(&scene);
        assert_eq!(flows.len(), 2);
        for flow in flows {
            assert_eq!((flow.protocol, flow.translated), (Protocol::Udp, Some(address(resolver))));
            assert_eq!((flow.client.bytes(), flow.server.bytes()), (&b"query"[..], &b"answer"[..]));
        }
    }

    #[test]
    fn ipv6_is_paired_too() {
        let mut scene = Scene::new("default/client", Place::Loopback);
        let talk = Talk { answers: "[fd00:10:96::20]:80", ..Talk::new("[fd00::5]:41000", "[::1]:15001") };
        scene.connection(Direction::Within, &talk);
        assert_eq!(flows(&scene)[0].dialled(), address("[fd00:10:96::20]:80"));
    }
}
