//! TCP sockets, made in the ways by which an application might hope to get past a redirection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

use super::attempt::{Attempt, Failure};
use super::target::Target;
use super::{Library, lookup};

/// How a socket is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Technique {
    BoundToEth0,
    LowSourcePort,
    BoundToOtherLoopback,
    Ipv4Mapped,
    FastOpen,
    Multipath,
}

impl Technique {
    const WORDS: [(&str, Self); 6] = [
        ("binding the socket to eth0", Self::BoundToEth0),
        ("a source port below 1024", Self::LowSourcePort),
        ("a bind to 127.0.0.2", Self::BoundToOtherLoopback),
        ("an IPv4-mapped IPv6 socket", Self::Ipv4Mapped),
        ("TCP fast open", Self::FastOpen),
        ("multipath TCP", Self::Multipath),
    ];

    pub(super) fn parse(words: &str) -> Result<Self, String> {
        let known = Self::WORDS.iter().find(|(name, _)| *name == words);
        known.map(|(_, technique)| *technique).ok_or_else(|| {
            let names: Vec<&str> = Self::WORDS.iter().map(|(name, _)| *name).collect();
            format!("known techniques: {}", names.join("; "))
        })
    }
}

/// The addresses of a name: as any program of the system finds them, or by our own resolver.
pub(super) async fn resolve(attempt: &Attempt, target: &Target) -> Result<Vec<SocketAddr>, Failure> {
    let host = target.host.as_str();
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, target.port)]);
    }
    match target.library {
        Library::Glibc => {}
        Library::Rust => {
            let stub = lookup::Resolver::new(None).map_err(|error| Failure::Local(format!("{error:#}")))?;
            let found = lookup::find(attempt, &stub, host, lookup::Transport::Udp).await?;
            return Ok(found.into_iter().map(|address| SocketAddr::new(address, target.port)).collect());
        }
        Library::Musl => return Err(Failure::Local("musl's resolver is not in this program".to_owned())),
    }
    match tokio::net::lookup_host((host, target.port)).await {
        Ok(found) => Ok(found.collect()),
        Err(error) => {
            let text = format!("look up {host}: {error}");
            // the system has no error kinds for it; a server that does not answer is no word about the name
            let temporary = text.contains("Temporary failure");
            Err(if temporary { Failure::Local(text) } else { Failure::NoSuchName(text) })
        }
    }
}

/// Connects to the first address of the target that takes the connection.
pub(super) async fn connect(
    attempt: &Attempt,
    target: &Target,
    technique: Option<Technique>,
) -> Result<TcpStream, Failure> {
    let mut last = Failure::NoSuchName(format!("look up {}: no address", target.host));
    for peer in resolve(attempt, target).await? {
        match connect_to(attempt, peer, technique).await {
            Ok(stream) => {
                attempt.connected();
                return Ok(stream);
            }
            Err(error) => last = Failure::Io(error),
        }
    }
    Err(last)
}

async fn connect_to(attempt: &Attempt, peer: SocketAddr, technique: Option<Technique>) -> io::Result<TcpStream> {
    attempt.sockets(None, peer);
    let (socket, address) = prepare(peer, technique)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
        Err(error) => return Err(error),
    }
    attempt.sockets(socket.local_addr().ok().and_then(|local| local.as_socket()), peer);
    let stream = TcpStream::from_std(socket.into())?;
    stream.writable().await?;
    match stream.take_error()? {
        Some(error) => Err(error),
        None => {
            stream.set_nodelay(true)?;
            attempt.sockets(stream.local_addr().ok(), peer);
            Ok(stream)
        }
    }
}

/// A socket, and the address as that socket must be given it.
fn prepare(peer: SocketAddr, technique: Option<Technique>) -> io::Result<(Socket, SocketAddr)> {
    let plain = |protocol| Socket::new(Domain::for_address(peer), Type::STREAM, Some(protocol));
    let Some(technique) = technique else { return Ok((plain(Protocol::TCP)?, peer)) };
    match technique {
        Technique::BoundToEth0 => {
            let socket = plain(Protocol::TCP)?;
            socket.bind_device(Some(b"eth0"))?;
            Ok((socket, peer))
        }
        Technique::LowSourcePort => {
            let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let mut last = io::Error::from(io::ErrorKind::AddrInUse);
            for port in (512..1024).rev() {
                let socket = plain(Protocol::TCP)?;
                match socket.bind(&SocketAddr::new(any, port).into()) {
                    Ok(()) => return Ok((socket, peer)),
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                    Err(error) => return Err(error),
                }
            }
            Err(last)
        }
        Technique::BoundToOtherLoopback => {
            let socket = plain(Protocol::TCP)?;
            socket.bind(&SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), 0).into())?;
            Ok((socket, peer))
        }
        Technique::Ipv4Mapped => {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_only_v6(false)?;
            let mapped = match peer.ip() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            Ok((socket, SocketAddrV6::new(mapped, peer.port(), 0, 0).into()))
        }
        Technique::FastOpen => {
            let socket = plain(Protocol::TCP)?;
            setsockopt(&socket, sockopt::TcpFastOpenConnect, &true)?;
            Ok((socket, peer))
        }
        Technique::Multipath => Ok((plain(Protocol::MPTCP)?, peer)),
    }
}
