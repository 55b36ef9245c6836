//! Which replicas are at work: what one that is not had in hand is taken up by others.

use std::collections::HashSet;
use std::time::Duration;

use eap_types::Timestamp;
use tokio::time::Instant;

use super::super::Lifecycle;
use crate::announce::lock;
use crate::error::Error;
use crate::store::ReplicaId;

/// A replica that has not counted the others for so long was away, or its database was.
const AWAY: Duration = Duration::from_secs(3);

/// The replicas that are at work.
#[derive(Debug)]
pub(super) struct Others {
    at_work: HashSet<ReplicaId>,
    /// Since when this one has counted them without a gap.
    since: Instant,
    /// When the last count began.
    counted: Instant,
}

impl Default for Others {
    fn default() -> Self {
        Self { at_work: HashSet::new(), since: Instant::now(), counted: Instant::now() }
    }
}

impl Lifecycle {
    /// Whether a replica is at work: this one, or one that has written a pulse lately.
    pub(in crate::lifecycle) fn is_at_work(&self, replica: ReplicaId) -> bool {
        replica == self.store.replica()
            || self.tail.as_ref().is_some_and(|tail| lock(&tail.others).at_work.contains(&replica))
    }

    /// Says that this replica is at work, and looks which others are.
    ///
    /// Nobody is taken for dead by one that was away itself: an outage of the database makes all of them silent.
    pub(crate) async fn count_replicas(&self) -> Result<(), Error> {
        let Some(tail) = &self.tail else { return Ok(()) };
        let asked = Instant::now();
        // Of many who ask at once, the second counts for all the others.
        let _turn = tail.counting.lock().await;
        if lock(&tail.others).counted > asked {
            return Ok(());
        }
        let began = Instant::now();
        let replicas = self.store.replicas().await?;
        let (now, gap) = (self.clock.now(), self.config.timing.pulse_gap);
        let mut others = lock(&tail.others);
        if others.counted.elapsed() > AWAY {
            others.since = began;
        }
        others.counted = began;
        let may_judge = others.since.elapsed() > gap;
        let is_at_work = |seen_at: Timestamp| !may_judge || now.saturating_since(seen_at) <= gap;
        let at_work = replicas.into_iter().filter(|(_, seen_at)| is_at_work(*seen_at)).map(|(replica, _)| replica);
        others.at_work = at_work.collect();
        Ok(())
    }
}
