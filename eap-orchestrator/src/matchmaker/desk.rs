//! Where polls and ready tasks are brought together: claims under way side by side, and what to do when they return.
//!
//! A poll is either among those that wait, or out with a claim. News that would concern a poll that is out (a task became
//! ready, its agent has room again) may come after its claim has looked; so every piece of news has a number, every claim
//! the number of the last one before it was sent, and a poll that comes back with nothing looks again if there was news
//! for it since.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use eap_core::{Allowance, Rating, RoutingKey, Task, room_for_work};
use eap_types::{AgentId, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::choice::{Candidate, Preference, choose};
use super::handover::Handover;
use super::waiting::{Poll, Waiting};
use crate::announce::{Ready, Supply, Taker, Takers, lock};
use crate::error::Error;
use crate::lifecycle::Lifecycle;
use crate::store::{Ask, Claimed};

/// How many polls may be out at once; the next one stands at the door until others are back.
const MAX_OUT: usize = 1_024;
/// How many asks one claim carries.
const ASKS_PER_CLAIM: usize = 256;
/// How many of the longest waiting polls that could take a task are compared, so that a placement costs the same
/// however many wait.
const CANDIDATES: usize = 64;

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
    out_of: HashMap<AgentId, Out>,
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

/// A poll that asks for so many tasks.
type Asking = (Poll, u32);

/// What a claim brought.
#[derive(Debug, Default)]
struct Outcome {
    /// The keys of what was leased.
    leased: Vec<RoutingKey>,
    /// The polls that got nothing.
    empty_handed: Vec<Poll>,
    /// One of them could have taken more, and there was nothing more.
    is_exhausted: bool,
}

/// Polls that were sent off with a claim.
#[derive(Debug)]
struct Sent {
    polls: Vec<Asking>,
    /// The newest news then.
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
            out_of: HashMap::new(),
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
    pub(super) fn supply(self: &Arc<Self>, Supply { ready, freed }: Supply) {
        let mut state = lock(&self.state);
        state.news += 1;
        let news = state.news;
        let mut polls = Vec::new();
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

    /// Sends those of `polls` that may ask now; the others wait.
    fn serve(self: &Arc<Self>, state: &mut State, polls: Vec<Poll>) {
        let now = self.lifecycle.clock.now();
        let mut asking = Vec::new();
        for mut poll in polls {
            let (room, is_trial) = room_of(&self.lifecycle, &poll.ask, now).unwrap_or_default();
            let may_repeat = poll.number.is_none() && poll.ask.request_id.is_some();
            poll.is_postponed = room > 0 && is_trial && state.is_out(&poll.ask.agent.id);
            if poll.is_postponed || (room == 0 && !may_repeat) {
                self.park(state, poll);
            } else {
                // With room for nothing it may still be the repeat of a request whose answer was lost: that one gets its
                // tasks in any case (G17).
                let tasks = poll.ask.max_tasks.min(room);
                state.goes_out(&poll.ask.agent.id);
                asking.push((poll, tasks));
            }
        }
        while !asking.is_empty() {
            let rest = asking.split_off(asking.len().min(ASKS_PER_CLAIM));
            let sent = state.send(std::mem::replace(&mut asking, rest));
            let desk = Arc::clone(self);
            self.lifecycle.under_way.spawn(async move {
                let news = sent.news;
                let outcome = desk.claim(sent.polls).await;
                desk.came_back(outcome.empty_handed, news);
            });
        }
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

    /// Brings ready tasks of one key, of which `news` told, to those who wait.
    fn begin_placing(self: &Arc<Self>, state: &mut State, key: RoutingKey, ready: &Ready, news: u64) {
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
        let mut passed_over = Vec::new();
        while let Some(takers) = next.take() {
            tried += takers.len();
            let Outcome { leased, empty_handed, is_exhausted } = self.claim(takers).await;
            left = left.saturating_sub(leased.iter().filter(|leased| **leased == key).count() as u32);
            passed_over.extend(empty_handed);
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
        self.came_back(passed_over, first_news);
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

    /// One claim for these polls: those who got something are answered.
    async fn claim(&self, polls: Vec<Asking>) -> Outcome {
        let (polls, gone): (Vec<Asking>, Vec<Asking>) =
            polls.into_iter().partition(|(poll, _)| !poll.reply.is_closed());
        self.are_back(gone.iter().map(|(poll, _)| poll));
        if polls.is_empty() {
            return Outcome::default();
        }
        let claimed = self.lifecycle.claim(asks(&polls)).await;
        self.hand_out(polls, claimed)
    }

    /// Answers those who got something, or all of them with why the claim failed.
    fn hand_out(&self, polls: Vec<Asking>, claimed: Result<Vec<Claimed>, Error>) -> Outcome {
        let (mut outcome, mut served) = (Outcome::default(), Vec::new());
        match claimed {
            Err(error) => {
                warn!(%error, "a claim failed");
                served.extend(polls.into_iter().map(|(poll, _)| (poll, None)));
            }
            Ok(claimed) => {
                for ((poll, _), claimed) in polls.into_iter().zip(claimed) {
                    outcome.is_exhausted |= claimed.is_exhausted;
                    if claimed.tasks.is_empty() {
                        outcome.empty_handed.push(poll);
                    } else {
                        outcome.leased.extend(claimed.tasks.iter().map(|task| task.spec.routing.clone()));
                        served.push((poll, Some(claimed)));
                    }
                }
            }
        }
        self.are_back(served.iter().map(|(poll, _)| poll));
        for (Poll { ask, reply, .. }, claimed) in served {
            let answer = match claimed {
                None => Err(Error::Busy { reason: "work cannot be handed out now" }),
                Some(Claimed { tasks, repeated, .. }) => {
                    debug!(agent.id = %ask.agent.id, tasks = tasks.len(), repeated, "tasks leased");
                    let give_back = ask.request_id.is_none().then(|| (Arc::clone(&self.lifecycle), ask.agent));
                    Ok(Handover::new(tasks, give_back))
                }
            };
            // If nobody is there to take it, the handover knows what to do.
            let _ = reply.send(answer);
        }
        outcome
    }

    fn are_back<'p>(&self, polls: impl Iterator<Item = &'p Poll>) {
        let mut state = None;
        for poll in polls {
            state.get_or_insert_with(|| lock(&self.state)).is_back(&poll.ask.agent.id);
        }
    }

    /// A claim that was sent after `news` has returned, these polls with nothing: they look again if there is something
    /// new for them, and wait else.
    fn came_back(self: &Arc<Self>, polls: Vec<Poll>, news: u64) {
        let mut state = lock(&self.state);
        state.returned(news);
        let (mut again, mut keys) = (Vec::new(), Vec::new());
        for mut poll in polls {
            let agent = poll.ask.agent.id.clone();
            let was_freed = state.is_back(&agent).is_some_and(|freed| freed > news);
            keys.extend(state.unplaced_since(news, &poll));
            if was_freed {
                again.push(poll);
                continue;
            }
            poll.is_postponed = false;
            self.park(&mut state, poll);
            again.extend(state.waiting.take_postponed(&agent));
        }
        let room = MAX_OUT.saturating_sub(state.polls_out + again.len()).min(state.door.len());
        again.extend(state.door.drain(..room));
        self.serve(&mut state, again);
        for (key, Unplaced { tasks, news }) in keys {
            self.begin_placing(&mut state, key, &Ready { count: tasks, preferring: Vec::new() }, news);
        }
        state.forget_old_news();
        self.count(&state);
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
    fn is_back(&mut self, agent: &AgentId) -> Option<u64> {
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

    /// Takes out what was left unplaced since `news` and could go to `poll`.
    fn unplaced_since(&mut self, news: u64, poll: &Poll) -> Vec<(RoutingKey, Unplaced)> {
        self.unplaced.extract_if(|key, unplaced| unplaced.news > news && poll.is_concerned_by(key)).collect()
    }

    /// What every claim that is out has seen can surprise none of them.
    fn forget_old_news(&mut self) {
        match self.out.first_key_value() {
            None => self.unplaced.clear(),
            Some((oldest, _)) => self.unplaced.retain(|_, unplaced| unplaced.news > *oldest),
        }
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
            self.desk.came_back(outcome.empty_handed, news);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // The task was not taken in: its taker waits on.
        if let Some(Sent { polls, news }) = self.sent.take() {
            self.desk.came_back(polls.into_iter().map(|(poll, _)| poll).collect(), news);
        }
    }
}

fn asks(polls: &[Asking]) -> Vec<Ask> {
    polls.iter().map(|(poll, tasks)| Ask { max_tasks: *tasks, ..poll.ask.clone() }).collect()
}

fn preferences(ready: &Ready) -> Vec<Preference<'_>> {
    ready.preferring.iter().map(|(place, spec)| (*place, &spec.preferred_agents)).collect()
}

/// How many tasks may be handed to the agent that asks, and whether that is a trial; `None` if it is gone or another
/// process by now.
fn room_of(lifecycle: &Lifecycle, ask: &Ask, now: Timestamp) -> Option<(u32, bool)> {
    let entry = lifecycle.directory.get(&ask.agent.id).filter(|entry| entry.agent.epoch == ask.agent.epoch)?;
    Some(entry.with_vitals(|vitals| {
        let is_trial = vitals.record.allowance(now) == Allowance::Trial;
        // The store counts the leases it holds.
        (room_for_work(&entry.agent, vitals, 0, now), is_trial)
    }))
}

/// A waiting poll as one to choose from, if its agent can take anything now.
fn candidate(
    lifecycle: &Lifecycle,
    key: &RoutingKey,
    number: u64,
    ask: &Ask,
    out_of: &HashMap<AgentId, Out>,
    now: Timestamp,
) -> Option<Candidate> {
    let entry = lifecycle.directory.get(&ask.agent.id).filter(|entry| entry.agent.epoch == ask.agent.epoch)?;
    let leases = lifecycle.leases.count(&ask.agent.id);
    entry.with_vitals(|vitals| {
        // One trial at a time.
        let waits_for_trial = vitals.record.allowance(now) == Allowance::Trial && out_of.contains_key(&ask.agent.id);
        let room = room_for_work(&entry.agent, vitals, leases, now);
        (room > 0 && !waits_for_trial).then(|| Candidate {
            number,
            agent: ask.agent.id.clone(),
            asked: ask.max_tasks,
            room,
            rating: Rating::of(&entry.agent, vitals, leases, key),
            last_served: vitals.record.last_served(),
        })
    })
}
