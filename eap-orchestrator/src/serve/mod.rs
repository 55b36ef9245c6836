//! The accept loop: HTTP/1.1 over any listener, with limits on connections, headers and idling.

mod deadline;
#[cfg(feature = "tls")]
mod tls;

use std::collections::HashMap;
use std::future::{Future, ready};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::serve::Listener;
use futures_util::TryFutureExt as _;
use futures_util::future::Either;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

pub(crate) use self::deadline::KeepsOpen;
use self::deadline::{Pace, WithDeadlines};
use crate::announce::lock;
use crate::auth::Ends;
use crate::config::{Access, Capacity, Tls};
use crate::error::StartError;
use crate::lifecycle::Lifecycle;
use crate::orchestrator::{Orchestrator, ShutdownReport};

/// Headers in one request, and the bytes they may fill.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// How long connections may finish once the store has failed: the process has to end (G6).
const GRACE_AFTER_FAILURE: Duration = Duration::from_secs(3);
/// What writes under way get at least, however long the connections took.
const GRACE_FOR_WRITES: Duration = Duration::from_secs(1);

pub(crate) async fn serve<L>(
    orchestrator: &Orchestrator,
    mut listener: L,
    stop: impl Future<Output = ()> + Send,
) -> Result<ShutdownReport, StartError>
where
    L: Listener<Addr = SocketAddr>,
{
    let address = listener.local_addr().map_err(StartError::Listener)?;
    refuse_exposed(orchestrator, address)?;
    let acceptor = Acceptor::of(&orchestrator.config().tls)?;
    // Before the start, with which pushes begin: what may be called depends on who can reach this server.
    orchestrator.lifecycle().guard.listens(address);
    if !orchestrator.is_started() {
        orchestrator.start().await?;
    }
    let mut failure = orchestrator.lifecycle().failure();
    info!(%address, "serving");

    let front = Arc::new(Front {
        router: whole_server(orchestrator),
        capacity: orchestrator.config().capacity.clone(),
        listener: address.ip(),
        stop: orchestrator.stopping().clone(),
        per_address: Mutex::default(),
        lifecycle: Arc::clone(orchestrator.lifecycle()),
    });
    let places = Arc::new(Semaphore::new(front.capacity.connections));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    tokio::pin!(stop);
    let failed = loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break None,
            () = front.stop.cancelled() => break None,
            Ok(reason) = async { failure.wait_for(Option::is_some).await.map(|reason| reason.clone()) } => {
                break reason;
            }
            accepted = accept(&mut listener, &places) => accepted,
        };
        let (io, peer, place) = accepted;
        let (front, acceptor, cut) = (Arc::clone(&front), acceptor.clone(), cut.clone());
        connections.spawn(async move {
            let _place = place;
            tokio::select! {
                () = cut.cancelled() => debug!(%peer, "connection cut"),
                () = front.connection(io, peer, acceptor) => {}
            }
        });
    };
    drop(listener);
    orchestrator.begin_stop();
    connections.close();
    let mut grace = orchestrator.config().timing.shutdown_grace;
    if failed.is_some() {
        grace = grace.min(GRACE_AFTER_FAILURE);
    }
    let began = Instant::now();
    let in_time = tokio::time::timeout(grace, connections.wait()).await.is_ok();
    let left = connections.len();
    cut.cancel();
    connections.wait().await;
    let left_over = grace.saturating_sub(began.elapsed()).max(GRACE_FOR_WRITES);
    let mut report = orchestrator.shutdown_within(left_over).await;
    report.connections_cut = if in_time { 0 } else { left };
    match failed {
        Some(reason) => Err(StartError::StoreFailed { reason }),
        None => Ok(report),
    }
}

/// The API, its metrics, and an answer of its own kind for every other path.
fn whole_server(orchestrator: &Orchestrator) -> Router {
    let fallback = Router::new().fallback(crate::http::no_route).with_state(orchestrator.clone());
    orchestrator.router().merge(orchestrator.metrics_router()).merge(fallback)
}

/// A place first, then a connection: more than the capacity wait in the kernel's queue.
async fn accept<L: Listener<Addr = SocketAddr>>(
    listener: &mut L,
    places: &Arc<Semaphore>,
) -> (L::Io, SocketAddr, tokio::sync::OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    let (io, peer) = listener.accept().await;
    (io, peer, place)
}

/// Off loopback every protection has to be there, or refused knowingly (docs/protocol.md, section 5).
fn refuse_exposed(orchestrator: &Orchestrator, address: SocketAddr) -> Result<(), StartError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    let config = orchestrator.config();
    let needed = [
        (config.all_operator_keys().next().is_some(), "operator_key"),
        (config.all_registration_secrets().next().is_some(), "registration_secret"),
        (config.tls != Tls::Undecided, "a TLS decision (tls: files, behind_proxy or plaintext)"),
    ];
    let missing: Vec<_> = needed.into_iter().filter(|(there, _)| !there).map(|(_, name)| name).collect();
    if missing.is_empty() {
        if config.access == Access::Open {
            warn!(%address, "access is open: calls that need no configured key are taken from everybody");
        }
        return Ok(());
    }
    Err(StartError::Exposed { address, missing })
}

/// What every connection shares.
struct Front {
    router: Router,
    capacity: Capacity,
    listener: IpAddr,
    stop: CancellationToken,
    per_address: Mutex<HashMap<IpAddr, usize>>,
    lifecycle: Arc<Lifecycle>,
}

impl Front {
    async fn connection<I>(self: Arc<Self>, io: I, peer: SocketAddr, acceptor: Acceptor)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(_counted) = Counted::new(&self, peer.ip()) else {
            debug!(%peer, "too many connections from one address");
            return;
        };
        match acceptor {
            Acceptor::Plain => self.http(io, peer).await,
            #[cfg(feature = "tls")]
            Acceptor::Tls(acceptor) => {
                let handshake = tokio::time::timeout(self.capacity.header_timeout, acceptor.accept(io));
                let shaken = tokio::select! {
                    shaken = handshake => shaken,
                    () = self.stop.cancelled() => return,
                };
                match shaken {
                    Ok(Ok(io)) => self.http(io, peer).await,
                    Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
                    Err(_) => debug!(%peer, "TLS handshake took too long"),
                }
            }
        }
    }

    async fn http<I>(&self, io: I, peer: SocketAddr)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let pace = Arc::new(Pace::new(self.capacity.header_timeout, self.capacity.idle_timeout));
        let io = TokioIo::new(WithDeadlines::new(io, Arc::clone(&pace)));
        let (router, listener) = (self.router.clone(), self.listener);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let busy = pace.busy();
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(Ends { listener, peer: peer.ip() });
            request.extensions_mut().insert(KeepsOpen(Arc::clone(&pace)));
            // A target that names a host of its own could differ from `Host`, which was checked.
            let answer = if request.uri().authority().is_none() {
                Either::Left(router.clone().oneshot(request))
            } else {
                Either::Right(ready(Ok(crate::http::bad_target())))
            };
            // A stream of events goes on long after its head was sent.
            answer.map_ok(|response| response.map(|body| busy.until_sent(body)))
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEADER_BYTES)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(io, service)
            .with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%peer, %error, "connection ended");
        }
    }
}

/// One connection counted for its address.
struct Counted<'a> {
    front: &'a Front,
    address: IpAddr,
}

impl<'a> Counted<'a> {
    fn new(front: &'a Front, address: IpAddr) -> Option<Self> {
        let mut counts = lock(&front.per_address);
        let count = counts.entry(address).or_default();
        if *count >= front.capacity.connections_per_address && !address.is_loopback() {
            front.lifecycle.metrics.connections.refused.add(1);
            return None;
        }
        *count += 1;
        drop(counts);
        front.lifecycle.metrics.connections.opened.add(1);
        Some(Self { front, address })
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.front.lifecycle.metrics.connections.closed.add(1);
        let mut counts = lock(&self.front.per_address);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// How a connection begins.
#[derive(Clone)]
enum Acceptor {
    Plain,
    #[cfg(feature = "tls")]
    Tls(tokio_rustls::TlsAcceptor),
}

impl Acceptor {
    fn of(tls: &Tls) -> Result<Self, StartError> {
        match tls {
            #[cfg(feature = "tls")]
            Tls::Files { cert, key } => Ok(Self::Tls(tls::acceptor(cert, key).map_err(StartError::Tls)?)),
            #[cfg(not(feature = "tls"))]
            Tls::Files { .. } => Err(StartError::Tls("built without the feature `tls`".into())),
            Tls::Undecided | Tls::BehindProxy | Tls::Plaintext => Ok(Self::Plain),
        }
    }
}
