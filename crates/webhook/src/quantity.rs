//! Whether a text is a Kubernetes quantity, such as `50m` or `25Mi`.

/// What is allowed, for messages.
pub(crate) const ALLOWED: &str = "a quantity that is not negative, such as 50m, 0.5, 25Mi or 1e3";

const SUFFIXES: [&str; 15] = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi"];

/// Whether the text is a quantity that can be a resource request or limit.
pub(crate) fn is_valid(text: &str) -> bool {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    let is_number = digits > 0 && number.len() - digits <= 1;
    let is_exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && exponent.bytes().all(|byte| byte.is_ascii_digit())
    });
    is_number && (is_exponent || suffix == "Ei" || SUFFIXES.contains(&suffix))
}

#[cfg(test)]
mod tests {
    use super::is_valid;
    use rstest::rstest;

    #[rstest]
    #[case::milli("50m", true)]
    #[case::binary("25Mi", true)]
    #[case::exa("1Ei", true)]
    #[case::fraction("0.5", true)]
    #[case::exponent("1e3", true)]
    #[case::negative_exponent("1E-3", true)]
    #[case::empty("", false)]
    #[case::no_number("Mi", false)]
    #[case::blank("1 Gi", false)]
    #[case::unit("1GB", false)]
    #[case::two_points("1.2.3", false)]
    #[case::negative("-1", false)]
    fn quantities(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(is_valid(text), valid);
    }
}
