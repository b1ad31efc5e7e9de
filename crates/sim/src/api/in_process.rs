//! A `kube::Client` that calls the router in this process: no socket, no TLS.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::UPGRADE;
use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;
use tower::{BoxError, ServiceExt};

use super::auth::User;

/// Makes the client of a user whom the server does not ask for a token.
pub(crate) fn client(router: axum::Router, user: User, stop: CancellationToken) -> kube::Client {
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let (router, user, stop) = (router.clone(), user.clone(), stop.clone());
        async move {
            if stop.is_cancelled() {
                return Ok((StatusCode::SERVICE_UNAVAILABLE, "the API server has stopped").into_response());
            }
            let mut request = request.map(Body::new);
            if request.headers().contains_key(UPGRADE) {
                return upgraded(router, user, request).await;
            }
            request.extensions_mut().insert(user);
            router.oneshot(request).await.map_err(|never: Infallible| match never {})
        }
    });
    kube::Client::new(service, "default")
}

/// An upgrade needs a connection to take over: a pair of pipes.
async fn upgraded(router: axum::Router, user: User, request: Request<Body>) -> Result<Response, BoxError> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let router = router.layer(axum::Extension(user));
    tokio::spawn(
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(far), TowerToHyperService::new(router))
            .with_upgrades(),
    );
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
    tokio::spawn(connection.with_upgrades());
    Ok(sender.send_request(request).await?.map(Body::new))
}
