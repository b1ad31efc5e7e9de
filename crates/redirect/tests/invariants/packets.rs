//! Packets made of bytes: most of them at the edges of what a policy names, where mistakes are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::{Result, Unstructured};
use redirect::safeguard::METADATA;
use redirect::{Dns, Hook, Packet, Policy, PortRange, Protocol};

/// The first packet of a connection, as one can be.
pub(super) fn near(policy: &Policy, random: &mut Unstructured<'_>) -> Result<Packet> {
    let hook = if random.arbitrary()? { Hook::Output } else { Hook::Prerouting };
    let protocol = match random.int_in_range(0..=4_u8)? {
        0..=2 => Protocol::Tcp,
        3 => Protocol::Udp,
        // 6 and 17 have names
        _ => match random.arbitrary()? {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            other => Protocol::Other(other),
        },
    };
    let destination = destination(policy, random)?;
    let is_probe = hook == Hook::Prerouting && random.arbitrary()?;
    let probed: Vec<IpAddr> = policy
        .probe_sources()
        .iter()
        .flat_map(|block| [block.network(), block.broadcast()])
        .filter(|source| is_probe && source.is_ipv4() == destination.is_ipv4())
        .collect();
    let source = match destination {
        _ if !probed.is_empty() => near_one_of(&probed, random)?,
        IpAddr::V4(_) => Ipv4Addr::from(random.arbitrary::<u32>()?).into(),
        // link-local ones are treated in their own way
        IpAddr::V6(_) if random.arbitrary()? => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, random.arbitrary()?).into(),
        IpAddr::V6(_) => Ipv6Addr::from(random.arbitrary::<u128>()?).into(),
    };
    let has_ports = matches!(protocol, Protocol::Tcp | Protocol::Udp);
    let sent = hook == Hook::Output;
    Ok(Packet {
        hook,
        protocol,
        source,
        source_port: if has_ports { random.arbitrary()? } else { 0 },
        destination,
        destination_port: if has_ports { port(policy, random)? } else { 0 },
        uid: if sent { owner(policy, random)? } else { None },
        gid: if sent { owner(policy, random)? } else { None },
        local: sent && (destination.is_loopback() || random.arbitrary()?),
    })
}

fn destination(policy: &Policy, random: &mut Unstructured<'_>) -> Result<IpAddr> {
    let mut named: Vec<IpAddr> = METADATA.to_vec();
    named.extend([IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 2).into()]);
    if let Some(Dns::Everything { server } | Dns::Addressed { server, .. }) = policy.dns() {
        named.push(server);
    }
    named.extend(policy.exclude_outbound_cidrs().iter().flat_map(|block| [block.network(), block.broadcast()]));
    match random.int_in_range(0..=3_u8)? {
        0 => Ok(Ipv4Addr::from(random.arbitrary::<u32>()?).into()),
        1 => Ok(Ipv6Addr::from(random.arbitrary::<u128>()?).into()),
        _ => near_one_of(&named, random),
    }
}

/// Exactly one that is named, or its neighbour.
fn near_one_of(named: &[IpAddr], random: &mut Unstructured<'_>) -> Result<IpAddr> {
    let step = random.int_in_range(-1..=1_i8)?;
    Ok(match *random.choose(named)? {
        IpAddr::V4(v4) => Ipv4Addr::from(v4.to_bits().wrapping_add_signed(step.into())).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(v6.to_bits().wrapping_add_signed(step.into())).into(),
    })
}

fn port(policy: &Policy, random: &mut Unstructured<'_>) -> Result<u16> {
    let mut named = vec![53, policy.inbound_port(), policy.outbound_port()];
    if let Some(Dns::Addressed { port, .. }) = policy.dns() {
        named.push(port);
    }
    let ends = |range: &PortRange| [range.first(), range.last()];
    let lists = [policy.exclude_inbound_ports(), policy.exclude_outbound_ports(), policy.probe_ports()];
    named.extend(lists.into_iter().flatten().flat_map(ends));
    if random.ratio(1, 4)? {
        return random.arbitrary();
    }
    Ok(random.choose(&named)?.wrapping_add_signed(random.int_in_range(-1..=1_i16)?))
}

fn owner(policy: &Policy, random: &mut Unstructured<'_>) -> Result<Option<u32>> {
    let mut named = vec![0, policy.proxy_uid()];
    named.extend(
        policy.exclude_uids().iter().chain(policy.exclude_gids()).flat_map(|range| [range.first(), range.last()]),
    );
    match random.int_in_range(0..=7_u8)? {
        0 => Ok(None),
        1 => random.arbitrary().map(Some),
        _ => Ok(Some(random.choose(&named)?.wrapping_add_signed(random.int_in_range(-1..=1_i32)?))),
    }
}
