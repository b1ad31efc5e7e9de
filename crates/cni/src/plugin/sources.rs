//! Where probes come from: the addresses that this node sends from towards the Pod.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// The kernel's choice for each of the Pod's addresses. Nothing is sent. Run in the node's namespace.
pub(super) fn towards(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut sources: Vec<IpAddr> = addresses.iter().filter_map(|address| towards_one(*address).ok()).collect();
    sources.dedup();
    sources
}

fn towards_one(pod: IpAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = if pod.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    // the discard port: a datagram socket that is connected has sent nothing
    socket.connect((pod, 9))?;
    Ok(socket.local_addr()?.ip())
}
