//! Ready tasks that look for takers among those who wait: the best first.

use std::sync::Arc;

use eap_core::{Allowance, Rating, RoutingKey, Task, room_for_work};
use eap_types::{AgentId, AgentState, Timestamp};

use super::serving::{Asking, Outcome, Returning, Sent, asks};
use super::{ASKS_PER_CLAIM, Desk, Out, State};
use crate::announce::{Ready, Taker, Takers, lock};
use crate::error::Error;
use crate::lifecycle::Lifecycle;
use crate::maps::IdMap;
use crate::matchmaker::choice::{Candidate, Preference, choose};
use crate::store::{Ask, Claimed};

/// How many of the longest waiting polls that could take a task are compared, so that a placement costs the same
/// however many wait.
const CANDIDATES: usize = 64;

impl Desk {
    /// Brings ready tasks of one key, of which `news` told, to those who wait.
    pub(super) fn begin_placing(self: &Arc<Self>, state: &mut State, key: RoutingKey, ready: &Ready, news: u64) {
        let takers = self.takers(state, &key, ready.count as usize, ready.count, &preferences(ready));
        if takers.is_empty() {
            state.leave_unplaced(key, ready.count, news);
            return;
        }
        let sent = state.send(takers);
        self.lifecycle.under_way.spawn(Arc::clone(self).place(key, ready.count, news, sent));
    }

    /// Finds takers for so many tasks of one key: the best first, more of them while some refuse.
    async fn place(self: Arc<Self>, key: RoutingKey, mut left: u32, news: u64, sent: Sent) {
        let (first_news, mut next, mut tried) = (sent.news, Some(sent.polls), 0);
        let mut returning = Returning::default();
        while let Some(takers) = next.take() {
            tried += takers.len();
            let Outcome { leased, returning: passed_over, is_exhausted } = self.claim(takers).await;
            left = left.saturating_sub(leased.iter().filter(|leased| **leased == key).count() as u32);
            returning.add(passed_over);
            if is_exhausted {
                // Others were faster: there is nothing left to place, and no use in asking everybody.
                break;
            }
            let mut state = lock(&self.state);
            if left > 0 {
                // Twice as many each time: one taker is the rule, a queue of unwilling ones must not take for ever.
                let want = usize::try_from(left).unwrap_or(usize::MAX).max(tried);
                let takers = self.takers(&mut state, &key, want, left, &[]);
                if takers.is_empty() {
                    state.leave_unplaced(key.clone(), left, news);
                } else {
                    next = Some(takers);
                }
            }
        }
        self.came_back(returning, first_news);
    }

    /// Up to `polls` waiting polls that take `tasks` tasks of a key between them, each with how many it may take. They
    /// count as out from now on.
    fn takers(
        &self,
        state: &mut State,
        key: &RoutingKey,
        polls: usize,
        tasks: u32,
        preferring: &[Preference<'_>],
    ) -> Vec<Asking> {
        if state.waiting.len() == 0 {
            return Vec::new();
        }
        let polls = polls.min(ASKS_PER_CLAIM);
        let (lifecycle, now) = (&self.lifecycle, self.lifecycle.clock.now());
        let State { waiting, out_of, .. } = state;
        let judge = |number, ask: &Ask| candidate(lifecycle, key, number, ask, out_of, now);
        let candidates = waiting.judged(key, CANDIDATES.max(polls), judge);
        let choices = choose(&candidates, polls, tasks, preferring);
        let taken: Vec<Asking> =
            choices.into_iter().filter_map(|choice| Some((waiting.take(choice.number)?, choice.tasks))).collect();
        taken.iter().for_each(|(poll, _)| state.goes_out(&poll.ask.agent.id));
        taken
    }
}

impl Takers for Arc<Desk> {
    fn reserve(&self, task: &Task) -> Option<Box<dyn Taker>> {
        let mut state = lock(&self.state);
        let preferred = [(0, &task.spec.preferred_agents)];
        let preferring = if task.spec.preferred_agents.is_empty() { &[][..] } else { &preferred[..] };
        let takers = self.takers(&mut state, &task.spec.routing, 1, 1, preferring);
        self.count(&state);
        let sent = (!takers.is_empty()).then(|| state.send(takers))?;
        Some(Box::new(Reserved { desk: Arc::clone(self), sent: Some(sent) }))
    }
}

/// A poll that is out with the commit of a task.
#[derive(Debug)]
struct Reserved {
    desk: Arc<Desk>,
    sent: Option<Sent>,
}

impl Taker for Reserved {
    fn asks(&self) -> Vec<Ask> {
        self.sent.as_ref().map_or_else(Vec::new, |sent| asks(&sent.polls))
    }

    fn take(mut self: Box<Self>, claimed: Result<Vec<Claimed>, Error>) {
        if let Some(Sent { polls, news }) = self.sent.take() {
            let outcome = self.desk.hand_out(polls, claimed);
            self.desk.came_back(outcome.returning, news);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // The task was not taken in: its taker waits on.
        if let Some(Sent { polls, news }) = self.sent.take() {
            let empty_handed = polls.into_iter().map(|(poll, _)| poll).collect();
            self.desk.came_back(Returning { empty_handed, left: Vec::new() }, news);
        }
    }
}

fn preferences(ready: &Ready) -> Vec<Preference<'_>> {
    ready.preferring.iter().map(|(place, spec)| (*place, &spec.preferred_agents)).collect()
}

/// A waiting poll as one to choose from, if its agent can take anything now.
fn candidate(
    lifecycle: &Lifecycle,
    key: &RoutingKey,
    number: u64,
    ask: &Ask,
    out_of: &IdMap<AgentId, Out>,
    now: Timestamp,
) -> Option<Candidate> {
    let entry = lifecycle.directory.get(&ask.agent.id).filter(|entry| entry.agent.epoch == ask.agent.epoch)?;
    let leases = lifecycle.leases.count(&ask.agent.id);
    let state = entry.agent.state(now.saturating_since(entry.silent_since()), &lifecycle.config.timing.liveness());
    entry.with_vitals(|vitals| {
        let rating = Rating::of(&entry.agent, vitals, leases, key);
        let rating = if state == AgentState::Suspect { rating.suspect() } else { rating };
        // One trial at a time.
        let waits_for_trial = vitals.record.allowance(now) == Allowance::Trial && out_of.contains_key(&ask.agent.id);
        let room = room_for_work(&entry.agent, vitals, leases, now);
        (room > 0 && !waits_for_trial).then(|| Candidate {
            number,
            agent: ask.agent.id.clone(),
            asked: ask.max_tasks,
            room,
            rating,
            last_served: vitals.record.last_served(),
        })
    })
}
