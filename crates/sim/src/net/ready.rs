//! Waiting for what the kernel does a moment after it has said yes: what is sent meanwhile is lost, and a SYN that is lost
//! costs a second.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, State};
use netlink_packet_route::route::RouteType;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkPayload};
use rtnetlink::sys::Socket;

use super::Error;
use super::rtnl::{append, full_length, messages};

/// How long the kernel may take for what it has everything for.
const DEADLINE: Duration = Duration::from_secs(5);

/// Waits until a link carries packets. The first end of a pair that is brought up gets its queue only a moment after the
/// second one.
pub(super) fn link_is_up(socket: &Socket, index: u32) -> Result<(), Error> {
    until(&format!("bring up link {index}"), || {
        let mut query = LinkMessage::default();
        query.header.index = index;
        let RouteNetlinkMessage::NewLink(link) = ask(socket, RouteNetlinkMessage::GetLink(query))? else {
            return Ok(false);
        };
        Ok(link.attributes.contains(&LinkAttribute::OperState(State::Up)))
    })
}

/// Waits until packets to these addresses are taken in. An IPv6 address, even one that nobody has to be asked about, can be
/// bound to at once, but the route that delivers to it comes from a queue of work; until then a host takes a packet for
/// itself as one to pass on, which it does not do.
pub(super) fn addresses_are_served(socket: &Socket, addresses: &[IpAddr]) -> Result<(), Error> {
    for address in addresses {
        let IpAddr::V6(v6) = *address else { continue };
        until(&format!("receive at {address}"), || {
            let query = RouteMessageBuilder::<std::net::Ipv6Addr>::new().destination_prefix(v6, full_length(*address));
            match ask(socket, RouteNetlinkMessage::GetRoute(query.build())) {
                Ok(RouteNetlinkMessage::NewRoute(route)) => Ok(route.header.kind == RouteType::Local),
                Ok(_) => Ok(false),
                // There is no way to it at all yet.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENETUNREACH) => Ok(false),
                Err(error) => Err(error),
            }
        })?;
    }
    Ok(())
}

/// Asks again and again.
fn until(what: &str, mut done: impl FnMut() -> io::Result<bool>) -> Result<(), Error> {
    let refused = |source| Error::Refused { what: what.to_owned(), source };
    let deadline = Instant::now() + DEADLINE;
    while !done().map_err(refused)? {
        if Instant::now() > deadline {
            return Err(refused(io::Error::new(io::ErrorKind::TimedOut, format!("not within {DEADLINE:?}"))));
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}

fn ask(socket: &Socket, question: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
    let mut bytes = Vec::new();
    append(&mut bytes, 1, NLM_F_REQUEST, question);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    match messages(&answer)?.pop().map(|message| message.payload) {
        Some(NetlinkPayload::InnerMessage(answer)) => Ok(answer),
        Some(NetlinkPayload::Error(error)) => Err(error.to_io()),
        other => Err(io::Error::other(format!("the kernel answered {other:?}"))),
    }
}
