//! One direction of a conversation: bytes in order, whatever order and how often their segments came.

use std::collections::BTreeMap;

/// How many bytes of each direction of a flow are kept in memory. Beyond it only the count goes on.
pub const STREAM_CAP: usize = 256 * 1024;

/// Where two segments meet: so many bytes of each.
pub(crate) const SEAM: usize = 64;

/// Segments ahead of a gap that are kept until it closes.
const MAX_AHEAD: usize = 256;

/// Bytes of one side, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    data: Vec<u8>,
    /// Offset in `data` of each segment's first new byte, and the number of the packet that brought it.
    origin: Vec<(usize, u32)>,
    /// Sequence number of the next byte; unknown before the first segment.
    next: Option<u32>,
    ahead: BTreeMap<u32, (u32, Vec<u8>)>,
    total: u64,
    /// Of a long stream: the end of what came before the last piece, and the beginning of that.
    seam: Vec<u8>,
    /// Of a long stream: the end of the last piece.
    tail: Vec<u8>,
}

impl Stream {
    /// The side's SYN: its first byte has the next number.
    pub(crate) fn begin(&mut self, sequence: u32) {
        self.next = Some(sequence.wrapping_add(1));
    }

    /// A TCP segment's payload.
    pub(crate) fn segment(&mut self, sequence: u32, payload: &[u8], packet: u32) {
        if payload.is_empty() {
            return;
        }
        let next = *self.next.get_or_insert(sequence);
        let behind = next.wrapping_sub(sequence);
        if behind < 1 << 31 {
            // begins at or before what is expected: a new segment, or one sent again with or without new bytes
            if let Some(fresh) = payload.get(behind as usize..).filter(|fresh| !fresh.is_empty()) {
                self.append(fresh, packet);
                self.close_gap();
            }
        } else if self.ahead.len() < MAX_AHEAD {
            self.ahead.insert(sequence, (packet, payload.to_vec()));
        }
    }

    /// A datagram.
    pub(crate) fn datagram(&mut self, payload: &[u8], packet: u32) {
        self.append(payload, packet);
    }

    fn append(&mut self, bytes: &[u8], packet: u32) {
        self.total += bytes.len() as u64;
        if let Some(next) = &mut self.next {
            // sequence numbers are modulo 2³²
            *next = next.wrapping_add(bytes.len() as u32);
        }
        let room = STREAM_CAP - self.data.len();
        if room > 0 {
            self.origin.push((self.data.len(), packet));
            self.data.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        if self.is_capped() {
            let mut seam = if self.tail.is_empty() { self.data.clone() } else { std::mem::take(&mut self.tail) };
            seam.drain(..seam.len().saturating_sub(SEAM));
            seam.extend_from_slice(&bytes[..bytes.len().min(SEAM)]);
            self.seam = seam;
            self.tail = bytes[bytes.len().saturating_sub(SEAM)..].to_vec();
        }
    }

    /// Of a long stream: the bytes around the point where the last piece was added.
    pub(crate) fn seam(&self) -> &[u8] {
        &self.seam
    }

    fn close_gap(&mut self) {
        while let Some(next) = self.next {
            let Some(sequence) = self.ahead.keys().copied().find(|s| next.wrapping_sub(*s) < 1 << 31) else { return };
            if let Some((packet, bytes)) = self.ahead.remove(&sequence)
                && let Some(fresh) = bytes.get(next.wrapping_sub(sequence) as usize..).filter(|b| !b.is_empty())
            {
                self.append(fresh, packet);
            }
        }
    }

    /// The bytes kept.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// How many bytes there were.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Whether more came than is kept.
    pub(crate) fn is_capped(&self) -> bool {
        self.total > STREAM_CAP as u64
    }

    /// The packet that brought the byte at this offset.
    pub(crate) fn packet_at(&self, offset: usize) -> Option<u32> {
        let after = self.origin.partition_point(|(begin, _)| *begin <= offset);
        after.checked_sub(1).map(|index| self.origin[index].1)
    }

    /// Offsets at which `needle` begins.
    pub(crate) fn find<'a>(&'a self, needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let found = (!needle.is_empty()).then(|| memchr::memmem::find_iter(&self.data, needle));
        found.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const START: u32 = u32::MAX - 2;

    /// Sequence number of the byte at an offset, across the end of the number space.
    fn at(offset: u32) -> u32 {
        START.wrapping_add(1).wrapping_add(offset)
    }

    #[rstest]
    #[case::in_order(&[(0, "abc"), (3, "def")])]
    #[case::swapped(&[(3, "def"), (0, "abc")])]
    #[case::again(&[(0, "abc"), (0, "abc"), (3, "def"), (3, "def")])]
    #[case::overlapping(&[(0, "abcd"), (2, "cdef")])]
    #[case::again_and_longer(&[(0, "abc"), (0, "abcdef")])]
    #[case::two_gaps(&[(5, "f"), (3, "d"), (0, "abc"), (4, "e")])]
    #[case::ahead_and_overlapping(&[(2, "cdef"), (0, "abcd")])]
    fn bytes_come_out_in_order(#[case] segments: &[(u32, &str)]) {
        let mut stream = Stream::default();
        stream.begin(START);
        for (number, (offset, bytes)) in (1..).zip(segments) {
            stream.segment(at(*offset), bytes.as_bytes(), number);
        }
        assert_eq!((stream.bytes(), stream.total()), (&b"abcdef"[..], 6));
    }

    #[test]
    fn a_byte_knows_its_packet() {
        let mut stream = Stream::default();
        stream.begin(0);
        stream.segment(1, b"one c4n", 7);
        stream.segment(8, b"4ry two", 9);
        assert_eq!(stream.find(b"c4n4ry").collect::<Vec<_>>(), [4], "over the boundary of two segments");
        assert_eq!([0, 6, 7].map(|offset| stream.packet_at(offset)), [Some(7), Some(7), Some(9)]);
        assert_eq!(stream.find(b"").count(), 0);
    }

    #[test]
    fn beyond_the_cap_only_the_count_goes_on() {
        let mut stream = Stream::default();
        let piece = vec![1; 100_000];
        for number in 0..4 {
            stream.segment(number * 100_000, &piece, number);
        }
        assert_eq!((stream.bytes().len(), stream.total()), (STREAM_CAP, 400_000));
    }
}
