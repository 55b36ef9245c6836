//! Why the mock could not be started, or was waited for in vain.

use std::net::SocketAddr;
use std::time::Duration;

/// Why the mock could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// What it was told makes no sense; all of it is named.
    #[error("{}", problems.join("; "))]
    Configuration {
        /// One sentence each.
        problems: Vec<String>,
    },
    /// It cannot listen there.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What was waited for did not come in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it did not come within {within:?}; so far: {so_far}")]
#[non_exhaustive]
pub struct TimedOut {
    /// How long it was waited for.
    pub within: Duration,
    /// What came instead, one a line, without bodies.
    pub so_far: String,
}

/// Why an agent was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Another agent has the name, and there may be one alone.
    #[error("an agent named '{name}' is registered already")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// So much is under way that no webhook may be added.
    #[error("too much is under way")]
    Full,
}
