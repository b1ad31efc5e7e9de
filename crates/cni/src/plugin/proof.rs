//! Proof that the rules do what they should, by connections.
//!
//! Nothing of the Pod runs yet. So both ends are here: a listener where the proxy will listen, one at an address of the namespace
//! itself, and dials of that address as an ordinary user, which must arrive at the first, and as the proxy's user, which must
//! arrive at the second. Everything happens on the loopback interface, in less than a millisecond, and no packet leaves.
//!
//! Which address, port and user to take is asked of [`Policy::verdict`]: an exclusion that covers the one leaves the other. Where
//! the proxy runs already, as in a repeated `ADD`, its listener is left alone, and it is enough that the ordinary user's dial does
//! not arrive where it was sent.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Uid, setfsuid};
use redirect::rules::Family;
use redirect::{Packet, Policy, Verdict};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// Ordinary users to dial as: whoever no exclusion covers.
const USERS: [u32; 4] = [1000, 65533, 54321, 31337];

/// How often another port is tried, where an exclusion covers the one that the kernel gave.
const PORTS: usize = 8;

/// A connection over the loopback interface takes a fraction of a millisecond; a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a fresh IPv6 address may be tentative.
const TENTATIVE: Duration = Duration::from_secs(2);

/// What does not hold.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The dial reached what it dialled.
    #[error("a dial of {to} as user {user} is not redirected to port {port}")]
    NotRedirected { to: SocketAddr, user: u32, port: u16 },
    /// The dial did not reach what it dialled.
    #[error("a dial of {to} as the proxy's user {user} does not get there")]
    Redirected { to: SocketAddr, user: u32 },
    /// Nothing could be tried.
    #[error("the dials cannot be made: {0}")]
    Socket(#[from] io::Error),
}

/// Proves a policy that is in force in the namespace of the calling thread, which is of no use to others afterwards.
pub(super) fn prove(policy: &Policy) -> Result<(), Failure> {
    for family in policy.families() {
        let proven = addresses(*family)?.into_iter().find_map(|address| prove_at(policy, address).transpose());
        match proven {
            Some(outcome) => outcome?,
            None => tracing::debug!(%family, "no address and no user is redirected, nothing to prove"),
        }
    }
    Ok(())
}

/// Addresses of the namespace itself. `127.0.0.1` and `::1` are never redirected.
fn addresses(family: Family) -> io::Result<Vec<IpAddr>> {
    let second = (family == Family::V4).then_some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    let interfaces = nix::ifaddrs::getifaddrs()?;
    let own = interfaces.filter_map(|interface| {
        let address = interface.address?;
        match family {
            Family::V4 => address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip())),
            Family::V6 => address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())),
        }
    });
    let usable = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() || v4.octets() == [127, 0, 0, 2],
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    Ok(second.into_iter().chain(own).filter(usable).collect())
}

/// Nothing where the policy redirects no user's dial of this address.
fn prove_at(policy: &Policy, address: IpAddr) -> Result<Option<()>, Failure> {
    let proxy = policy.proxy_uid();
    for _ in 0..PORTS {
        let direct = listen_when_there(SocketAddr::new(address, 0))?;
        let to = direct.local_addr()?;
        let dial = |uid: u32| Packet { local: true, gid: Some(0), ..Packet::tcp_out(address, to.port(), uid) };
        let redirected = |uid: &u32| policy.verdict(&dial(*uid)) == Verdict::RedirectTo(policy.outbound_port());
        let Some(user) = USERS.into_iter().find(redirected) else { continue };
        let loopback: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let outbound = match listen(SocketAddr::new(loopback, policy.outbound_port())) {
            Ok(listener) => Some(listener),
            // the proxy is there
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
            Err(error) => return Err(error.into()),
        };
        let dialled = connect(to, user)?;
        let arrived = match &outbound {
            Some(outbound) => arrives(outbound, &dialled)?,
            None => true,
        };
        if !arrived || self::arrived(&direct, &dialled)? {
            return Err(Failure::NotRedirected { to, user, port: policy.outbound_port() });
        }
        if policy.verdict(&dial(proxy)) == Verdict::Accept && !arrives(&direct, &connect(to, proxy)?)? {
            return Err(Failure::Redirected { to, user: proxy });
        }
        return Ok(Some(()));
    }
    Ok(None)
}

/// Listens, once the address is no longer tentative.
fn listen_when_there(address: SocketAddr) -> io::Result<TcpListener> {
    let start = Instant::now();
    loop {
        match listen(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && start.elapsed() < TENTATIVE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // a repeated proof must not wait for connections of the one before
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(8)?;
    Ok(socket.into())
}

/// Begins to dial as a user. The rules see who makes the socket.
fn connect(to: SocketAddr, user: u32) -> io::Result<Socket> {
    setfsuid(Uid::from_raw(in_our_user_namespace(user)));
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None);
    setfsuid(Uid::from_raw(0));
    let socket = socket?;
    // ends at once when it is dropped, and leaves nothing behind that would hold the port
    socket.set_linger(Some(Duration::ZERO))?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => match error.kind() {
            // where it went, nobody listens: that is an answer
            io::ErrorKind::ConnectionRefused => Ok(socket),
            _ => Err(error),
        },
        _ => Ok(socket),
    }
}

/// A Pod may have a user namespace of its own (`hostUsers: false`), whose ids begin elsewhere. The owner of its network settings
/// is its root. Without `/proc` there is no way to tell, and it is taken for ours.
fn in_our_user_namespace(user: u32) -> u32 {
    let settings = std::fs::metadata("/proc/sys/net/ipv4/ip_forward");
    settings.map_or(user, |root| user.saturating_add(root.uid()))
}

/// Whether this dial arrives at the listener.
fn arrives(listener: &TcpListener, dialled: &Socket) -> io::Result<bool> {
    let start = Instant::now();
    while let Some(left) = PATIENCE.checked_sub(start.elapsed()) {
        let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if poll(&mut waiting, left)? > 0 && arrived(listener, dialled)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether this dial has arrived. Over the loopback interface it has before `connect` returns. A proxy that is at work already dials
/// the listener itself when it gets the dial: such others do not count.
fn arrived(listener: &TcpListener, dialled: &Socket) -> io::Result<bool> {
    let own = dialled.local_addr()?.as_socket();
    loop {
        match listener.accept() {
            Ok((_, peer)) if own == Some(peer) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
