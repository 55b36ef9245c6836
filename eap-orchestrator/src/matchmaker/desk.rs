//! Where polls and ready tasks are brought together: claims under way side by side, and what to do when they return.
//!
//! A poll is either among those that wait, or out with a claim. News that would concern a poll that is out (a task became
//! ready, its agent has room again) may come after its claim has looked; so every piece of news has a number, every claim
//! the number of the last one before it was sent, and a poll that comes back with nothing looks again if there was news
//! for it since.

mod placing;
mod serving;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use eap_core::RoutingKey;
use eap_types::AgentId;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::serving::{Asking, Returning, Sent};
use super::waiting::{Poll, Waiting};
use crate::announce::{Ready, Supply, lock};
use crate::error::Error;
use crate::lifecycle::Lifecycle;
use crate::maps::IdMap;

/// How many polls may be out at once; the next one stands at the door until others are back.
const MAX_OUT: usize = 1_024;
/// How many asks one claim carries.
const ASKS_PER_CLAIM: usize = 256;

/// The polls, and what is known of the tasks they wait for.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) lifecycle: Arc<Lifecycle>,
    state: Mutex<State>,
    /// The next deadline may be sooner than it was.
    pub(super) changed: Notify,
}

#[derive(Debug)]
struct State {
    waiting: Waiting,
    /// New polls for which there are too many out, in order of arrival.
    door: VecDeque<Poll>,
    /// The number of the newest news.
    news: u64,
    /// How many claims that are out were sent after which news.
    out: BTreeMap<u64, usize>,
    /// Whose polls are out.
    out_of: IdMap<AgentId, Out>,
    polls_out: usize,
    /// Ready tasks for which nobody waited while polls were out.
    unplaced: HashMap<RoutingKey, Unplaced>,
    is_closed: bool,
}

/// The polls of one agent that are out.
#[derive(Debug, Default)]
struct Out {
    polls: usize,
    /// The news that the agent has room again, if it came since the first of them was sent.
    freed: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Unplaced {
    tasks: u32,
    news: u64,
}

impl Desk {
    pub(super) fn new(lifecycle: Arc<Lifecycle>) -> Self {
        let capacity = &lifecycle.config.capacity;
        let state = State {
            waiting: Waiting::new(capacity.polls, capacity.polls_per_agent),
            door: VecDeque::new(),
            news: 0,
            out: BTreeMap::new(),
            out_of: IdMap::default(),
            polls_out: 0,
            unplaced: HashMap::new(),
            is_closed: false,
        };
        Self { lifecycle, state: Mutex::new(state), changed: Notify::new() }
    }

    /// A new poll looks at everything that is ready; if it finds nothing, it waits.
    pub(super) fn receive(self: &Arc<Self>, poll: Poll) {
        let mut state = lock(&self.state);
        if state.is_closed {
            drop(state);
            let _ = poll.reply.send(Err(Error::Draining));
            return;
        }
        if let Some(request_id) = &poll.ask.request_id {
            state.waiting.replace(request_id, &poll.ask.agent.id);
        }
        if state.polls_out < MAX_OUT {
            self.serve(&mut state, vec![poll]);
            self.count(&state);
        } else if state.door.len() + state.waiting.len() < self.lifecycle.config.capacity.polls {
            state.door.push_back(poll);
        } else {
            drop(state);
            let _ = poll.reply.send(Err(Error::Busy { reason: "too many agents ask at once" }));
        }
    }

    /// What came in: agents that have room again look at everything, ready tasks are brought to those who wait.
    pub(super) fn supply(self: &Arc<Self>, Supply { ready, freed, answered }: Supply) {
        let mut state = lock(&self.state);
        state.news += 1;
        let news = state.news;
        let mut polls = Vec::new();
        for (agent, request_id) in &answered {
            // As new as when it came: what it got it is to have, whether its agent has room or not.
            let again = state.waiting.take_request(request_id, agent);
            polls.extend(again.map(|poll| Poll { number: None, ..poll }));
            if let Some(out) = state.out_of.get_mut(agent) {
                out.freed = Some(news);
            }
        }
        for agent in &freed {
            polls.extend(state.waiting.take_of(agent));
            if let Some(out) = state.out_of.get_mut(agent) {
                out.freed = Some(news);
            }
        }
        self.serve(&mut state, polls);
        for (key, ready) in ready {
            self.begin_placing(&mut state, key, &ready, news);
        }
        self.count(&state);
    }

    /// Answers those whose wait is over; says when the next one's will be.
    pub(super) fn dismiss_overdue(&self) -> Option<Instant> {
        let mut state = lock(&self.state);
        state.waiting.take_overdue(Instant::now()).into_iter().for_each(Poll::answer_empty);
        self.count(&state);
        state.waiting.next_deadline()
    }

    /// Answers everybody who waits, now and from now on, with nothing.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        state.waiting.drain().for_each(Poll::answer_empty);
        state.door.drain(..).for_each(Poll::answer_empty);
        self.lifecycle.metrics.polls.waiting.set(0);
    }

    /// Who of `agents` waits for tasks of `key` now.
    pub(super) fn waiting(&self, agents: Vec<AgentId>, key: &RoutingKey) -> HashSet<AgentId> {
        let state = lock(&self.state);
        agents.into_iter().filter(|agent| state.waiting.waits(agent, key)).collect()
    }

    fn park(&self, state: &mut State, poll: Poll) {
        if state.is_closed {
            return poll.answer_empty();
        }
        let first = state.waiting.next_deadline();
        state.waiting.park(poll);
        if state.waiting.next_deadline() != first {
            self.changed.notify_one();
        }
    }

    /// A claim that was sent after `news` has returned: polls that got nothing look again if there is something new for
    /// them, and wait else. What their agents' other polls missed meanwhile is brought to those.
    fn came_back(self: &Arc<Self>, Returning { empty_handed, left }: Returning, news: u64) {
        let mut state = lock(&self.state);
        state.returned(news);
        let (mut again, mut keys) = (Vec::new(), Vec::new());
        for mut poll in empty_handed {
            let agent = poll.ask.agent.id.clone();
            let was_freed = state.comes_back(&agent).is_some_and(|freed| freed > news);
            keys.extend(state.unplaced_since(news, &agent, Some(&poll)));
            if was_freed {
                again.push(poll);
                continue;
            }
            poll.is_postponed = false;
            self.park(&mut state, poll);
            again.extend(state.waiting.take_postponed(&agent));
        }
        for agent in left {
            keys.extend(state.unplaced_since(news, &agent, None));
            again.extend(state.waiting.take_postponed(&agent));
        }
        self.serve(&mut state, again);
        self.let_in(&mut state);
        for (key, Unplaced { tasks, news }) in keys {
            self.begin_placing(&mut state, key, &Ready { count: tasks, preferring: Vec::new() }, news);
        }
        state.forget_old_news();
        self.count(&state);
    }

    /// Serves those at the door while there is room: some of them may have to wait, and leave it to others.
    fn let_in(self: &Arc<Self>, state: &mut State) {
        while !state.door.is_empty() && state.polls_out < MAX_OUT {
            let room = (MAX_OUT - state.polls_out).min(state.door.len());
            let polls = state.door.drain(..room).collect();
            self.serve(state, polls);
        }
    }

    /// Keeps the metric of those who wait in step.
    fn count(&self, state: &State) {
        self.lifecycle.metrics.polls.waiting.set(state.waiting.len() as u64);
    }
}

impl State {
    fn is_out(&self, agent: &AgentId) -> bool {
        self.out_of.contains_key(agent)
    }

    fn goes_out(&mut self, agent: &AgentId) {
        self.polls_out += 1;
        match self.out_of.get_mut(agent) {
            Some(out) => out.polls += 1,
            None => drop(self.out_of.insert(agent.clone(), Out { polls: 1, freed: None })),
        }
    }

    /// One of an agent's polls is back; the newest news that the agent has room again since they went out.
    fn comes_back(&mut self, agent: &AgentId) -> Option<u64> {
        self.polls_out = self.polls_out.saturating_sub(1);
        let out = self.out_of.get_mut(agent)?;
        out.polls = out.polls.saturating_sub(1);
        let freed = out.freed;
        if out.polls == 0 {
            self.out_of.remove(agent);
        }
        freed
    }

    fn send(&mut self, polls: Vec<Asking>) -> Sent {
        *self.out.entry(self.news).or_default() += 1;
        Sent { polls, news: self.news }
    }

    fn returned(&mut self, news: u64) {
        if let Some(claims) = self.out.get_mut(&news) {
            *claims -= 1;
            if *claims == 0 {
                self.out.remove(&news);
            }
        }
    }

    /// Nobody waits for these tasks; but a poll that is out may come back with nothing and want one.
    fn leave_unplaced(&mut self, key: RoutingKey, tasks: u32, news: u64) {
        if self.out.is_empty() {
            return;
        }
        let unplaced = self.unplaced.entry(key).or_insert(Unplaced { tasks: 0, news });
        unplaced.tasks = unplaced.tasks.saturating_add(tasks);
        unplaced.news = unplaced.news.max(news);
    }

    /// Takes out what was left unplaced since `news` and could go to `poll`, or to another poll of its agent's that waits:
    /// with one of them out, the others may have been passed over.
    fn unplaced_since(&mut self, news: u64, agent: &AgentId, poll: Option<&Poll>) -> Vec<(RoutingKey, Unplaced)> {
        let Self { waiting, unplaced, .. } = self;
        let concerns =
            |key: &RoutingKey| poll.is_some_and(|poll| poll.is_concerned_by(key)) || waiting.waits(agent, key);
        unplaced.extract_if(|key, unplaced| unplaced.news > news && concerns(key)).collect()
    }

    /// What every claim that is out has seen can surprise none of them.
    fn forget_old_news(&mut self) {
        match self.out.first_key_value() {
            None => self.unplaced.clear(),
            Some((oldest, _)) => self.unplaced.retain(|_, unplaced| unplaced.news > *oldest),
        }
    }
}
