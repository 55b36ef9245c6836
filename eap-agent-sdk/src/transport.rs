//! How tasks reach the agent: the seam that each transport is behind.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use eap_client::AgentSession;
use eap_types::Assignment;

use crate::shared::Access;

/// Brings assignments: by long-poll (`pull.rs`), as what was pushed (`push`), over a WebSocket (`socket.rs`).
#[async_trait]
pub(crate) trait Transport: fmt::Debug + Send {
    /// Goes on with a new registration.
    fn connect(&mut self, access: &Arc<Access>, session: AgentSession);

    /// Brings nothing until it is connected again.
    fn disconnect(&mut self);

    /// Waits for assignments, for at most `free` tasks.
    ///
    /// Safe to drop: what is on its way stays so, and the next call goes on with it.
    async fn next(&mut self, free: usize) -> Received;
}

/// What a transport brought.
#[derive(Debug)]
pub(crate) enum Received {
    /// Tasks, of which some may be in the agent's hands already.
    Tasks {
        /// The tasks with their leases.
        assignments: Vec<Assignment>,
        /// When they were asked for.
        asked: Instant,
    },
    /// The token of this registration is dead.
    Unknown {
        /// Which registration it was.
        epoch: u64,
    },
}
