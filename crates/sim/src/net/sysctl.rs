//! The kernel settings of a lab's namespaces, written from inside them.

use std::fs;
use std::io;

use super::Error;
use crate::Families;

/// What a namespace is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Passes packets on: the fabric and the nodes.
    Router,
    /// Starts and ends connections: a station.
    Host,
    /// A host as a container runtime sets it up.
    Pod,
}

/// Writes what a namespace needs, before its first link: later ones take the defaults over.
pub(super) fn write(role: Role, families: Families) -> Result<(), Error> {
    if role == Role::Router {
        // First, because turning forwarding on resets other settings.
        set("net/ipv4/ip_forward", "1")?;
        // Every refusal is told, at once: tests wait for them.
        set("net/ipv4/icmp_ratelimit", "0")?;
        // The limit of the whole machine moved into the namespace with Linux 6.12.
        set_if_present("net/ipv4/icmp_msgs_per_sec", "100000")?;
    }
    for link in ["all", "default"] {
        // The default comes from the machine's own setting. Traffic to many of the lab's addresses is asymmetric on purpose.
        set(&format!("net/ipv4/conf/{link}/rp_filter"), "0")?;
        if role == Role::Router {
            // A Pod that reaches itself through a Service goes out where it came in, on purpose.
            set(&format!("net/ipv4/conf/{link}/send_redirects"), "0")?;
        }
    }
    if role == Role::Pod {
        // As containerd does: any user may bind any port and send echo requests.
        set("net/ipv4/ip_unprivileged_port_start", "0")?;
        set("net/ipv4/ping_group_range", &format!("0 {}", last_group()?))?;
    }
    if families != Families::V4 {
        if role == Role::Router {
            set("net/ipv6/conf/all/forwarding", "1")?;
            set("net/ipv6/conf/default/forwarding", "1")?;
            set_if_present("net/ipv6/icmp/ratelimit", "0")?;
        }
        for link in ["all", "default"] {
            set(&format!("net/ipv6/conf/{link}/disable_ipv6"), "0")?;
            // Addresses are known to be unique, and nobody advertises routes.
            set(&format!("net/ipv6/conf/{link}/accept_dad"), "0")?;
            set(&format!("net/ipv6/conf/{link}/accept_ra"), "0")?;
        }
        set("net/ipv6/conf/default/router_solicitations", "0")?;
    }
    Ok(())
}

fn set(name: &str, value: &str) -> Result<(), Error> {
    fs::write(format!("/proc/sys/{name}"), value).map_err(|source| Error::Sysctl {
        name: name.replace('/', "."),
        value: value.to_owned(),
        source,
    })
}

fn set_if_present(name: &str, value: &str) -> Result<(), Error> {
    match set(name, value) {
        Err(Error::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The last group id that exists here, at most the last that the setting takes.
fn last_group() -> Result<u32, Error> {
    let map = fs::read_to_string("/proc/thread-self/gid_map").map_err(Error::Netlink)?;
    Ok(end_of_first_range(&map).min(i32::MAX as u32))
}

/// The last id of the unbroken range that starts with 0.
fn end_of_first_range(map: &str) -> u32 {
    let mut ranges: Vec<(u32, u32)> = map
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(str::parse::<u32>);
            let (inside, _, count) = (fields.next()?.ok()?, fields.next()?, fields.next()?.ok()?);
            Some((inside, count))
        })
        .collect();
    ranges.sort_unstable();
    let mut end = 0u32;
    for (inside, count) in ranges {
        if inside > end {
            break;
        }
        end = end.max(inside.saturating_add(count));
    }
    end.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::whole_machine("         0          0 4294967295\n", 4_294_967_294)]
    #[case::one_user_and_subordinates("0 1000 1\n1 100000 65536\n", 65_536)]
    #[case::only_root("0 1000 1\n", 0)]
    #[case::gap("0 1000 1\n5 100000 10\n", 0)]
    #[case::nothing("", 0)]
    fn the_last_group_of_a_map(#[case] map: &str, #[case] last: u32) {
        assert_eq!(end_of_first_range(map), last);
    }
}
