//! The exchange in production: reqwest over rustls with the ring provider.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::call::{AnswerBody, BoxError, CallError, HttpCall, Upgrade};

/// The longest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Connections nobody used for this long are closed, before a server or a firewall does it.
const IDLE_CONNECTION: Duration = Duration::from_secs(60);
const AGENT: &str = concat!("eap-client/", env!("CARGO_PKG_VERSION"));

/// Loading the system's certificates takes a while, so all clients of a process share them.
static TLS: LazyLock<rustls::ClientConfig> = LazyLock::new(tls_config);

/// Exchanges over sockets: HTTP/1.1, a pool of kept connections, TLS by the system's certificates;
/// no redirects, no proxy, no decompression.
///
/// The connections live on the runtime that first used them, so that each runtime is best given a
/// `ReqwestCall` of its own. A clone shares the connections.
#[derive(Clone, Debug)]
pub struct ReqwestCall {
    client: reqwest::Client,
}

impl ReqwestCall {
    /// Builds a client that has no connections yet.
    ///
    /// # Errors
    ///
    /// The client cannot be set up ([`CallError::Setup`]).
    pub fn new() -> Result<Self, CallError> {
        let client = reqwest::Client::builder()
            .user_agent(AGENT)
            .tls_backend_preconfigured(TLS.clone())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE_CONNECTION)
            .build()
            .map_err(|error| CallError::Setup { source: cause(error) })?;
        Ok(Self { client })
    }

    async fn head(&self, request: http::Request<Bytes>) -> Result<reqwest::Response, CallError> {
        let request = reqwest::Request::try_from(request).map_err(|error| CallError::Setup { source: cause(error) })?;
        self.client.execute(request).await.map_err(classify)
    }

    async fn exchange(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, CallError> {
        whole(self.head(request).await?).await
    }
}

async fn whole(mut response: reqwest::Response) -> Result<http::Response<Bytes>, CallError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(classify)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(CallError::TooLarge { limit: MAX_ANSWER_BYTES });
        }
        body.extend_from_slice(&chunk);
    }
    let mut answer = http::Response::new(body.freeze());
    *answer.status_mut() = response.status();
    *answer.headers_mut() = std::mem::take(response.headers_mut());
    Ok(answer)
}

#[async_trait]
impl HttpCall for ReqwestCall {
    async fn call(
        &self,
        request: http::Request<Bytes>,
        deadline: Duration,
    ) -> Result<http::Response<Bytes>, CallError> {
        tokio::time::timeout(deadline, self.exchange(request)).await.unwrap_or(Err(CallError::Timeout { deadline }))
    }

    async fn open(
        &self,
        request: http::Request<Bytes>,
        deadline: Duration,
    ) -> Result<http::Response<Box<dyn AnswerBody>>, CallError> {
        let head = tokio::time::timeout(deadline, self.head(request)).await;
        let mut response = head.unwrap_or(Err(CallError::Timeout { deadline }))?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut answer = http::Response::new(Box::new(Pieces(response)) as Box<dyn AnswerBody>);
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }

    async fn upgrade(&self, request: http::Request<Bytes>, deadline: Duration) -> Result<Upgrade, CallError> {
        let exchange = async {
            let mut response = self.head(request).await?;
            if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
                return whole(response).await.map(Upgrade::Answered);
            }
            let headers = std::mem::take(response.headers_mut());
            let connection = response.upgrade().await.map_err(classify)?;
            Ok(Upgrade::Switched(headers, Box::new(connection)))
        };
        tokio::time::timeout(deadline, exchange).await.unwrap_or(Err(CallError::Timeout { deadline }))
    }
}

/// An answer whose body is read as it comes.
struct Pieces(reqwest::Response);

#[async_trait]
impl AnswerBody for Pieces {
    async fn piece(&mut self) -> Result<Option<Bytes>, CallError> {
        self.0.chunk().await.map_err(classify)
    }
}

fn classify(error: reqwest::Error) -> CallError {
    if error.is_connect() {
        CallError::Connect { source: cause(error) }
    } else if error.is_builder() {
        CallError::Setup { source: cause(error) }
    } else {
        CallError::Broken { source: cause(error) }
    }
}

/// A URL may name internal hosts, and nobody needs it twice.
fn cause(error: reqwest::Error) -> BoxError {
    Box::new(error.without_url())
}

fn tls_config() -> rustls::ClientConfig {
    let builder = || {
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the ring provider has the default TLS versions")
    };
    match builder().with_platform_verifier() {
        Ok(verified) => verified.with_no_client_auth(),
        // A machine without certificates can still speak plain HTTP to its loopback; every TLS
        // handshake then fails for want of a trusted issuer.
        Err(_) => builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth(),
    }
}
