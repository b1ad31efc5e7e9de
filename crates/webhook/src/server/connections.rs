//! Connections: accepting, the TLS handshake, HTTP/1.1 and HTTP/2, and ending them in order.

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// How long a client may take for the handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// What lies between TCP and HTTP.
#[derive(Clone)]
pub(super) enum Acceptor {
    /// Nothing.
    Plain,
    /// TLS.
    Tls(TlsAcceptor),
}

/// Accepts until `stopping` turns true, then waits for every connection to finish the request that it is at.
pub(super) async fn serve(listener: TcpListener, acceptor: Acceptor, routes: Router, stopping: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop(stopping.clone()));
    loop {
        tokio::select! {
            () = stop.as_mut() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let (acceptor, routes, stopping) = (acceptor.clone(), routes.clone(), stopping.clone());
                    connections.spawn(async move {
                        if let Err(error) = connection(stream, acceptor, routes, stopping).await {
                            tracing::debug!(%peer, %error, "connection ended early");
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, mostly: let some connections end before the next try.
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn connection(stream: TcpStream, acceptor: Acceptor, routes: Router, stopping: watch::Receiver<bool>) -> Outcome {
    stream.set_nodelay(true)?;
    match acceptor {
        Acceptor::Plain => http(stream, routes, stopping).await,
        Acceptor::Tls(acceptor) => {
            let stream = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await??;
            http(stream, routes, stopping).await
        }
    }
}

async fn http<S>(stream: S, routes: Router, stopping: watch::Receiver<bool>) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stop(stopping) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Completes when the server is to stop.
async fn stop(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end as well.
    stopping.wait_for(|stop| *stop).await.ok();
}
