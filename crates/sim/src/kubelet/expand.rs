//! `$(NAME)` in commands, arguments and environment values.

/// Replaces `$(NAME)` by what `lookup` says; `$$` is a dollar sign, and what cannot be replaced stays as it is.
pub(super) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            done.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => done.push_str(&value),
                None => done.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            done.push('$');
        }
    }
    done.push_str(rest);
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain("no reference", "no reference")]
    #[case::known("a $(A) b", "a 1 b")]
    #[case::twice("$(A)$(B)", "12")]
    #[case::unknown_stays("$(C)", "$(C)")]
    #[case::escaped("$$(A)", "$(A)")]
    #[case::doubly_escaped("$$$(A)", "$1")]
    #[case::not_closed("$(A", "$(A")]
    #[case::shell_variable("$A ${A} $", "$A ${A} $")]
    fn references_are_expanded_as_kubernetes_does(#[case] text: &str, #[case] expected: &str) {
        let lookup = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "B" => Some("2".to_owned()),
            _ => None,
        };
        assert_eq!(expand(text, lookup), expected);
    }
}
