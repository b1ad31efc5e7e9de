//! Decides whether a custom resource can be applied, and says everything that is wrong with it at once.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::names::DEFAULT;

/// A custom resource as it was read from Kubernetes.
#[derive(Debug, Clone, PartialEq)]
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

/// Kinds that this control plane acts on, with the paths of their fields; `[]` stands for any index, `*` for any key.
const KINDS: &[(&str, &[&str])] = &[
    (
        "ServiceIntentions",
        &[
            "destination.name",
            "destination.namespace",
            "sources[].name",
            "sources[].namespace",
            "sources[].action",
            "sources[].description",
            "sources[].permissions[].action",
            "sources[].permissions[].http.pathExact",
            "sources[].permissions[].http.pathPrefix",
            "sources[].permissions[].http.pathRegex",
            "sources[].permissions[].http.methods[]",
            "sources[].permissions[].http.header[].*",
        ],
    ),
    (
        "ServiceDefaults",
        &[
            "protocol",
            "mutualTLSMode",
            "transparentProxy.dialedDirectly",
            "transparentProxy.outboundListenerPort",
            "expose.paths[].*",
            "maxInboundConnections",
            "meshGateway.mode",
        ],
    ),
    (
        "ProxyDefaults",
        &[
            "config.protocol",
            "mutualTLSMode",
            "transparentProxy.dialedDirectly",
            "transparentProxy.outboundListenerPort",
            "expose.paths[].*",
            "meshGateway.mode",
        ],
    ),
    (
        "Mesh",
        &[
            "transparentProxy.meshDestinationsOnly",
            "allowEnablingPermissiveMutualTLS",
            "peering.peerThroughMeshGateways",
        ],
    ),
    (
        "ServiceResolver",
        &[
            "defaultSubset",
            "subsets.*.filter",
            "subsets.*.onlyPassing",
            "redirect.service",
            "redirect.serviceSubset",
            "redirect.datacenter",
            "failover.*.service",
            "failover.*.serviceSubset",
            "failover.*.targets[].service",
            "failover.*.targets[].serviceSubset",
            "failover.*.targets[].datacenter",
            "connectTimeout",
        ],
    ),
    (
        "ServiceRouter",
        &[
            "routes[].match.http.pathExact",
            "routes[].match.http.pathPrefix",
            "routes[].match.http.pathRegex",
            "routes[].match.http.methods[]",
            "routes[].match.http.header[].*",
            "routes[].match.http.queryParam[].*",
            "routes[].destination.service",
            "routes[].destination.serviceSubset",
            "routes[].destination.prefixRewrite",
            "routes[].destination.requestTimeout",
        ],
    ),
    ("ServiceSplitter", &["splits[].weight", "splits[].service", "splits[].serviceSubset"]),
];

/// Builds the configuration from the resources that can be applied; the verdicts are in the order of the resources.
pub(crate) fn accept<'a>(
    resources: impl IntoIterator<Item = &'a Resource>,
    datacenter: &str,
) -> (Config, Vec<(&'a Resource, Verdict)>) {
    let mut config = Config::default();
    let mut verdicts = Vec::new();
    for resource in resources {
        let verdict = check_fields(resource).and_then(|()| add(&mut config, resource, datacenter));
        verdicts.push((resource, verdict));
    }
    (config, verdicts)
}

fn check_fields(resource: &Resource) -> Verdict {
    let Some((_, known)) = KINDS.iter().find(|(kind, _)| *kind == resource.kind) else {
        return Err(vec![format!("kind {} comes with a later issue", resource.kind)]);
    };
    let mut unknown = Vec::new();
    walk(&resource.spec, &mut String::new(), &mut |path| {
        if !known.iter().any(|pattern| covers(pattern, path)) {
            unknown.push(format!("spec.{path} is no field of a {}, or comes with a later issue", resource.kind));
        }
    });
    unknown.dedup();
    if unknown.is_empty() { Ok(()) } else { Err(unknown) }
}

/// Calls `leaf` with the path of every value that says something.
fn walk(value: &Value, path: &mut String, leaf: &mut impl FnMut(&str)) {
    let length = path.len();
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, field) in fields {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                walk(field, path, leaf);
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            path.push_str("[]");
            for item in items {
                walk(item, path, leaf);
            }
            path.truncate(length);
        }
        Value::String(text) if text.is_empty() => {}
        Value::Bool(false) => {}
        Value::Number(number) if number.as_f64() == Some(0.0) => {}
        _ => leaf(path),
    }
}

fn covers(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('.'), path.split('.'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

fn decode<T: DeserializeOwned>(resource: &Resource) -> Result<T, Vec<String>> {
    T::deserialize(&resource.spec).map_err(|error| vec![format!("spec: {error}")])
}

fn add(config: &mut Config, resource: &Resource, datacenter: &str) -> Verdict {
    match resource.kind.as_str() {
        "ServiceIntentions" => {
            let entry: ServiceIntentions = decode(resource)?;
            check_intentions(&entry)?;
            once(&mut config.intentions, entry.destination.name, entry.sources, "intentions for destination")
        }
        "ServiceDefaults" => {
            let entry: ServiceDefaults = decode(resource)?;
            check_tproxy(entry.transparent_proxy.as_ref())?;
            once(&mut config.service_defaults, resource.name.clone(), entry, "service-defaults for")
        }
        "ProxyDefaults" => {
            if resource.name != "global" {
                return Err(vec![format!(
                    "metadata.name is {:?}; proxy-defaults must be named \"global\"",
                    resource.name
                )]);
            }
            let entry: ProxyDefaults = decode(resource)?;
            check_tproxy(entry.transparent_proxy.as_ref())?;
            config.proxy_defaults = entry;
            Ok(())
        }
        "Mesh" => {
            if resource.name != "mesh" {
                return Err(vec![format!(
                    "metadata.name is {:?}; the mesh resource must be named \"mesh\"",
                    resource.name
                )]);
            }
            config.mesh = decode(resource)?;
            Ok(())
        }
        "ServiceResolver" => {
            let entry: ServiceResolver = decode(resource)?;
            check_resolver(&entry, datacenter)?;
            once(&mut config.resolvers, resource.name.clone(), entry, "service-resolver for")
        }
        "ServiceRouter" => once(&mut config.routers, resource.name.clone(), decode(resource)?, "service-router for"),
        "ServiceSplitter" => {
            let entry: ServiceSplitter = decode(resource)?;
            let sum: f64 = entry.splits.iter().map(|s| s.weight).sum();
            if (sum - 100.0).abs() > 0.01 {
                return Err(vec![format!("spec.splits: the sum of all split weights must be 100, but was {sum}")]);
            }
            once(&mut config.splitters, resource.name.clone(), entry, "service-splitter for")
        }
        other => Err(vec![format!("kind {other} comes with a later issue")]),
    }
}

/// Names of entries are global in Consul, whatever the Kubernetes namespace: the first resource keeps the name.
fn once<T>(entries: &mut BTreeMap<String, T>, name: String, entry: T, what: &str) -> Verdict {
    if entries.contains_key(&name) {
        return Err(vec![format!("{what} {name:?} exist already in another resource: delete one of the two")]);
    }
    entries.insert(name, entry);
    Ok(())
}

fn check_intentions(entry: &ServiceIntentions) -> Verdict {
    let mut wrong = Vec::new();
    if entry.destination.name.is_empty() {
        wrong.push("spec.destination.name is empty".to_owned());
    }
    let tenants = std::iter::once(("destination".to_owned(), &entry.destination.namespace))
        .chain(entry.sources.iter().enumerate().map(|(i, s)| (format!("sources[{i}]"), &s.namespace)));
    for (field, namespace) in tenants.filter(|(_, n)| !n.is_empty() && *n != DEFAULT) {
        wrong.push(format!(
            "spec.{field}.namespace is {namespace:?}: services of every Kubernetes namespace are in Consul's namespace \
             \"default\"; others come with a later issue"
        ));
    }
    for (i, source) in entry.sources.iter().enumerate() {
        let at = format!("spec.sources[{i}]");
        match (&source.action, source.permissions.is_empty()) {
            (None, true) => wrong.push(format!("{at}: one of action and permissions must be set")),
            (Some(_), false) => wrong.push(format!("{at}: action and permissions exclude each other")),
            (None, false) if entry.destination.name == "*" => {
                wrong.push(format!("{at}: permissions need an exact destination, not \"*\""));
            }
            _ => {}
        }
        if entry.sources[..i].iter().any(|other| other.name == source.name) {
            wrong.push(format!("{at}: source {:?} is listed twice", source.name));
        }
        for (j, permission) in source.permissions.iter().enumerate() {
            let http = &permission.http;
            let paths = [&http.path_exact, &http.path_prefix, &http.path_regex];
            if paths.iter().filter(|p| p.as_deref().is_some_and(|p| !p.is_empty())).count() > 1 {
                wrong.push(format!("{at}.permissions[{j}].http: at most one of pathExact, pathPrefix, pathRegex"));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// consul-k8s refuses the field in its resources, and so do we: the rules would not follow it.
fn check_tproxy(block: Option<&TransparentProxy>) -> Verdict {
    match block {
        Some(t) if t.outbound_listener_port != 0 => Err(vec![format!(
            "spec.transparentProxy.outboundListenerPort is {}; it cannot be set here, the rules always redirect to {}",
            t.outbound_listener_port,
            redirect::contract::OUTBOUND_PORT
        )]),
        _ => Ok(()),
    }
}

fn check_resolver(entry: &ServiceResolver, datacenter: &str) -> Verdict {
    let mut wrong = Vec::new();
    let targets = entry.failover.values().flat_map(|f| &f.targets).chain(entry.redirect.as_ref());
    for other in targets.filter_map(|t| t.datacenter.as_deref()).filter(|d| !d.is_empty() && *d != datacenter) {
        wrong.push(format!("datacenter {other:?}: a second datacenter comes with a later issue"));
    }
    if let Some(subset) = entry.default_subset.as_ref().filter(|s| !s.is_empty())
        && !entry.subsets.contains_key(subset)
    {
        wrong.push(format!("spec.defaultSubset {subset:?} is not in spec.subsets"));
    }
    for (name, subset) in &entry.subsets {
        if let Err(error) = crate::filter::Filter::parse(&subset.filter) {
            wrong.push(format!("spec.subsets.{name}.filter: {error}"));
        }
    }
    if let Some(text) = &entry.connect_timeout
        && crate::go::duration(text).is_none()
    {
        wrong.push(format!("spec.connectTimeout {text:?} is not a duration such as \"5s\""));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

#[cfg(test)]
mod tests;
