//! Consul namespaces and admin partitions, which several flags make up together.

use super::Options;
use crate::settings::NamespaceMapping;
use redirect::contract::servers;
use std::collections::BTreeMap;

/// What the flags say, one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tenancy {
    pub(super) namespaces: bool,
    pub(super) destination: String,
    pub(super) mirroring: bool,
    pub(super) prefix: String,
    pub(super) partitions: bool,
    pub(super) partition: String,
}

impl Default for Tenancy {
    fn default() -> Self {
        Self {
            namespaces: false,
            destination: "default".to_owned(),
            mirroring: false,
            prefix: String::new(),
            partitions: false,
            partition: String::new(),
        }
    }
}

/// Turns the flags into settings; returns what is wrong.
pub(super) fn settle(options: &mut Options, environment: &BTreeMap<String, String>) -> Option<String> {
    let Tenancy { namespaces, destination, mirroring, prefix, partitions, partition } = options.tenancy.clone();
    options.settings.namespaces = namespaces.then_some(match mirroring {
        true => NamespaceMapping::Mirror { prefix },
        false => NamespaceMapping::Single(destination),
    });
    let partition = match partition.as_str() {
        "" => environment.get(servers::PARTITION).cloned().unwrap_or_default(),
        _ => partition,
    };
    if partitions && partition.is_empty() {
        return Some("-enable-partitions: -partition or CONSUL_PARTITION must be set with it".to_owned());
    }
    options.settings.partition = partitions.then_some(partition);
    None
}
