//! Which address everything in a lab has: data, no effects.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Ranges;
use crate::Families;

/// The addresses of one lab. Labs that are never joined may have the same: their namespaces keep them apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    families: Families,
    ranges: Ranges,
}

/// Last two bytes of the control plane's address in the site network.
const CONTROL_PLANE: u16 = 0xff02;
/// Last two bytes of the cluster DNS's address.
const CLUSTER_DNS: u16 = 0xff03;

impl Plan {
    pub(crate) fn new(families: Families, ranges: Ranges) -> Self {
        Self { families, ranges }
    }

    pub(super) fn families(self) -> Families {
        self.families
    }

    /// Where Services get their ClusterIPs, the primary family first.
    pub(crate) fn service_cidrs(self) -> Vec<IpNet> {
        let (v4, v6) = self.ranges.services();
        self.announced(v4.into(), v6.into())
    }

    /// Where the Pods of one node get their addresses.
    pub(crate) fn pod_cidrs(self, node: u8) -> Vec<IpNet> {
        let (v4, v6) = self.pod_addresses(node, 0);
        self.pick(Ipv4Net::new_assert(v4, 24).into(), Ipv6Net::new_assert(v6, 64).into())
    }

    /// Where the Pods of one node get the addresses that Kubernetes knows of.
    pub(crate) fn announced_pod_cidrs(self, node: u8) -> Vec<IpNet> {
        self.pod_cidrs(node).into_iter().filter(|cidr| self.families.announces(&cidr.network())).collect()
    }

    /// Where all Pods get the addresses that Kubernetes knows of.
    pub(crate) fn all_pod_cidrs(self) -> Vec<IpNet> {
        let (v4, v6) = self.ranges.pods();
        self.announced(v4.into(), v6.into())
    }

    /// Where all Pods get their addresses.
    pub(super) fn pod_networks(self) -> Vec<IpNet> {
        let (v4, v6) = self.ranges.pods();
        self.pick(v4.into(), v6.into())
    }

    /// Where nodes, the lab's own stations and the fabric have their addresses.
    pub(super) fn site_networks(self) -> Vec<IpNet> {
        let (v4, v6) = self.ranges.site();
        self.pick(v4.into(), v6.into())
    }

    pub(super) fn pod(self, node: u8, host: u8) -> Vec<IpAddr> {
        let (v4, v6) = self.pod_addresses(node, host);
        self.pick(v4.into(), v6.into())
    }

    pub(super) fn fabric(self) -> Vec<IpAddr> {
        self.site(1)
    }

    pub(super) fn node(self, node: u8) -> Vec<IpAddr> {
        self.site(u16::from(node) + 2)
    }

    /// The control-plane station.
    pub(crate) fn control_plane(self) -> Vec<IpAddr> {
        self.known(self.site(CONTROL_PLANE))
    }

    /// The cluster-dns station.
    pub(crate) fn cluster_dns(self) -> Vec<IpAddr> {
        self.known(self.site(CLUSTER_DNS))
    }

    /// ClusterIPs of the Service `kubernetes`.
    pub(crate) fn api_service(self) -> Vec<IpAddr> {
        self.service(1)
    }

    /// ClusterIPs of the Service `kube-dns`.
    pub(crate) fn dns_service(self) -> Vec<IpAddr> {
        self.service(10)
    }

    fn service(self, host: u16) -> Vec<IpAddr> {
        let (v4, v6) = hosts(self.ranges.services(), host);
        self.announced(v4.into(), v6.into())
    }

    /// Those of them that Kubernetes knows of.
    pub(crate) fn known(self, addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        addresses.into_iter().filter(|address| self.families.announces(address)).collect()
    }

    /// An address of the network that nodes and the lab's own stations share.
    fn site(self, host: u16) -> Vec<IpAddr> {
        let (v4, v6) = hosts(self.ranges.site(), host);
        self.pick(v4.into(), v6.into())
    }

    /// A host of a node: in IPv4 the node is the third byte, in IPv6 the fourth group.
    fn pod_addresses(self, node: u8, host: u8) -> (Ipv4Addr, Ipv6Addr) {
        let (v4, v6) = hosts(self.ranges.pods(), host.into());
        (
            Ipv4Addr::from_bits(v4.to_bits() | u32::from(node) << 8),
            Ipv6Addr::from_bits(v6.to_bits() | u128::from(node) << 64),
        )
    }

    /// For what Kubernetes knows of.
    fn announced<T>(self, v4: T, v6: T) -> Vec<T> {
        match self.families {
            Families::V4 | Families::UnannouncedV6 => vec![v4],
            Families::V6 => vec![v6],
            Families::Dual => vec![v4, v6],
        }
    }

    /// For interfaces and routes.
    fn pick<T>(self, v4: T, v6: T) -> Vec<T> {
        match self.families {
            Families::V4 => vec![v4],
            Families::V6 => vec![v6],
            Families::Dual | Families::UnannouncedV6 => vec![v4, v6],
        }
    }
}

/// The addresses of two networks that end with these bytes.
fn hosts((v4, v6): (Ipv4Net, Ipv6Net), host: u16) -> (Ipv4Addr, Ipv6Addr) {
    (
        Ipv4Addr::from_bits(v4.addr().to_bits() | u32::from(host)),
        Ipv6Addr::from_bits(v6.addr().to_bits() | u128::from(host)),
    )
}

/// Hands out the last byte of Pod addresses of one node: in a circle, so that an address rests before it comes back.
#[derive(Debug)]
pub(super) struct Pool {
    taken: BTreeSet<u8>,
    next: u8,
}

impl Pool {
    /// .0 is the network, .1 is customarily the node, .255 is the broadcast address.
    const FIRST: u8 = 2;
    const LAST: u8 = 254;

    pub(super) fn new() -> Self {
        Self { taken: BTreeSet::new(), next: Self::FIRST }
    }

    pub(super) fn take(&mut self) -> Option<u8> {
        let host = (self.next..=Self::LAST).chain(Self::FIRST..self.next).find(|host| !self.taken.contains(host))?;
        self.taken.insert(host);
        self.next = if host == Self::LAST { Self::FIRST } else { host + 1 };
        Some(host)
    }

    pub(super) fn give_back(&mut self, host: u8) {
        self.taken.remove(&host);
    }
}

/// The last byte of a Pod's address, by which [`Pool`] knows it.
pub(super) fn host_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Other networks than by default.
    fn other() -> Ranges {
        let text = crate::RangesText {
            pods: "10.1.0.0/16".to_owned(),
            services: "10.2.0.0/16".to_owned(),
            site: "192.168.0.0/16".to_owned(),
        };
        Ranges::try_from(text).expect("possible")
    }

    #[rstest]
    #[case::v4(Families::V4, Ranges::default(), "10.244.1.7", "172.18.0.3", "172.18.255.2", "10.96.0.10")]
    #[case::v6(
        Families::V6,
        Ranges::default(),
        "fd00:10:244:1::7",
        "fd00:172:18::3",
        "fd00:172:18::ff02",
        "fd00:10:96::a"
    )]
    #[case::other_v4(Families::V4, other(), "10.1.1.7", "192.168.0.3", "192.168.255.2", "10.2.0.10")]
    #[case::other_v6(Families::V6, other(), "fd00:10:1:1::7", "fd00:192:168::3", "fd00:192:168::ff02", "fd00:10:2::a")]
    fn addresses_of_a_family(
        #[case] families: Families,
        #[case] ranges: Ranges,
        #[case] pod: IpAddr,
        #[case] node: IpAddr,
        #[case] control_plane: IpAddr,
        #[case] dns: IpAddr,
    ) {
        let plan = Plan::new(families, ranges);
        assert_eq!(plan.pod(1, 7), [pod]);
        assert_eq!(plan.node(1), [node]);
        assert_eq!(plan.control_plane(), [control_plane]);
        assert_eq!(plan.dns_service(), [dns]);
        assert!(plan.pod_cidrs(1)[0].contains(&pod) && !plan.pod_cidrs(2)[0].contains(&pod));
        assert!(plan.all_pod_cidrs()[0].contains(&pod) && !plan.all_pod_cidrs()[0].contains(&node));
        assert!(plan.service_cidrs()[0].contains(&dns));
        assert!(plan.site_networks()[0].contains(&node) && plan.site_networks()[0].contains(&control_plane));
    }

    #[test]
    fn dual_stack_has_ipv4_first() {
        let plan = Plan::new(Families::Dual, Ranges::default());
        assert!(plan.pod(0, 2)[0].is_ipv4());
        assert!(plan.pod(0, 2)[1].is_ipv6());
    }

    #[test]
    fn of_unannounced_addresses_only_the_network_knows() {
        let plan = Plan::new(Families::UnannouncedV6, Ranges::default());
        assert_eq!((plan.pod(0, 2).len(), plan.pod_cidrs(0).len(), plan.node(0).len()), (2, 2, 2));
        assert_eq!((plan.pod_networks().len(), plan.site_networks().len(), plan.all_pod_cidrs().len()), (2, 2, 1));
        assert_eq!((plan.service_cidrs().len(), plan.dns_service().len(), plan.cluster_dns().len()), (1, 1, 1));
        assert!(plan.known(plan.pod(0, 2)).iter().all(IpAddr::is_ipv4));
    }

    #[test]
    fn an_address_rests_before_it_comes_back_and_none_is_given_twice() {
        let mut pool = Pool::new();
        let first = pool.take().expect("the pool is full");
        pool.give_back(first);
        assert_ne!(pool.take(), Some(first));
        let rest = std::iter::from_fn(|| pool.take()).count();
        assert_eq!(rest, 252, "253 addresses, one of them taken before");
        pool.give_back(first);
        assert_eq!(pool.take(), Some(first));
    }
}
