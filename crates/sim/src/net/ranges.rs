//! Which networks a lab has: data, no effects.

use std::fmt::Write;
use std::net::Ipv6Addr;

use ipnet::{Ipv4Net, Ipv6Net};

/// Length of every IPv4 prefix: the plan of a lab numbers its hosts by the two bytes behind it.
const BITS: u8 = 16;

/// The networks of a lab in both families, of which it uses those of its [`Families`](crate::Families).
///
/// The IPv4 networks are chosen, and the IPv6 ones follow: the digits of the first two bytes are their second and third
/// group, so that other IPv4 networks give other IPv6 networks.
///
/// ```
/// let ranges = sim::Ranges::default();
/// assert_eq!(ranges.pods(), ("10.244.0.0/16".parse()?, "fd00:10:244::/48".parse()?));
/// assert_eq!(ranges.services(), ("10.96.0.0/16".parse()?, "fd00:10:96::/112".parse()?));
/// assert_eq!(ranges.site(), ("172.18.0.0/16".parse()?, "fd00:172:18::/112".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "RangesText")]
pub struct Ranges {
    pods: Ipv4Net,
    services: Ipv4Net,
    site: Ipv4Net,
}

/// The IPv4 networks of a lab as a file gives them, `10.244.0.0/16`. What a file leaves out is as by default.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RangesText {
    /// Where Pods get their addresses.
    pub pods: String,
    /// Where Services get their ClusterIPs.
    pub services: String,
    /// Where nodes, the lab's own stations and its router have their addresses.
    pub site: String,
}

/// Why networks cannot be those of a lab: everything that is wrong with them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use these networks for a lab: {}", listed(.0))]
pub struct RangesError(pub Vec<RangeFault>);

/// What is wrong with one network, or with two together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeFault {
    /// The text is no network, or one of a size or kind that no lab can have.
    #[error(
        "{purpose} network {value:?} (allowed: unicast IPv4 networks of {BITS} bits that are neither loopback nor link-local, such \
         as {example})"
    )]
    Impossible {
        /// `Pod`, `Service` or `site`.
        purpose: &'static str,
        /// What was given.
        value: String,
        /// What may stand there.
        example: Ipv4Net,
    },
    /// Two networks are the same: as all are of one size, they cannot overlap otherwise.
    #[error("{one} network and {other} network overlap: both are {network} (give each a network of its own)")]
    Overlap {
        /// `Pod`, `Service` or `site`.
        one: &'static str,
        /// Likewise.
        other: &'static str,
        /// What was given for both.
        network: Ipv4Net,
    },
}

impl Default for Ranges {
    fn default() -> Self {
        let network = |a, b| Ipv4Net::new_assert([a, b, 0, 0].into(), BITS);
        Self { pods: network(10, 244), services: network(10, 96), site: network(172, 18) }
    }
}

impl Ranges {
    /// Where Pods get their addresses.
    #[must_use]
    pub fn pods(self) -> (Ipv4Net, Ipv6Net) {
        (self.pods, v6(self.pods, 48))
    }

    /// Where Services get their ClusterIPs.
    #[must_use]
    pub fn services(self) -> (Ipv4Net, Ipv6Net) {
        (self.services, v6(self.services, 112))
    }

    /// Where nodes, the lab's own stations and its router have their addresses.
    #[must_use]
    pub fn site(self) -> (Ipv4Net, Ipv6Net) {
        (self.site, v6(self.site, 112))
    }

    fn named(self) -> [(&'static str, Ipv4Net); 3] {
        [("Pod", self.pods), ("Service", self.services), ("site", self.site)]
    }
}

impl Default for RangesText {
    fn default() -> Self {
        let [pods, services, site] = Ranges::default().named().map(|(_, network)| network.to_string());
        Self { pods, services, site }
    }
}

impl TryFrom<RangesText> for Ranges {
    type Error = RangesError;

    fn try_from(text: RangesText) -> Result<Self, RangesError> {
        let RangesText { pods, services, site } = text;
        let [pods_by_default, services_by_default, site_by_default] = Self::default().named();
        let read = [(pods, pods_by_default), (services, services_by_default), (site, site_by_default)].map(
            |(value, (purpose, example))| usable(&value).ok_or(RangeFault::Impossible { purpose, value, example }),
        );
        match read {
            [Ok(pods), Ok(services), Ok(site)] => {
                let ranges = Self { pods, services, site };
                let [pods, services, site] = ranges.named();
                let overlaps: Vec<_> = [(pods, services), (pods, site), (services, site)]
                    .into_iter()
                    .filter(|((_, network), (_, same))| network == same)
                    .map(|((one, network), (other, _))| RangeFault::Overlap { one, other, network })
                    .collect();
                if overlaps.is_empty() { Ok(ranges) } else { Err(RangesError(overlaps)) }
            }
            read => Err(RangesError(read.into_iter().filter_map(Result::err).collect())),
        }
    }
}

/// The network that a text names, when hosts can have its addresses.
fn usable(text: &str) -> Option<Ipv4Net> {
    let network: Ipv4Net = text.trim().parse().ok()?;
    let address = network.addr();
    let [first, ..] = address.octets();
    let unicast = (1..224).contains(&first) && !address.is_loopback() && !address.is_link_local();
    (network.prefix_len() == BITS && network.network() == address && unicast).then_some(network)
}

/// The IPv6 network that goes with an IPv4 one: 10.244.0.0 gives fd00:10:244::.
fn v6(network: Ipv4Net, prefix: u8) -> Ipv6Net {
    let [first, second, ..] = network.addr().octets();
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, same_digits(first), same_digits(second), 0, 0, 0, 0, 0), prefix)
}

/// The number that looks in hexadecimal as the given one does in decimal.
fn same_digits(byte: u8) -> u16 {
    let byte = u16::from(byte);
    byte / 100 * 0x100 + byte / 10 % 10 * 0x10 + byte % 10
}

fn listed(faults: &[RangeFault]) -> String {
    let mut list = String::new();
    for fault in faults {
        let _ = write!(list, "{}{fault}", if list.is_empty() { "" } else { "; " });
    }
    list
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn text(pods: &str, services: &str, site: &str) -> RangesText {
        RangesText { pods: pods.to_owned(), services: services.to_owned(), site: site.to_owned() }
    }

    #[rstest]
    #[case::as_by_default("10.244.0.0/16", "fd00:10:244::/48")]
    #[case::one_digit("10.5.0.0/16", "fd00:10:5::/48")]
    #[case::three_digits("100.101.0.0/16", "fd00:100:101::/48")]
    #[case::highest("192.255.0.0/16", "fd00:192:255::/48")]
    #[case::no_second_byte("10.0.0.0/16", "fd00:10::/48")]
    fn ipv6_networks_follow_from_ipv4_networks(#[case] v4: &str, #[case] v6: &str) {
        let ranges = Ranges::try_from(RangesText { pods: v4.to_owned(), ..RangesText::default() }).expect("possible");
        assert_eq!(ranges.pods(), (v4.parse().expect("a network"), v6.parse().expect("a network")));
        assert_eq!((ranges.services(), ranges.site()), (Ranges::default().services(), Ranges::default().site()));
    }

    #[test]
    fn no_two_ipv4_networks_give_the_same_ipv6_network() {
        let all =
            (0..=u8::MAX).flat_map(|a| (0..=u8::MAX).map(move |b| Ipv4Net::new_assert([a, b, 0, 0].into(), BITS)));
        let distinct: std::collections::BTreeSet<_> = all.map(|network| v6(network, 48)).collect();
        assert_eq!(distinct.len(), 0x1_0000);
    }

    #[rstest]
    #[case::too_small("10.244.0.0/24")]
    #[case::too_large("10.0.0.0/8")]
    #[case::of_a_host("10.244.0.1/16")]
    #[case::no_prefix("10.244.0.0")]
    #[case::ipv6("fd00:10:244::/48")]
    #[case::this_network("0.0.0.0/16")]
    #[case::loopback("127.0.0.0/16")]
    #[case::link_local("169.254.0.0/16")]
    #[case::multicast("224.0.0.0/16")]
    #[case::class_e("240.0.0.0/16")]
    #[case::nothing("")]
    fn an_impossible_network_is_refused_by_name(#[case] value: &str) {
        let error = Ranges::try_from(text("10.1.0.0/16", value, "10.2.0.0/16")).expect_err("it is impossible");
        let RangesError(faults) = &error;
        assert!(
            matches!(&faults[..], [RangeFault::Impossible { purpose: "Service", value: given, .. }] if given == value)
        );
        let message = error.to_string();
        assert!(message.contains(&format!("Service network {value:?}")), "{message}");
        assert!(message.contains("16 bits") && message.contains("such as 10.96.0.0/16"), "{message}");
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let error = Ranges::try_from(text("10.1.0.0/8", "x", "10.2.0.0/16")).expect_err("two are impossible");
        let message = error.to_string();
        assert!(
            message.contains("Pod network \"10.1.0.0/8\"") && message.contains("; Service network \"x\""),
            "{message}"
        );
    }

    #[rstest]
    #[case::pods_and_services("10.1.0.0/16", "10.1.0.0/16", "10.2.0.0/16", "Pod network and Service network")]
    #[case::pods_and_site("10.1.0.0/16", "10.2.0.0/16", "10.1.0.0/16", "Pod network and site network")]
    #[case::services_and_site("10.2.0.0/16", "10.1.0.0/16", "10.1.0.0/16", "Service network and site network")]
    fn networks_of_one_lab_do_not_overlap(
        #[case] pods: &str,
        #[case] services: &str,
        #[case] site: &str,
        #[case] expected: &str,
    ) {
        let error = Ranges::try_from(text(pods, services, site)).expect_err("they overlap");
        assert!(error.to_string().contains(&format!("{expected} overlap: both are 10.1.0.0/16")), "{error}");
        assert_eq!(error.0.len(), 1, "{error}");
    }

    #[test]
    fn a_file_names_the_networks_that_differ() {
        let ranges: Ranges = serde_yaml_ng::from_str("pods: 10.1.0.0/16\nsite: 172.19.0.0/16").expect("possible");
        assert_eq!(Ok(ranges), Ranges::try_from(text("10.1.0.0/16", "10.96.0.0/16", "172.19.0.0/16")));
        let error = serde_yaml_ng::from_str::<Ranges>("pods: 10.1.0.0/24").expect_err("impossible");
        assert!(error.to_string().contains("Pod network \"10.1.0.0/24\""), "{error}");
    }
}
