//! Virtual addresses 240.0.0.0/4, one per service, kept for as long as anything refers to the service.

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
}

impl VirtualIps {
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

    /// Freed addresses go first, as in Consul; nothing when all 268 million are in use.
    fn next(&mut self) -> Option<Ipv4Addr> {
        self.free.pop_first().or_else(|| {
            (BASE + self.counter < LAST).then(|| {
                self.counter += 1;
                Ipv4Addr::from(BASE + self.counter)
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
    fn the_range_has_an_end() {
        let mut vips = VirtualIps { counter: LAST - BASE - 1, ..VirtualIps::default() };
        vips.assign(["a", "b"]);
        assert_eq!(vips.get("a"), Some(Ipv4Addr::new(255, 255, 255, 254)));
        assert_eq!(vips.get("b"), None);
    }
}
