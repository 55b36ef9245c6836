//! An agent's WebSocket (docs/protocol.md section 3, `GET …/{id}/ws`): tasks come over it, and reports go over it.

mod conversation;
mod handshake;
mod line;

use std::fmt;

use eap_types::socket::{CancelNotice, Credit, Established, FrameKind};
use eap_types::{Assignment, Directive};
use serde_json::value::to_raw_value;
use tokio::sync::mpsc;

use crate::call::BoxError;

pub(crate) use self::handshake::open;
pub(crate) use self::line::Line;
use self::line::{Outgoing, Sender};

/// An open WebSocket of an agent. Dropping it closes the connection, once what was reported over it has its answers.
///
/// It is served in the background: pings are answered, reports are sent and answered, also while nobody waits for
/// [`AgentSocket::next`].
pub struct AgentSocket {
    established: Established,
    line: Line,
    outgoing: Sender,
    events: mpsc::Receiver<Result<SocketEvent, SocketEnd>>,
}

/// What a server brings by itself.
#[derive(Debug)]
#[non_exhaustive]
pub enum SocketEvent {
    /// Tasks with their leases that the agent holds and did not list in its hello; they use no credit.
    Again(Vec<Assignment>),
    /// New tasks with their leases.
    Assigned(Vec<Assignment>),
    /// Work on a task is to stop.
    Cancel(CancelNotice),
    /// Something else the agent is asked to do.
    Directive(Directive),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketEnd {
    /// The server closed it, with one of the codes of [`eap_types::socket`] or of RFC 6455.
    #[error("the server closed the WebSocket with the code {code}")]
    Closed {
        /// The code; 1005 if there was none.
        code: u16,
    },
    /// It broke, was silent for too long, or what came was no WebSocket.
    #[error("the WebSocket broke")]
    Broken {
        /// What happened to it.
        #[source]
        source: BoxError,
    },
}

impl AgentSocket {
    /// The limits of the connection, as the server said them first.
    pub fn established(&self) -> &Established {
        &self.established
    }

    /// Lets the server bring so many tasks more than said so far.
    pub fn credit(&self, tasks: u32) {
        let payload = to_raw_value(&Credit::new(tasks)).expect("a number has a JSON form");
        // If the connection is over, `next` says so.
        let _ = self.outgoing.try_send(Outgoing { kind: FrameKind::Credit, payload, answer: None });
    }

    /// Waits for what the server brings. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// The connection is over. What was reported over it and has no answer may have arrived.
    pub async fn next(&mut self) -> Result<SocketEvent, SocketEnd> {
        let over = || Err(SocketEnd::Broken { source: "it ended before".into() });
        self.events.recv().await.unwrap_or_else(over)
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        self.line.leave(&self.outgoing);
    }
}

impl fmt::Debug for AgentSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentSocket").field("established", &self.established).finish_non_exhaustive()
    }
}
