//! What the control plane said last to each DNS query, for when it says nothing (as RFC 8767 has resolvers do).
//!
//! Envoy goes on with what it was told last; names that lead to it have to resolve for as long. A resolver that is told of the
//! failure asks the cluster's DNS, which denies the names of the mesh for good.

use std::num::NonZeroUsize;

use lru::LruCache;

/// Answers that are kept at most.
const ANSWERS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Longest query and longest answer that are kept, in bytes: with the number of answers, a bound for the memory.
const QUERY: usize = 512;
const ANSWER: usize = 4096;
/// Length of the id that a DNS message begins with.
const ID: usize = 2;
/// Response codes (RFC 1035, 4.1.1).
const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const REFUSED: u8 = 5;

/// The answers.
pub(super) struct Stale(LruCache<Vec<u8>, Vec<u8>>);

impl Default for Stale {
    fn default() -> Self {
        Self(LruCache::new(ANSWERS))
    }
}

impl Stale {
    /// Keeps an answer, unless it denies the name: then nothing is known of the name any more. A failure changes nothing.
    pub(super) fn keep(&mut self, query: &[u8], protocol: &str, answer: &[u8]) {
        let (Some(key), Some(code)) = (key(query, protocol), answer.get(ID + 1).map(|flags| flags & 0x0f)) else {
            return;
        };
        match code {
            NO_ERROR | REFUSED if answer.len() <= ANSWER => drop(self.0.put(key, answer.to_vec())),
            SERVER_FAILURE => {}
            _ => drop(self.0.pop(&key)),
        }
    }

    /// What was said last to a query like this one, as the answer to this one.
    pub(super) fn answer(&mut self, query: &[u8], protocol: &str) -> Option<Vec<u8>> {
        let mut answer = self.0.get(&key(query, protocol)?)?.clone();
        answer.get_mut(..ID)?.copy_from_slice(query.get(..ID)?);
        Some(answer)
    }
}

/// What makes two queries the same: all but their ids.
fn key(query: &[u8], protocol: &str) -> Option<Vec<u8>> {
    let asked = query.get(ID..).filter(|_| query.len() <= QUERY)?;
    Some([protocol.as_bytes(), asked].concat())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// A message with the id, the response code and something in the rest.
    fn message(id: u8, code: u8, rest: usize) -> Vec<u8> {
        [vec![0, id, 0x80, 0x80 | code], vec![7; rest]].concat()
    }

    #[rstest]
    #[case::found(&[message(1, 0, 9)], Some(message(9, 0, 9)))]
    #[case::not_of_the_mesh(&[message(1, 5, 9)], Some(message(9, 5, 9)))]
    #[case::the_last_one_counts(&[message(1, 0, 8), message(2, 0, 9)], Some(message(9, 0, 9)))]
    #[case::denied(&[message(1, 3, 9)], None)]
    #[case::denied_since(&[message(1, 0, 9), message(2, 3, 9)], None)]
    #[case::failed_since(&[message(1, 0, 9), message(2, 2, 9)], Some(message(9, 0, 9)))]
    #[case::failed(&[message(1, 2, 9)], None)]
    #[case::too_long(&[message(1, 0, ANSWER)], None)]
    #[case::too_long_since(&[message(1, 0, 9), message(1, 0, ANSWER)], None)]
    #[case::no_message(&[vec![0, 1]], None)]
    fn the_last_answer_stands(#[case] answers: &[Vec<u8>], #[case] expected: Option<Vec<u8>>) {
        let mut stale = Stale::default();
        for answer in answers {
            stale.keep(b"\0\x01question", "udp", answer);
        }
        assert_eq!(stale.answer(b"\0\x09question", "udp"), expected);
        assert_eq!(stale.answer(b"\0\x09question", "tcp"), None, "an answer may be cut for its transport");
        assert_eq!(stale.answer(b"\0\x09another", "udp"), None);
        assert_eq!(stale.answer(b"\0", "udp"), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut stale = Stale::default();
        for number in 0..=u32::try_from(ANSWERS.get()).expect("a number") {
            stale.keep(&[&[0, 1], &number.to_be_bytes()[..]].concat(), "udp", &message(1, 0, 9));
        }
        stale.keep(&[0; QUERY + 1], "udp", &message(1, 0, 9));
        assert_eq!(stale.0.len(), ANSWERS.get());
        assert_eq!(stale.answer(&[0, 1, 0, 0, 0, 0], "udp"), None, "the oldest one went");
    }
}
