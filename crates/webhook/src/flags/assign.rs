//! Values of flags and variables, from text.

use crate::{boolean, quantity};
use std::str::FromStr;

/// A boolean as Go reads it.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    boolean::parse(text).ok_or_else(|| format!("allowed is {}", boolean::ALLOWED))
}

/// A whole number that fits its place.
pub(super) fn number<T: FromStr>(field: &mut T, text: &str) -> Result<(), String> {
    *field = text.parse().map_err(|_| "allowed is a whole number, not negative".to_owned())?;
    Ok(())
}

/// A port.
pub(super) fn port(field: &mut u16, text: &str) -> Result<(), String> {
    *field = text.parse().ok().filter(|port| *port > 0).ok_or("allowed is a port from 1 to 65535")?;
    Ok(())
}

/// A text that must not be empty.
pub(super) fn filled(field: &mut String, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    text.clone_into(field);
    Ok(())
}

/// A quantity; empty means that none is set.
pub(super) fn quantity(field: &mut Option<String>, text: &str) -> Result<(), String> {
    if !text.is_empty() && !quantity::is_valid(text) {
        return Err(format!("allowed is {}", quantity::ALLOWED));
    }
    *field = (!text.is_empty()).then(|| text.to_owned());
    Ok(())
}

/// One of a few words.
pub(super) fn one_of(field: &mut String, text: &str, words: &[&str]) -> Result<(), String> {
    if !words.contains(&text) {
        return Err(format!("allowed is one of {}", words.join(", ")));
    }
    text.clone_into(field);
    Ok(())
}

/// A Go duration: numbers with units, such as `5s` or `1m30s`.
pub(super) fn duration(field: &mut String, text: &str) -> Result<(), String> {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|digits| *digits > 0);
        let unit = digits.map(|digits| &rest[digits..]).unwrap_or_default();
        let after = ["ns", "us", "µs", "ms", "s", "m", "h"].iter().find_map(|name| {
            unit.strip_prefix(name).filter(|after| after.is_empty() || after.starts_with(|c: char| c.is_ascii_digit()))
        });
        rest = after.ok_or("allowed is a duration such as 5s, 1m30s or 500ms")?;
    }
    filled(field, text)
}

#[cfg(test)]
mod tests {
    use super::duration;
    use rstest::rstest;

    #[rstest]
    #[case::seconds("5s", true)]
    #[case::mixed("1m30s", true)]
    #[case::milliseconds("500ms", true)]
    #[case::fraction("1.5h", true)]
    #[case::no_unit("5", false)]
    #[case::no_number("s", false)]
    #[case::empty("", false)]
    #[case::unit("5d", false)]
    fn durations(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(duration(&mut String::new(), text).is_ok(), valid);
    }
}
