//! Sockets as this crate hands them out: non-blocking, and made by the thread that is in the namespace.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// Pending connections a listener holds: the kernel's own usual bound.
const BACKLOG: i32 = 1024;

pub(crate) fn tcp_listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

pub(crate) fn udp_bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

pub(crate) fn tcp_connect(peer: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&peer.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
        Err(e) => return Err(e),
    }
    Ok(socket.into())
}
