//! The one boolean grammar of annotations, labels, flags and environment: that of Go's `strconv.ParseBool`.

/// What the grammar allows, for messages.
pub(crate) const ALLOWED: &str = "one of 1, t, T, TRUE, true, True, 0, f, F, FALSE, false, False";

/// Reads a boolean; no trimming, nothing beyond the twelve spellings.
pub(crate) fn parse(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use rstest::rstest;

    #[rstest]
    #[case::word("true", Some(true))]
    #[case::capital("True", Some(true))]
    #[case::upper("TRUE", Some(true))]
    #[case::digit("1", Some(true))]
    #[case::letter("t", Some(true))]
    #[case::no("f", Some(false))]
    #[case::zero("0", Some(false))]
    #[case::mixed("tRuE", None)]
    #[case::empty("", None)]
    #[case::blank(" true", None)]
    #[case::yes("yes", None)]
    #[case::on("on", None)]
    fn reads_what_go_reads(#[case] text: &str, #[case] value: Option<bool>) {
        assert_eq!(parse(text), value);
    }
}
