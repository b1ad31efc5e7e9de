//! HTTP connection managers, routes and matchers.

use serde_json::{Value, json};

use super::cluster::resolved;
use super::{Resources, routing, typed};
use crate::chain::{Chain, ChainRoute, Leg};
use crate::config::{HeaderMatch, HttpMatch, Protocol};
use crate::world::World;

/// A connection manager with the filters given and the router after them. `routes` is its route configuration: a field
/// `route_config` or `rds`.
pub(super) fn manager(stat_prefix: &str, protocol: Protocol, routes: (&str, Value), mut filters: Vec<Value>) -> Value {
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": typed!("extensions.filters.http.router.v3.Router")},
    }));
    let mut config = json!({
        "@type": typed!("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": stat_prefix, "http_filters": filters,
    });
    config[routes.0] = routes.1;
    if protocol.http2() {
        config["http2_protocol_options"] = json!({});
    }
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": config})
}

/// A route configuration that sends everything, or one exact path, to a cluster.
pub(super) fn single(name: &str, host: &str, path: Option<&str>, cluster: &str) -> Value {
    let matches = path.map_or_else(|| json!({"prefix": "/"}), |path| json!({"path": path}));
    let routes = json!([{"match": matches, "route": {"cluster": cluster}}]);
    json!({"name": name, "virtual_hosts": [{"name": host, "domains": ["*"], "routes": routes}]})
}

/// The route configuration of a customised chain, with the clusters that it leads to.
pub(super) fn of_chain(world: &World, name: &str, host: &str, chain: &Chain, resources: &mut Resources) -> Value {
    let routes: Vec<Value> = chain.routes.iter().map(|r| route(world, r, resources)).collect();
    json!({
        "@type": typed!("config.route.v3.RouteConfiguration"), "name": name,
        "virtual_hosts": [{"name": host, "domains": ["*"], "routes": routes}],
    })
}

fn route(world: &World, route: &ChainRoute, resources: &mut Resources) -> Value {
    let clusters: Vec<(&Leg, String)> =
        route.split.iter().map(|leg| (leg, resolved(world, &leg.to, resources))).collect();
    let mut rendered = json!({"match": request(&route.matches)});
    let mut action = match clusters.as_slice() {
        [(leg, cluster)] => {
            routing::headers(&leg.headers, &mut rendered);
            json!({"cluster": cluster})
        }
        several => {
            let weighted = |(leg, name): &(&Leg, String)| {
                // hundredths of a percent, as the splitter allows
                let mut weighted = json!({"name": name, "weight": (leg.weight * 100.0).round()});
                routing::headers(&leg.headers, &mut weighted);
                weighted
            };
            json!({"weighted_clusters": {"clusters": several.iter().map(weighted).collect::<Vec<_>>()}})
        }
    };
    routing::action(route, &mut action);
    routing::headers(&route.headers, &mut rendered);
    rendered["route"] = action;
    rendered
}

/// A `RouteMatch`.
fn request(matches: &HttpMatch) -> Value {
    let mut rendered = match path(matches) {
        Some(Path::Exact(path)) => json!({"path": path}),
        Some(Path::Prefix(prefix)) => json!({"prefix": prefix}),
        Some(Path::Regex(regex)) => json!({"safe_regex": {"regex": regex}}),
        None => json!({"prefix": "/"}),
    };
    if matches.case_insensitive && rendered.get("safe_regex").is_none() {
        rendered["case_sensitive"] = json!(false);
    }
    let mut headers: Vec<Value> = matches.header.iter().map(header).collect();
    headers.extend(methods(matches));
    if !headers.is_empty() {
        rendered["headers"] = json!(headers);
    }
    let parameters: Vec<Value> = matches
        .query_param
        .iter()
        .map(|q| match (&q.exact, &q.regex) {
            (Some(exact), _) => json!({"name": q.name, "string_match": {"exact": exact}}),
            (None, Some(regex)) => json!({"name": q.name, "string_match": {"safe_regex": {"regex": regex}}}),
            (None, None) => json!({"name": q.name, "present_match": true}),
        })
        .collect();
    if !parameters.is_empty() {
        rendered["query_parameters"] = json!(parameters);
    }
    rendered
}

/// The one of the three forms that is set.
pub(super) enum Path<'a> {
    Exact(&'a str),
    Prefix(&'a str),
    Regex(&'a str),
}

pub(super) fn path(matches: &HttpMatch) -> Option<Path<'_>> {
    let set = |text: &'_ Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
    match matches {
        HttpMatch { path_exact: Some(path), .. } if set(&matches.path_exact) => Some(Path::Exact(path)),
        HttpMatch { path_prefix: Some(path), .. } if set(&matches.path_prefix) => Some(Path::Prefix(path)),
        HttpMatch { path_regex: Some(path), .. } if set(&matches.path_regex) => Some(Path::Regex(path)),
        _ => None,
    }
}

/// One `HeaderMatcher` for all the methods; nothing when any will do.
pub(super) fn methods(matches: &HttpMatch) -> Option<Value> {
    let names: Vec<String> = matches.methods.iter().map(|m| regex::escape(m)).collect();
    (!names.is_empty()).then(|| json!({"name": ":method", "string_match": {"safe_regex": {"regex": names.join("|")}}}))
}

/// A `HeaderMatcher`.
pub(super) fn header(matches: &HeaderMatch) -> Value {
    let HeaderMatch { name, present: _, exact, prefix, suffix, contains, regex, ignore_case, invert } = matches;
    let forms = [("exact", exact), ("prefix", prefix), ("suffix", suffix), ("contains", contains)];
    let mut rendered = json!({"name": name});
    if let Some((form, Some(text))) = forms.into_iter().find(|(_, text)| text.is_some()) {
        rendered["string_match"] = json!({form: text});
        if *ignore_case {
            rendered["string_match"]["ignore_case"] = json!(true);
        }
    } else if let Some(regex) = regex {
        rendered["string_match"] = json!({"safe_regex": {"regex": regex}});
    } else {
        rendered["present_match"] = json!(true);
    }
    if *invert {
        rendered["invert_match"] = json!(true);
    }
    rendered
}
