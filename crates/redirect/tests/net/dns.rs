//! DNS queries: which ones reach the mesh's DNS server, and that no answer goes astray.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};

use netns::NetNs;
use nix::unistd::{Uid, setfsuid};
use redirect::{Packet, Protocol, Verdict};
use rstest::rstest;

use crate::bed::*;

#[rstest]
fn only_queries_to_the_resolver_address_reach_the_mesh_dns(
    #[values(0, 1, 2)] backend: usize,
    #[values(APP_UID, 5995, 1234)] uid: u32,
) {
    let pod = NetNs::create().expect("namespace");
    sh(&pod, "ip link set lo up");
    let policy = policy(&with_dns(false), false);
    in_force(&pod, BACKENDS[backend], &policy);
    let dns = pod.udp_bind("127.0.0.1:8600".parse().expect("literal")).expect("dns");
    let other = pod.udp_bind("127.0.0.2:53".parse().expect("literal")).expect("other resolver");
    for socket in [&dns, &other] {
        socket.set_nonblocking(false).expect("blocking");
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    }
    for (to, receiver) in [("127.0.0.1", &dns), ("127.0.0.2", &other)] {
        let packet = Packet { protocol: Protocol::Udp, ..Packet::tcp_out(ip(to), 53, uid) };
        let expected = match policy.verdict(&packet) {
            Verdict::DnsTo(server) => server,
            _ => SocketAddr::new(ip(to), 53),
        };
        assert_eq!(receiver.local_addr().expect("bound"), expected);
        pod.run(|| {
            setfsuid(Uid::from_raw(uid));
            let client = UdpSocket::bind("127.0.0.1:0")?;
            client.send_to(to.as_bytes(), (to, 53))
        })
        .expect("enter")
        .expect("send");
        let mut buffer = [0; 64];
        let (length, _) = uninterrupted(|| receiver.recv_from(&mut buffer)).expect("the query arrives");
        assert_eq!(&buffer[..length], to.as_bytes());
    }
}

/// Many queries from a few source ports, alternating between the mesh's server and others, so that connection tracking has every
/// chance to mix them up: each is answered by the server it was for, from the address that was asked.
#[rstest]
fn ten_thousand_queries_from_few_ports_go_to_the_right_server(#[values(0, 1, 2)] backend: usize) {
    const QUERIES: u32 = 10_000;
    let pod = NetNs::create().expect("namespace");
    sh(&pod, "ip link set lo up; ip addr add 192.0.2.53/32 dev lo; ip route add default dev lo");
    in_force(&pod, BACKENDS[backend], &policy(&with_dns(false), false));
    let servers: HashMap<&str, &str> =
        HashMap::from([("127.0.0.1:8600", "mesh"), ("127.0.0.2:53", "node-local"), ("192.0.2.53:53", "cluster")]);
    for (address, name) in servers {
        let socket = pod.udp_bind(address.parse().expect("literal")).expect("bind");
        socket.set_nonblocking(false).expect("a thread of its own may block");
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let answer = [&buffer[..length], name.as_bytes()].concat();
                let _ = socket.send_to(&answer, from);
            }
        });
    }
    let clients: Vec<UdpSocket> = pod
        .run(|| (0..4).map(|port| UdpSocket::bind(("0.0.0.0", 40_000 + port))).collect::<Result<_, _>>())
        .expect("enter")
        .expect("bind");
    for client in &clients {
        client.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    }
    let asked = [("127.0.0.1:53", "mesh"), ("127.0.0.2:53", "node-local"), ("192.0.2.53:53", "cluster")];
    for number in 0..QUERIES {
        let client = &clients[number as usize % clients.len()];
        let (server, name) = asked[number as usize / 7 % asked.len()];
        client.send_to(&number.to_be_bytes(), server).expect("send");
        let mut buffer = [0; 32];
        let (length, from) = uninterrupted(|| client.recv_from(&mut buffer)).expect("an answer");
        assert_eq!(&buffer[..length], [&number.to_be_bytes(), name.as_bytes()].concat(), "query {number} to {server}");
        assert_eq!(from, server.parse().expect("literal"), "the answer comes from whom was asked");
    }
}
