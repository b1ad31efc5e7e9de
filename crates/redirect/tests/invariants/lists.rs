//! What must hold for lists, whatever they say.

use std::fmt::{Debug, Display};

use redirect::parse::{cidrs, ids, ports};
use redirect::{Config, Mistake, Policy, Safeguard};

/// The longest that a message may be: it quotes 80 characters, none of which takes more than ten to write.
const LONGEST_MESSAGE: usize = 1200;

/// Any text, as each of the lists there are: as an annotation's, and as a configuration's.
pub(crate) fn hold(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let entries: Vec<&str> = text.split(',').collect();
    annotation(text, ports);
    annotation(text, cidrs);
    annotation(text, ids);
    annotation(text, Safeguard::list);
    let set = |put: fn(&mut Config) -> &mut Vec<String>| {
        move |entries: &[&str]| {
            let mut config = Config { proxy_user_id: "5995".into(), proxy_inbound_port: 20000, ..Config::default() };
            *put(&mut config) = entries.iter().map(ToString::to_string).collect();
            Policy::from_config(&config, true)
        }
    };
    let inbound = set(|config| &mut config.exclude_inbound_ports);
    let outbound = set(|config| &mut config.exclude_outbound_ports);
    let blocks = set(|config| &mut config.exclude_outbound_cidrs);
    let (users, groups) = (set(|config| &mut config.exclude_uids), set(|config| &mut config.exclude_gids));
    configured(text, &entries, ports(text), inbound, |policy| policy.exclude_inbound_ports().to_vec());
    configured(text, &entries, ports(text), outbound, |policy| policy.exclude_outbound_ports().to_vec());
    configured(text, &entries, cidrs(text), blocks, |policy| policy.exclude_outbound_cidrs().to_vec());
    let (probed, probing) = (set(|config| &mut config.probe_ports), set(|config| &mut config.probe_sources));
    configured(text, &entries, ports(text), probed, |policy| policy.probe_ports().to_vec());
    configured(text, &entries, cidrs(text), probing, |policy| policy.probe_sources().to_vec());
    configured(text, &entries, ids(text), users, |policy| policy.exclude_uids().to_vec());
    configured(text, &entries, ids(text), groups, |policy| policy.exclude_gids().to_vec());
}

/// Entries are trimmed, kept in order, and merged where they are equal; values are read back from what they print; and every
/// entry that is wrong alone is reported, with its place, and no other.
fn annotation<T>(text: &str, parse: impl Fn(&str) -> Result<Vec<T>, Vec<Mistake>>)
where
    T: Copy + Eq + Debug + Display,
{
    let entries: Vec<&str> = text.split(',').map(str::trim).collect();
    let alone: Vec<_> = entries.iter().map(|entry| parse(entry)).collect();
    match parse(text) {
        Ok(values) => {
            let mut merged: Vec<T> = Vec::new();
            for one in alone {
                let one = one.expect("each entry is right");
                assert_eq!(one.len(), 1, "{text:?}");
                merged.extend(one.into_iter().filter(|value| !merged.contains(value)).collect::<Vec<_>>());
            }
            assert_eq!(values, merged, "{text:?}");
            let printed: Vec<String> = values.iter().map(ToString::to_string).collect();
            assert_eq!(parse(&printed.join(" ,\t")), Ok(values), "{text:?}");
        }
        Err(mistakes) if text.trim().is_empty() => {
            assert_eq!((mistakes.len(), mistakes[0].entry), (1, None), "{text:?}");
        }
        Err(mistakes) => {
            let wrong: Vec<_> =
                alone.iter().enumerate().filter(|(_, one)| one.is_err()).map(|(index, _)| Some(index + 1)).collect();
            assert_eq!(mistakes.iter().map(|mistake| mistake.entry).collect::<Vec<_>>(), wrong, "{text:?}");
            for mistake in &mistakes {
                let written = mistake.entry.map(|entry| entries[entry - 1]);
                assert_eq!(Some(mistake.value.as_str()), written, "{text:?}");
                assert!(!mistake.reason.is_empty() && mistake.to_string().len() < LONGEST_MESSAGE, "{mistake}");
            }
        }
    }
}

/// A configuration takes what an annotation takes, for the same, and reads back what it prints.
fn configured<T, E: Debug>(
    text: &str,
    entries: &[&str],
    by_annotation: Result<Vec<T>, Vec<Mistake>>,
    policy: impl Fn(&[&str]) -> Result<Policy, E>,
    list: impl Fn(&Policy) -> Vec<T>,
) where
    T: Eq + Debug + Display,
{
    match policy(entries) {
        Ok(policy_of) => {
            let values = list(&policy_of);
            if let Ok(expected) = by_annotation {
                assert_eq!(values, expected, "{text:?}");
            }
            let printed: Vec<String> = values.iter().map(ToString::to_string).collect();
            let printed: Vec<&str> = printed.iter().map(String::as_str).collect();
            assert_eq!(list(&policy(&printed).expect("what a policy prints")), values, "{text:?}");
        }
        Err(error) => assert!(by_annotation.is_err(), "an annotation takes {text:?}: {error:?}"),
    }
}
