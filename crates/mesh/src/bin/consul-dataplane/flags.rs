//! Go-style flags: `-name value`, `-name=value`, one dash or two, `-name` alone for booleans, environment as the default.

use std::collections::BTreeMap;

/// A flag that is understood.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// Without dashes.
    pub(crate) name: &'static str,
    pub(crate) takes: Takes,
}

/// What follows a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Value,
    /// Nothing, or `=true` and the like.
    Boolean,
}

/// What was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    values: BTreeMap<&'static str, String>,
    /// Everything after `--`.
    pub(crate) rest: Vec<String>,
}

impl Given {
    /// The last value of a flag, or of its environment variable `DP_<NAME>`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

/// Reads arguments over the environment. All mistakes are reported.
pub(crate) fn parse(
    known: &[Flag],
    arguments: impl IntoIterator<Item = String>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Given, Vec<String>> {
    let (mut given, mut mistakes) = (Given::default(), Vec::new());
    for flag in known {
        let variable = format!("DP_{}", flag.name.to_uppercase().replace('-', "_"));
        if let Some(value) = environment(&variable).filter(|v| !v.is_empty()) {
            given.values.insert(flag.name, value);
        }
    }
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            given.rest = arguments.collect();
            break;
        }
        let Some(text) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
            mistakes.push(format!("unexpected argument {argument:?}: flags begin with a dash, Envoy's follow \"--\""));
            continue;
        };
        let (name, inline) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let Some(flag) = known.iter().find(|f| f.name == name) else {
            mistakes.push(format!("flag provided but not defined: -{name}"));
            continue;
        };
        let value = match (flag.takes, inline) {
            (_, Some(value)) => value,
            (Takes::Boolean, None) => "true".to_owned(),
            (Takes::Value, None) => match arguments.next() {
                Some(value) => value,
                None => {
                    mistakes.push(format!("flag needs an argument: -{name}"));
                    continue;
                }
            },
        };
        given.values.insert(flag.name, value);
    }
    if mistakes.is_empty() { Ok(given) } else { Err(mistakes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Flag] = &[
        Flag { name: "addresses", takes: Takes::Value },
        Flag { name: "grpc-port", takes: Takes::Value },
        Flag { name: "tls-disabled", takes: Takes::Boolean },
    ];

    fn arguments(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_go_over_the_environment() -> Result<(), Vec<String>> {
        let environment = |name: &str| (name == "DP_GRPC_PORT").then(|| "1".to_owned());
        let given = parse(KNOWN, arguments("-addresses host --tls-disabled -- --base-id 3"), environment)?;
        assert_eq!(given.get("addresses"), Some("host"));
        assert_eq!(given.get("grpc-port"), Some("1"));
        assert_eq!(given.get("tls-disabled"), Some("true"));
        assert_eq!(given.rest, ["--base-id", "3"]);
        let given = parse(KNOWN, arguments("-grpc-port=8502 -tls-disabled=false"), environment)?;
        assert_eq!((given.get("grpc-port"), given.get("tls-disabled")), (Some("8502"), Some("false")));
        Ok(())
    }

    #[test]
    fn every_mistake_is_named() {
        let mistakes = parse(KNOWN, arguments("-colour=red oops -addresses"), |_| None).expect_err("three mistakes");
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        assert_eq!(mistakes[0], "flag provided but not defined: -colour");
        assert_eq!(mistakes[2], "flag needs an argument: -addresses");
    }
}
