//! Following the other replicas: what they commit is taken into the memory of this one, by the events that it finds in the
//! store.
//!
//! Nothing here decides anything: a record of the store is read and taken over, unless a newer one is known. So it does no
//! harm to take something over twice, or late; what must not be counted twice is told by the lease it belongs to.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eap_core::{Attempt, Conclusion, Task};
use eap_types::{AgentId, AttemptOutcome, SessionId, TaskId, Timestamp};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::registration::agent_event;
use super::{Lifecycle, Share};
use crate::announce::{Awaited, lock};
use crate::error::Error;
use crate::store::{Change, Cutoffs, Event, EventKind, EventSeq, RecordRef, ReplicaId, StoreError, Stored};

/// How long news gathers between two looks, so that those who are told of every commit do not look for each.
const GATHER: Duration = Duration::from_millis(2);

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

/// How many tasks are read at once; each may be a large one.
const TASKS_AT_ONCE: usize = 32;

/// How many agents are asked for at once.
const AGENTS_AT_ONCE: usize = 256;

/// By how much two looks at the vitals overlap, for writes that were under way.
const OVERLAP: Duration = Duration::from_secs(3);

/// How far this replica has followed the others.
#[derive(Debug)]
pub(super) struct Tail {
    place: tokio::sync::Mutex<Place>,
    /// When the last look that succeeded began.
    looked: Mutex<Instant>,
    is_loaded: AtomicBool,
    others: Mutex<Others>,
}

/// The replicas that are at work.
#[derive(Debug)]
struct Others {
    at_work: HashSet<ReplicaId>,
    /// Since when this one has counted them without a gap.
    since: Instant,
    counted: Instant,
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
            others: Mutex::new(Others { at_work: HashSet::new(), since: Instant::now(), counted: Instant::now() }),
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
                let mut outcome = self.catch_up().await;
                if outcome.is_ok() && Instant::now() >= next_hearing {
                    next_hearing = Instant::now() + HEAR_EVERY;
                    outcome = self.hear_also().await;
                }
                match outcome {
                    Ok(()) | Err(Error::Store(StoreError::Closed)) => tokio::time::sleep(GATHER).await,
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

    /// Whether a replica is at work: this one, or one that has written a pulse lately.
    pub(super) fn is_at_work(&self, replica: ReplicaId) -> bool {
        replica == self.store.replica()
            || self.tail.as_ref().is_some_and(|tail| lock(&tail.others).at_work.contains(&replica))
    }

    /// Says that this replica is at work, and looks which others are.
    ///
    /// Nobody is taken for dead by one that was away itself: an outage of the database makes all of them silent.
    pub(crate) async fn count_replicas(&self) -> Result<(), Error> {
        let Some(tail) = &self.tail else { return Ok(()) };
        let replicas = self.store.replicas().await?;
        let (now, gap) = (self.clock.now(), self.config.timing.pulse_gap);
        let mut others = lock(&tail.others);
        if others.counted.elapsed() > gap / 2 {
            others.since = Instant::now();
        }
        others.counted = Instant::now();
        let may_judge = others.since.elapsed() > gap;
        let is_at_work = |seen_at: Timestamp| !may_judge || now.saturating_since(seen_at) <= gap;
        let at_work = replicas.into_iter().filter(|(_, seen_at)| is_at_work(*seen_at)).map(|(replica, _)| replica);
        others.at_work = at_work.collect();
        Ok(())
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
            return Err(Error::Busy { reason: "what other replicas did cannot be read" });
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

    /// Events are gone that were not taken in: what they were about is read as it is now.
    async fn load_anew(&self) -> Result<(), Error> {
        warn!("this replica was away for so long that events are gone; agents and keys are read anew");
        let known = self.directory.ids();
        for ids in known.chunks(AGENTS_AT_ONCE) {
            self.follow_agents(ids).await?;
        }
        for (agent, vitals) in self.store.agents().await? {
            self.directory.follow(agent.record, agent.revision, &vitals);
        }
        self.announcements.push_changed();
        self.follow_credentials().await?;
        self.load_leases(false).await
    }

    async fn take_in(&self, events: &[Event], since: Timestamp) -> Result<(), Error> {
        // What ended before was taken in with its own event; how, may be forgotten by now.
        let since = events.iter().map(|event| event.at).min().map_or(since, |first| first.max(since));
        let (mut tasks, mut agents) = (BTreeSet::new(), BTreeSet::new());
        let mut expired = HashSet::new();
        let (mut credentials, mut sessions) = (false, Vec::new());
        for event in events {
            let (subject, what) = event.kind.split_once('.').unwrap_or((&event.kind, ""));
            match (subject, event.task, &event.agent) {
                ("task", Some(task), _)
                    if !matches!(what, "output_delta" | "late_result" | "requeued" | "discarded") =>
                {
                    tasks.insert(task);
                    expired.extend(event.attempt.filter(|_| what == "expired").map(|attempt| (task, attempt)));
                }
                ("agent", _, Some(agent)) => {
                    agents.insert(agent.clone());
                    if what == "connected" {
                        self.announcements.connected_elsewhere(agent, event.seq);
                    }
                }
                ("key" | "registration_secret", ..) => credentials = true,
                ("workflow", ..) => sessions.extend(session_of(event).map(|session| (session, what))),
                _ => {}
            }
        }
        if !agents.is_empty() {
            self.follow_agents(&agents.into_iter().collect::<Vec<_>>()).await?;
        }
        if credentials {
            self.follow_credentials().await?;
        }
        if !tasks.is_empty() {
            let ids: Vec<TaskId> = tasks.into_iter().collect();
            for ids in ids.chunks(TASKS_AT_ONCE) {
                for Stored { record, .. } in self.store.tasks_of(ids).await? {
                    self.follow_task(&record, &expired, since);
                }
            }
        }
        for (session, what) in sessions {
            match what {
                "started" => self.follow_beginning(session).await?,
                "completed" | "failed" | "cancelled" => {
                    self.forget_beginning(session);
                    self.announcements.ended(Awaited::Session(session));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes over how a task stands, and what became of its attempts.
    fn follow_task(&self, task: &Task, expired: &HashSet<(TaskId, u32)>, since: Timestamp) {
        for (was, attempt) in self.leases.follow(task) {
            if let Some(ended_at) = attempt.ended_at.filter(|ended_at| *ended_at >= since) {
                // Between two looks it may have expired, and then been reported after all: both count.
                let has_expired = was == AttemptOutcome::Open
                    && attempt.outcome != AttemptOutcome::Expired
                    && expired.contains(&(task.id(), attempt.number));
                if has_expired {
                    let lapsed = Attempt { outcome: AttemptOutcome::Expired, ..attempt.clone() };
                    self.conclude_also(AttemptOutcome::Open, &lapsed, ended_at);
                }
                let was = if has_expired { AttemptOutcome::Expired } else { was };
                self.conclude_also(was, attempt, ended_at);
            }
            self.announcements.agent_freed(&attempt.agent);
        }
        if let Some((lease, attempt)) = task.lease().zip(task.newest_attempt()) {
            self.directory.serve_also(&lease.agent, lease.lease_id, attempt.started_at);
            self.beginnings.taken(task);
        }
        self.announcements.task_changed(task);
        if task.status().is_final() && task.spec.callback_url.is_some() {
            self.announcements.callback_became_due();
        }
    }

    fn conclude_also(&self, was: AttemptOutcome, attempt: &Attempt, at: Timestamp) {
        if let Some(ended) = Conclusion::since(was, attempt) {
            self.directory.conclude_also(&ended, at, &self.config.breaker);
        }
    }

    /// Takes over what is stored of these agents; those that are not stored any more are forgotten.
    async fn follow_agents(&self, ids: &[AgentId]) -> Result<(), Error> {
        let mut stored: BTreeMap<AgentId, _> = BTreeMap::new();
        for (agent, vitals) in self.store.agents_of(ids).await? {
            stored.insert(agent.record.id.clone(), (agent, vitals));
        }
        for id in ids {
            let Some((agent, vitals)) = stored.remove(id) else {
                self.forget_agents(std::slice::from_ref(id));
                continue;
            };
            let is_pushed = agent.record.push.is_some();
            if self.directory.follow(agent.record, agent.revision, &vitals) {
                debug!(agent.id = %id, "an agent was changed by another replica");
                self.announcements.agent_freed(id);
                if is_pushed {
                    self.announcements.push_changed();
                }
            }
        }
        Ok(())
    }

    async fn follow_credentials(&self) -> Result<(), Error> {
        for (stored, last_used) in self.store.credentials().await? {
            self.keys.follow(stored.record, stored.revision, last_used);
        }
        Ok(())
    }

    /// Tells the other replicas that an agent has opened its WebSocket here; the number of the event that does.
    pub(crate) async fn connected(self: &Arc<Self>, agent: &AgentId) -> Result<EventSeq, Error> {
        let Some(entry) = self.directory.get(agent).filter(|_| self.tail.is_some()) else { return Ok(EventSeq(0)) };
        let event = agent_event(&entry.agent, EventKind::AgentConnected, self.clock.now());
        let (this, change) = (Arc::clone(self), Change { events: vec![event], ..Change::default() });
        self.detached(Share::Running, async move {
            let told = this.store.commit(change).await.map_err(|error| this.noticed(error))?.head;
            this.announcements.committed(told);
            Ok(told)
        })
        .await
    }

    /// Forgets what is not stored any more: another replica may have purged it.
    pub(super) async fn forget_purged(&self, cutoffs: &Cutoffs) -> Result<(), Error> {
        if self.tail.is_none() {
            return Ok(());
        }
        for ids in self.directory.silent_before(cutoffs.agents).chunks(AGENTS_AT_ONCE) {
            let stored: HashSet<AgentId> =
                self.store.agents_of(ids).await?.into_iter().map(|(agent, _)| agent.record.id).collect();
            let purged: Vec<_> = ids.iter().filter(|id| !stored.contains(*id)).cloned().collect();
            self.forget_agents(&purged);
        }
        let ended = self.keys.ended_before(cutoffs.credentials);
        if !ended.is_empty() {
            let stored: HashSet<_> =
                self.store.credentials().await?.iter().map(|(stored, _)| stored.record.id).collect();
            let purged: Vec<_> = ended.into_iter().filter(|id| !stored.contains(id)).collect();
            self.keys.remove(&purged);
        }
        Ok(())
    }

    /// These were purged.
    pub(super) fn forget_agents(&self, ids: &[AgentId]) {
        self.directory.remove(ids);
        self.leases.forget(ids);
        self.states.forget(ids);
    }

    /// Reads anew what a write was refused for: another replica was faster, and the next try is to know what it did.
    pub(super) async fn read_again(&self, error: &StoreError) {
        let (StoreError::Conflict { record } | StoreError::Duplicate { record }) = error else { return };
        if self.tail.is_none() {
            return;
        }
        let read = match record {
            RecordRef::Agent(id) => self.follow_agents(std::slice::from_ref(id)).await,
            RecordRef::Credential(_) => self.follow_credentials().await,
            _ => Ok(()),
        };
        if let Err(error) = read {
            debug!(%error, "what another replica was faster with could not be read");
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

/// The session that an event is about.
fn session_of(event: &Event) -> Option<SessionId> {
    #[derive(serde::Deserialize)]
    struct Detail {
        session_id: SessionId,
    }
    event.detail.decode::<Detail>().ok().map(|detail| detail.session_id)
}
