//! The listener as `eap serve` uses it: it says that it is open once that is so.

use std::io;
use std::net::SocketAddr;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tracing::debug;

use crate::output::tell;

/// A listener that announces itself when it is first asked for a connection: by then nothing can refuse the start.
#[derive(Debug)]
pub(super) struct Door {
    listener: TcpListener,
    announcement: Option<String>,
}

impl Door {
    /// A door that will tell `announcement`.
    pub(super) fn new(listener: TcpListener, announcement: String) -> Self {
        Self { listener, announcement: Some(announcement) }
    }
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        if let Some(announcement) = self.announcement.take() {
            tell(&announcement);
        }
        // Not `TcpListener::accept`: this one copes with errors.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        // Answers are short and each is awaited: none is held back to be sent with the next.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "TCP_NODELAY is not set");
        }
        (stream, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
