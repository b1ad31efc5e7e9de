//! Which groups, versions and resources are served.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::kinds::Kind;
use super::status::{ApiError, Result};

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

pub(crate) async fn version() -> Response {
    axum::Json(json!({
        "major": "1", "minor": "34", "gitVersion": "v1.34.0+pellucid", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    }))
    .into_response()
}

/// Answers the paths that name no resource.
pub(crate) fn answer(cluster: &Cluster, segments: &[&str]) -> Result<Response> {
    let value = match segments {
        ["api"] => json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }),
        ["api", "v1"] => resources(cluster, "", "v1")?,
        ["apis"] => {
            let groups: Vec<_> = versions(cluster).iter().map(|(group, versions)| describe(group, versions)).collect();
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
        }
        ["apis", group] => {
            let all = versions(cluster);
            let versions = all.get(*group).ok_or_else(ApiError::path_not_found)?;
            let mut description = describe(group, versions);
            description["kind"] = "APIGroup".into();
            description["apiVersion"] = "v1".into();
            description
        }
        ["apis", group, version] => resources(cluster, group, version)?,
        ["openapi", "v2"] => json!({
            "swagger": "2.0", "info": { "title": "Kubernetes", "version": "v1.34.0" }, "paths": {}, "definitions": {},
        }),
        ["openapi", "v3"] => json!({ "paths": {} }),
        [] => {
            json!({ "paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/readyz", "/version"] })
        }
        _ => return Err(ApiError::path_not_found()),
    };
    Ok(axum::Json(value).into_response())
}

/// Versions by group, the core group aside.
fn versions(cluster: &Cluster) -> BTreeMap<String, Vec<String>> {
    let mut groups = BTreeMap::<String, Vec<String>>::new();
    for kind in cluster.registry.all().iter().filter(|kind| !kind.group.is_empty()) {
        let versions = groups.entry(kind.group.clone()).or_default();
        if !versions.contains(&kind.version) {
            versions.push(kind.version.clone());
        }
    }
    groups
}

fn describe(group: &str, versions: &[String]) -> Value {
    let entry = |version: &String| json!({ "groupVersion": format!("{group}/{version}"), "version": version });
    json!({
        "name": group,
        "versions": versions.iter().map(entry).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(entry),
    })
}

fn resources(cluster: &Cluster, group: &str, version: &str) -> Result<Value> {
    let kinds = cluster.registry.all();
    let mut resources = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.group == group && kind.version == version) {
        describe_kind(kind, &mut resources);
    }
    if resources.is_empty() {
        return Err(ApiError::path_not_found());
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources }))
}

fn describe_kind(kind: &Kind, resources: &mut Vec<Value>) {
    let mut main = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": VERBS,
    });
    if !kind.short.is_empty() {
        main["shortNames"] = kind.short.clone().into();
    }
    resources.push(main);
    let mut sub = |name: &str, of: &str, verbs: &[&str]| {
        resources.push(json!({
            "name": format!("{}/{name}", kind.plural), "singularName": "", "namespaced": kind.namespaced, "kind": of,
            "verbs": verbs,
        }));
    };
    if kind.status {
        sub("status", &kind.kind, &["get", "patch", "update"]);
    }
    if kind.scale {
        sub("scale", "Scale", &["get", "patch", "update"]);
    }
    if kind.is_pod() {
        sub("binding", "Binding", &["create"]);
        sub("ephemeralcontainers", "Pod", &["get", "patch", "update"]);
        sub("eviction", "Eviction", &["create"]);
        sub("exec", "PodExecOptions", &["create", "get"]);
        sub("log", "Pod", &["get"]);
    }
    if kind.is("", "serviceaccounts") {
        sub("token", "TokenRequest", &["create"]);
    }
}
