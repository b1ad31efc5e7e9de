//! `/v1/catalog`: what is registered.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use serde_json::{Map, Value, json};

use super::{Answer, Parameters, answer, filtered, parameter};
use crate::catalog;
use crate::filter::Filter;
use crate::registration::Instance;
use crate::serve::Shared;
use crate::world::World;

pub(super) async fn datacenters(State(shared): State<Arc<Shared>>, query: Parameters) -> Answer {
    answer(&shared, &query, |world, _| json!([world.names.datacenter()])).await
}

pub(super) async fn nodes(State(shared): State<Arc<Shared>>, query: Parameters) -> Answer {
    answer(&shared, &query, |world, filter| filtered(catalog::nodes(world), filter)).await
}

pub(super) async fn node(State(shared): State<Arc<Shared>>, Path(node): Path<String>, query: Parameters) -> Answer {
    answer(&shared, &query, |world, filter| {
        let (described, services) = catalog::node_services(world, &node, false);
        if described.is_null() {
            return Value::Null;
        }
        let services = services.into_iter().filter(|service| filter.accepts(service));
        let by_id = services.map(|service| (service["ID"].as_str().unwrap_or_default().to_owned(), service));
        json!({"Node": described, "Services": by_id.collect::<Map<_, _>>()})
    })
    .await
}

pub(super) async fn node_services(
    State(shared): State<Arc<Shared>>,
    Path(node): Path<String>,
    query: Parameters,
) -> Answer {
    let merge = parameter(&query, "merge-central-config").is_some();
    answer(&shared, &query, |world, filter| {
        let (described, services) = catalog::node_services(world, &node, merge);
        json!({"Node": described, "Services": filtered(services, filter)})
    })
    .await
}

pub(super) async fn services(State(shared): State<Arc<Shared>>, query: Parameters) -> Answer {
    answer(&shared, &query, |world, filter| {
        let mut tags: BTreeMap<String, Vec<String>> = BTreeMap::new();
        if query.caller.rights.reads() {
            tags.insert("consul".to_owned(), vec![]);
        }
        for service in world.catalog.services() {
            for instance in world.catalog.instances(service) {
                for proxy in [false, true] {
                    let entry = catalog::service_entry(world, instance, proxy);
                    if filter.accepts(&entry) {
                        let name = entry["ServiceName"].as_str().unwrap_or_default().to_owned();
                        tags.entry(name).or_default().extend(instance.tags.iter().cloned());
                    }
                }
            }
        }
        for list in tags.values_mut() {
            list.sort();
            list.dedup();
        }
        json!(tags)
    })
    .await
}

pub(super) async fn service(State(shared): State<Arc<Shared>>, Path(name): Path<String>, query: Parameters) -> Answer {
    let wanted = tagged(&query);
    answer(&shared, &query, |world, filter| entries(world, &name, filter, &wanted, catalog::service_entry)).await
}

pub(super) async fn connect(State(shared): State<Arc<Shared>>, Path(name): Path<String>, query: Parameters) -> Answer {
    let (wanted, name) = (tagged(&query), format!("{name}-sidecar-proxy"));
    answer(&shared, &query, |world, filter| entries(world, &name, filter, &wanted, catalog::service_entry)).await
}

/// Whether an instance has every tag that the query names.
pub(super) fn tagged(query: &Parameters) -> impl Fn(&Instance) -> bool {
    let tags = query.query.iter().filter(|(name, _)| name == "tag").map(|(_, tag)| tag.clone());
    let tags: Vec<String> = tags.collect();
    move |instance| tags.iter().all(|tag| instance.tags.contains(tag))
}

/// The instances of an application, or of its proxies when the name ends so.
pub(super) fn entries(
    world: &World,
    name: &str,
    filter: &Filter,
    wanted: impl Fn(&Instance) -> bool,
    entry: impl Fn(&World, &Instance, bool) -> Value,
) -> Value {
    let (service, proxy) = match name.strip_suffix("-sidecar-proxy") {
        Some(service) if world.catalog.instances(name).is_empty() => (service, true),
        _ => (name, false),
    };
    let instances = world.catalog.instances(service).iter().filter(|i| wanted(i));
    filtered(instances.map(|i| entry(world, i, proxy)), filter)
}
