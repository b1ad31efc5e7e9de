//! The Consul services of a Pod: one as a rule, several in Pods of the older kind with one sidecar for each.

use crate::Mistake;
use crate::reader::Reader;
use redirect::contract::{CONNECT_SERVICE, CONNECT_SERVICE_DEFAULT_PORT, CONNECT_SERVICE_PORT};
use std::collections::HashSet;

/// One service of a Pod, for which there is one init container and one sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Its place; ports of its sidecar are shifted by it.
    pub(crate) index: u16,
    /// Its name, where the Pod has several; the names of containers and files end in it.
    pub(crate) name: Option<String>,
}

impl Instance {
    /// A name of the contract, made this instance's own.
    pub(crate) fn own(&self, name: &str) -> String {
        match &self.name {
            Some(service) => format!("{name}-{service}"),
            None => name.to_owned(),
        }
    }
}

/// Container names have 63 characters at most, and the longest of ours take 27 of them.
const LONGEST: usize = 36;

/// More services than these would run into the ports of the next kind of listener.
const MOST: usize = 50;

/// The services of a Pod. What several of them cannot be combined with is a mistake.
pub(crate) fn of_pod(reader: &mut Reader<'_>, combined: &[(bool, &'static str)]) -> Vec<Instance> {
    let Some(text) = reader.filled(CONNECT_SERVICE).filter(|text| text.contains(',')) else {
        return vec![Instance { index: 0, name: None }];
    };
    for (_, with) in combined.iter().filter(|(on, _)| *on) {
        reader.mistakes.push(Mistake::SeveralServices { value: text.to_owned(), with });
    }
    let mut seen = HashSet::new();
    let names: Vec<_> = text.split(',').map(str::trim).collect();
    if names.len() > MOST {
        let allowed = format!("{MOST} services at most");
        reader.wrong(CONNECT_SERVICE, text, &allowed);
        return Vec::new();
    }
    for name in &names {
        if !is_label(name) {
            let allowed = format!(
                "a comma separated list of service names: lower case letters, digits and dashes, {LONGEST} at most"
            );
            reader.wrong(CONNECT_SERVICE, name, &allowed);
        } else if !seen.insert(*name) {
            reader.wrong(CONNECT_SERVICE, name, "each service once");
        }
    }
    let instance = |(index, name): (u16, &&str)| Instance { index, name: Some((*name).to_owned()) };
    (0..).zip(&names).map(instance).collect()
}

/// The name of the one service, where the annotation gives it.
///
/// It becomes part of a shell script when the Pod logs in to Consul, so that nothing but a name may be in it.
pub(crate) fn single(reader: &mut Reader<'_>) -> Option<String> {
    let text = reader.filled(CONNECT_SERVICE)?.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    if text.contains(',') {
        return None;
    }
    if text.is_empty() || !text.chars().all(is_plain) {
        reader.wrong(CONNECT_SERVICE, text, "a service name: letters, digits, dashes, underscores and dots");
        return None;
    }
    Some(text.to_owned())
}

/// The application's ports must be ports: one that cannot be read keeps the Pod from being registered, for ever.
pub(crate) fn ports(reader: &mut Reader<'_>) {
    for key in [CONNECT_SERVICE_PORT, CONNECT_SERVICE_DEFAULT_PORT] {
        let Some(text) = reader.filled(key) else { continue };
        for port in text.split(',').map(str::trim) {
            if reader.ports().resolve(port).is_none() {
                reader.wrong(key, port, "the name of a container port, or a number from 1 to 65535");
            }
        }
    }
}

fn is_label(name: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty()
        && name.len() <= LONGEST
        && name.chars().all(inside)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
