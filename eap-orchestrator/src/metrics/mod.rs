//! What the orchestrator counts of itself, and how it is told to Prometheus (docs/metrics.md).
//!
//! Counters and histograms are plain atomics in fields, reached without a lock, a look-up by label or an allocation;
//! they begin at zero with the process. Gauges are worked out when somebody asks, from the store and from what is in
//! memory, so they are right after a restart as well. Each orchestrator has its own: there is nothing global.

mod errors;
mod events;
mod http;
mod number;
mod page;
mod queue;
mod results;
mod scrape;
mod webhooks;

use eap_types::Timestamp;

pub(crate) use self::errors::StoreErrorCounters;
pub(crate) use self::events::{EventCounters, EventTally, kinds as event_kinds};
pub(crate) use self::http::HttpMetrics;
pub(crate) use self::number::{Counter, Gauge, Histogram};
pub(crate) use self::page::CONTENT_TYPE;
pub(crate) use self::queue::QueueGauges;
pub(crate) use self::results::{Reported, ResultCounters};
pub(crate) use self::webhooks::WebhookCounters;
use crate::store::Claimed;

/// Everything that is counted where it happens.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// When the orchestrator was made.
    started: Timestamp,
    pub(crate) events: EventCounters,
    pub(crate) results: ResultCounters,
    pub(crate) claims: ClaimCounters,
    pub(crate) polls: PollMetrics,
    /// Agents' WebSockets that are open.
    pub(crate) sockets: Gauge,
    pub(crate) beats: BeatCounters,
    pub(crate) sweeper: SweeperMetrics,
    pub(crate) http: HttpMetrics,
    pub(crate) connections: ConnectionMetrics,
    pub(crate) webhooks: WebhookCounters,
    /// Attempts that ran out of their time.
    pub(crate) timeouts: Counter,
    /// Calls that were refused because too many writes were under way.
    pub(crate) writes_refused: Counter,
    /// Events of other replicas that were taken in.
    pub(crate) followed: Counter,
    queue: QueueGauges,
}

/// Asks that were put to the store.
#[derive(Debug, Default)]
pub(crate) struct ClaimCounters {
    granted: Counter,
    empty: Counter,
    repeated: Counter,
}

/// Agents' calls for work.
#[derive(Debug, Default)]
pub(crate) struct PollMetrics {
    pub(crate) granted: Counter,
    pub(crate) empty: Counter,
    pub(crate) refused: Counter,
    pub(crate) waiting: Gauge,
}

/// Heartbeats.
#[derive(Debug, Default)]
pub(crate) struct BeatCounters {
    pub(crate) accepted: Counter,
    /// Of the accepted: overtaken by a later one, so a sign of life and no more (G15).
    pub(crate) overtaken: Counter,
    pub(crate) refused: Counter,
}

/// Rounds of the sweeper.
#[derive(Debug, Default)]
pub(crate) struct SweeperMetrics {
    pub(crate) done: Counter,
    pub(crate) failed: Counter,
    pub(crate) purged: Counter,
    /// When the last good round ended, in microseconds since 1970; zero before the first.
    last: Gauge,
}

/// Connections of `serve`.
#[derive(Debug, Default)]
pub(crate) struct ConnectionMetrics {
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
    pub(crate) refused: Counter,
}

impl Metrics {
    /// All at zero; `calls` are the names of the API's calls.
    pub(crate) fn new(started: Timestamp, calls: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            started,
            events: EventCounters::default(),
            results: ResultCounters::default(),
            claims: ClaimCounters::default(),
            polls: PollMetrics::default(),
            sockets: Gauge::default(),
            beats: BeatCounters::default(),
            sweeper: SweeperMetrics::default(),
            http: HttpMetrics::new(calls),
            connections: ConnectionMetrics::default(),
            webhooks: WebhookCounters::default(),
            timeouts: Counter::default(),
            writes_refused: Counter::default(),
            followed: Counter::default(),
            queue: QueueGauges::default(),
        }
    }

    /// Counts what a claim did.
    pub(crate) fn count_claims(&self, answers: &[Claimed]) {
        for claimed in answers {
            match (claimed.tasks.len(), claimed.repeated) {
                (0, _) => self.claims.empty.add(1),
                (_, true) => self.claims.repeated.add(1),
                (leased, false) => {
                    self.claims.granted.add(1);
                    self.events.leased(leased as u64);
                }
            }
        }
    }
}

impl SweeperMetrics {
    pub(crate) fn ended_well(&self, now: Timestamp) {
        self.done.add(1);
        self.last.set(now.as_micros().unsigned_abs());
    }
}
