//! What Consul's rules leave open, as it is by default and as it is with the safeguard for it.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};

use etherparse::{TcpHeader, TcpHeaderSlice};
use netns::NetNs;
use nix::unistd::{Uid, setfsuid};
use redirect::Config;
use rstest::rstest;
use socket2::{Domain, Protocol, Socket, Type};

use crate::bed::*;
use crate::traffic::Street;

fn config_with(safeguards: &[&str]) -> Config {
    Config { safeguards: list(safeguards), ..config() }
}

const REFUSED: &str = "ConnectionRefused";

/// Whom a process of the Pod reaches over TCP in a single-stack Pod that has IPv6 addresses all the same.
#[rstest]
#[case::the_rest_of_loopback("local-direct", "127.0.0.2", 80, APP_UID, "outbound", "pod")]
#[case::loopback_itself("local-direct", "127.0.0.1", 80, APP_UID, "pod", "pod")]
#[case::the_own_address("local-direct", POD, 80, APP_UID, "outbound", "pod")]
#[case::another_address("local-direct", "198.51.100.10", 80, APP_UID, "outbound", "outbound")]
#[case::ipv6("refuse-ipv6", "fd00:4::3", 80, APP_UID, "neighbour", REFUSED)]
#[case::ipv6_of_the_proxy("refuse-ipv6", "fd00:4::3", 80, 5995, "neighbour", "neighbour")]
#[case::ipv6_of_an_excluded_user("refuse-ipv6", "fd00:4::3", 80, 1234, "neighbour", "neighbour")]
#[case::ipv6_to_an_excluded_block("refuse-ipv6", "fd00:3::3", 80, APP_UID, "neighbour", "neighbour")]
#[case::ipv6_on_an_excluded_port("refuse-ipv6", "fd00:4::3", 8443, APP_UID, "neighbour", "neighbour")]
#[case::ipv6_loopback("refuse-ipv6", "::1", 80, APP_UID, "pod", "pod")]
#[case::ipv6_to_itself("refuse-ipv6", "fd00:9::1", 80, APP_UID, "pod", "pod")]
#[case::ipv4("refuse-ipv6", "198.51.100.10", 80, APP_UID, "outbound", "outbound")]
#[case::metadata("refuse-metadata", "169.254.169.254", 80, APP_UID, "outbound", REFUSED)]
#[case::metadata_over_ipv6("refuse-metadata", "fd00:ec2::254", 80, APP_UID, "neighbour", REFUSED)]
#[case::metadata_of_the_proxy("refuse-metadata", "169.254.169.254", 80, 5995, "neighbour", "neighbour")]
#[case::tcp("refuse-udp", "198.51.100.10", 80, APP_UID, "outbound", "outbound")]
fn a_dial_by_default_and_with_the_safeguard(
    #[values(0, 1, 2)] backend: usize,
    #[case] safeguard: &str,
    #[case] to: &str,
    #[case] port: u16,
    #[case] uid: u32,
    #[case] usual: &str,
    #[case] guarded: &str,
) {
    let backend = BACKENDS[backend];
    let street = Street::build(policy(&config_with(&[]), false), backend);
    sh(&street.neighbour, "ip addr add 169.254.169.254/32 dev lo; ip addr add fd00:ec2::254/128 dev lo nodad");
    let peer = SocketAddr::new(ip(to), port);
    assert_eq!(ask(&street.pod, peer, uid, 0), usual, "by default");
    in_force(&street.pod, backend, &policy(&config_with(&[safeguard]), false));
    assert_eq!(ask(&street.pod, peer, uid, 0), guarded, "with {safeguard}");
}

/// The neighbour reaches the Pod over IPv6 unless that is refused; what IPv6 cannot do without goes on.
#[rstest]
fn refused_ipv6_from_outside_leaves_the_link_alone(#[values(0, 1, 2)] backend: usize) {
    let backend = BACKENDS[backend];
    let street = Street::build(policy(&config_with(&[]), false), backend);
    sh(&street.pod, "ip addr add fe80::1/64 dev eth0 nodad");
    sh(&street.neighbour, "ip addr add fe80::2/64 dev street nodad");
    let [global, excluded] = [80, 9090].map(|port| SocketAddr::new(ip("fd00:9::1"), port));
    assert_eq!(ask(&street.neighbour, global, 0, 0), "pod");
    in_force(&street.pod, backend, &policy(&config_with(&["refuse-ipv6"]), false));
    // whom to send it to has to be found out again
    sh(&street.pod, "ip -6 neigh flush dev eth0");
    sh(&street.neighbour, "ip -6 neigh flush dev street");
    assert_eq!(ask(&street.neighbour, global, 0, 0), REFUSED);
    assert_eq!(ask(&street.neighbour, excluded, 0, 0), "pod");
    for (from, to, link) in [(&street.pod, "fe80::2", "eth0"), (&street.neighbour, "fe80::1", "street")] {
        let scope = from.run(|| nix::net::if_::if_nametoindex(link)).expect("enter").expect("a link");
        let peer = SocketAddrV6::new(to.parse().expect("literal"), 80, 0, scope);
        assert_ne!(ask(from, peer.into(), APP_UID, 0), REFUSED, "{to} is on the link");
    }
}

/// A datagram to `peer`: what the network says of it, or nothing when it arrived.
fn datagram(pod: &NetNs, peer: &UdpSocket, to: &str, uid: u32) -> Option<std::io::ErrorKind> {
    let port = peer.local_addr().expect("bound").port();
    let sent = pod.run(|| {
        setfsuid(Uid::from_raw(uid));
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((to, port))?;
        socket.send(b"hello")
    });
    match sent.expect("enter") {
        Err(error) => Some(error.kind()),
        Ok(_) => {
            uninterrupted(|| peer.recv(&mut [0; 8])).expect("it arrives");
            None
        }
    }
}

#[rstest]
fn refused_datagrams_are_told_at_once(#[values(0, 1, 2)] backend: usize) {
    let backend = BACKENDS[backend];
    let (pod, neighbour) = street();
    let [quic, excluded] = [443, 8443].map(|port| {
        let socket = neighbour.udp_bind(SocketAddr::new(ip(NEIGHBOUR), port)).expect("bind");
        socket.set_nonblocking(false).expect("blocking");
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        socket
    });
    in_force(&pod, backend, &policy(&config(), false));
    assert_eq!(datagram(&pod, &quic, NEIGHBOUR, APP_UID), None, "by default");
    in_force(&pod, backend, &policy(&config_with(&["refuse-udp"]), false));
    assert_eq!(datagram(&pod, &quic, NEIGHBOUR, APP_UID), Some(std::io::ErrorKind::PermissionDenied));
    assert_eq!(datagram(&pod, &quic, NEIGHBOUR, 5995), None, "the proxy may");
    assert_eq!(datagram(&pod, &excluded, NEIGHBOUR, APP_UID), None, "an excluded port");
}

const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2)), 40_000);

/// A segment of the client's connection that is far outside of its window, as a network that delays packets brings it; `answer`
/// is the Pod's second segment of the handshake.
fn stray_segment(server: SocketAddr, answer: &TcpHeaderSlice<'_>) -> Vec<u8> {
    let beyond = answer.acknowledgment_number().wrapping_add(0x4000_0000);
    let mut header = TcpHeader::new(CLIENT.port(), server.port(), beyond, 64_000);
    (header.ack, header.acknowledgment_number) = (true, answer.sequence_number().wrapping_add(1));
    let (IpAddr::V4(from), IpAddr::V4(to)) = (CLIENT.ip(), server.ip()) else { unreachable!("IPv4 addresses") };
    header.checksum = header.calc_checksum_ipv4_raw(from.octets(), to.octets(), b"late").expect("short");
    [&*header.to_bytes(), b"late"].concat()
}

/// Translation skips what connection tracking takes for invalid, so that it reaches the port it was sent to, where nobody knows
/// of the connection: the reset is the end of it.
#[rstest]
#[case::by_default(&[], true)]
#[case::dropped(&["drop-invalid"], false)]
fn a_segment_out_of_the_window_and_the_connection_it_belongs_to(
    #[values(0, 1, 2)] backend: usize,
    #[case] safeguards: &[&str],
    #[case] is_reset: bool,
) {
    let server = SocketAddr::new(ip(POD), 80);
    let (pod, neighbour) = street();
    in_force(&pod, BACKENDS[backend], &policy(&config_with(safeguards), false));
    let listener = pod.tcp_listen(SocketAddr::new(ip(POD), 20000)).expect("listen");
    listener.set_nonblocking(false).expect("a thread of its own may block");
    std::thread::spawn(move || {
        let (client, _) = listener.accept()?;
        std::io::copy(&mut &client, &mut &client)
    });
    let [mut raw, mut stream] = [(Type::RAW, Protocol::TCP), (Type::STREAM, Protocol::TCP)].map(|(kind, protocol)| {
        let socket =
            neighbour.run(|| Socket::new(Domain::IPV4, kind, Some(protocol))).expect("enter").expect("a socket");
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        socket
    });
    stream.bind(&CLIENT.into()).expect("bind");
    stream.connect(&server.into()).expect("connect");
    let mut packet = [0; 128];
    let length = raw.read(&mut packet).expect("the answer to the handshake");
    let answer = TcpHeaderSlice::from_slice(&packet[20..length]).expect("TCP");
    assert!(answer.syn() && answer.ack() && answer.destination_port() == CLIENT.port(), "{answer:?}");
    raw.send_to(&stray_segment(server, &answer), &server.into()).expect("send");
    if is_reset {
        let error = stream.read(&mut [0; 8]).expect_err("reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        return;
    }
    let mut echo = [0; 5];
    for _ in 0..100 {
        stream.write_all(b"hello").expect("the connection goes on");
        stream.read_exact(&mut echo).expect("an echo");
    }
}
