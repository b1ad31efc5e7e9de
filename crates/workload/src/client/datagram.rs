//! UDP and ICMP echo: one datagram, one answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::attempt::{Attempt, Failure};
use super::connect::resolve;
use super::target::Target;

async fn first_address(attempt: &Attempt, target: &Target) -> Result<SocketAddr, Failure> {
    let none = || Failure::NoSuchName(format!("look up {}: no address", target.host));
    resolve(attempt, target).await?.into_iter().next().ok_or_else(none)
}

/// Sends a datagram and waits for one.
pub(super) async fn udp(attempt: &Attempt, target: &Target, message: &[u8]) -> Result<(), Failure> {
    let peer = first_address(attempt, target).await?;
    attempt.sockets(None, peer);
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(peer).await?;
    attempt.sockets(socket.local_addr().ok(), peer);
    socket.send(message).await.map_err(Failure::of_sending)?;
    let mut buffer = vec![0; 65_536];
    let count = socket.recv(&mut buffer).await?;
    attempt.received(&buffer[..count]);
    Ok(())
}

/// Sends an echo request that carries the message and waits for it to come back.
pub(super) async fn icmp(attempt: &Attempt, target: &Target, message: &[u8]) -> Result<(), Failure> {
    let peer = first_address(attempt, target).await?;
    attempt.sockets(None, peer);
    let (protocol, request, reply) =
        if peer.is_ipv4() { (Protocol::ICMPV4, 8, 0) } else { (Protocol::ICMPV6, 128, 129) };
    let domain = Domain::for_address(peer);
    // the unprivileged kind of socket is for the groups of net.ipv4.ping_group_range; the other needs CAP_NET_RAW
    let opened = Socket::new(domain, Type::DGRAM, Some(protocol))
        .map(|socket| (socket, false))
        .or_else(|_| Socket::new(domain, Type::RAW, Some(protocol)).map(|socket| (socket, true)));
    let (socket, raw) = opened.map_err(|error| {
        Failure::Local(format!(
            "open a socket for ICMP: {error} (is the group in net.ipv4.ping_group_range, or is there CAP_NET_RAW?)"
        ))
    })?;
    socket.connect(&peer.into())?;
    socket.set_nonblocking(true)?;
    // tokio has no ICMP sockets; this one is sent to and received from like a connected UDP socket
    let socket = UdpSocket::from_std(socket.into())?;
    attempt.sockets(socket.local_addr().ok().map(|local| SocketAddr::new(local.ip(), 0)), peer);

    let identifier = std::process::id().to_be_bytes();
    let mut packet = vec![request, 0, 0, 0, identifier[2], identifier[3], 0, 1];
    packet.extend_from_slice(message);
    if peer.is_ipv4() {
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
    }
    socket.send(&packet).await.map_err(Failure::of_sending)?;
    let mut buffer = vec![0; 65_536];
    loop {
        let count = socket.recv(&mut buffer).await?;
        let received = &buffer[..count];
        // a raw IPv4 socket gets the IP header too
        let header = if raw && peer.is_ipv4() { usize::from(received.first().unwrap_or(&0) & 15) * 4 } else { 0 };
        let echo = received.get(header..).unwrap_or_default();
        if echo.first() == Some(&reply) && echo.get(8..) == Some(message) {
            attempt.received(message);
            return Ok(());
        }
    }
}

/// The Internet checksum (RFC 1071). ICMPv6's covers addresses too and is the kernel's to fill in.
fn checksum(bytes: &[u8]) -> u16 {
    let sum = bytes
        .chunks(2)
        .fold(0_u32, |sum, pair| sum + u32::from(pair[0]) * 256 + u32::from(pair.get(1).copied().unwrap_or(0)));
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_packet_with_its_checksum_sums_to_zero() {
        let mut packet = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1, b'a', b'b', b'c'];
        let sum = super::checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
        assert_eq!(super::checksum(&packet), 0);
    }
}
