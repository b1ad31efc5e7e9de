//! Elements of our sets as the kernel tells them.

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{NfTablesMessage, SetElementList, SetElementMessage};

use super::attributes;
use super::interval::{Interval, predecessor};
use super::socket::{Netlink, Refused};
use crate::contract::NFT_TABLE;

/// `NFTA_SET_ELEM_LIST_ELEMENTS`.
const ELEMENTS: u16 = 3;
/// `NFTA_SET_ELEM_KEY`.
const KEY: u16 = 1;
/// `NFTA_DATA_VALUE`.
const VALUE: u16 = 1;
/// `NFTA_SET_ELEM_FLAGS`.
const FLAGS: u16 = 3;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u64 = 1;

/// The elements of a set, in order.
pub(super) fn of(netlink: &Netlink, set: &str) -> Result<Vec<Interval>, Refused> {
    let attributes = vec![SetElementList::Table(NFT_TABLE.to_owned()), SetElementList::Set(set.to_owned())];
    let question = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
    let what = format!("list elements of set {set}");
    let mut edges: Vec<(Vec<u8>, bool)> = Vec::new();
    for message in netlink.dump_unread(NetfilterProtoFamily::Inet, question, &what)? {
        let list = attributes::value(&message.0, ELEMENTS).unwrap_or_default();
        edges.extend(attributes::entries(list).filter_map(edge));
    }
    Ok(between(edges))
}

/// A value, and whether an interval ends before it.
fn edge(element: &[u8]) -> Option<(Vec<u8>, bool)> {
    let value = attributes::value(attributes::value(element, KEY)?, VALUE)?;
    let flags = attributes::number(element, FLAGS).unwrap_or_default();
    Some((value.to_vec(), flags & INTERVAL_END != 0))
}

fn between(mut edges: Vec<(Vec<u8>, bool)>) -> Vec<Interval> {
    // an end and a beginning of the same value: what ends, ends before
    edges.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    let mut intervals: Vec<Interval> = Vec::new();
    let mut open: Option<Vec<u8>> = None;
    for (value, is_end) in edges {
        match (is_end, open.take()) {
            (true, Some(first)) => {
                let last = predecessor(&value).unwrap_or(value);
                intervals.push(Interval { first, last });
            }
            (true, None) => {}
            (false, _) => open = Some(value),
        }
    }
    if let Some(first) = open {
        let last = vec![0xff; first.len()];
        intervals.push(Interval { first, last });
    }
    intervals
}
