//! Makes an answer fit what its transport carries, by leaving records out without a word, as Consul does: `enable_truncate`
//! is off by default, and a resolver that was told would ask again over TCP.

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, RecordType};

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// Longest datagram for a client that names no size, or a smaller one.
const PLAIN_UDP: usize = 512;
/// Longest datagram for any client.
const LONGEST_UDP: usize = 65_467;
/// Answers in a datagram of the plain size: the default of `udp_answer_limit`.
const PLAIN_ANSWERS: usize = 3;
/// Longest answer over TCP.
const LONGEST_TCP: usize = 65_523;
/// Answers over TCP, where there are that many.
const TCP_ANSWERS: usize = 4096;
/// Service records over TCP.
const TCP_SRV_ANSWERS: usize = 1024;

/// How much an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    answers: usize,
    bytes: usize,
}

/// The limits for a question of this type from a client that takes datagrams of `edns` bytes.
pub(super) fn limits(transport: Transport, edns: Option<u16>, kind: RecordType) -> Limits {
    match transport {
        Transport::Tcp => {
            let answers = if kind == RecordType::SRV { TCP_SRV_ANSWERS } else { TCP_ANSWERS };
            Limits { answers, bytes: LONGEST_TCP }
        }
        Transport::Udp => {
            let bytes = edns.map_or(PLAIN_UDP, usize::from).clamp(PLAIN_UDP, LONGEST_UDP);
            Limits { answers: if bytes == PLAIN_UDP { PLAIN_ANSWERS } else { usize::MAX }, bytes }
        }
    }
}

/// Leaves out the last answers until the rest fits; additions go with the answers that they belong to.
pub(super) fn fit(reply: &mut Message, limits: Limits) {
    cut(reply, limits.answers);
    let fits = |reply: &Message| reply.to_vec().is_ok_and(|bytes| bytes.len() <= limits.bytes);
    // a single answer is sent whatever its length
    if fits(reply) || reply.answers.len() <= 1 {
        return;
    }
    let (mut fitting, mut long) = (1, reply.answers.len());
    while long - fitting > 1 {
        let middle = fitting.midpoint(long);
        let mut shorter = reply.clone();
        cut(&mut shorter, middle);
        if fits(&shorter) { fitting = middle } else { long = middle }
    }
    cut(reply, fitting);
}

fn cut(reply: &mut Message, answers: usize) {
    if reply.answers.len() <= answers {
        return;
    }
    reply.answers.truncate(answers);
    let Message { answers, additionals, .. } = reply;
    let named = |record: &hickory_proto::rr::Record, owner: &hickory_proto::rr::Name| match &record.data {
        RData::SRV(srv) => srv.target == *owner,
        _ => false,
    };
    additionals.retain(|extra| answers.iter().any(|answer| named(answer, &extra.name)));
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain(Transport::Udp, None, RecordType::A, 3, 512)]
    #[case::small_edns(Transport::Udp, Some(100), RecordType::A, 3, 512)]
    #[case::edns_of_the_plain_size(Transport::Udp, Some(512), RecordType::A, 3, 512)]
    #[case::edns(Transport::Udp, Some(1232), RecordType::A, usize::MAX, 1232)]
    #[case::large_edns(Transport::Udp, Some(65_535), RecordType::A, usize::MAX, 65_467)]
    #[case::tcp(Transport::Tcp, None, RecordType::A, 4096, 65_523)]
    #[case::tcp_service_records(Transport::Tcp, Some(512), RecordType::SRV, 1024, 65_523)]
    fn sizes(
        #[case] transport: Transport,
        #[case] edns: Option<u16>,
        #[case] kind: RecordType,
        #[case] answers: usize,
        #[case] bytes: usize,
    ) {
        assert_eq!(limits(transport, edns, kind), Limits { answers, bytes });
    }
}
