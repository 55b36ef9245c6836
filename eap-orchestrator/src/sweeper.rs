//! The sweeper: once a second it does what the clock brings.

use std::sync::Arc;
use std::time::Duration;

use eap_types::Timestamp;
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

/// How long one shard of the uploads is looked through; what is left of it then is for its next turn.
const SHARD_TIME: Duration = Duration::from_secs(60);

/// Sweeps until `stop`; then writes the vitals a last time.
pub(crate) async fn run(lifecycle: Arc<Lifecycle>, stop: CancellationToken) {
    // Side by side: a slow disk of uploads must not hold up the clock of leases.
    tokio::join!(watch_clock(&lifecycle, &stop), watch_uploads(&lifecycle, &stop));
}

/// Looks through the uploads, a shard at each tick.
async fn watch_uploads(lifecycle: &Lifecycle, stop: &CancellationToken) {
    let Some(shelf) = &lifecycle.artifacts else { return };
    let mut ticks = tokio::time::interval(lifecycle.config.timing.sweep_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sweeping = async {
        for shard in (0..=u8::MAX).cycle() {
            ticks.tick().await;
            lifecycle.sweep_shard(shard, SHARD_TIME).await;
        }
    };
    // Whatever it is at, a shard can be left half looked through.
    stop.run_until_cancelled(sweeping).await;
    shelf.at_rest().await;
}

async fn watch_clock(lifecycle: &Arc<Lifecycle>, stop: &CancellationToken) {
    let mut ticks = tokio::time::interval(lifecycle.config.timing.sweep_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_round = lifecycle.clock.now();
    let mut next_purge = Instant::now();
    let mut purging = false;
    loop {
        let stopping = tokio::select! {
            biased;
            () = stop.cancelled() => true,
            _ = ticks.tick() => false,
        };
        if stopping {
            break;
        }
        purging |= Instant::now() >= next_purge;
        // After a store outage `last_round` stays behind, and the first round that succeeds starts afresh.
        match round(lifecycle, last_round, &mut purging).await {
            Ok(()) => {
                last_round = lifecycle.clock.now();
                lifecycle.metrics.sweeper.ended_well(last_round);
            }
            Err(Error::Store(StoreError::Closed)) => return,
            Err(Error::Store(error)) => {
                lifecycle.metrics.sweeper.failed.add(1);
                let error = lifecycle.noticed(error);
                warn!(%error, source = ?std::error::Error::source(&error), "a sweep failed");
            }
            Err(error) => {
                lifecycle.metrics.sweeper.failed.add(1);
                warn!(%error, "a sweep failed");
            }
        }
        if !purging && Instant::now() >= next_purge {
            next_purge = Instant::now() + PURGE_EVERY;
        }
    }
    if let Err(error) = lifecycle.write_vitals().await {
        warn!(%error, "the last vitals were not written");
    }
}

/// One look at the clock out of turn, with all that is old enough to go; for clocks that are moved.
#[cfg(feature = "testing")]
pub(crate) async fn round_now(lifecycle: &Arc<Lifecycle>) -> Result<(), Error> {
    let mut purging = true;
    while purging {
        round(lifecycle, lifecycle.clock.now(), &mut purging).await?;
    }
    for shard in 0..=u8::MAX {
        lifecycle.sweep_uploads(shard).await?;
    }
    Ok(())
}

/// One look at the clock. Vitals are written even if the sweep failed; a purge goes on with one batch a round, so that
/// it holds up nothing else.
async fn round(lifecycle: &Arc<Lifecycle>, last: Timestamp, purging: &mut bool) -> Result<(), Error> {
    let now = lifecycle.clock.now();
    let is_long = |since| now.saturating_since(since) > lifecycle.config.timing.pulse_gap;
    if is_long(last) {
        // Whom this replica did not hear then, others may have heard.
        lifecycle.directory.start_afresh(now);
    }
    let last = lifecycle.watched_until(last).await?;
    if is_long(last) {
        warn!(seconds = now.saturating_since(last).as_secs(), "the sweeper was away; leases and silences start afresh");
        lifecycle.start_afresh().await?;
    }
    lifecycle.wake_cooled();
    let swept = sweep(lifecycle).await;
    lifecycle.write_vitals().await?;
    swept?;
    if *purging {
        *purging = lifecycle.purge().await?;
    }
    Ok(())
}

async fn sweep(lifecycle: &Arc<Lifecycle>) -> Result<(), Error> {
    for _ in 0..BATCHES_PER_ROUND {
        if !lifecycle.sweep().await? {
            break;
        }
    }
    Ok(())
}
