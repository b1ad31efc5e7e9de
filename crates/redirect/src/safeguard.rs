//! What Consul's rules leave open, and an operator may close: each is off unless it is asked for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::parse::{self, Mistake};

/// Something beyond Consul's own rules. By default a policy has none of them, and redirects exactly what Consul redirects.
///
/// Traffic of the proxy's user, of excluded users and groups, to excluded blocks and on excluded ports is never refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Safeguard {
    /// What a process sends to its own namespace stays there. Consul spares 127.0.0.1 and ::1 only: the rest of 127.0.0.0/8 and
    /// the Pod's own address go to the proxy.
    LocalDirect,
    /// In single stack, TCP and UDP over IPv6 are refused in both directions. Consul leaves IPv6 alone there, so that a Pod
    /// which has an IPv6 address all the same goes around the mesh over it. Neighbour discovery, link-local and multicast
    /// addresses still work.
    RefuseIpv6,
    /// UDP is refused in both directions, but for DNS queries and the answers to what was let through. Consul redirects TCP
    /// only, so that QUIC goes around the mesh; a client that is refused at once falls back to TCP.
    RefuseUdp,
    /// The cloud's metadata services ([`METADATA`]) are refused, which hand out the node's credentials. Consul sends them through
    /// the proxy like any other address.
    RefuseMetadata,
    /// Packets that connection tracking takes for no part of any connection are dropped in both directions. Translation skips
    /// them, so that they reach the wrong socket, whose reset ends the connection that they were meant for.
    DropInvalid,
}

/// Addresses of metadata services: those of AWS, Azure, Google and OpenStack, over IPv4 and IPv6.
pub const METADATA: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))];

/// IPv6 blocks that never leave the link, without which IPv6 does not work at all.
pub(crate) const LINK_LOCAL: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10));
/// IPv6 multicast.
pub(crate) const MULTICAST: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8));

impl Safeguard {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::LocalDirect, Self::RefuseIpv6, Self::RefuseUdp, Self::RefuseMetadata, Self::DropInvalid];

    /// Its name in annotations, flags and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LocalDirect => "local-direct",
            Self::RefuseIpv6 => "refuse-ipv6",
            Self::RefuseUdp => "refuse-udp",
            Self::RefuseMetadata => "refuse-metadata",
            Self::DropInvalid => "drop-invalid",
        }
    }

    /// The one of this name.
    pub(crate) fn named(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|safeguard| safeguard.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|safeguard| safeguard.name()).collect();
            format!("the safeguards are {}", names.join(", "))
        })
    }

    /// Names of a comma-separated list: trimmed, in order, duplicates merged.
    ///
    /// # Errors
    /// Every entry that names none, and a list with nothing in it.
    pub fn list(list: &str) -> Result<Vec<Self>, Vec<Mistake>> {
        parse::split(list, "safeguard, as refuse-ipv6").and_then(|entries| parse::each(entries, Self::named))
    }
}

impl fmt::Display for Safeguard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The block that is exactly one address.
pub(crate) fn whole(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(v4) => Ipv4Net::new_assert(v4, 32).into(),
        IpAddr::V6(v6) => Ipv6Net::new_assert(v6, 128).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let all: Vec<_> = Safeguard::ALL.iter().map(|safeguard| safeguard.name()).collect();
        assert_eq!(Safeguard::list(&format!(" {} , local-direct", all.join(","))).expect("all"), Safeguard::ALL);
    }

    #[test]
    fn a_wrong_name_is_told_the_right_ones() {
        let mistakes = Safeguard::list("refuse-ipv6,refuse-ip6").expect_err("no such safeguard");
        assert_eq!(mistakes[0].entry, Some(2));
        assert!(mistakes[0].to_string().contains("\"refuse-ip6\": the safeguards are local-direct, refuse-ipv6"));
    }
}
