//! The polls that wait, in order of arrival, and which of them a routing key concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use eap_core::RoutingKey;
use eap_types::{AgentId, RequestId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::handover::Handover;
use crate::error::Error;
use crate::maps::IdMap;
use crate::store::Ask;

/// How many routing keys are remembered with their polls; past it the index is built anew as keys come up.
const INDEXED_KEYS: usize = 10_000;

/// An agent's call that waits for work.
#[derive(Debug)]
pub(super) struct Poll {
    pub(super) ask: Ask,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<Handover, Error>>,
    /// Its place in the order of arrival, once it has waited; it keeps it when it was tried in vain.
    pub(super) number: Option<u64>,
    /// It waits for what becomes of another of its agent's, which is on trial.
    pub(super) is_postponed: bool,
}

impl Poll {
    /// Whether a task of this key could go to it.
    pub(super) fn is_concerned_by(&self, key: &RoutingKey) -> bool {
        concerns(key, &self.ask)
    }

    /// Answers with no tasks: the wait is over.
    pub(super) fn answer_empty(self) {
        let _ = self.reply.send(Ok(Handover::default()));
    }
}

/// The polls that wait. Numbers are given in order of arrival.
#[derive(Debug)]
pub(super) struct Waiting {
    polls: BTreeMap<u64, Poll>,
    of_agent: IdMap<AgentId, BTreeSet<u64>>,
    deadlines: BTreeSet<(Instant, u64)>,
    index: HashMap<RoutingKey, BTreeSet<u64>>,
    next: u64,
    limit: usize,
    limit_per_agent: usize,
}

impl Waiting {
    pub(super) fn new(limit: usize, limit_per_agent: usize) -> Self {
        Self {
            polls: BTreeMap::new(),
            of_agent: IdMap::default(),
            deadlines: BTreeSet::new(),
            index: HashMap::new(),
            next: 0,
            limit,
            limit_per_agent,
        }
    }

    /// The same request asked again takes the place of its first, which is answered with nothing (G17).
    pub(super) fn replace(&mut self, request_id: &RequestId, agent: &AgentId) {
        if let Some(replaced) = self.take_request(request_id, agent) {
            replaced.answer_empty();
        }
    }

    /// Takes out the poll that is this request.
    pub(super) fn take_request(&mut self, request_id: &RequestId, agent: &AgentId) -> Option<Poll> {
        let is_it = |number: &u64| {
            self.polls.get(number).is_some_and(|known| known.ask.request_id.as_ref() == Some(request_id))
        };
        let number = self.numbers_of(agent).find(is_it)?;
        self.take(number)
    }

    /// Lets a poll wait, or answers it with the reason why it cannot.
    pub(super) fn park(&mut self, mut poll: Poll) {
        if poll.deadline <= Instant::now() {
            // One that does not wait takes no place from those that do.
            return poll.answer_empty();
        }
        let agent = poll.ask.agent.id.clone();
        if self.is_full(&agent) {
            self.forget_closed(&agent);
        }
        let refusal = if self.is_full(&agent) {
            Some(Error::TooMany { reason: "the agent has too many polls waiting" })
        } else if self.polls.len() >= self.limit {
            Some(Error::Busy { reason: "too many polls are waiting" })
        } else {
            None
        };
        if let Some(refusal) = refusal {
            let _ = poll.reply.send(Err(refusal));
            return;
        }
        let number = *poll.number.get_or_insert_with(|| {
            self.next += 1;
            self.next
        });
        for (key, numbers) in &mut self.index {
            if concerns(key, &poll.ask) {
                numbers.insert(number);
            }
        }
        self.of_agent.entry(agent).or_default().insert(number);
        self.deadlines.insert((poll.deadline, number));
        self.polls.insert(number, poll);
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.polls.len()
    }

    /// When the next poll's wait is over.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Takes out the polls whose wait is over.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Vec<Poll> {
        let overdue: Vec<u64> =
            self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, number)| *number).collect();
        overdue.into_iter().filter_map(|number| self.take(number)).collect()
    }

    /// Takes out all polls of one agent.
    pub(super) fn take_of(&mut self, agent: &AgentId) -> Vec<Poll> {
        let numbers: Vec<u64> = self.numbers_of(agent).collect();
        numbers.into_iter().filter_map(|number| self.take(number)).collect()
    }

    /// Takes out the longest waiting poll of an agent that was postponed.
    pub(super) fn take_postponed(&mut self, agent: &AgentId) -> Option<Poll> {
        let number = self.numbers_of(agent).find(|number| self.polls.get(number).is_some_and(|poll| poll.is_postponed));
        self.take(number?)
    }

    /// What `judge` makes of the longest waiting polls that `key` concerns, of at most `limit` that it lets through.
    pub(super) fn judged<T>(
        &mut self,
        key: &RoutingKey,
        limit: usize,
        judge: impl Fn(u64, &Ask) -> Option<T>,
    ) -> Vec<T> {
        if !self.index.contains_key(key) {
            if self.index.len() >= INDEXED_KEYS {
                self.index.clear();
            }
            let concerned =
                self.polls.iter().filter(|(_, poll)| concerns(key, &poll.ask)).map(|(number, _)| *number).collect();
            self.index.insert(key.clone(), concerned);
        }
        let (mut judged, mut closed) = (Vec::new(), Vec::new());
        for number in self.index.get(key).into_iter().flatten() {
            if judged.len() >= limit {
                break;
            }
            match self.polls.get(number) {
                Some(poll) if poll.reply.is_closed() => closed.push(*number),
                Some(poll) => judged.extend(judge(*number, &poll.ask)),
                None => {}
            }
        }
        for number in closed {
            self.take(number);
        }
        judged
    }

    /// Whether an agent has a poll waiting that `key` concerns.
    pub(super) fn waits(&self, agent: &AgentId, key: &RoutingKey) -> bool {
        let mut polls = self.numbers_of(agent).filter_map(|number| self.polls.get(&number));
        polls.any(|poll| !poll.reply.is_closed() && concerns(key, &poll.ask))
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Poll> {
        self.of_agent.clear();
        self.deadlines.clear();
        self.index.clear();
        std::mem::take(&mut self.polls).into_values()
    }

    fn numbers_of(&self, agent: &AgentId) -> impl Iterator<Item = u64> {
        self.of_agent.get(agent).into_iter().flatten().copied()
    }

    fn is_full(&self, agent: &AgentId) -> bool {
        self.of_agent.get(agent).is_some_and(|numbers| numbers.len() >= self.limit_per_agent)
    }

    fn forget_closed(&mut self, agent: &AgentId) {
        let closed: Vec<u64> = self
            .numbers_of(agent)
            .filter(|number| self.polls.get(number).is_none_or(|poll| poll.reply.is_closed()))
            .collect();
        for number in closed {
            self.take(number);
        }
    }

    /// Takes out one poll.
    pub(super) fn take(&mut self, number: u64) -> Option<Poll> {
        let poll = self.polls.remove(&number)?;
        self.deadlines.remove(&(poll.deadline, number));
        let agent = &poll.ask.agent.id;
        if let Some(numbers) = self.of_agent.get_mut(agent) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.of_agent.remove(agent);
            }
        }
        for numbers in self.index.values_mut() {
            numbers.remove(&number);
        }
        Some(poll)
    }
}

/// Whether a task of this key could go to this ask.
fn concerns(key: &RoutingKey, ask: &Ask) -> bool {
    ask.task_types.as_ref().is_none_or(|types| types.contains(&key.task_type)) && key.admits(&ask.agent)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use eap_core::{Agent, Standing};
    use eap_types::{AgentType, Capabilities, JsonObject, Labels, TenantId, Timestamp};

    use super::*;

    pub(in crate::matchmaker) fn agent(name: &str, capability: &str) -> Arc<Agent> {
        Arc::new(Agent {
            id: name.parse().unwrap(),
            tenant: TenantId::default(),
            name: "AGENT-X".parse().unwrap(),
            instance_id: None,
            version: "1".into(),
            agent_type: AgentType::Implementer,
            capabilities: Capabilities::new([capability.parse::<eap_types::Capability>().unwrap()]).unwrap(),
            labels: Labels::default(),
            endpoint_url: None,
            metadata: JsonObject::default(),
            task_schemas: Default::default(),
            features: None,
            max_concurrent_tasks: 5,
            admitted_capabilities: BTreeSet::new(),
            previous_token: None,
            rotation: None,
            orders: eap_core::Orders::default(),
            push: None,
            platform: None,
            registered_with: None,
            token_sha256: None,
            epoch: 1,
            registered_at: Timestamp::UNIX_EPOCH,
            standing: Standing::Active,
        })
    }

    type Answer = oneshot::Receiver<Result<Handover, Error>>;

    fn poll(agent: &Arc<Agent>, request: Option<&str>) -> (Poll, Answer) {
        let (reply, answer) = oneshot::channel();
        let ask = Ask {
            agent: Arc::clone(agent),
            max_tasks: 1,
            request_id: request.map(|text| text.parse().unwrap()),
            task_types: None,
            lease: Duration::from_secs(60),
        };
        (
            Poll { ask, deadline: Instant::now() + Duration::from_secs(5), reply, number: None, is_postponed: false },
            answer,
        )
    }

    fn key(capability: &str) -> RoutingKey {
        RoutingKey::of_type(TenantId::default(), capability.parse().unwrap())
    }

    /// The agents of the polls that are looked at for a key, in order, without those of `but`.
    fn looked_at(waiting: &mut Waiting, capability: &str, limit: usize, but: &str) -> Vec<String> {
        let judge = |_, ask: &Ask| Some(ask.agent.id.to_string()).filter(|id| id != but);
        waiting.judged(&key(capability), limit, judge)
    }

    #[test]
    fn the_longest_waiting_are_looked_at_first_and_no_more_than_asked_for() {
        let mut waiting = Waiting::new(10, 4);
        let mut answers = Vec::new();
        for (name, capability) in [("a", "sum"), ("b", "count"), ("c", "count"), ("d", "count")] {
            let (poll, answer) = poll(&agent(name, capability), None);
            waiting.park(poll);
            answers.push(answer);
        }
        assert_eq!(looked_at(&mut waiting, "count", 1, "b"), ["c"], "those that are passed over do not count");
        assert_eq!(looked_at(&mut waiting, "count", 9, ""), ["b", "c", "d"]);
        assert!(
            waiting.waits(&"c".parse().unwrap(), &key("count")) && !waiting.waits(&"c".parse().unwrap(), &key("sum"))
        );
        // Who hung up is taken out on the way.
        answers.remove(2);
        assert!(!waiting.waits(&"c".parse().unwrap(), &key("count")));
        assert_eq!(looked_at(&mut waiting, "count", 9, ""), ["b", "d"]);
        assert_eq!(waiting.drain().count(), 3);
    }

    #[test]
    fn one_that_was_tried_in_vain_keeps_its_place() {
        let mut waiting = Waiting::new(10, 4);
        let mut answers = Vec::new();
        for name in ["a", "b"] {
            let (poll, answer) = poll(&agent(name, "sum"), None);
            waiting.park(poll);
            answers.push(answer);
        }
        let first = waiting.judged(&key("sum"), 1, |number, _| Some(number));
        let tried = waiting.take(first[0]).unwrap();
        assert_eq!(looked_at(&mut waiting, "sum", 9, ""), ["b"]);
        waiting.park(tried);
        assert_eq!(looked_at(&mut waiting, "sum", 9, ""), ["a", "b"]);
    }

    #[test]
    fn a_repeated_request_replaces_its_first_poll_and_a_fifth_is_refused() {
        let mut waiting = Waiting::new(10, 4);
        let agent = agent("a", "sum");
        let (first, mut first_answer) = poll(&agent, Some("r"));
        waiting.park(first);
        let mut answers = Vec::new();
        waiting.replace(&"r".parse().unwrap(), &agent.id);
        for request in [Some("r"), None, None, None] {
            let (poll, answer) = poll(&agent, request);
            waiting.park(poll);
            answers.push(answer);
        }
        assert!(first_answer.try_recv().unwrap().unwrap().accept().is_empty());
        let (fifth, mut answer) = poll(&agent, None);
        waiting.park(fifth);
        assert!(matches!(answer.try_recv(), Ok(Err(Error::TooMany { .. }))));
        // One that hung up makes room.
        answers.pop();
        let (fifth, mut answer) = poll(&agent, None);
        waiting.park(fifth);
        assert!(answer.try_recv().is_err(), "it waits");
    }

    #[test]
    fn a_poll_that_does_not_wait_takes_no_place() {
        let mut waiting = Waiting::new(10, 1);
        let agent = agent("a", "sum");
        let (mut over, mut over_answer) = poll(&agent, None);
        over.deadline = Instant::now();
        waiting.park(over);
        assert!(over_answer.try_recv().unwrap().unwrap().accept().is_empty());
        let (next, mut answer) = poll(&agent, None);
        waiting.park(next);
        assert!(answer.try_recv().is_err(), "it waits");
    }

    #[test]
    fn the_limit_over_all_agents_holds() {
        let mut waiting = Waiting::new(2, 4);
        let mut answers = Vec::new();
        for name in ["a", "b"] {
            let (poll, answer) = poll(&agent(name, "sum"), None);
            waiting.park(poll);
            answers.push(answer);
        }
        let (third, mut answer) = poll(&agent("c", "sum"), None);
        waiting.park(third);
        assert!(matches!(answer.try_recv(), Ok(Err(Error::Busy { .. }))));
        assert_eq!(waiting.drain().count(), 2);
    }
}
