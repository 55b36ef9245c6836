//! The leases the agent holds, shared by the driver, the heartbeat thread and the handlers.
//!
//! A task stays here from its receipt until its result has a definitive answer. The heartbeat thread
//! needs nothing but this list to renew, so that no handler can come between it and a lease.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use eap_types::{Assignment, CancelCause, HeldTask, LeaseId, LeaseNote, TaskId, limits};
use tokio::sync::Notify;
use tracing::warn;

use crate::context::{CancelReason, LeaseStatus, TaskState};
use crate::session::LeaseRules;

/// No lease is longer, whatever an answer says: sums of times stay within what a clock can say.
const LONGEST: Duration = limits::MAX_TASK_TIMEOUT;

/// A lease that was longer than this is renewed as one that is so long, however short it gets.
const SHORTEST_PACE: Duration = Duration::from_secs(3);

/// So many holds that are over are remembered.
const REMEMBERED: usize = 1024;

/// One hold on one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LeaseKey {
    pub(crate) task: TaskId,
    /// `None` for an orchestrator that does not number its leases.
    pub(crate) lease: Option<LeaseId>,
}

impl LeaseKey {
    pub(crate) fn of(assignment: &Assignment) -> Self {
        Self { task: assignment.task_id, lease: assignment.lease_id }
    }
}

/// The leases the agent holds.
#[derive(Debug)]
pub(crate) struct Leases {
    held: Mutex<HashMap<LeaseKey, Held>>,
    over: Mutex<Over>,
    /// Says that a handler was told to stop.
    pub(crate) stops: Notify,
    rules: LeaseRules,
}

/// The holds that the orchestrator ended last. What it brought again meanwhile, on another way, may come after that.
#[derive(Debug, Default)]
struct Over {
    keys: HashSet<LeaseKey>,
    order: VecDeque<LeaseKey>,
}

#[derive(Debug)]
struct Held {
    state: Arc<TaskState>,
    deadline: Instant,
    length: Duration,
    /// As long as it was when it was first given.
    first: Option<Duration>,
    status: LeaseStatus,
}

/// What a heartbeat says about leases, and which ones it renews.
#[derive(Debug)]
pub(crate) struct Listed {
    /// `None` when a lease has no id: then every lease the agent holds is renewed.
    pub(crate) tasks: Option<Vec<HeldTask>>,
    pub(crate) keys: Vec<LeaseKey>,
}

impl Leases {
    pub(crate) fn new(rules: LeaseRules) -> Self {
        Self { held: Mutex::default(), over: Mutex::default(), stops: Notify::new(), rules }
    }

    pub(crate) fn rules(&self) -> LeaseRules {
        self.rules
    }

    /// Takes an assignment into the list, or `None` if it is there already, or was and is over.
    ///
    /// An older hold on the same task is lost by that.
    pub(crate) fn hold(
        &self,
        assignment: &Assignment,
        asked: Instant,
        received: Instant,
        usual: Duration,
    ) -> Option<Arc<TaskState>> {
        let key = LeaseKey::of(assignment);
        let length = assignment.lease_expires_in_ms.map_or(usual, Duration::from_millis).min(LONGEST);
        let deadline = self.rules.first_deadline(asked, received, length);
        if self.is_over(key) {
            return None;
        }
        let mut held = self.lock();
        if let Some(known) = held.get_mut(&key) {
            known.deadline = known.deadline.max(deadline);
            return None;
        }
        for (other, older) in held.iter_mut() {
            if other.task == key.task {
                older.lose();
                self.stops.notify_one();
            }
        }
        let state = Arc::new(TaskState::new(key, assignment.attempt).in_trace(assignment.traceparent.as_deref()));
        let entry = Held { state: state.clone(), deadline, length, first: Some(length), status: LeaseStatus::Held };
        held.insert(key, entry);
        Some(state)
    }

    /// Takes a result of an earlier process into the list, so that its lease is renewed.
    pub(crate) fn hold_result(&self, key: LeaseKey, attempt: Option<u32>, now: Instant, usual: Duration) {
        let state = Arc::new(TaskState::new(key, attempt));
        let entry = Held { state, deadline: now + usual, length: usual, first: None, status: LeaseStatus::Held };
        self.lock().entry(key).or_insert(entry);
    }

    /// Forgets a task whose lease the orchestrator has ended; if it comes again, that was sent before.
    pub(crate) fn finish(&self, key: LeaseKey) {
        if key.lease.is_some() {
            self.over.lock().unwrap_or_else(PoisonError::into_inner).add(key);
        }
        self.remove(key);
    }

    fn is_over(&self, key: LeaseKey) -> bool {
        self.over.lock().unwrap_or_else(PoisonError::into_inner).keys.contains(&key)
    }

    /// Forgets a task: its result was refused, or there will be none.
    pub(crate) fn remove(&self, key: LeaseKey) {
        self.lock().remove(&key);
    }

    /// How many tasks the agent has in its hands.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Every lease that the agent has in its hands.
    pub(crate) fn ids(&self) -> Vec<LeaseId> {
        self.lock().keys().filter_map(|key| key.lease).collect()
    }

    pub(crate) fn status(&self, key: LeaseKey) -> LeaseStatus {
        self.lock().get(&key).map_or(LeaseStatus::Lost, |held| held.status)
    }

    pub(crate) fn states(&self) -> Vec<Arc<TaskState>> {
        self.lock().values().map(|held| held.state.clone()).collect()
    }

    /// The handler of a task is through; says whether something that it emitted is still to be told.
    pub(crate) fn close_output(&self, key: LeaseKey) -> bool {
        let Some(state) = self.state(key) else { return false };
        let mut note = state.progress();
        note.has_ended = true;
        note.output.close();
        state.is_heard() && !note.output.is_told()
    }

    /// Forgets what a handler emitted and nobody was told.
    pub(crate) fn give_up_output(&self, key: LeaseKey) {
        if let Some(state) = self.state(key) {
            state.progress().output.give_up();
        }
    }

    /// Whether all that a handler emitted was told, or will not be.
    pub(crate) fn is_output_told(&self, key: LeaseKey) -> bool {
        self.state(key).is_none_or(|state| !state.is_heard() || state.progress().output.is_told())
    }

    fn state(&self, key: LeaseKey) -> Option<Arc<TaskState>> {
        self.lock().get(&key).map(|held| held.state.clone())
    }

    /// What the next heartbeat is to renew.
    pub(crate) fn listed(&self) -> Listed {
        let held = self.lock();
        let alive = || held.values().filter(|held| held.status != LeaseStatus::Lost);
        let keys = alive().map(|held| held.state.key).collect();
        let tasks = alive()
            .map(|held| {
                let task = HeldTask::new(held.state.key.task, held.state.key.lease?);
                let fraction = held.state.progress().fraction;
                Some(fraction.into_iter().fold(task, HeldTask::with_progress))
            })
            .collect();
        Listed { tasks, keys }
    }

    /// The length of the shortest lease that is to be renewed.
    ///
    /// Near the end of its task a lease is given for ever less, and asking ever faster gains nothing.
    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.lock().values().filter(|held| held.status != LeaseStatus::Lost).map(Held::pace).min()
    }

    /// Takes in what an answer says about leases; `sent` is when its request left.
    pub(crate) fn learn(&self, notes: &[LeaseNote], sent: Instant) {
        for note in notes {
            let key = LeaseKey { task: note.task_id, lease: Some(note.lease_id) };
            match note.expires_in_ms {
                _ if note.lost => self.lose(key),
                Some(millis) => self.renew(key, sent, Some(Duration::from_millis(millis))),
                None => {}
            }
        }
    }

    /// Counts a lease from `sent` on, for `given` or as long as it was last time.
    pub(crate) fn renew(&self, key: LeaseKey, sent: Instant, given: Option<Duration>) {
        let mut held = self.lock();
        let Some(known) = held.get_mut(&key) else { return };
        // What was lost stays lost: the handler is already told to stop.
        if known.status == LeaseStatus::Lost {
            return;
        }
        known.length = given.unwrap_or(known.length).min(LONGEST);
        known.first = known.first.or(given);
        known.deadline = sent + known.length;
        known.status = LeaseStatus::Held;
    }

    /// The orchestrator says that the agent no longer holds this task.
    pub(crate) fn lose(&self, key: LeaseKey) {
        if let Some(known) = self.lock().get_mut(&key) {
            if known.status != LeaseStatus::Lost {
                warn!(task.id = %key.task, "the lease is lost");
            }
            known.lose();
            self.stops.notify_one();
        }
    }

    /// The orchestrator says that work on this task is to stop, and why.
    pub(crate) fn cancel(&self, key: LeaseKey, cause: Option<CancelCause>, reason: Option<String>) {
        if let Some(known) = self.lock().get(&key) {
            known.state.end(cause, reason);
            self.stops.notify_one();
        }
    }

    /// The same for whatever hold there is on it; says whether there is one.
    #[cfg(feature = "push")]
    pub(crate) fn cancel_task(&self, task: TaskId, reason: Option<&str>) -> bool {
        let held = self.lock();
        let mut is_held = false;
        for known in held.values().filter(|known| known.state.key.task == task) {
            known.state.end(Some(CancelCause::Cancelled), reason.map(str::to_owned));
            self.stops.notify_one();
            is_held = true;
        }
        is_held
    }

    /// Brings every standing up to date; gives the time at which one changes next.
    pub(crate) fn tick(&self, now: Instant) -> Option<Instant> {
        let mut held = self.lock();
        for known in held.values_mut().filter(|known| known.status != LeaseStatus::Lost) {
            known.status = self.rules.standing(known.deadline, now);
            if known.status == LeaseStatus::Lost {
                warn!(task.id = %known.state.key.task, "the lease could not be renewed in time");
                known.lose();
                self.stops.notify_one();
            }
        }
        let alive = held.values().filter(|known| known.status != LeaseStatus::Lost);
        alive.filter_map(|known| self.rules.next_change(known.deadline, now)).min()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseKey, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Over {
    fn add(&mut self, key: LeaseKey) {
        if !self.keys.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

impl Held {
    fn pace(&self) -> Duration {
        self.length.max(self.first.unwrap_or_default().min(SHORTEST_PACE))
    }

    fn lose(&mut self) {
        self.status = LeaseStatus::Lost;
        self.state.cancel(CancelReason::LeaseLost);
    }
}

#[cfg(test)]
mod tests {
    use eap_types::SessionId;

    use super::*;

    const LENGTH: Duration = Duration::from_secs(60);

    fn leases(fence_locally: bool) -> Leases {
        Leases::new(LeaseRules { outage_grace: Duration::from_secs(600), fence_locally })
    }

    fn assignment(task: u8, lease: u8) -> Assignment {
        let session = SessionId::from_bytes([0; 16]);
        let mut assignment = Assignment::new(TaskId::from_bytes([task; 16]), session, "work".parse().unwrap(), "input");
        assignment.lease_id = Some(LeaseId::from_bytes([lease; 16]));
        assignment.attempt = Some(1);
        assignment
    }

    #[test]
    fn the_same_assignment_is_held_once_and_a_newer_one_ends_the_older() {
        let (leases, now) = (leases(false), Instant::now());
        let first = leases.hold(&assignment(1, 1), now, now, LENGTH).unwrap();
        assert!(leases.hold(&assignment(1, 1), now, now, LENGTH).is_none());
        assert!(!first.token.is_cancelled());
        let second = leases.hold(&assignment(1, 2), now, now, LENGTH).unwrap();
        assert_eq!(first.reason(), Some(&CancelReason::LeaseLost));
        assert!(!second.token.is_cancelled());
    }

    #[test]
    fn what_is_over_is_not_held_again_and_only_so_much_is_remembered() {
        let (leases, now) = (leases(false), Instant::now());
        let hold = |task, lease| leases.hold(&assignment(task, lease), now, now, LENGTH);
        let first = hold(1, 1).unwrap();
        leases.finish(first.key);
        assert!(hold(1, 1).is_none(), "it was sent before that");
        assert!(hold(1, 2).is_some(), "another attempt");
        for number in 0..REMEMBERED as u128 {
            let lease = Some(LeaseId::from_bytes((number + 1000).to_be_bytes()));
            leases.finish(LeaseKey { task: first.key.task, lease });
        }
        assert!(hold(1, 1).is_some());
    }

    #[test]
    fn a_lost_lease_stops_that_task_alone_and_is_not_listed_again() {
        let (leases, now) = (leases(false), Instant::now());
        let one = leases.hold(&assignment(1, 1), now, now, LENGTH).unwrap();
        let two = leases.hold(&assignment(2, 2), now, now, LENGTH).unwrap();
        leases.learn(&[LeaseNote::lost(one.key.task, one.key.lease.unwrap())], now);
        leases.renew(one.key, now, None);
        assert!(one.token.is_cancelled() && !two.token.is_cancelled());
        assert_eq!(leases.listed().keys, [two.key]);
        assert_eq!(leases.status(one.key), LeaseStatus::Lost);
    }

    #[test]
    fn silence_makes_a_lease_uncertain_and_an_answer_makes_it_held_again() {
        let (leases, now) = (leases(false), Instant::now());
        let one = leases.hold(&assignment(1, 1), now, now, LENGTH).unwrap();
        assert_eq!(leases.tick(now), Some(now + LENGTH));
        leases.tick(now + LENGTH);
        assert_eq!(leases.status(one.key), LeaseStatus::Uncertain);
        assert!(!one.token.is_cancelled());
        leases.renew(one.key, now + LENGTH, Some(LENGTH));
        assert_eq!(leases.status(one.key), LeaseStatus::Held);
        leases.tick(now + 12 * LENGTH);
        assert!(one.token.is_cancelled());
    }

    #[test]
    fn a_lease_beyond_all_measure_is_cut() {
        let (leases, now) = (leases(false), Instant::now());
        let mut endless = assignment(1, 1);
        endless.lease_expires_in_ms = Some(u64::MAX);
        let one = leases.hold(&endless, now, now, LENGTH).unwrap();
        assert_eq!(leases.tick(now), Some(now + LONGEST));
        leases.renew(one.key, now, Some(Duration::MAX));
        assert_eq!(leases.shortest(), Some(LONGEST));
    }

    #[test]
    fn a_lease_that_shrinks_near_the_end_of_its_task_is_not_renewed_ever_faster() {
        let (leases, now) = (leases(false), Instant::now());
        let one = leases.hold(&assignment(1, 1), now, now, LENGTH).unwrap();
        leases.renew(one.key, now, Some(Duration::from_secs(20)));
        assert_eq!(leases.shortest(), Some(Duration::from_secs(20)));
        leases.renew(one.key, now, Some(Duration::from_millis(100)));
        assert_eq!(leases.shortest(), Some(SHORTEST_PACE));
        let short = Duration::from_millis(600);
        leases.hold(&assignment(2, 2), now, now, short).unwrap();
        assert_eq!(leases.shortest(), Some(short));
    }

    #[test]
    fn a_strict_agent_stops_at_its_deadline() {
        let (leases, now) = (leases(true), Instant::now());
        let one = leases.hold(&assignment(1, 1), now, now + LENGTH / 2, LENGTH).unwrap();
        leases.tick(now + LENGTH);
        assert_eq!(one.reason(), Some(&CancelReason::LeaseLost));
    }

    #[test]
    fn a_lease_without_an_id_makes_the_heartbeat_renew_everything() {
        let (leases, now) = (leases(false), Instant::now());
        leases.hold(&assignment(1, 1), now, now, LENGTH).unwrap();
        let mut plain = assignment(2, 2);
        plain.lease_id = None;
        leases.hold(&plain, now, now, LENGTH).unwrap();
        let listed = leases.listed();
        assert!(listed.tasks.is_none());
        assert_eq!(listed.keys.len(), 2);
    }
}
