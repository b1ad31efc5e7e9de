//! Prepared queries: names for the healthy instances of a service, with other datacenters to turn to when there is none.
//!
//! They are made through the HTTP API, as in Consul, and named by upstreams (`prepared_query:<name>:<port>`) and in DNS
//! (`<name>.query.consul`). Templates, sessions and distances are not known here, and are refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::abroad::Seen;
use crate::registration::{Health, Instance};
use crate::world::World;

/// All queries by their ids.
pub(crate) type Queries = BTreeMap<String, Query>;

/// What the upstream is called that a query is.
pub(crate) fn upstream(name: &str) -> String {
    format!("prepared_query:{name}")
}

/// A prepared query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Query {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) service: Service,
}

/// Which instances a query means.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Service {
    pub(crate) service: String,
    /// Instances that have all of these, and none of those that begin with `!`.
    pub(crate) tags: Vec<String>,
    /// Nothing but passing instances; otherwise those that are not critical, which are the same here.
    pub(crate) only_passing: bool,
    /// Whether proxies are meant.
    pub(crate) connect: bool,
    pub(crate) failover: Failover,
}

/// Where to turn to when there is no instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Failover {
    /// In this order.
    pub(crate) datacenters: Vec<String>,
    /// In this order; instead of `datacenters`.
    pub(crate) targets: Vec<Target>,
}

/// A datacenter to turn to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Target {
    pub(crate) datacenter: String,
}

/// What somebody would change.
#[derive(Debug)]
pub(crate) enum Request {
    /// Makes a query, or, unless it is new, another one of it.
    Put(Box<Query>, bool),
    /// Forgets the query of this id.
    Forget(String),
}

/// Why a change was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no query of this id.
    Missing,
    /// Another one has this name.
    Taken(String),
}

impl Request {
    /// Does what is asked for, and gives the names that are concerned.
    pub(crate) fn apply(self, queries: &mut Arc<Queries>) -> Result<Vec<String>, Refused> {
        match self {
            Self::Put(query, is_new) => {
                let old = queries.get(&query.id).map(|old| old.name.clone());
                if old.is_none() && !is_new {
                    return Err(Refused::Missing);
                }
                let is_same = |other: &Query| other.name == query.name && other.id != query.id;
                if !query.name.is_empty() && queries.values().any(is_same) {
                    return Err(Refused::Taken(query.name.clone()));
                }
                let names = old.into_iter().chain([query.name.clone()]).collect();
                Arc::make_mut(queries).insert(query.id.clone(), *query);
                Ok(names)
            }
            Self::Forget(id) => match Arc::make_mut(queries).remove(&id) {
                Some(gone) => Ok(vec![gone.name]),
                None => Err(Refused::Missing),
            },
        }
    }
}

/// Fields of a query that may be there.
const FIELDS: &[&str] = &["ID", "Name", "Service"];
/// Fields of its service.
const OF_SERVICE: &[&str] = &["Service", "Tags", "OnlyPassing", "Connect", "Failover"];
/// Fields of its failover.
const OF_FAILOVER: &[&str] = &["Datacenters", "Targets"];
/// Fields of a target of it.
const OF_TARGET: &[&str] = &["Datacenter"];

impl Query {
    /// Reads a query as the HTTP API takes it.
    ///
    /// # Errors
    /// All mistakes, in one line each: what is no JSON of a query, what is missing, and what asks for something that there is not.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(body).map_err(|error| format!("Request decode failed: {error}"))?;
        let mut mistakes = Vec::new();
        let mut only = |value: &Value, path: &str, known: &[&str]| {
            let given = value
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(key, value)| !known.contains(&key.as_str()) && !is_nothing(value));
            for (key, _) in given {
                mistakes.push(format!(
                    "{path}{key} is not known to this control plane: leave it out; there are {}",
                    known.join(", ")
                ));
            }
        };
        only(&value, "", FIELDS);
        only(&value["Service"], "Service.", OF_SERVICE);
        only(&value["Service"]["Failover"], "Service.Failover.", OF_FAILOVER);
        for target in value["Service"]["Failover"]["Targets"].as_array().into_iter().flatten() {
            only(target, "Service.Failover.Targets[].", OF_TARGET);
        }
        let query: Self = serde_json::from_value(value).map_err(|error| format!("Request decode failed: {error}"))?;
        let Failover { datacenters, targets } = &query.service.failover;
        if query.service.service.is_empty() {
            mistakes.push("Service.Service is missing: name the service that the query is for".to_owned());
        }
        if !datacenters.is_empty() && !targets.is_empty() {
            mistakes.push("Service.Failover has Datacenters and Targets: leave one of them out".to_owned());
        }
        if targets.iter().any(|target| target.datacenter.is_empty()) {
            mistakes.push("Service.Failover.Targets has one without Datacenter: name it".to_owned());
        }
        if mistakes.is_empty() { Ok(query) } else { Err(mistakes.join("\n")) }
    }

    /// The datacenters to turn to, in order.
    fn datacenters(&self) -> impl Iterator<Item = &str> {
        let Failover { datacenters, targets } = &self.service.failover;
        datacenters.iter().map(String::as_str).chain(targets.iter().map(|target| target.datacenter.as_str()))
    }

    /// Executes the query: the instances, and how many datacenters had none before the one that has them.
    pub(crate) fn execute<'a>(&self, world: &'a World) -> (Found<'a>, usize) {
        let here = world.catalog.instances(&self.service.service).iter();
        let here: Vec<_> = here.filter(|i| i.health == Health::Passing && self.has_tags(&i.tags)).collect();
        if !here.is_empty() {
            return (Found::Here(here), 0);
        }
        let own = world.names.datacenter();
        for (tried, datacenter) in self.datacenters().filter(|name| *name != own).enumerate() {
            let told = world.abroad.get_key_value(datacenter);
            let Some((name, seen)) =
                told.and_then(|(name, told)| Some((name, told.services.get(&self.service.service)?)))
            else {
                continue;
            };
            let seen: Vec<_> = seen.iter().filter(|seen| seen.passing && self.has_tags(&seen.tags)).collect();
            if !seen.is_empty() {
                return (Found::In(name, seen), tried + 1);
            }
        }
        (Found::Here(Vec::new()), self.datacenters().filter(|name| *name != own).count())
    }

    fn has_tags(&self, tags: &[String]) -> bool {
        let has = |tag: &str| tags.iter().any(|own| own.eq_ignore_ascii_case(tag));
        self.service.tags.iter().all(|tag| match tag.strip_prefix('!') {
            Some(tag) => !has(tag),
            None => has(tag),
        })
    }
}

/// Whether a field says as much as if it were not there.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
        Value::Bool(true) => false,
    }
}

/// What a query finds, all of it in one datacenter.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Here(Vec<&'a Arc<Instance>>),
    In(&'a str, Vec<&'a Seen>),
}

impl Found<'_> {
    /// Where the proxies listen.
    pub(crate) fn proxies(&self) -> Vec<SocketAddr> {
        match self {
            Self::Here(instances) => instances.iter().map(|i| SocketAddr::new(i.address, i.proxy_port)).collect(),
            Self::In(_, seen) => seen.iter().map(|seen| seen.address).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::all(r#"{"Name": "geo", "Service": {"Service": "web", "Tags": ["v1", "!old"], "OnlyPassing": true,
        "Failover": {"Datacenters": ["dc2"]}}}"#, Ok(()))]
    #[case::nothing_said(r#"{"Service": {"Service": "web", "Near": "", "Failover": {"NearestN": 0}}, "Session": null}"#, Ok(()))]
    #[case::no_service(r#"{"Name": "geo"}"#, Err("Service.Service is missing"))]
    #[case::a_template(
        r#"{"Template": {"Type": "name_prefix_match"}, "Service": {"Service": "web"}}"#,
        Err("Template is not known")
    )]
    #[case::near(r#"{"Service": {"Service": "web", "Near": "_agent"}}"#, Err("Service.Near is not known"))]
    #[case::nearest(
        r#"{"Service": {"Service": "web", "Failover": {"NearestN": 2}}}"#,
        Err("Service.Failover.NearestN is not known")
    )]
    #[case::two_ways(
        r#"{"Service": {"Service": "web", "Failover": {"Datacenters": ["a"], "Targets": [{"Datacenter": "b"}]}}}"#,
        Err("leave one of them out")
    )]
    #[case::a_target_without(
        r#"{"Service": {"Service": "web", "Failover": {"Targets": [{}]}}}"#,
        Err("without Datacenter")
    )]
    #[case::a_peer(
        r#"{"Service": {"Service": "web", "Failover": {"Targets": [{"Datacenter": "dc2", "Peer": "east"}]}}}"#,
        Err("Service.Failover.Targets[].Peer is not known")
    )]
    #[case::no_query("3", Err("decode failed"))]
    #[case::no_json("{", Err("decode failed"))]
    fn queries(#[case] body: &str, #[case] expected: Result<(), &str>) {
        match (Query::parse(body.as_bytes()), expected) {
            (Ok(_), Ok(())) => {}
            (Err(said), Err(part)) => assert!(said.contains(part), "{said}"),
            (read, _) => panic!("{body}: {read:?}"),
        }
    }
}
