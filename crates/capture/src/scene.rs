//! Synthetic packets for the unit tests: a conversation in a line each, read by the same code as real frames.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use etherparse::PacketBuilder;

use crate::evidence::{Evidence, Log};
use crate::table::Table;
use crate::{Direction, Place, ProxyPorts, Timestamp, Vantage};

pub(crate) const PORTS: ProxyPorts = ProxyPorts { outbound: 15001, inbound: 20000, dns: 8600 };

/// One interface's packets, added one after the other, a millisecond apart.
pub(crate) struct Scene {
    log: Log,
    table: Table,
    clock: u64,
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn ends(source: &str, destination: &str) -> (etherparse::PacketBuilderStep<etherparse::IpHeaders>, u16, u16) {
    let (source, destination) = (address(source), address(destination));
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match (source, destination) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => link.ipv4(from.ip().octets(), to.ip().octets(), 64),
        (SocketAddr::V6(from), SocketAddr::V6(to)) => link.ipv6(from.ip().octets(), to.ip().octets(), 64),
        _ => panic!("one family"),
    };
    (ip, source.port(), destination.port())
}

/// A TCP frame: flags as `tcpdump` writes them.
pub(crate) fn tcp(source: &str, destination: &str, flags: &str, sequence: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let (ip, from, to) = ends(source, destination);
    let mut builder = ip.tcp(from, to, sequence, 65_535);
    for flag in flags.chars() {
        builder = match flag {
            'S' => builder.syn(),
            'F' => builder.fin(),
            'R' => builder.rst(),
            'P' => builder.psh(),
            '.' => builder.ack(ack),
            _ => panic!("no flag: {flag}"),
        };
    }
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).expect("a frame");
    frame
}

/// A UDP frame.
pub(crate) fn udp(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let (ip, from, to) = ends(source, destination);
    let mut frame = Vec::new();
    ip.udp(from, to).write(&mut frame, payload).expect("a frame");
    frame
}

impl Scene {
    pub(crate) fn new(host: &str, place: Place) -> Self {
        let vantage = Vantage { host: host.to_owned(), place };
        Self { log: Log::new(vantage, "eth0", PathBuf::new()), table: Table::default(), clock: 1_000_000 }
    }

    /// Adds a frame.
    pub(crate) fn frame(&mut self, direction: Direction, frame: &[u8]) -> &mut Self {
        self.clock += 1_000_000;
        let time = Timestamp::from_capture(0, i64::try_from(self.clock).expect("early"));
        let _ = self.log.absorb(&mut self.table, time, direction, frame);
        self
    }

    /// Waits.
    pub(crate) fn at(&mut self, millis: u64) -> &mut Self {
        self.clock = millis * 1_000_000;
        self
    }

    /// A TCP connection: opened, one piece each way (none when empty), and the responder's last word (`F`, `R` or
    /// nothing). `answers` is where the answers seem to come from.
    pub(crate) fn connection(&mut self, begun: Direction, talk: &Talk<'_>) -> &mut Self {
        let Talk { from, to, answers, asked, answered, end } = *talk;
        let back = match begun {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
            Direction::Within => Direction::Within,
        };
        self.frame(begun, &tcp(from, to, "S", 100, 0, b""));
        self.frame(back, &tcp(answers, from, "S.", 500, 101, b""));
        self.frame(begun, &tcp(from, to, ".", 101, 501, b""));
        if !asked.is_empty() {
            self.frame(begun, &tcp(from, to, "P.", 101, 501, asked));
        }
        let acked = 101 + u32::try_from(asked.len()).expect("short");
        if !answered.is_empty() {
            self.frame(back, &tcp(answers, from, "P.", 501, acked, answered));
        }
        let next = 501 + u32::try_from(answered.len()).expect("short");
        if !end.is_empty() {
            self.frame(back, &tcp(answers, from, &format!("{end}."), next, acked, b""));
        }
        self
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }
}

/// What is said on a connection.
#[derive(Clone, Copy)]
pub(crate) struct Talk<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) answers: &'a str,
    pub(crate) asked: &'a [u8],
    pub(crate) answered: &'a [u8],
    pub(crate) end: &'a str,
}

impl<'a> Talk<'a> {
    pub(crate) fn new(from: &'a str, to: &'a str) -> Self {
        Self { from, to, answers: to, asked: b"", answered: b"", end: "" }
    }
}

pub(crate) fn evidence(scenes: &[&Scene]) -> Evidence {
    Evidence { logs: scenes.iter().map(|scene| Arc::new(scene.log.clone())).collect(), ports: PORTS, marked: false }
}

/// A TLS record.
pub(crate) fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 3, 3];
    record.extend_from_slice(&u16::try_from(body.len()).expect("short").to_be_bytes());
    record.extend_from_slice(body);
    record
}

/// A greeting for a server name as rustls writes it.
pub(crate) fn hello(server_name: &str, alpn: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = rustls_pki_types::ServerName::try_from(server_name.to_owned()).expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("written");
    bytes
}
