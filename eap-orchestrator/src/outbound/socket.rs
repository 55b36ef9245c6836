//! The exchange over a socket: one connection for each, to an address that was just allowed.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{HOST, LOCATION, USER_AGENT};
use http::{HeaderValue, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use url::Host;

use super::names::{Names, SystemNames};
use super::{CallLimits, Configured, OutboundCall, OutboundError};
use crate::canary;
use crate::guard::{Endpoint, Guard, Rules};
use crate::store::BoxError;

/// How long finding the address, connecting and securing the connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How many addresses of one name are tried.
const MAX_PLACES: usize = 8;
/// Headers of an answer, and the bytes they may fill.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 32 * 1024;
const AGENT: HeaderValue = HeaderValue::from_static(concat!("eap-orchestrator/", env!("CARGO_PKG_VERSION")));

/// Exchanges over sockets: HTTP/1.1 on a connection of their own, TLS by the system's certificates.
#[derive(Debug)]
pub(crate) struct SocketCall {
    guard: Arc<Guard>,
    names: Box<dyn Names>,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl SocketCall {
    pub(crate) fn new(guard: Arc<Guard>) -> Self {
        Self::with_names(guard, Box::new(SystemNames))
    }

    pub(super) fn with_names(guard: Arc<Guard>, names: Box<dyn Names>) -> Self {
        Self { guard, names, tls: OnceLock::new() }
    }

    /// Where to dial: asked anew for each exchange, because a name may lead elsewhere by now.
    async fn places(&self, endpoint: &Endpoint, is_configured: bool) -> Result<Vec<SocketAddr>, OutboundError> {
        let refused = |refused| OutboundError::Policy { source: Box::new(refused) };
        // A name that is not allowed at all is not even looked up.
        let rules = self.guard.rules();
        let rules = if is_configured { Arc::new(Rules::clone(&rules).without_profile()) } else { rules };
        rules.admit(endpoint).map_err(refused)?;
        let resolved = match endpoint.host() {
            Host::Domain(name) => self.names.addresses(name).await.map_err(connect)?,
            Host::Ipv4(_) | Host::Ipv6(_) => Vec::new(),
        };
        if resolved.is_empty() && endpoint.address().is_none() {
            return Err(connect("the name has no address"));
        }
        rules.places(endpoint, &resolved).map_err(refused)
    }

    async fn connect(&self, endpoint: &Endpoint, is_configured: bool) -> Result<Box<dyn Io>, OutboundError> {
        let last = Instant::now() + CONNECT;
        let timely = async {
            let places = self.places(endpoint, is_configured).await?;
            let socket = dial(&places, last).await?;
            if endpoint.is_plain() {
                return Ok(Box::new(socket) as Box<dyn Io>);
            }
            let secure = self.connector().connect(server_name(endpoint)?, socket).await;
            Ok(Box::new(secure.map_err(|error| OutboundError::Tls { source: error.into() })?) as Box<dyn Io>)
        };
        timeout_at(last, timely).await.unwrap_or(Err(OutboundError::Timeout { connected: false }))
    }

    fn connector(&self) -> TlsConnector {
        // The certificates are read when they are first needed, which for most servers is never.
        TlsConnector::from(Arc::clone(self.tls.get_or_init(|| Arc::new(tls_config()))))
    }
}

#[async_trait]
impl OutboundCall for SocketCall {
    async fn call(
        &self,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> Result<http::Response<Bytes>, OutboundError> {
        let last = Instant::now() + limits.deadline;
        let endpoint = Endpoint::parse(&request.uri().to_string())
            .map_err(|refused| OutboundError::Policy { source: Box::new(refused) })?;
        let is_configured = request.extensions().get::<Configured>().is_some();
        let connecting = timeout_at(last, self.connect(&endpoint, is_configured)).await;
        let io = connecting.unwrap_or(Err(OutboundError::Timeout { connected: false }))?;
        let exchange = exchange(io, addressed(request, &endpoint)?, limits.answer);
        let answer = timeout_at(last, exchange).await.unwrap_or(Err(OutboundError::Timeout { connected: true }))?;
        if canary::sings("redirects-followed")
            && let Some(next) = elsewhere(&answer)
        {
            return self.call(next, limits).await;
        }
        Ok(answer)
    }
}

/// The call that somebody who follows redirects would make next: the fault that T2 is about.
fn elsewhere(answer: &http::Response<Bytes>) -> Option<http::Request<Bytes>> {
    let location = answer.headers().get(LOCATION).filter(|_| answer.status().is_redirection())?;
    http::Request::get(location.as_bytes()).body(Bytes::new()).ok()
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Tries one place after the other; each gets its share of the time that is left, so that one that swallows everything
/// does not use it up.
async fn dial(places: &[SocketAddr], last: Instant) -> Result<TcpStream, OutboundError> {
    let places = &places[..places.len().min(MAX_PLACES)];
    let mut outcome = OutboundError::Timeout { connected: false };
    for (tried, place) in places.iter().enumerate() {
        let left = u32::try_from(places.len() - tried).unwrap_or(1);
        let share = last.saturating_duration_since(Instant::now()) / left;
        match timeout(share, TcpStream::connect(place)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => outcome = connect(error),
            Err(_) => outcome = OutboundError::Timeout { connected: false },
        }
    }
    Err(outcome)
}

fn connect(source: impl Into<BoxError>) -> OutboundError {
    OutboundError::Connect { source: source.into() }
}

fn server_name(endpoint: &Endpoint) -> Result<ServerName<'static>, OutboundError> {
    match endpoint.host() {
        Host::Domain(name) => {
            ServerName::try_from(name.clone()).map_err(|error| OutboundError::Tls { source: error.into() })
        }
        Host::Ipv4(address) => Ok(ServerName::from(std::net::IpAddr::V4(*address))),
        Host::Ipv6(address) => Ok(ServerName::from(std::net::IpAddr::V6(*address))),
    }
}

/// The request as it is written: the path alone in its first line, the host in a header.
fn addressed(request: http::Request<Bytes>, endpoint: &Endpoint) -> Result<http::Request<Full<Bytes>>, OutboundError> {
    let broken = |error: http::Error| OutboundError::Broken { source: error.into() };
    let uri: Uri = endpoint.as_str().parse().map_err(|error: http::uri::InvalidUri| broken(error.into()))?;
    let (mut parts, body) = request.into_parts();
    let host = uri.authority().map_or("", http::uri::Authority::as_str);
    parts.headers.insert(HOST, HeaderValue::from_str(host).map_err(|error| broken(error.into()))?);
    parts.headers.entry(USER_AGENT).or_insert(AGENT);
    parts.uri = uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
    parts.version = http::Version::HTTP_11;
    Ok(http::Request::from_parts(parts, Full::new(body)))
}

async fn exchange(
    io: Box<dyn Io>,
    request: http::Request<Full<Bytes>>,
    limit: Option<usize>,
) -> Result<http::Response<Bytes>, OutboundError> {
    let broken = |error: hyper::Error| OutboundError::Broken { source: Box::new(error) };
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .handshake(TokioIo::new(io))
        .await
        .map_err(broken)?;
    let mut answered = pin!(async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (parts, mut body) = response.into_parts();
        let mut read = BytesMut::new();
        if let Some(limit) = limit {
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
                if read.len() + data.len() > limit {
                    return Err(OutboundError::TooLong { limit });
                }
                read.extend_from_slice(&data);
            }
        }
        Ok(http::Response::from_parts(parts, read.freeze()))
    });
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        answer = &mut answered => return answer,
        // Its error is what the exchange ends with, too; what arrived before the end can still be read.
        _ = &mut connection => {}
    }
    answered.await
}

fn tls_config() -> ClientConfig {
    let builder = || {
        ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the ring provider has the default TLS versions")
    };
    match builder().with_platform_verifier() {
        Ok(verified) => verified.with_no_client_auth(),
        // A machine without certificates trusts nobody: every handshake fails.
        Err(_) => builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
    }
}
