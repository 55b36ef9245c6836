//! Connections to the agent's own listener: no more than so many at once, and none that holds a place and says nothing.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// How long a connection may wait for the head of its next request.
const HEAD: Duration = Duration::from_secs(60);
/// How long nothing is accepted after a failure, such as too many open files.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until `stop`; then requests under way are answered.
///
/// A place first, then a connection: more than there are places wait in the kernel's queue.
pub(super) async fn accept(
    listener: &TcpListener,
    router: &Router,
    connections: usize,
    stop: impl Future<Output = ()> + Send,
) {
    let places = Arc::new(Semaphore::new(connections));
    let stopping = CancellationToken::new();
    let mut open = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        while open.try_join_next().is_some() {}
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            listener.accept().await.map(|(stream, _)| (stream, place))
        };
        let accepted: io::Result<_> = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let service = TowerToHyperService::new(router.clone());
                let stopping = stopping.clone();
                open.spawn(async move {
                    let mut http = http1::Builder::new();
                    let connection = http
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD)
                        .serve_connection(TokioIo::new(stream), service);
                    let mut connection = std::pin::pin!(connection);
                    let served = tokio::select! {
                        served = connection.as_mut() => served,
                        () = stopping.cancelled() => {
                            connection.as_mut().graceful_shutdown();
                            connection.await
                        }
                    };
                    if let Err(error) = served {
                        debug!(%error, "a connection to the agent ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                debug!(%error, "a connection to the agent was not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    stopping.cancel();
    while open.join_next().await.is_some() {}
}
