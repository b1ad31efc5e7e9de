//! A loopback shows each packet twice, leaving and arriving: making the kernel keep the first from us.
//!
//! libpcap passes over one of the two itself, but only after the kernel has copied both, and a loopback is the fastest
//! interface there is: half the copies is twice the time before its buffer overflows. The kernel can be told with the
//! filter `inbound`. libpcap, however, applies a new filter itself to the block of packets that may have begun before
//! it was in place, and where packets are only bytes, their direction is not to be had: it rejects that whole block.
//! So that block is filled here, with frames of no protocol, until one of them comes through.

use std::time::{Duration, Instant};

use pcap::{Active, Capture};

/// For local experiments (IEEE 802), so that no protocol takes it.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];
const MAGIC: [u8; 8] = *b"capture?";
const HEADER: usize = 14;
/// Four of them fill a block.
const LENGTH: usize = 60_000;
const PER_ROUND: u32 = 5;
const PATIENCE: Duration = Duration::from_millis(200);

/// What the kernel has counted so far.
pub(crate) struct Primed {
    /// Frames that came through.
    pub(crate) delivered: u64,
    /// Frames that were rejected.
    pub(crate) rejected: u64,
}

/// Sets the filter and sees to it that it works; `None`, and no filter, where it does not.
pub(crate) fn prime(capture: &mut Capture<Active>) -> Result<Option<Primed>, pcap::Error> {
    capture.filter("inbound", true)?;
    let deadline = Instant::now() + PATIENCE;
    let (mut sent, mut delivered, mut first) = (0_u32, 0, None);
    let mut frame = vec![0; LENGTH];
    frame[12..HEADER].copy_from_slice(&ETHER_TYPE);
    frame[HEADER..HEADER + 8].copy_from_slice(&MAGIC);
    while Instant::now() < deadline {
        for number in sent..sent + PER_ROUND {
            frame[HEADER + 8..HEADER + 12].copy_from_slice(&number.to_be_bytes());
            capture.sendpacket(&frame[..])?;
        }
        sent += PER_ROUND;
        capture.dispatch(None, |packet| {
            delivered += 1;
            if first.is_none() {
                first = number_of(packet.data);
            }
        })?;
        if let Some(rejected) = first {
            return Ok(Some(Primed { delivered, rejected: rejected.into() }));
        }
    }
    capture.filter("", true)?;
    Ok(None)
}

/// Whether a frame is one of those that are sent here.
pub(crate) fn is_ours(frame: &[u8]) -> bool {
    number_of(frame).is_some()
}

fn number_of(frame: &[u8]) -> Option<u32> {
    let rest = frame.get(12..)?.strip_prefix(&ETHER_TYPE)?.strip_prefix(&MAGIC)?;
    Some(u32::from_be_bytes(*rest.first_chunk()?))
}
