//! Tasks that the orchestrator brings: an endpoint of the agent's own, or a router in its author's service.

mod accept;
mod caller;
mod counter;
mod serve;
mod transport;

use std::io;
use std::net::{SocketAddr, TcpListener};

pub(crate) use self::counter::Counter;
pub(crate) use self::serve::{router, serve};
pub(crate) use self::transport::Pushed;

/// How an agent is reached that tasks are pushed to; see [`AgentBuilder::push`](crate::AgentBuilder::push).
///
/// While the orchestrator says that it pushes nothing (it could not reach the endpoint for long), the agent asks for its
/// tasks, and stops asking when pushes are back.
#[derive(Clone, Debug)]
pub struct Push {
    place: Place,
    url: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Listen(SocketAddr),
    Mounted,
}

impl Push {
    /// Serves on a listener of the agent's own. Port 0 takes a free one.
    ///
    /// It has at most 256 connections open, and one more for each task that the agent may hold; further ones wait.
    /// It speaks plain HTTP; in front of other networks belongs a proxy that ends TLS, and [`Push::reached_at`].
    #[must_use]
    pub fn listen(address: SocketAddr) -> Self {
        Self { place: Place::Listen(address), url: None }
    }

    /// Serves where the author mounts [`Agent::router`](crate::Agent::router); `url` is what leads there.
    #[must_use]
    pub fn mounted(url: impl Into<String>) -> Self {
        Self { place: Place::Mounted, url: Some(url.into()) }
    }

    /// Sets the URL under which the orchestrator reaches the agent. Default: the listener's address.
    #[must_use]
    pub fn reached_at(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Binds the listener, if there is to be one, so that its port is known before the agent registers.
    pub(crate) fn open(&self) -> io::Result<(Option<TcpListener>, String)> {
        let listener = match self.place {
            Place::Mounted => None,
            Place::Listen(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Some(listener)
            }
        };
        let url = match (&self.url, &listener) {
            (Some(url), _) => url.clone(),
            (None, Some(listener)) => format!("http://{}", listener.local_addr()?),
            (None, None) => String::new(),
        };
        Ok((listener, url))
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self.place {
            Place::Listen(address) => Some(address),
            Place::Mounted => None,
        }
    }
}
