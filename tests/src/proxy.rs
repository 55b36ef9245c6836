//! A proxy that loses what its owner wants lost: HTTP calls and the frames of WebSockets, there and back.
//!
//! It stands on the way to a server or to an agent that serves, and asks for the fate of everything that passes: each
//! request, each answer, each frame. What it loses, it loses as a network does: the connection breaks, and only the
//! side that would have received knows nothing.

mod frames;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// Which way something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// A request, or a frame to the side that listens.
    Out,
    /// An answer, or a frame to the side that connected.
    Back,
}

/// Something that passes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Passing<'a> {
    /// The call: the last segment of its path that is no id, such as `lease` or `result`; of a frame, its type, such as
    /// `task.assigned`, and of one that answers, the type of the frame that it answers. A control frame of the WebSocket has no type and is never asked about.
    pub what: &'a str,
    /// Which way it goes.
    pub leg: Leg,
    /// The body of a request or of an answer, or the text of a frame.
    pub body: &'a [u8],
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Arrives,
    /// It is lost, and its connection with it.
    Breaks,
}

type Decide = dyn Fn(Passing<'_>) -> Fate + Send + Sync;

/// A proxy that runs until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    accepting: AbortHandle,
}

struct Route {
    target: SocketAddr,
    decide: Box<Decide>,
}

impl Proxy {
    /// Starts one on a free port of loopback, in the present runtime.
    ///
    /// # Errors
    ///
    /// If there is no port to be had.
    pub async fn start(
        target: SocketAddr,
        decide: impl Fn(Passing<'_>) -> Fate + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = listener.local_addr()?;
        let route = Arc::new(Route { target, decide: Box::new(decide) });
        let accepting = tokio::spawn(accept(listener, route)).abort_handle();
        Ok(Self { address, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base of what is behind it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Connections belong to it: with the proxy, all of them go.
async fn accept(listener: TcpListener, route: Arc<Route>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let _ = stream.set_nodelay(true);
        connections.spawn(serve(stream, Arc::clone(&route)));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection from the side that calls; it has one of its own to the other side, as long as that lasts.
async fn serve(stream: TcpStream, route: Arc<Route>) {
    let (upstream, tunnels) = (Arc::new(tokio::sync::Mutex::new(None)), Arc::new(Mutex::new(JoinSet::new())));
    let service = service_fn(|request| {
        let (route, upstream, tunnels) = (Arc::clone(&route), Arc::clone(&upstream), Arc::clone(&tunnels));
        async move { pass(request, &route, &upstream, &tunnels).await }
    });
    // A call that breaks ends the connection without an answer, which is the point.
    let _ = server::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    let mut tunnels = std::mem::take(&mut *tunnels.lock().unwrap_or_else(PoisonError::into_inner));
    while tunnels.join_next().await.is_some() {}
}

type Upstream = tokio::sync::Mutex<Option<client::SendRequest<Full<Bytes>>>>;
type Tunnels = Mutex<JoinSet<()>>;

async fn pass(
    mut request: Request<Incoming>,
    route: &Arc<Route>,
    upstream: &Upstream,
    tunnels: &Tunnels,
) -> io::Result<Response<Full<Bytes>>> {
    let what = name_of(request.method(), request.uri().path()).to_owned();
    let caller = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    route.decide(&what, Leg::Out, &body)?;
    let mut answer = send(Request::from_parts(head, Full::new(body)), route.target, upstream).await?;
    let callee = hyper::upgrade::on(&mut answer);
    let (head, body) = answer.into_parts();
    let body = if head.status == StatusCode::SWITCHING_PROTOCOLS {
        Bytes::new()
    } else {
        body.collect().await.map_err(io::Error::other)?.to_bytes()
    };
    route.decide(&what, Leg::Back, &body)?;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let route = Arc::clone(route);
        tunnels.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move {
            if let (Ok(caller), Ok(callee)) = (caller.await, callee.await) {
                frames::tunnel(TokioIo::new(caller), TokioIo::new(callee), |what, leg, text| {
                    route.decide(what, leg, text)
                })
                .await;
            }
        });
    }
    Ok(Response::from_parts(head, Full::new(body)))
}

/// Sends over the connection that there is, or over a new one.
async fn send(
    request: Request<Full<Bytes>>,
    target: SocketAddr,
    upstream: &Upstream,
) -> io::Result<Response<Incoming>> {
    let mut kept = upstream.lock().await;
    let mut sender = match kept.take() {
        Some(sender) if !sender.is_closed() => sender,
        _ => connect(target).await?,
    };
    if sender.ready().await.is_err() {
        sender = connect(target).await?;
    }
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    *kept = Some(sender);
    Ok(answer)
}

async fn connect(target: SocketAddr) -> io::Result<client::SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = client::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

impl Route {
    fn decide(&self, what: &str, leg: Leg, body: &[u8]) -> io::Result<()> {
        match (self.decide)(Passing { what, leg, body }) {
            Fate::Arrives => Ok(()),
            Fate::Breaks => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

/// What a call is about: `lease` of `…/tasks/lease`, `task` of `DELETE /task/0198…`.
fn name_of<'a>(method: &Method, path: &'a str) -> &'a str {
    let mut segments = path.rsplit('/').filter(|segment| !segment.is_empty());
    let last = segments.next().unwrap_or_default();
    if method == Method::DELETE { segments.next().unwrap_or(last) } else { last }
}
