//! Connections: accepting, the TLS handshake, HTTP/1.1 and HTTP/2, and ending them in order.

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// How long a client may take for the handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a client of HTTP/2 is asked whether it is there, and how long it may think about it.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Connections at one time. A further one waits in the kernel's queue until another ends; API servers keep a few each.
const CONNECTIONS: usize = 512;

/// Requests at one time on one connection of HTTP/2.
const STREAMS: u32 = 250;

/// What a connection of HTTP/2 may send before it is read: enough for a large review, and no more than a few of them.
const WINDOW: u32 = 1024 * 1024;

/// What lies between TCP and HTTP.
#[derive(Clone)]
pub enum Acceptor {
    /// Nothing.
    Plain,
    /// TLS.
    Tls(TlsAcceptor),
}

/// Accepts until `stopping` turns true, then waits for every connection to finish the request that it is at.
pub async fn serve(listener: TcpListener, acceptor: Acceptor, routes: Router, stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop(stopping.clone()));
    loop {
        let accept = async {
            // the semaphore is never closed
            let place = places.clone().acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        tokio::select! {
            () = stop.as_mut() => break,
            (place, accepted) = accept => match accepted {
                Ok((stream, peer)) => {
                    let (acceptor, routes, stopping) = (acceptor.clone(), routes.clone(), stopping.clone());
                    connections.spawn(async move {
                        let _place = place;
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
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .max_concurrent_streams(STREAMS)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW);
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
