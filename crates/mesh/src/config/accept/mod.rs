//! Decides which custom resources can be applied, and says everything that is wrong with one at once.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::*;
use crate::names::DEFAULT;
use fields::Role;

mod chains;
mod defaults;
mod fields;
mod http;
mod intentions;
mod keep;
mod kinds;
mod peers;
mod protocols;
mod routing;
mod upstreams;

pub(crate) use keep::Accepted;

/// A custom resource as it was read from Kubernetes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Resource {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) spec: Value,
}

/// What became of a resource: nothing to say, or why it was not applied.
pub(crate) type Verdict = Result<(), Vec<String>>;

/// What is wrong with a resource so far.
type Mistakes = Vec<String>;

/// Builds the configuration from the resources that can be applied; the verdicts are in the order of the resources.
///
/// Names of entries are global in Consul, whatever the Kubernetes namespace: the first resource keeps the name. Entries
/// about routes are taken in as long as one of those that are left fits those that are in, so that their order matters
/// only where two contradict each other: then, too, the first one stays.
pub(crate) fn accept<'a>(
    resources: impl IntoIterator<Item = &'a Resource>,
    home: &Home,
) -> (Config, Vec<(&'a Resource, Verdict)>) {
    let mut config = Config { home: home.clone(), ..Config::default() };
    let mut verdicts: Vec<(&Resource, Verdict)> = Vec::new();
    let mut waiting = Vec::new();
    for resource in resources {
        let verdict = match entry(resource, home) {
            Ok(Entry::Chain(name, entry)) => {
                waiting.push((verdicts.len(), name, entry));
                Ok(())
            }
            Ok(entry) => add(&mut config, entry),
            Err(mistakes) => Err(mistakes),
        };
        verdicts.push((resource, verdict));
    }
    defaults::permissive(&mut config, &mut verdicts);
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain(|(place, name, entry)| {
            let verdict = chains::add(&mut config, name, entry);
            let stays = verdict.is_err();
            verdicts[*place].1 = verdict;
            stays
        });
        if waiting.len() == before {
            break;
        }
    }
    for (resource, verdict) in &verdicts {
        if let (Ok(()), Some(kind)) = (verdict, json::consul_kind(&resource.kind)) {
            let name = match kind {
                "service-intentions" => &resource.spec["destination"]["name"],
                _ => &Value::Null,
            };
            let name = name.as_str().unwrap_or(&resource.name).to_owned();
            config.entries.entry(kind).or_default().insert(name, fields::set_only(&resource.spec));
        }
    }
    (config, verdicts)
}

/// Fields of a resource that are Consul's and change nothing here.
pub(crate) fn without_effect(resource: &Resource) -> Vec<String> {
    let mut idle = Vec::new();
    fields::leaves(&resource.spec, &mut |leaf| {
        if fields::role(&resource.kind, &leaf.pattern) == Some(Role::Idle) && *leaf.value != "none" {
            idle.push(format!("spec.{} has no effect: this control plane does not act on it", leaf.path));
        }
    });
    idle
}

/// An entry that is well-formed in itself.
enum Entry {
    Intentions(ServiceIntentions),
    ServiceDefaults(String, Box<ServiceDefaults>),
    ProxyDefaults(ProxyDefaults),
    Mesh(MeshEntry),
    Exported(ExportedServices),
    Group(String, SamenessGroup),
    Chain(String, ChainEntry),
}

/// An entry that must fit others: it says where requests for a service go.
enum ChainEntry {
    Resolver(Box<ServiceResolver>),
    Router(ServiceRouter),
    Splitter(ServiceSplitter),
}

/// Reads a resource. What the fields are comes first: a spec with the wrong ones is not looked into.
fn entry(resource: &Resource, home: &Home) -> Result<Entry, Mistakes> {
    let tenancy = &home.tenancy;
    let kind = resource.kind.as_str();
    if !fields::is_known(kind) {
        return Err(vec![format!("kind {kind} comes with a later issue")]);
    }
    let mut mistakes = Vec::new();
    fields::leaves(&resource.spec, &mut |leaf| {
        let at = &leaf.path;
        let (value, last) = (leaf.value, leaf.pattern.rsplit('.').next().unwrap_or_default());
        match fields::role(kind, &leaf.pattern) {
            None => mistakes.push(format!("spec.{at} is no field of a {kind}")),
            Some(Role::Needs(what)) => mistakes.push(format!("spec.{at} needs {what}: leave it out")),
            Some(Role::Elsewhere) if last == "partition" && *value == *tenancy.own() => {}
            Some(Role::Elsewhere) if last == "namespace" && *value == DEFAULT => {}
            Some(Role::Partition) if value.as_str().is_some_and(|name| tenancy.knows(name)) => {}
            Some(Role::Partition) if tenancy.is_on() => {
                let all = tenancy.listed();
                mistakes.push(format!("spec.{at} is {value}: there is no such partition; there are {all}"));
            }
            Some(Role::Elsewhere) if tenancy.is_on() && last == "partition" => {
                let own = tenancy.own();
                mistakes
                    .push(format!("spec.{at} is {value}: only \"{own}\", where the resource is, can be named here"));
            }
            Some(Role::Elsewhere) if tenancy.is_on() => {
                mistakes.push(format!("spec.{at} is {value}: there is one namespace, \"{DEFAULT}\""));
            }
            Some(Role::Elsewhere | Role::Partition) => mistakes.push(format!(
                "spec.{at} is {value}: there is one namespace and partition, \"{DEFAULT}\"; others come with a \
                 later issue"
            )),
            Some(Role::Acts | Role::Idle) => mistakes.extend(fields::mistake(leaf)),
        }
    });
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let name = resource.name.clone();
    let spec = fields::set_only(&resource.spec);
    let entry = match kind {
        "ServiceIntentions" => {
            let mut entry: ServiceIntentions = decode(&spec)?;
            for source in &mut entry.sources {
                source.partition = tenancy.foreign(source.partition.as_deref()).map(str::to_owned);
            }
            intentions::check(&entry, &mut mistakes);
            Entry::Intentions(entry)
        }
        "ServiceDefaults" => {
            let entry = decode(&spec)?;
            defaults::service(&entry, &resource.spec, &mut mistakes);
            Entry::ServiceDefaults(name, Box::new(entry))
        }
        "ProxyDefaults" => {
            let entry = decode(&spec)?;
            only_name("proxy-defaults", "global", &name, &mut mistakes);
            defaults::proxy(&entry, &resource.spec, &mut mistakes);
            Entry::ProxyDefaults(entry)
        }
        "Mesh" => {
            only_name("the mesh resource", "mesh", &name, &mut mistakes);
            Entry::Mesh(decode(&spec)?)
        }
        "ExportedServices" => {
            let entry = decode(&spec)?;
            peers::exported(&name, &entry, tenancy, &mut mistakes);
            Entry::Exported(entry)
        }
        "SamenessGroup" => {
            let entry = decode(&spec)?;
            peers::group(&entry, &resource.namespace, tenancy, &mut mistakes);
            Entry::Group(name, entry)
        }
        "ServiceResolver" => {
            let mut entry: ServiceResolver = decode(&spec)?;
            if let Some(redirect) = &mut entry.redirect {
                redirect.partition = tenancy.foreign(redirect.partition.as_deref()).map(str::to_owned);
            }
            routing::resolver(&entry, &resource.spec, &mut mistakes);
            Entry::Chain(name, ChainEntry::Resolver(Box::new(entry)))
        }
        "ServiceRouter" => {
            let entry = decode(&spec)?;
            routing::router(&entry, &mut mistakes);
            Entry::Chain(name, ChainEntry::Router(entry))
        }
        _ => {
            let entry = decode(&spec)?;
            routing::splitter(&name, &entry, &mut mistakes);
            Entry::Chain(name, ChainEntry::Splitter(entry))
        }
    };
    if mistakes.is_empty() { Ok(entry) } else { Err(mistakes) }
}

fn decode<T: DeserializeOwned>(spec: &Value) -> Result<T, Mistakes> {
    serde_path_to_error::deserialize(spec).map_err(|error| vec![format!("spec.{}: {}", error.path(), error.inner())])
}

fn add(config: &mut Config, entry: Entry) -> Verdict {
    match entry {
        Entry::Intentions(entry) => {
            // resources come in the order of their kinds, groups before intentions
            let missing = entry.sources.iter().enumerate().filter_map(|(i, source)| {
                let group = source.sameness_group.as_ref().filter(|name| !config.groups.contains_key(*name))?;
                Some(format!("spec.sources[{i}].samenessGroup is {group:?}: there is no sameness group of this name"))
            });
            let missing: Mistakes = missing.collect();
            if !missing.is_empty() {
                return Err(missing);
            }
            once(&mut config.intentions, &entry.destination.name, entry.sources, "intentions for destination")
        }
        Entry::ServiceDefaults(name, entry) => {
            once(&mut config.service_defaults, &name, *entry, "service-defaults for")
        }
        Entry::ProxyDefaults(entry) => set_once(&mut config.proxy_defaults, entry, "proxy-defaults"),
        Entry::Mesh(entry) => set_once(&mut config.mesh, entry, "a mesh resource"),
        Entry::Exported(entry) => match config.exports.is_empty() {
            true => {
                config.exports.extend(entry.services.into_iter().map(|service| (service.name, service.consumers)));
                Ok(())
            }
            false => {
                Err(vec!["exported-services exist already in another namespace: delete one of the two".to_owned()])
            }
        },
        Entry::Group(name, entry) => {
            let other =
                config.groups.iter().find(|(_, other)| other.default_for_failover && entry.default_for_failover);
            if let Some((other, _)) = other {
                return Err(vec![format!(
                    "spec.defaultForFailover is true, and so it is of sameness group {other:?}: only one can be the default"
                )]);
            }
            once(&mut config.groups, &name, entry, "sameness-group")
        }
        Entry::Chain(name, entry) => chains::add(config, &name, &entry),
    }
}

fn once<T>(entries: &mut BTreeMap<String, T>, name: &str, entry: T, what: &str) -> Verdict {
    if entries.contains_key(name) {
        return Err(vec![format!("{what} {name:?} exist already in another resource: delete one of the two")]);
    }
    entries.insert(name.to_owned(), entry);
    Ok(())
}

fn set_once<T>(place: &mut Option<T>, entry: T, what: &str) -> Verdict {
    match place {
        Some(_) => Err(vec![format!("{what} exists already in another namespace: delete one of the two")]),
        None => {
            *place = Some(entry);
            Ok(())
        }
    }
}

fn only_name(what: &str, wanted: &str, name: &str, mistakes: &mut Mistakes) {
    if name != wanted {
        mistakes.push(format!("metadata.name is {name:?}; {what} must be named \"{wanted}\""));
    }
}

/// Says it when a condition does not hold.
fn must(holds: bool, mistakes: &mut Mistakes, otherwise: impl FnOnce() -> String) {
    if !holds {
        mistakes.push(otherwise());
    }
}

#[cfg(test)]
mod tests;
