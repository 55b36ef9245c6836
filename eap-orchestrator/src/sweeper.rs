//! The sweeper: once a second it does what the clock brings.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::error::Error;
use crate::lifecycle::Lifecycle;
use crate::store::StoreError;

/// How often old things are looked for.
const PURGE_EVERY: Duration = Duration::from_secs(60);

/// How many batches one round takes up before it looks at the clock again.
const BATCHES_PER_ROUND: usize = 64;

/// Sweeps until `stop`; then writes the vitals a last time.
pub(crate) async fn run(lifecycle: Arc<Lifecycle>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(lifecycle.config.timing.sweep_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_round = lifecycle.clock.now();
    let mut next_purge = Instant::now();
    loop {
        let stopping = tokio::select! {
            biased;
            () = stop.cancelled() => true,
            _ = ticks.tick() => false,
        };
        if stopping {
            break;
        }
        let now = lifecycle.clock.now();
        let purging = Instant::now() >= next_purge;
        if purging {
            next_purge = Instant::now() + PURGE_EVERY;
        }
        // After a store outage `last_round` stays behind, and the first round that succeeds starts afresh.
        match round(&lifecycle, last_round, purging).await {
            Ok(()) => last_round = now,
            Err(Error::Store(StoreError::Closed)) => return,
            Err(error) => warn!(%error, source = ?std::error::Error::source(&error), "a sweep failed"),
        }
    }
    if let Err(error) = lifecycle.write_vitals().await {
        warn!(%error, "the last vitals were not written");
    }
}

async fn round(lifecycle: &Arc<Lifecycle>, last: eap_types::Timestamp, purging: bool) -> Result<(), Error> {
    let now = lifecycle.clock.now();
    if crate::lifecycle::was_away(last, now, lifecycle.config.timing.pulse_gap) {
        warn!(seconds = now.saturating_since(last).as_secs(), "the sweeper was away; leases and silences start afresh");
        lifecycle.start_afresh().await?;
    }
    for _ in 0..BATCHES_PER_ROUND {
        if !lifecycle.sweep().await? {
            break;
        }
    }
    lifecycle.write_vitals().await?;
    for _ in 0..if purging { BATCHES_PER_ROUND } else { 0 } {
        if !lifecycle.purge().await? {
            break;
        }
    }
    Ok(())
}
