//! Why an agent could not be built, or ended.

use std::io;
use std::path::PathBuf;

use eap_client::{BoxError, ClientError};
use eap_types::AgentName;

/// Why an agent could not be built, or ended without being asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The builder was given values that cannot be; all problems are listed.
    #[error("the agent cannot be built: {}", .problems.join("; "))]
    Invalid {
        /// What is wrong, one sentence each.
        problems: Vec<String>,
    },
    /// The data directory cannot be used.
    #[error("cannot use {} in the data directory", .path.display())]
    DataDir {
        /// The file or directory concerned.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process uses the data directory.
    #[error("the data directory {} is in use by another process", .path.display())]
    DataDirLocked {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory belongs to an agent of another name or at another orchestrator: its token and
    /// its unsent results are not for this one.
    #[error("the data directory {} belongs to {name} at {url}: give each agent one of its own", .path.display())]
    DataDirOfAnother {
        /// The data directory.
        path: PathBuf,
        /// The agent that it belongs to.
        name: AgentName,
        /// The base URL of that agent's orchestrator.
        url: String,
    },
    /// The identity file could be read by others, and so could the token in it.
    #[error("{} can be read by group or others: make it 0600", .path.display())]
    IdentityExposed {
        /// The identity file.
        path: PathBuf,
    },
    /// The orchestrator refused to register the agent.
    #[error("the orchestrator did not register the agent")]
    Registration {
        /// The refusal.
        #[source]
        source: ClientError,
    },
    /// The orchestrator cannot be asked for tasks, because it is an older one.
    #[error("the orchestrator does not hand out tasks by long-poll")]
    PullNotServed,
    /// The address that tasks are to be pushed to cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process registers under the same name and instance id again and again.
    #[error("the agent's name and instance id are in use by another process")]
    IdentityInUse,
    /// The thread that sends heartbeats could not start, or ended.
    #[error("the heartbeat thread does not run")]
    Heartbeat {
        /// What went wrong.
        #[source]
        source: BoxError,
    },
    /// The agent's own task panicked or its runtime was shut down.
    #[error("the agent was cut off")]
    CutOff {
        /// What the runtime said.
        #[source]
        source: BoxError,
    },
}
