//! The leases that are running, by agent: a mirror of the store, so that a heartbeat need not read it.
//!
//! The store decides. A line here that is out of date costs a renewal that the store then refuses.

use std::collections::VecDeque;
use std::sync::Mutex;

use eap_core::{Attempt, Lease, Task};
use eap_types::{AgentId, AttemptOutcome, LeaseId, TaskId};

use crate::announce::lock;
use crate::maps::IdMap;

/// How many ended leases are remembered, so that news that comes late does not bring one back.
const REMEMBERED: usize = 4_096;

/// The running leases, by agent.
#[derive(Debug, Default)]
pub(crate) struct LeaseBook(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    held: IdMap<AgentId, IdMap<TaskId, Held>>,
    /// The newest ended leases and how they ended, for look-up and in order of their end.
    ended: IdMap<LeaseId, AttemptOutcome>,
    order: VecDeque<LeaseId>,
    /// Attempts that the server ended under their holders, until those say that they know.
    stopped: IdMap<AgentId, VecDeque<(TaskId, LeaseId)>>,
}

/// A running lease, and how far its work is as it was last told.
#[derive(Clone, Debug)]
struct Held {
    lease: Lease,
    fraction: Option<f64>,
}

/// How many such attempts of one agent are remembered; the oldest go first.
const STOPPED_PER_AGENT: usize = 100;

impl LeaseBook {
    /// Takes over what `task` says of its lease; returns the agent that lost one, if any did.
    pub(crate) fn note(&self, task: &Task) -> Option<AgentId> {
        let mut pages = lock(&self.0);
        if let Some(lease) = task.lease() {
            pages.hold(task, lease);
            return None;
        }
        let newest = task.newest_attempt().filter(|attempt| attempt.outcome != AttemptOutcome::Open)?;
        let (_, ran) = pages.end(task.id(), newest);
        ran.then(|| newest.agent.clone())
    }

    /// The same where others may have changed the task several times since it was last noted. Returns the attempts that ended
    /// since then, each with what was known of it.
    pub(crate) fn follow<'t>(&self, task: &'t Task) -> Vec<(AttemptOutcome, &'t Attempt)> {
        let mut pages = lock(&self.0);
        let mut ended = Vec::new();
        for attempt in task.state.attempts.iter().filter(|attempt| attempt.outcome != AttemptOutcome::Open) {
            let (was, _) = pages.end(task.id(), attempt);
            if was != attempt.outcome {
                ended.push((was, attempt));
            }
        }
        if let Some(lease) = task.lease() {
            pages.hold(task, lease);
        }
        ended
    }

    /// The attempts of an agent that the server ended and that are not among `known`; those are forgotten.
    pub(crate) fn stopped(&self, agent: &AgentId, known: impl Fn(LeaseId) -> bool) -> Vec<(TaskId, LeaseId)> {
        let mut pages = lock(&self.0);
        let Some(stopped) = pages.stopped.get_mut(agent) else { return Vec::new() };
        stopped.retain(|(_, lease_id)| !known(*lease_id));
        let left: Vec<_> = stopped.iter().copied().collect();
        if left.is_empty() {
            pages.stopped.remove(agent);
        }
        left
    }

    /// Forgets agents that were purged; they hold nothing.
    pub(crate) fn forget(&self, agents: &[AgentId]) {
        let mut pages = lock(&self.0);
        for agent in agents {
            pages.stopped.remove(agent);
        }
    }

    /// The leases of one agent.
    pub(crate) fn of(&self, agent: &AgentId) -> Vec<(TaskId, Lease)> {
        let pages = lock(&self.0);
        pages.held.get(agent).into_iter().flatten().map(|(task, held)| (*task, held.lease.clone())).collect()
    }

    /// How many leases an agent has.
    pub(crate) fn count(&self, agent: &AgentId) -> u32 {
        lock(&self.0).held.get(agent).map_or(0, |held| u32::try_from(held.len()).unwrap_or(u32::MAX))
    }

    /// How many leases there are.
    pub(crate) fn total(&self) -> usize {
        lock(&self.0).held.values().map(IdMap::len).sum()
    }

    /// The lease an agent has on one task.
    pub(crate) fn find(&self, agent: &AgentId, task: TaskId) -> Option<Lease> {
        self.find_told(agent, task).map(|(lease, _)| lease)
    }

    /// The same, with how far its work is as it was last told.
    pub(crate) fn find_told(&self, agent: &AgentId, task: TaskId) -> Option<(Lease, Option<f64>)> {
        let pages = lock(&self.0);
        let held = pages.held.get(agent)?.get(&task)?;
        Some((held.lease.clone(), held.fraction))
    }
}

impl Pages {
    /// A lease runs, unless it is known to be over.
    fn hold(&mut self, task: &Task, lease: &Lease) {
        if self.ended.contains_key(&lease.lease_id) {
            return;
        }
        let held = self.held.entry(lease.agent.clone()).or_default();
        // News may come out of order: an older attempt does not take a newer one's place.
        if held.get(&task.id()).is_none_or(|known| known.lease.attempt <= lease.attempt) {
            let fraction = task.state.progress.as_ref().and_then(|progress| progress.fraction);
            held.insert(task.id(), Held { lease: lease.clone(), fraction });
        }
    }

    /// An attempt is over: says what was known of its end, and whether its lease was known to run until now.
    fn end(&mut self, task: TaskId, attempt: &Attempt) -> (AttemptOutcome, bool) {
        let was = self.ended.insert(attempt.lease_id, attempt.outcome);
        let ran = self.let_go(task, attempt);
        if was.is_none() {
            self.order.push_back(attempt.lease_id);
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.ended.remove(&oldest);
            }
            // Not only where it ran: another replica may have leased it, and its holder may ask here. After a restart, one that
            // was told of it before may be told again, under the same id.
            self.stop(task, attempt);
        }
        (was.unwrap_or(AttemptOutcome::Open), ran)
    }

    /// Strikes out the lease of an attempt; says whether it was there.
    fn let_go(&mut self, task: TaskId, attempt: &Attempt) -> bool {
        let Some(held) = self.held.get_mut(&attempt.agent) else { return false };
        if held.get(&task).is_none_or(|known| known.lease.lease_id != attempt.lease_id) {
            return false;
        }
        held.remove(&task);
        if held.is_empty() {
            self.held.remove(&attempt.agent);
        }
        true
    }

    /// If the server ended the attempt, its holder is to be told.
    fn stop(&mut self, task: TaskId, attempt: &Attempt) {
        if attempt.was_stopped() {
            let stopped = self.stopped.entry(attempt.agent.clone()).or_default();
            stopped.push_back((task, attempt.lease_id));
            if stopped.len() > STOPPED_PER_AGENT {
                stopped.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use eap_core::{EndOfLease, Quote, RoutingKey, TaskEvent, TaskPolicy, TaskSpec};
    use eap_types::{JsonObject, Priority, SessionId, TenantId, Timestamp};

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn submitted() -> Task {
        Task::submitted(TaskSpec {
            id: TaskId::v7(NOW, [1; 10]),
            routing: RoutingKey::of_type(TenantId::default(), "sum".parse().unwrap()),
            session_id: SessionId::v7(NOW, [2; 10]),
            input: String::new(),
            context: JsonObject::default(),
            preferred_agents: Default::default(),
            requirements: Vec::new(),
            priority: Priority::default(),
            timeout: Duration::from_secs(3600),
            inactivity: None,
            max_attempts: 3,
            run_at: None,
            expires_at: None,
            created_at: NOW,
            traceparent: None,
            requeued_from: None,
            is_step: false,
            callback_url: None,
        })
    }

    fn after(task: &Task, event: TaskEvent) -> Task {
        let changed = task.apply(event, NOW, &TaskPolicy::default()).unwrap().changed().unwrap();
        Task { spec: task.spec.clone(), state: changed.state }
    }

    fn leased(task: &Task, lease: u8) -> Task {
        let lease_id = LeaseId::v7(NOW, [lease; 10]);
        let length = Duration::from_secs(60);
        after(task, TaskEvent::Assign { agent: agent(), epoch: 1, lease_id, request_id: None, length })
    }

    fn released(task: &Task) -> Task {
        let chance = eap_core::Chance::new(0.0);
        let (agent, quote, why) = (agent(), Quote::default(), EndOfLease::Unclaimed);
        after(task, TaskEvent::Release { agent, quote, why, chance })
    }

    fn agent() -> AgentId {
        "a".parse().unwrap()
    }

    #[test]
    fn late_news_of_an_ended_lease_neither_brings_it_back_nor_ends_a_newer_one() {
        let book = LeaseBook::default();
        let first = leased(&submitted(), 1);
        let ended = released(&first);
        let second = leased(&ended, 2);
        book.note(&first);
        book.note(&second);
        assert_eq!(book.note(&ended), None, "told late, it ends nothing");
        book.note(&first);
        let held: Vec<u32> = book.of(&agent()).iter().map(|(_, lease)| lease.attempt).collect();
        assert_eq!(held, [2]);
        assert_eq!(book.note(&released(&second)), Some(agent()));
        book.note(&second);
        assert_eq!((book.count(&agent()), book.total()), (0, 0), "an ended lease does not come back");
    }

    #[test]
    fn what_happened_elsewhere_is_caught_up_with_at_once_and_once() {
        let book = LeaseBook::default();
        let first = leased(&submitted(), 1);
        book.note(&first);
        let second = leased(&released(&first), 2);
        let ended = |ended: Vec<(AttemptOutcome, &Attempt)>| -> Vec<(AttemptOutcome, u32)> {
            ended.into_iter().map(|(was, attempt)| (was, attempt.number)).collect()
        };
        assert_eq!(ended(book.follow(&second)), [(AttemptOutcome::Open, 1)], "the end of the first was not seen here");
        assert_eq!(book.find(&agent(), second.id()).map(|lease| lease.attempt), Some(2));
        assert_eq!(ended(book.follow(&second)), []);
        let cancelled = after(&second, TaskEvent::Cancel { reason: None });
        assert_eq!(ended(book.follow(&cancelled)), [(AttemptOutcome::Open, 2)]);
        assert_eq!(book.count(&agent()), 0);
        let stopped = book.stopped(&agent(), |_| false);
        assert_eq!(stopped, [(second.id(), second.lease().unwrap().lease_id)]);
        assert_eq!(ended(book.follow(&second)), [], "late news brings nothing back");
        assert_eq!(book.count(&agent()), 0);
    }

    #[test]
    fn an_attempt_that_was_leased_elsewhere_and_stopped_anywhere_is_told_of_here() {
        let leased = leased(&submitted(), 1);
        let cancelled = after(&leased, TaskEvent::Cancel { reason: None });
        let followed = LeaseBook::default();
        followed.follow(&cancelled);
        assert_eq!(followed.stopped(&agent(), |_| false).len(), 1);
        // It was stopped here, before it was heard here that it was leased.
        let noted = LeaseBook::default();
        assert_eq!(noted.note(&cancelled), None, "it was not known to run");
        assert_eq!(noted.stopped(&agent(), |_| false).len(), 1);
        noted.follow(&leased);
        noted.follow(&cancelled);
        assert_eq!((noted.count(&agent()), noted.stopped(&agent(), |_| false).len()), (0, 1));
    }
}
