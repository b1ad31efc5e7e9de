//! Virtual addresses 240.0.0.0/4, one per service, kept for as long as anything refers to the service.
//!
//! A service has the same one in all partitions that see it, so that no two partitions may give the same: each has a block of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Addresses are counted up from here; the first that is given out is 240.0.0.1.
const BASE: u32 = u32::from_be_bytes([240, 0, 0, 0]);
/// The last address that is given out, 255.255.255.254.
const LAST: u32 = u32::from_be_bytes([255, 255, 255, 254]);

/// Which service has which virtual address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VirtualIps {
    given: BTreeMap<String, Ipv4Addr>,
    free: BTreeSet<Ipv4Addr>,
    counter: u32,
    /// The first octet after 240, from which a partition's addresses are counted; 0 for the default one.
    #[serde(default)]
    block: u8,
}

/// How many blocks there are: the default partition's and others.
const BLOCKS: u8 = 16;

impl VirtualIps {
    /// None yet, of a block that none of these has; nothing when there is none left.
    pub(crate) fn beside<'a>(others: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let taken: BTreeSet<u8> = others.into_iter().map(|other| other.block).collect();
        let block = (1..BLOCKS).find(|block| !taken.contains(block))?;
        Some(Self { block, ..Self::default() })
    }

    /// Takes back the addresses of all services that are not `wanted`.
    pub(crate) fn retain<'a>(&mut self, wanted: impl IntoIterator<Item = &'a str>) {
        let wanted: BTreeSet<&str> = wanted.into_iter().collect();
        let free = &mut self.free;
        self.given.retain(|service, address| {
            let keep = wanted.contains(service.as_str());
            if !keep {
                free.insert(*address);
            }
            keep
        });
    }

    /// Gives every service of `wanted` an address. Addresses that were given stay.
    pub(crate) fn assign<'a>(&mut self, wanted: impl IntoIterator<Item = &'a str>) {
        for service in wanted {
            if !self.given.contains_key(service)
                && let Some(address) = self.next()
            {
                self.given.insert(service.to_owned(), address);
            }
        }
    }

    /// The address of a service.
    pub(crate) fn get(&self, service: &str) -> Option<Ipv4Addr> {
        self.given.get(service).copied()
    }

    /// Freed addresses go first, as in Consul; nothing when all are in use: 268 million of the default partition, as long as it is alone.
    fn next(&mut self) -> Option<Ipv4Addr> {
        self.free.pop_first().or_else(|| {
            let base = BASE + (u32::from(self.block) << 24);
            let last = if self.block == 0 { LAST } else { base + (1 << 24) - 2 };
            (base + self.counter < last).then(|| {
                self.counter += 1;
                Ipv4Addr::from(base + self.counter)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_stable_and_reused() {
        let mut vips = VirtualIps::default();
        vips.assign(["a", "b"]);
        assert_eq!(vips.get("a"), Some(Ipv4Addr::new(240, 0, 0, 1)));
        assert_eq!(vips.get("b"), Some(Ipv4Addr::new(240, 0, 0, 2)));
        vips.retain(["b", "c"]);
        vips.assign(["b", "c"]);
        assert_eq!(vips.get("a"), None);
        assert_eq!(vips.get("b"), Some(Ipv4Addr::new(240, 0, 0, 2)));
        assert_eq!(vips.get("c"), Some(Ipv4Addr::new(240, 0, 0, 1)));
    }

    #[test]
    fn partitions_have_blocks_of_their_own() {
        let first = VirtualIps::default();
        let mut second = VirtualIps::beside([&first]).expect("one is left");
        let mut third = VirtualIps::beside([&first, &second]).expect("one is left");
        second.assign(["a"]);
        third.assign(["a"]);
        assert_eq!(second.get("a"), Some(Ipv4Addr::new(241, 0, 0, 1)));
        assert_eq!(third.get("a"), Some(Ipv4Addr::new(242, 0, 0, 1)));
        let all: Vec<VirtualIps> = (0..BLOCKS).map(|block| VirtualIps { block, ..VirtualIps::default() }).collect();
        assert_eq!(VirtualIps::beside(&all), None);
    }

    #[test]
    fn the_range_has_an_end() {
        let mut vips = VirtualIps { counter: LAST - BASE - 1, ..VirtualIps::default() };
        vips.assign(["a", "b"]);
        assert_eq!(vips.get("a"), Some(Ipv4Addr::new(255, 255, 255, 254)));
        assert_eq!(vips.get("b"), None);
    }
}
