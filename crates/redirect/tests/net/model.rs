//! The specification against the kernel: random policies, random connections, really made; each backend.
//!
//! `PELLUCID_MODEL_POLICIES` sets how many policies there are for each backend. A failure shrinks to the smallest that still
//! fails, and its seed is kept in `tests/regressions/model.txt`, which every later run tries first.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use netns::NetNs;
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use proptest::collection::vec;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};
use redirect::{Backend, Hook, Packet, Policy, Protocol, Verdict};
use rstest::rstest;

use crate::arbitrary::{self, PORTS};
use crate::bed::*;

/// Policies for each backend, unless the environment says otherwise.
const POLICIES: u32 = 500;
/// Connections for each policy.
const PACKETS: usize = 20;
/// What has not arrived by then is lost. Short, because a failure is tried again and again while it shrinks.
const LOST: Duration = Duration::from_secs(4);
/// Source ports of datagrams, which are also what they carry: none that a server has.
const FIRST_TOKEN: u16 = 33_000;
const TOKENS: u16 = 32_000;
/// Where Consul DNS listens in the Pod.
const DNS: u16 = 8600;

/// A pod and a neighbour that is every other address there is, each with a server on every port in question.
struct World {
    pod: NetNs,
    neighbour: NetNs,
    heard: Arc<Heard>,
    /// Counts the ports that datagrams come from, because connection tracking remembers what became of the last one from each.
    next: AtomicU16,
}

/// Datagrams that arrived, by the token they carry: where.
#[derive(Default)]
struct Heard {
    at: Mutex<HashMap<u16, String>>,
    more: Condvar,
}

impl World {
    fn build() -> Self {
        let (pod, neighbour) = street();
        sh(
            &neighbour,
            "ip route add local 0.0.0.0/0 dev lo table main; ip route add local ::/0 dev lo table main
             echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind
             echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/street/rp_filter",
        );
        for namespace in [&pod, &neighbour] {
            sh(namespace, "echo 0 > /proc/sys/net/ipv4/icmp_ratelimit; echo 0 > /proc/sys/net/ipv6/icmp/ratelimit");
        }
        let heard = Arc::new(Heard::default());
        for (namespace, name) in [(&pod, "pod"), (&neighbour, "neighbour")] {
            for port in PORTS.into_iter().chain([15001, 20000, DNS]) {
                serve(namespace, port, format!("{name}:{port}").leak());
                listen(namespace, port, format!("{name}:{port}"), &heard);
            }
        }
        Self { pod, neighbour, heard, next: AtomicU16::default() }
    }

    /// Where a packet arrives, as `pod:80`; `refused`; or what went wrong.
    fn send(&self, packet: &Packet) -> String {
        let namespace = if packet.hook == Hook::Output { &self.pod } else { &self.neighbour };
        let peer = SocketAddr::new(packet.destination, packet.destination_port);
        let token = FIRST_TOKEN + self.next.fetch_add(1, Ordering::Relaxed) % TOKENS;
        let sent = namespace.run(|| {
            setfsgid(Gid::from_raw(packet.gid.unwrap_or_default()));
            setfsuid(Uid::from_raw(packet.uid.unwrap_or_default()));
            match packet.protocol {
                Protocol::Tcp => connect(packet.source, peer),
                _ => self.datagram(SocketAddr::new(packet.source, token), peer),
            }
        });
        match sent.expect("enter") {
            Ok(name) => name,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => "refused".to_owned(),
            // who sends a datagram that a rule of the own namespace refuses is told by the call itself
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => "refused".to_owned(),
            Err(error) => format!("{error}"),
        }
    }

    fn datagram(&self, own: SocketAddr, peer: SocketAddr) -> io::Result<String> {
        let (socket, token) = (UdpSocket::bind(own)?, own.port());
        socket.connect(peer)?;
        socket.set_nonblocking(true)?;
        socket.send(&token.to_be_bytes())?;
        let deadline = Instant::now() + LOST;
        let mut at = self.heard.at.lock().expect("no panic");
        loop {
            if let Some(name) = at.remove(&token) {
                return Ok(name);
            }
            match socket.recv(&mut [0; 8]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok("an answer".to_owned()),
            }
            if Instant::now() > deadline {
                return Ok("nowhere".to_owned());
            }
            // an error comes to the socket, which nobody is woken for
            at = self.heard.more.wait_timeout(at, Duration::from_millis(1)).expect("no panic").0;
        }
    }
}

fn connect(source: IpAddr, peer: SocketAddr) -> io::Result<String> {
    let mut stream = connected(source, peer, LOST)?;
    stream.set_read_timeout(Some(LOST))?;
    let mut name = String::new();
    stream.read_to_string(&mut name)?;
    Ok(name)
}

/// Remembers where the datagrams of a port arrive.
fn listen(namespace: &NetNs, port: u16, name: String, heard: &Arc<Heard>) {
    let socket = namespace.udp_bind(SocketAddr::new(ip("::"), port)).expect("bind");
    socket.set_nonblocking(false).expect("a thread of its own may block");
    let heard = Arc::clone(heard);
    std::thread::spawn(move || {
        let mut token = [0; 2];
        while socket.recv(&mut token).is_ok() {
            heard.at.lock().expect("no panic").insert(u16::from_be_bytes(token), name.clone());
            heard.more.notify_all();
        }
    });
}

/// Where a packet must arrive; nothing where it cannot be seen.
fn destination(packet: &Packet, verdict: Verdict) -> Option<String> {
    let here = packet.local || packet.hook == Hook::Prerouting;
    let place = |here: bool, port: u16| Some(format!("{}:{port}", if here { "pod" } else { "neighbour" }));
    match verdict {
        Verdict::Accept => place(here, packet.destination_port),
        Verdict::RedirectTo(port) => place(true, port),
        Verdict::Refuse => Some("refused".to_owned()),
        // translated, it would leave with a loopback address as its source, which the neighbour does not believe
        Verdict::DnsTo(server) if packet.destination.is_loopback() && !server.ip().is_loopback() => None,
        Verdict::DnsTo(server) => place(server.ip().is_loopback(), server.port()),
    }
}

fn agree(world: &World, backend: Backend, policy: &Policy, packets: &[Packet]) -> Result<(), TestCaseError> {
    in_force(&world.pod, backend, policy);
    for packet in packets {
        let verdict = policy.verdict(packet);
        let Some(expected) = destination(packet, verdict) else { continue };
        let found = world.send(packet);
        if found != expected {
            let rules = held(&world.pod).join("\n");
            let why = redirect::rules::explain(policy, packet);
            let reason = format!("{packet:?}\nwent to {found}, not to {expected}\n{why}\nthe kernel has\n{rules}");
            return Err(TestCaseError::fail(reason));
        }
    }
    Ok(())
}

#[rstest]
fn the_kernel_does_what_the_policy_says(#[values(0, 1, 2)] backend: usize) {
    let backend = BACKENDS[backend];
    let world = World::build();
    let policies = std::env::var("PELLUCID_MODEL_POLICIES").ok().and_then(|number| number.parse().ok());
    let mut config = Config::with_cases(policies.unwrap_or(POLICIES));
    config.failure_persistence = Some(Box::new(FileFailurePersistence::Direct("tests/regressions/model.txt")));
    config.max_shrink_iters = 200;
    let began = Instant::now();
    let given = (arbitrary::policy(), vec(arbitrary::packet(), PACKETS));
    let done =
        TestRunner::new(config.clone()).run(&given, |(policy, packets)| agree(&world, backend, &policy, &packets));
    let took = began.elapsed();
    let _ = writeln!(io::stderr(), "    {backend}: {} policies × {PACKETS} packets in {took:.1?}", config.cases);
    if let Err(failure) = done {
        panic!("{failure}");
    }
}
