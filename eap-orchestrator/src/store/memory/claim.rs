//! Ready tasks to one who asks, from the heads of the queues it may take from.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use eap_core::{Agent, Changed, Task};
use eap_types::{Priority, Timestamp};

use super::tables::Tables;
use crate::canary;
use crate::store::{Ask, Claimed, Decide, Insertion, MAX_CLAIM_BYTES, events_of};

impl Tables {
    /// Leases to one ask what it gets; see [`Repository::claim`](crate::store::Repository::claim).
    pub(super) fn claim(&mut self, ask: &Ask, now: Timestamp, decide: &Decide) -> Claimed {
        let Some(known) = self.agents.get(&ask.agent.id) else { return Claimed::default() };
        let agent = &known.row.record;
        if !agent.takes_work() || agent.epoch != ask.agent.epoch {
            return Claimed::default();
        }
        let before = self.claimed_before(ask);
        if !before.is_empty() {
            return Claimed { tasks: before, repeated: true, ..Claimed::default() };
        }
        let held = u32::try_from(self.count_held_by(&agent.id)).unwrap_or(u32::MAX);
        let room = ask.max_tasks.min(agent.max_concurrent_tasks.saturating_sub(held));
        let mut tasks = Vec::new();
        let (decided, is_exhausted) = self.decided(ask, agent, room, now, decide);
        for (task, changed) in decided {
            let task = Task { spec: task.spec, state: changed.state };
            for event in events_of(&task, &changed.notes, now) {
                self.append_event(event);
            }
            self.update_task(task.clone());
            tasks.push(task);
        }
        Claimed { tasks, is_exhausted, ..Claimed::default() }
    }

    /// The tasks that the same request claimed and that its agent still holds.
    fn claimed_before(&self, ask: &Ask) -> Vec<Task> {
        let Some(request) = ask.request_id.as_ref().filter(|_| !canary::sings("request-id-ignored")) else {
            return Vec::new();
        };
        let held = self.held_by(&ask.agent.id).map(|(_, row)| &row.record);
        let same = held.filter(|task| task.lease().and_then(|lease| lease.request_id.as_ref()) == Some(request));
        same.cloned().collect()
    }

    /// What `decide` grants until the room is filled, taken from all queues at once in their common order; and whether
    /// there is nothing else.
    ///
    /// Looks at the heads of the queues alone, so that what waits behind them costs nothing.
    fn decided(
        &self,
        ask: &Ask,
        agent: &Agent,
        room: u32,
        now: Timestamp,
        decide: &Decide,
    ) -> (Vec<(Task, Changed)>, bool) {
        let is_wanted = |task_type| ask.task_types.as_ref().is_none_or(|types| BTreeSet::contains(types, task_type));
        let mut queues: Vec<_> = self
            .queues(agent.tenant)
            .filter(|(key, _)| is_wanted(&key.task_type) && key.admits(agent))
            .map(|(_, queue)| queue.iter())
            .collect();
        let mut heads: BinaryHeap<Reverse<(Priority, Insertion, usize)>> = BinaryHeap::new();
        for (index, queue) in queues.iter_mut().enumerate() {
            heads.extend(queue.next().map(|(priority, number)| Reverse((*priority, *number, index))));
        }
        let (mut granted, mut bytes, mut is_any_refused) = (Vec::new(), 0, false);
        while granted.len() < room as usize
            && bytes < MAX_CLAIM_BYTES
            && let Some(Reverse((_, number, index))) = heads.pop()
        {
            let task = &self.row(number).record;
            if let Ok(changed) = decide(task, ask, now) {
                bytes += task.spec.payload_bytes();
                granted.push((task.clone(), changed));
            } else {
                is_any_refused = true;
            }
            heads.extend(queues[index].next().map(|(priority, number)| Reverse((*priority, *number, index))));
        }
        let is_exhausted = heads.is_empty() && granted.len() < room as usize && !is_any_refused;
        (granted, is_exhausted)
    }
}
