//! The agent's side of the network, which loses and changes what the test wants.

use std::fmt;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use eap_agent_sdk::{CallError, HttpCall};
use eap_client::ReqwestCall;
use tokio::time::timeout;

/// What passes the network: a request on its way out, or an answer on its way in.
#[derive(Debug)]
pub(crate) enum Passing<'a> {
    Request,
    Answer(&'a mut http::Response<Bytes>),
}

/// What the network does with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    Arrives,
    /// Nobody hears anything until the call's time is over.
    Vanishes,
    /// The connection breaks at once.
    Breaks,
}

type Meddle = dyn Fn(&str, Passing<'_>) -> Fate + Send + Sync;

/// Real sockets, behind a function that sees the path of each request and of each answer and decides its fate.
pub(crate) struct Network {
    sockets: ReqwestCall,
    meddle: Box<Meddle>,
}

impl Network {
    pub(crate) fn new(meddle: impl Fn(&str, Passing<'_>) -> Fate + Send + Sync + 'static) -> Arc<Self> {
        let sockets = ReqwestCall::new().expect("the client has nothing that could be wrong");
        Arc::new(Self { sockets, meddle: Box::new(meddle) })
    }
}

#[async_trait]
impl HttpCall for Network {
    async fn call(
        &self,
        request: http::Request<Bytes>,
        deadline: Duration,
    ) -> Result<http::Response<Bytes>, CallError> {
        let path = request.uri().path().to_owned();
        let mut fate = (self.meddle)(&path, Passing::Request);
        if fate == Fate::Arrives {
            let mut answer = self.sockets.call(request, deadline).await?;
            fate = (self.meddle)(&path, Passing::Answer(&mut answer));
            if fate == Fate::Arrives {
                return Ok(answer);
            }
        }
        if fate == Fate::Breaks {
            return Err(CallError::Broken { source: io::Error::from(io::ErrorKind::ConnectionReset).into() });
        }
        let _: Result<(), _> = timeout(deadline, pending()).await;
        Err(CallError::Timeout { deadline })
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}
