//! Small worlds for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::catalog::Catalog;
use crate::config::Home;
use crate::config::accept::{Resource, accept};
use crate::intentions::Intention;
use crate::names::Names;
use crate::objects::{pod, service, slice};
use crate::registration::{Instance, Scope, register};
use crate::tenancy::Tenancy;
use crate::world::World;

/// Trust domain of the worlds.
pub(crate) const TRUST_DOMAIN: &str = "11111111-2222-3333-4444-555555555555.consul";

/// A world with one transparent instance for each name, and configuration entries (kind, name, spec).
///
/// The `i`-th service has Pod address 10.244.0.`i+1`, ClusterIP 10.96.0.`i+1`, application port 8080.
pub(crate) fn world(names: &[&str], default_intention: Intention, entries: &[(&str, &str, Value)]) -> World {
    annotated(names, default_intention, entries, &[])
}

/// As [`world`], with annotations of Pods: whose, which, and its value.
pub(crate) fn annotated(
    names: &[&str],
    default_intention: Intention,
    entries: &[(&str, &str, Value)],
    annotations: &[(&str, &str, &str)],
) -> World {
    tenant(names, &Tenancy::default(), default_intention, entries, annotations)
}

/// As [`annotated`], in a partition.
pub(crate) fn tenant(
    names: &[&str],
    tenancy: &Tenancy,
    default_intention: Intention,
    entries: &[(&str, &str, Value)],
    annotations: &[(&str, &str, &str)],
) -> World {
    let home = Home { tenancy: tenancy.clone(), ..Home::new("dc1") };
    let mut instances = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let address = format!("10.244.0.{}", i + 1);
        let mut pod = pod(name, &address, true);
        for (_, key, value) in annotations.iter().filter(|(of, ..)| of == name) {
            pod["metadata"]["annotations"][*key] = Value::from(*value);
        }
        let pods =
            BTreeMap::from([(("default".to_owned(), (*name).to_owned()), serde_json::from_value(pod).expect("a Pod"))]);
        let service = serde_json::from_value(service(name, &format!("10.96.0.{}", i + 1))).expect("a Service");
        let slice = serde_json::from_value(slice(name, name, &address, true)).expect("a slice");
        let (made, refused) = register(&Scope {
            cluster: 0,
            tenancy: &home.tenancy,
            service: &service,
            slices: vec![&slice],
            pods: &pods,
        });
        assert_eq!(refused, []);
        instances.extend(made.into_iter().map(Arc::new));
    }
    let resources: Vec<Resource> = entries
        .iter()
        .map(|(kind, name, spec)| Resource {
            kind: (*kind).to_owned(),
            namespace: "default".to_owned(),
            name: (*name).to_owned(),
            uid: String::new(),
            generation: 1,
            spec: spec.clone(),
        })
        .collect();
    let (config, verdicts) = accept(&resources, &home);
    for (resource, verdict) in verdicts {
        assert_eq!(verdict, Ok(()), "{resource:?}");
    }
    let names = Names::new("dc1", TRUST_DOMAIN).in_partition(home.tenancy.own());
    let mut world = World::empty(names, default_intention);
    world.catalog = Catalog::new(&instances);
    world.config = config.into();
    let addressed = world.addressed();
    Arc::make_mut(&mut world.vips).assign(addressed.iter().map(String::as_str));
    world
}

/// The instance of a service of [`world`].
pub(crate) fn instance<'a>(world: &'a World, service: &str) -> &'a Arc<Instance> {
    &world.catalog.instances(service)[0]
}
