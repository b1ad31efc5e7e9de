//! Command-line flags as Go's `flag` package reads them: one dash or two, `-name=value` or `-name value`.

use std::collections::BTreeMap;

/// A flag that may be given, and the environment variable that stands in for it.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// The environment variable that is looked at when the flag is absent.
    pub variable: Option<&'static str>,
    /// Whether it may stand alone, meaning `true`.
    pub boolean: bool,
    /// What it is for.
    pub about: &'static str,
}

/// What was given: flag names to values; the last one wins.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Values by flag name.
    pub values: BTreeMap<&'static str, String>,
    /// Whether help was asked for.
    pub help: bool,
}

/// Reads `arguments` against the flags that exist.
///
/// # Errors
/// Every argument that is not understood, each as a phrase.
pub fn parse(arguments: &[String], known: &[Flag]) -> Result<Given, Vec<String>> {
    let mut given = Given::default();
    let mut mistakes = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(text) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
            mistakes.push(format!("unexpected argument {argument:?}: only flags are taken, as -pod-name=web-0"));
            continue;
        };
        if text.is_empty() {
            continue;
        }
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if matches!(name, "h" | "help") {
            given.help = true;
            continue;
        }
        let Some(flag) = known.iter().find(|flag| flag.name == name) else {
            mistakes.push(format!("unknown flag -{name}: see connect-init -help"));
            continue;
        };
        let value = match value {
            None if flag.boolean => Some("true".to_owned()),
            None => arguments.next().cloned(),
            given => given,
        };
        match value {
            Some(value) => drop(given.values.insert(flag.name, value)),
            None => mistakes.push(format!("-{name} needs a value")),
        }
    }
    if mistakes.is_empty() { Ok(given) } else { Err(mistakes) }
}

/// A boolean as Go's `strconv.ParseBool` reads it.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// The list of flags, for `-help`.
#[must_use]
pub fn describe(known: &[Flag]) -> String {
    let mut text = String::from("Usage: connect-init [flags]\n\n");
    for Flag { name, variable, about, .. } in known {
        let variable = variable.map(|name| format!(" (environment: {name})")).unwrap_or_default();
        text.push_str(&format!("  -{name}\n        {about}{variable}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const KNOWN: [Flag; 2] = [
        Flag { name: "pod-name", variable: None, boolean: false, about: "" },
        Flag { name: "multiport", variable: None, boolean: true, about: "" },
    ];

    fn read(arguments: &[&str]) -> Result<Given, Vec<String>> {
        parse(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>(), &KNOWN)
    }

    #[rstest]
    #[case(&["-pod-name=web"], &[("pod-name", "web")])]
    #[case(&["-pod-name", "web"], &[("pod-name", "web")])]
    #[case(&["--pod-name=a=b"], &[("pod-name", "a=b")])]
    #[case(&["-pod-name="], &[("pod-name", "")])]
    #[case(&["-pod-name", "-multiport"], &[("pod-name", "-multiport")])]
    #[case(&["-multiport", "--pod-name", "web"], &[("multiport", "true"), ("pod-name", "web")])]
    #[case(&["-multiport=false"], &[("multiport", "false")])]
    #[case(&["-pod-name=a", "-pod-name=b"], &[("pod-name", "b")])]
    #[case(&["--", "-multiport"], &[("multiport", "true")])]
    fn go_flags(#[case] arguments: &[&str], #[case] expected: &[(&str, &str)]) {
        let given = read(arguments).expect("understood");
        let values: Vec<(&str, &str)> = given.values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(values, expected);
    }

    #[rstest]
    #[case(&["-pod-nam=web"], "unknown flag -pod-nam")]
    #[case(&["-pod-name"], "-pod-name needs a value")]
    #[case(&["web"], "unexpected argument \"web\"")]
    fn what_is_not_understood(#[case] arguments: &[&str], #[case] expected: &str) {
        let mistakes = read(arguments).expect_err("refused");
        assert!(mistakes[0].starts_with(expected), "{mistakes:?}");
    }

    #[test]
    fn all_mistakes_at_once() {
        assert_eq!(read(&["-a", "b", "-pod-name=c", "-d=e"]).expect_err("three").len(), 3);
    }
}
