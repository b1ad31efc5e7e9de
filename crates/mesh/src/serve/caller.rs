//! Who asks, by the token that comes with a request.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use super::Shared;
use crate::acl::Rights;

/// Who asks: what a secret gave a right to when the request came, and the secret, which may lose it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) rights: Rights,
    secret: Option<String>,
}

impl Caller {
    /// An error unless this caller may write the service, as of now.
    pub(crate) fn must_write(&self, shared: &Shared, service: &str) -> Result<(), (StatusCode, String)> {
        let rights =
            shared.rights(self.secret.as_deref()).map_err(|error| (StatusCode::FORBIDDEN, error.to_string()))?;
        if rights.writes(service) {
            return Ok(());
        }
        Err((StatusCode::FORBIDDEN, rights.lacking("service:write", service)))
    }
}

/// Has every request to the routes come with a [`Caller`]; one whose token is unknown gets no further.
pub(crate) fn known(router: Router, shared: Arc<Shared>) -> Router {
    router.layer(from_fn_with_state(shared, resolve))
}

async fn resolve(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let secret = secret(request.headers(), request.uri().query());
    match shared.rights(secret.as_deref()) {
        Ok(rights) => {
            request.extensions_mut().insert(Caller { rights, secret });
            next.run(request).await
        }
        Err(error) => (StatusCode::FORBIDDEN, error.to_string()).into_response(),
    }
}

/// The secret in a request: of its query, or else of its headers.
pub(crate) fn secret(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let bearer = || text(header::AUTHORIZATION.as_str())?.strip_prefix("Bearer ");
    let of_query = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("token=")));
    let found = of_query.or_else(|| text("X-Consul-Token")).or_else(bearer)?.trim();
    (!found.is_empty()).then(|| found.to_owned())
}
