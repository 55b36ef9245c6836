//! What the server holds at most, as it can be set.

use std::time::Duration;

use eap_types::limits;
use serde::{Deserialize, Serialize};

/// Sizes and counts that bound what peers can make the server hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Capacity {
    /// Body of a submit. Default: 1 MiB.
    pub submit_bytes: usize,
    /// Body of a batch of submits, each within `submit_bytes`. Default: 8 MiB.
    pub batch_bytes: usize,
    /// Body of a result or a batch of them. Default: 8 MiB.
    pub result_bytes: usize,
    /// Bodies being received, in all; a request past it is answered 503. Default: 256 MiB.
    pub bodies_bytes: usize,
    /// Connections in all; more wait to be accepted. Default: 8,192.
    pub connections: usize,
    /// Connections from one address that is not loopback. Default: 512.
    pub connections_per_address: usize,
    /// Polls that one agent may have waiting; one more is answered 429. Default: 4.
    pub polls_per_agent: usize,
    /// Polls waiting in all; one more is answered 503. Default: 100,000.
    pub polls: usize,
    /// Streams of events in all; one more is answered 503. Default: 1,000.
    pub watchers: usize,
    /// WebSockets in all; one more is answered 503. Default: 10,000.
    pub sockets: usize,
    /// Pushes under way at once; each may hold an answer of `result_bytes`. A push that finds no place for a sixth of
    /// its lease goes back to the queue.
    /// Default: 256.
    pub pushes: usize,
    /// An artifact that is uploaded by reference. Default: 64 MiB.
    pub artifact_bytes: u64,
    /// All artifacts together that are uploaded for one attempt; more is answered 413. Default: 256 MiB.
    pub artifact_bytes_per_attempt: u64,
    /// All uploads that are kept; more is answered 503 until some have gone with their tasks. What was kept before a start
    /// counts within some minutes of it. Default: 64 GiB.
    pub artifact_bytes_in_all: u64,
    /// Parts of artifacts that one agent may be sending; one more is answered 429. Default: 4.
    pub uploads_per_agent: usize,
    /// Writes under way in all; one more is answered 503. Default: 10,000.
    pub writes: usize,
    /// How long a connection may take to send its first byte or a request's header. Default: 10 s.
    #[serde(with = "eap_core::seconds")]
    pub header_timeout: Duration,
    /// How long a request's body may take. Default: 30 s.
    #[serde(with = "eap_core::seconds")]
    pub body_timeout: Duration,
    /// How long a connection may idle between requests. Default: 75 s.
    #[serde(with = "eap_core::seconds")]
    pub idle_timeout: Duration,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            submit_bytes: limits::MAX_SUBMIT_BYTES,
            batch_bytes: limits::MAX_BATCH_BYTES,
            result_bytes: limits::MAX_RESULT_BYTES,
            bodies_bytes: 256 * 1024 * 1024,
            connections: 8_192,
            connections_per_address: 512,
            polls_per_agent: 4,
            polls: 100_000,
            watchers: 1_000,
            sockets: 10_000,
            pushes: 256,
            artifact_bytes: limits::MAX_ARTIFACT_BYTES as u64,
            artifact_bytes_per_attempt: 256 * 1024 * 1024,
            artifact_bytes_in_all: 64 * 1024 * 1024 * 1024,
            uploads_per_agent: 4,
            writes: 10_000,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
        }
    }
}
