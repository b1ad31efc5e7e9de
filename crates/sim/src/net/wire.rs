//! The one shape of connection in a lab: a host with `/32` addresses on `eth0`, a cable, a router that knows them.
//!
//! Nodes and stations hang on the fabric like this, Pods on their node. Both ends know each other's hardware address, so
//! nothing is ever asked by ARP or neighbour discovery, and no first packet waits.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netns::NetNs;
use rtnetlink::sys::Socket;

use super::iptables::restore;
use super::ready;
use super::rtnl::{Batch, End, LOOPBACK, Route};
use super::sysctl::{self, Role};
use super::{Error, primary};
use crate::Families;

/// Index of `eth0`, in every host's namespace.
pub(super) const ETH0: u32 = 2;

/// Hardware address of every router's end. Each cable has two ends, so it need not be unique.
const ROUTER_MAC: [u8; 6] = [0xee; 6];

/// The router as a host sees it: an address that exists nowhere, known only as a neighbour.
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The link-local address that the kernel derives from [`ROUTER_MAC`].
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// Refuses what a node would send out for Pods of its own: there is no such Pod, or it would have a route.
///
/// IPv4 only: a routing table's own refusals are rationed there, five to a client and then one per second, and those of a
/// rule are not. For IPv6 a route does it; its clients hear of it only after a second, because an ICMPv6 error that comes
/// while the client is still in `connect`, as it does between namespaces, is forgotten until the SYN is repeated.
fn refuse_absent_pods(networks: &[IpNet]) -> Result<(), Error> {
    let mut rules = String::new();
    for network in networks.iter().filter(|network| matches!(network, IpNet::V4(_))) {
        // What the node itself sends to a Service passes OUTPUT with the way it had before its destination was replaced.
        for (hook, unless) in [("FORWARD", ""), ("OUTPUT", " -m conntrack ! --ctstate DNAT")] {
            let _ =
                writeln!(rules, "-A {hook} -d {network} -o eth0{unless} -j REJECT --reject-with icmp-host-unreachable");
        }
    }
    if rules.is_empty() {
        return Ok(());
    }
    restore(true, &format!("*filter\n{rules}COMMIT\n")).map_err(Error::Rules)
}

/// Makes the namespace of the calling thread the fabric, with these addresses.
pub(super) fn fabric(addresses: &[IpAddr], families: Families) -> Result<(), Error> {
    sysctl::write(Role::Router, families)?;
    let mut batch = Batch::default();
    batch.up(LOOPBACK);
    for address in addresses {
        batch.address(LOOPBACK, *address);
    }
    if families == Families::V6 {
        return ready::addresses_are_served(&batch.commit()?, addresses);
    }
    // What no host has goes nowhere; see `refuse_absent_pods` for why a rule says so.
    batch.route(Route::to_network(Ipv4Addr::UNSPECIFIED.into(), 0, LOOPBACK));
    ready::addresses_are_served(&batch.commit()?, addresses)?;
    restore(true, "*filter\n-A FORWARD -o lo -j REJECT --reject-with icmp-net-unreachable\nCOMMIT\n")
        .map_err(Error::Rules)
}

/// What to connect.
pub(super) struct Cable<'a> {
    pub(super) router: &'a NetNs,
    /// Addresses of the router, of which the host's family is the source of what the router itself sends to it.
    pub(super) router_addresses: &'a [IpAddr],
    /// Name and index of the router's end, unique there.
    pub(super) interface: &'a str,
    pub(super) index: u32,
    pub(super) addresses: &'a [IpAddr],
    /// Networks that the router reaches through the host.
    pub(super) behind: &'a [IpNet],
    pub(super) role: Role,
    pub(super) families: Families,
}

impl Cable<'_> {
    /// Makes a namespace, and connects it. Nothing is left behind on failure: the pair goes with the namespace.
    pub(super) fn connect(&self) -> Result<NetNs, Error> {
        let host = NetNs::create()?;
        let socket = host.run(|| self.host_side())??;
        self.router.run(|| self.router_side())??;
        ready::link_is_up(&socket, ETH0)?;
        ready::addresses_are_served(&socket, self.addresses)?;
        Ok(host)
    }

    fn mac(&self) -> [u8; 6] {
        // 0a:58 is what Kubernetes' bridge plugin begins with.
        let [a, b, c, d] = match self.addresses.first() {
            Some(IpAddr::V4(v4)) => v4.octets(),
            Some(IpAddr::V6(v6)) => {
                let octets = v6.octets();
                [octets[12], octets[13], octets[14], octets[15]]
            }
            None => [0; 4],
        };
        [0x0a, 0x58, a, b, c, d]
    }

    fn host_side(&self) -> Result<Socket, Error> {
        sysctl::write(self.role, self.families)?;
        let mut batch = Batch::default();
        batch.up(LOOPBACK);
        batch.pair(
            &End { name: "eth0", index: ETH0, mac: self.mac() },
            &End { name: self.interface, index: self.index, mac: ROUTER_MAC },
            self.router,
        );
        for address in self.addresses {
            batch.address(ETH0, *address);
        }
        for gateway in [IpAddr::from(GATEWAY_V4), GATEWAY_V6.into()] {
            if let Some(source) = primary(self.addresses, gateway.is_ipv4()) {
                batch.neighbour(ETH0, gateway, ROUTER_MAC);
                if gateway.is_ipv4() {
                    batch.route(Route::on_link(gateway, ETH0));
                }
                batch.route(Route::default_via(gateway, ETH0).from(Some(source)));
            }
        }
        for network in self.behind.iter().filter(|network| matches!(network, IpNet::V6(_))) {
            batch.route(Route::unreachable(network.network(), network.prefix_len()));
        }
        let socket = batch.commit()?;
        refuse_absent_pods(self.behind)?;
        Ok(socket)
    }

    fn router_side(&self) -> Result<Socket, Error> {
        let mut batch = Batch::default();
        batch.up(self.index);
        for address in self.addresses {
            batch.neighbour(self.index, *address, self.mac());
            let source = primary(self.router_addresses, address.is_ipv4());
            batch.route(Route::on_link(*address, self.index).from(source));
        }
        for network in self.behind {
            let v4 = network.network().is_ipv4();
            if let Some(gateway) = primary(self.addresses, v4) {
                batch.route(Route::via(network.network(), network.prefix_len(), gateway, self.index));
            }
        }
        batch.commit()
    }
}
