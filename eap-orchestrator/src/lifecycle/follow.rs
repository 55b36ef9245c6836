//! Following the other replicas: what they commit is taken into the memory of this one, by the events that it finds in the
//! store.
//!
//! Nothing here decides anything: a record of the store is read and taken over, unless a newer one is known. So it does no
//! harm to take something over twice, or late; what must not be counted twice is told by the lease it belongs to.

mod others;
mod records;
mod tasks;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eap_types::Timestamp;
use tokio::time::Instant;
use tracing::warn;

use self::others::Others;
use super::Lifecycle;
use crate::announce::lock;
use crate::error::Error;
use crate::store::{EventSeq, StoreError};

/// How long news gathers between two looks, so that those who are told of every commit do not look for each; and how long
/// once there is so much of it that a look is worth its price.
const GATHER: Duration = Duration::from_millis(2);
const GATHER_MORE: Duration = Duration::from_millis(20);
const MUCH: u64 = 16;

/// How often news is looked for where nobody tells of it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often it is looked for what is told by no event.
const HEAR_EVERY: Duration = Duration::from_secs(1);

/// For how long a look that failed is not made again for somebody else.
const PAUSE: Duration = Duration::from_millis(500);

/// After how long without a look events may have been purged before they were taken in.
const LONG: Duration = Duration::from_secs(60);

/// After how long without a look what is known here is not gone by any more (A5).
const STALE: Duration = Duration::from_secs(1);

/// How many events are taken in at once.
const PAGE: usize = 512;

/// By how much two looks at the vitals overlap, for writes that were under way.
const OVERLAP: Duration = Duration::from_secs(10);

/// How far this replica has followed the others.
#[derive(Debug)]
pub(super) struct Tail {
    place: tokio::sync::Mutex<Place>,
    /// When the last look that succeeded began.
    looked: Mutex<Instant>,
    is_loaded: AtomicBool,
    others: Mutex<Others>,
    counting: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Place {
    after: EventSeq,
    /// When the last look failed.
    failed: Option<Instant>,
    /// Attempts that ended before are in the track records that were loaded.
    since: Timestamp,
    /// Up to which time vitals were looked at.
    heard: Timestamp,
}

impl Default for Tail {
    fn default() -> Self {
        let place = Place { after: EventSeq(0), failed: None, since: Timestamp::MIN, heard: Timestamp::MIN };
        Self {
            place: tokio::sync::Mutex::new(place),
            looked: Mutex::new(Instant::now()),
            is_loaded: AtomicBool::new(false),
            others: Mutex::default(),
            counting: tokio::sync::Mutex::default(),
        }
    }
}

impl Tail {
    /// Follows from here, once everything up to here is loaded.
    pub(super) async fn begin(&self, after: EventSeq, began: Instant, now: Timestamp) {
        let mut place = self.place.lock().await;
        *place = Place { after, failed: None, since: now, heard: now };
        *lock(&self.looked) = began;
        self.is_loaded.store(true, Ordering::SeqCst);
    }

    /// How long ago the last look began that succeeded.
    pub(crate) fn age(&self) -> Duration {
        lock(&self.looked).elapsed()
    }
}

impl Lifecycle {
    /// Follows the other replicas until the orchestrator stops.
    pub(crate) async fn follow(&self) {
        let mut next_hearing = Instant::now();
        let following = async {
            loop {
                tokio::select! {
                    () = self.store.noticed() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                let before = self.metrics.followed.get();
                let mut outcome = self.catch_up().await;
                let is_much = self.metrics.followed.get() - before >= MUCH;
                if outcome.is_ok() && Instant::now() >= next_hearing {
                    next_hearing = Instant::now() + HEAR_EVERY;
                    outcome = self.hear_also().await;
                }
                match outcome {
                    Ok(()) | Err(Error::Store(StoreError::Closed)) => {
                        tokio::time::sleep(if is_much { GATHER_MORE } else { GATHER }).await;
                    }
                    Err(error) => {
                        warn!(error = crate::error::causes(&error), "what other replicas did could not be read");
                        // Whoever needs it looks for himself meanwhile.
                        tokio::time::sleep(LOOK_EVERY).await;
                    }
                }
            }
        };
        self.stop.run_until_cancelled(following).await;
    }

    /// How far what is known here may be behind what others did; nothing if there are no others.
    pub(crate) fn behind(&self) -> Duration {
        self.tail.as_ref().map(Tail::age).unwrap_or_default()
    }

    /// Whether others may write to the same data.
    pub(crate) fn is_followed(&self) -> bool {
        self.tail.is_some()
    }

    /// Makes sure that whatever others did more than a second ago is known here.
    pub(crate) async fn be_level(&self) -> Result<(), Error> {
        match &self.tail {
            Some(tail) if tail.age() >= STALE => self.catch_up().await,
            _ => Ok(()),
        }
    }

    /// Makes sure that whatever others did before this was called is known here.
    pub(crate) async fn catch_up(&self) -> Result<(), Error> {
        let Some(tail) = self.tail.as_ref().filter(|tail| tail.is_loaded.load(Ordering::SeqCst)) else { return Ok(()) };
        let asked = Instant::now();
        let mut place = tail.place.lock().await;
        // Of many who ask at once, the second looks for all the others.
        if *lock(&tail.looked) > asked {
            return Ok(());
        }
        if place.failed.is_some_and(|failed| failed > asked || failed.elapsed() < PAUSE) {
            return Err(Error::Busy { reason: "the store cannot answer now" });
        }
        let began = Instant::now();
        let outcome = self.look(&mut place, tail.age() > LONG).await;
        match &outcome {
            Ok(()) => (*lock(&tail.looked), place.failed) = (began, None),
            Err(_) => place.failed = Some(Instant::now()),
        }
        outcome
    }

    async fn look(&self, place: &mut Place, after_long: bool) -> Result<(), Error> {
        if after_long && self.store.oldest_event().await?.is_some_and(|oldest| oldest.0 > place.after.0 + 1) {
            self.load_anew().await?;
        }
        let mut first_head = None;
        loop {
            let news = self.store.news(place.after, PAGE).await?;
            // Whatever becomes of this look, the next one does not begin behind there.
            place.after = place.after.min(news.from);
            // What comes while it looks is for the next look.
            let head = *first_head.get_or_insert(news.head);
            self.take_in(&news.events, place.since).await?;
            self.metrics.followed.add(news.events.len() as u64);
            // Not before all of it is taken in: a look that is cut off is made again.
            place.after = news.upto;
            // Last, so that who watches finds what is told.
            self.announcements.committed(news.upto);
            if news.upto >= head {
                return Ok(());
            }
        }
    }

    /// Takes in what others heard of agents, and what those of a platform said to them.
    async fn hear_also(&self) -> Result<(), Error> {
        let Some(tail) = &self.tail else { return Ok(()) };
        let since = tail.place.lock().await.heard - OVERLAP;
        let now = self.clock.now();
        self.count_replicas().await?;
        for (agent, vitals) in self.store.vitals_since(since).await? {
            if self.directory.hear_also(&agent, &vitals) {
                self.announcements.agent_freed(&agent);
            }
        }
        self.follow_states().await?;
        tail.place.lock().await.heard = now;
        Ok(())
    }
}
