//! The known word nearest to a mistyped one, for messages.

/// The number of single-character edits from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let next = (row[j] + 1).min(row[j + 1] + 1).min(diagonal + usize::from(ca != *cb));
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

/// The candidate with the fewest edits.
#[must_use]
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates.into_iter().min_by_key(|c| distance(&word.to_lowercase(), &c.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::nearest;

    #[rstest]
    #[case("replica", Some("replicas"))]
    #[case("connectInject.transparentProxy.defaultEnable", Some("connectInject.transparentProxy.defaultEnabled"))]
    #[case("Listens", Some("listens"))]
    fn finds_what_was_meant(#[case] word: &str, #[case] expected: Option<&str>) {
        let known = ["replicas", "listens", "connectInject.transparentProxy.defaultEnabled"];
        assert_eq!(nearest(word, known), expected);
    }
}
