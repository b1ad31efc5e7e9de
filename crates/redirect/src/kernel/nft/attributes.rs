//! Attributes in the bytes of an answer, read one by one.
//!
//! For what there may be much of, rules and elements: `netlink-packet-netfilter` 0.4 writes the whole of a list into an error
//! message for each of its entries, whether or not there is an error, which takes longer than all the rest.

use netlink_packet_core::{NlaBuffer, NlasIterator};

/// All of them, up to where they are no attributes any more.
pub(super) fn all(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

/// The entries of a list.
pub(super) fn entries(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    all(bytes).map(value_of)
}

/// What the first of a kind carries.
pub(super) fn value(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    all(bytes).find(|attribute| attribute.kind() == kind).map(value_of)
}

/// The text of the first of a kind.
pub(super) fn text(bytes: &[u8], kind: u16) -> Option<&str> {
    std::str::from_utf8(value(bytes, kind)?).ok().map(|text| text.trim_end_matches('\0'))
}

/// The number of the first of a kind, of whatever length.
pub(super) fn number(bytes: &[u8], kind: u16) -> Option<u64> {
    value(bytes, kind).map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Borrows from the bytes themselves, which `NlaBuffer::value` does not.
fn value_of(attribute: NlaBuffer<&[u8]>) -> &[u8] {
    const HEADER: usize = 4;
    let length = usize::from(attribute.length());
    attribute.into_inner().get(HEADER..length).unwrap_or_default()
}
