//! Intervals of equally long byte strings, which sets are made of.

/// From the first to the last value, in network order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Interval {
    pub(super) first: Vec<u8>,
    pub(super) last: Vec<u8>,
}

/// The same values in order, with what overlaps or touches made one: the kernel refuses intervals that overlap.
pub(super) fn merged(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort();
    let mut merged: Vec<Interval> = Vec::with_capacity(intervals.len());
    for next in intervals {
        match merged.last_mut() {
            // a successor that does not exist is the end of all values
            Some(before) if successor(&before.last).is_none_or(|beyond| next.first <= beyond) => {
                if next.last > before.last {
                    before.last = next.last;
                }
            }
            _ => merged.push(next),
        }
    }
    merged
}

/// The next value, if there is one of the same length.
pub(super) fn successor(value: &[u8]) -> Option<Vec<u8>> {
    let mut next = value.to_vec();
    for byte in next.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}

/// The value before, if there is one.
pub(super) fn predecessor(value: &[u8]) -> Option<Vec<u8>> {
    let mut before = value.to_vec();
    for byte in before.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != 0xff {
            return Some(before);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::apart(&[(5, 6), (1, 2)], &[(1, 2), (5, 6)])]
    #[case::touching(&[(1, 2), (3, 4)], &[(1, 4)])]
    #[case::over_a_byte(&[(0, 255), (256, 300)], &[(0, 300)])]
    #[case::overlapping(&[(1, 5), (3, 4), (4, 9)], &[(1, 9)])]
    #[case::to_the_end(&[(65535, 65535), (1, 65535), (70, 80)], &[(1, 65535)])]
    #[case::nothing(&[], &[])]
    fn intervals_are_merged(#[case] given: &[(u16, u16)], #[case] expected: &[(u16, u16)]) {
        let of = |pairs: &[(u16, u16)]| -> Vec<Interval> {
            let interval =
                |(a, b): &(u16, u16)| Interval { first: a.to_be_bytes().into(), last: b.to_be_bytes().into() };
            pairs.iter().map(interval).collect()
        };
        assert_eq!(merged(of(given)), of(expected));
    }

    #[test]
    fn neighbours() {
        assert_eq!(successor(&[0, 255]), Some(vec![1, 0]));
        assert_eq!(successor(&[255, 255]), None);
        assert_eq!(predecessor(&[1, 0]), Some(vec![0, 255]));
        assert_eq!(predecessor(&[0, 0]), None);
    }
}
