//! The HTTP server: takes connections, within limits, and gives their requests to the routes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::buffers::Buffers;
use super::connection::Connection;
use super::image::Images;
use super::threads::Threads;

/// Linux's own. BBR, which some systems use instead, sends by a timer, which on a LAN brings nothing
/// and takes a quarter of the speed. A connection that began with it keeps the timer, so that the
/// choice is the listener's.
const CONGESTION_CONTROL: &[u8] = b"cubic";
/// The most connections at a time; more wait until one ends.
const CONNECTIONS: usize = 8192;
/// How long a client may take for a request's head, and rest between two requests.
const HEAD: Duration = Duration::from_secs(30);
/// The longest head of a request, in octets.
const HEAD_SIZE: usize = 16 << 10;
/// How long downloads may go on after the shutdown was asked for.
const GRACE: Duration = Duration::from_secs(2);
/// How long to wait when the kernel has no file descriptor or memory left for a connection.
const BREATHER: Duration = Duration::from_millis(100);

/// Serves `router` until `shutdown`, then lets running downloads go on for two seconds.
///
/// # Errors
/// None: what goes wrong with a connection ends that connection.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> Result<()> {
    let (images, buffers) = (Images::default(), Buffers::default());
    serve_images(listener, router, images, buffers, Threads::here(), shutdown).await
}

/// As [`serve`], for routes that answer with `images`, on `threads`.
pub(super) async fn serve_images(
    listener: TcpListener,
    router: Router,
    images: Images,
    buffers: Buffers,
    threads: Threads,
    shutdown: CancellationToken,
) -> Result<()> {
    // Where the system has not got it images still arrive.
    let _ = SockRef::from(&listener).set_tcp_congestion(CONGESTION_CONTROL);
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    while let Some(permit) = shutdown.run_until_cancelled(connections.clone().acquire_owned()).await
    {
        let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await else { break };
        match accepted.and_then(|(socket, client)| Ok((socket.into_std()?, client))) {
            Ok((socket, client)) => {
                let (images, buffers) = (images.clone(), buffers.clone());
                let (router, watcher) = (router.clone(), graceful.watcher());
                threads.spawn(async move {
                    let end = match Connection::new(socket, images, buffers) {
                        Ok(connection) => {
                            let serving = watcher.watch(speak_http(connection, client, router));
                            serving.await.map_err(anyhow::Error::from)
                        }
                        Err(error) => Err(error.into()),
                    };
                    if let Err(error) = end {
                        debug!(%client, error = format!("{error:#}"), "connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "cannot take a connection");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(GRACE) => {}
    }
    Ok(())
}

/// Answers a client's requests, one after the other.
fn speak_http(
    connection: Connection,
    client: SocketAddr,
    router: Router,
) -> impl GracefulConnection<Error = hyper::Error> {
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(client));
        router.clone().oneshot(request.map(Body::new))
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_SIZE)
        // Pieces of images must reach the connection where they lie, not as copies.
        .writev(true)
        .serve_connection(TokioIo::new(connection), answer)
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
