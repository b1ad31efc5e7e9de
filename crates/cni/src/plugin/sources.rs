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

/// Addresses of the calling thread's namespace, loopback and link-local ones aside.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    let usable = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    addresses.filter(usable).collect()
}
