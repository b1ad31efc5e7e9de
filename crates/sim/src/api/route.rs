//! From a request to the call it makes: fixed paths, resource paths, verbs.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Query, Request, State, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, Method};

use super::auth::User;
use super::call::Call;
use super::cluster::Cluster;
use super::status::{ApiError, Result};
use super::{body, create, delete, discovery, exec, logs, patch, rbac, read, subresource, update, watch};

/// The whole server as one service.
pub(crate) fn router(cluster: Arc<Cluster>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(async || "ok"))
        .route("/version", get(discovery::version))
        .fallback(dispatch)
        .with_state(cluster)
}

async fn dispatch(State(cluster): State<Arc<Cluster>>, request: Request) -> Response {
    let user = match request.extensions().get::<User>() {
        Some(user) => Ok(user.clone()),
        None => cluster.auth.authenticate(request.headers()),
    };
    let user = match user {
        Ok(user) => user,
        Err(error) => return error.into_response(),
    };
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let answer = match parse(&segments) {
        Some(target) => resource(&cluster, user, target, request).await,
        None if *request.method() == Method::GET => discovery::answer(&cluster, &segments),
        None => Err(ApiError::path_not_found()),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// What a resource path names.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    group: &'a str,
    version: &'a str,
    namespace: Option<&'a str>,
    plural: &'a str,
    name: Option<&'a str>,
    subresource: Option<&'a str>,
}

fn parse<'a>(segments: &[&'a str]) -> Option<Target<'a>> {
    let (group, version, rest) = match segments {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        // The Namespace's own subresources, not a resource in it.
        ["namespaces", _, "status" | "finalize"] => (None, rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
        _ => (None, rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some(*name), None),
        [plural, name, subresource] => (*plural, Some(*name), Some(*subresource)),
        _ => return None,
    };
    Some(Target { group, version, namespace, plural, name, subresource })
}

async fn resource(cluster: &Arc<Cluster>, user: User, target: Target<'_>, request: Request) -> Result<Response> {
    let (mut parts, content) = request.into_parts();
    if target.group == "authentication.k8s.io" && target.plural == "tokenreviews" && parts.method == Method::POST {
        return subresource::token_review(cluster, body::object(&parts.headers, content).await?);
    }
    let kind =
        cluster.registry.get(target.group, target.version, target.plural).ok_or_else(ApiError::path_not_found)?;
    if target.name.is_some() && kind.namespaced != target.namespace.is_some() {
        return Err(ApiError::path_not_found());
    }
    let Query(query) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let call = Call::new(
        cluster.clone(),
        user,
        kind,
        target.namespace.map(str::to_owned),
        target.name.map(str::to_owned),
        target.subresource.map(str::to_owned),
        query,
    );
    rbac::authorize(&call, &parts.method)?;
    let subresource = target.subresource;
    if let Some(subresource @ ("exec" | "attach" | "portforward")) = subresource {
        if subresource != "exec" || !call.kind.is_pod() {
            return Err(ApiError::path_not_found());
        }
        let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &())
            .await
            .map_err(|_| ApiError::bad_request("Upgrade request required"))?;
        return exec::start(&call, upgrade).await;
    }
    if parts.method == Method::GET && subresource == Some("log") && call.kind.is_pod() {
        return logs::read(&call).await;
    }
    let answer = verb(&call, &parts.method, &parts.headers, content).await?;
    Ok(call.with_warnings(answer))
}

async fn verb(call: &Call, method: &Method, headers: &HeaderMap, content: axum::body::Body) -> Result<Response> {
    let named = call.name.is_some();
    match (method, named, call.subresource.as_deref()) {
        (&Method::GET, _, None) if call.flag("watch") => watch::start(call),
        (&Method::GET, true, None) => read::get(call),
        (&Method::GET, false, None) => read::list(call),
        (&Method::GET, true, Some("status")) if call.kind.status => read::get(call),
        (&Method::GET, true, Some("ephemeralcontainers")) if call.kind.is_pod() => read::get(call),
        (&Method::GET, true, Some("scale")) if call.kind.scale => subresource::get_scale(call),
        (&Method::POST, false, None) => create::post(call, body::object(headers, content).await?).await,
        (&Method::POST, true, Some(name)) => subresource::post(call, name, body::object(headers, content).await?).await,
        (&Method::PUT, true, Some("scale")) if call.kind.scale => {
            subresource::put_scale(call, body::object(headers, content).await?).await
        }
        (&Method::PUT, true, _) => update::put(call, body::object(headers, content).await?).await,
        (&Method::PATCH, true, _) => patch::patch(call, headers, content).await,
        (&Method::DELETE, true, None) => delete::one(call, body::optional(headers, content).await?).await,
        (&Method::DELETE, false, None) => delete::collection(call, body::optional(headers, content).await?).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("api/v1/pods", ("", "v1", None, "pods", None, None))]
    #[case("api/v1/namespaces", ("", "v1", None, "namespaces", None, None))]
    #[case("api/v1/namespaces/a", ("", "v1", None, "namespaces", Some("a"), None))]
    #[case("api/v1/namespaces/a/status", ("", "v1", None, "namespaces", Some("a"), Some("status")))]
    #[case("api/v1/namespaces/a/pods", ("", "v1", Some("a"), "pods", None, None))]
    #[case("api/v1/namespaces/a/pods/b/log", ("", "v1", Some("a"), "pods", Some("b"), Some("log")))]
    #[case("apis/apps/v1/namespaces/a/deployments/d", ("apps", "v1", Some("a"), "deployments", Some("d"), None))]
    fn paths(#[case] path: &str, #[case] expected: (&str, &str, Option<&str>, &str, Option<&str>, Option<&str>)) {
        let segments: Vec<_> = path.split('/').collect();
        let Target { group, version, namespace, plural, name, subresource } = parse(&segments).expect("a resource");
        assert_eq!((group, version, namespace, plural, name, subresource), expected);
    }

    #[rstest]
    #[case("api")]
    #[case("api/v1")]
    #[case("apis/apps/v1")]
    #[case("openapi/v2")]
    fn not_resources(#[case] path: &str) {
        assert_eq!(parse(&path.split('/').collect::<Vec<_>>()), None);
    }
}
