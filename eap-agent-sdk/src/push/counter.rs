//! Where pushed tasks and those who wait for their results meet the agent's loop.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use eap_types::{Assignment, ResultStatus, TaskResult};
use tokio::sync::{Notify, watch};

use crate::leases::LeaseKey;
use crate::outbox_file::key_of;

/// So many results are remembered for repeats whose first answer was lost, and so many bytes of them.
const REMEMBERED: usize = 256;
const REMEMBERED_BYTES: usize = 16 * 1024 * 1024;

/// What was pushed and not yet taken up, what is at work, and what was done lately.
///
/// The queue is bounded by the room there is: a task is let in only while the agent can hold it.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    state: Mutex<State>,
    /// Says that there is something in the queue.
    pub(super) arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(Assignment, Instant)>,
    open: HashMap<LeaseKey, watch::Sender<Option<End>>>,
    done: VecDeque<(LeaseKey, Arc<TaskResult>, usize)>,
    done_bytes: usize,
    is_closed: bool,
}

/// What became of a task.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// It has this result.
    Result(Arc<TaskResult>),
    /// The agent gave it back, or dropped it.
    Gone,
}

/// What an offered task comes to.
#[derive(Debug)]
pub(super) enum Offered {
    /// It was done before.
    Done(Arc<TaskResult>),
    /// It is taken, now or before; here its end will be told.
    Taken(watch::Receiver<Option<End>>),
    /// There is no room.
    Full,
    /// The agent takes nothing new.
    Closed,
}

impl Counter {
    /// Lets a task in if `held` tasks leave room below `most`, unless it is known: a repeat starts no second run, and has its
    /// answer also from an agent that takes nothing new (`most` is 0).
    pub(super) fn offer(&self, assignment: Assignment, held: usize, most: usize) -> Offered {
        let key = LeaseKey::of(&assignment);
        let mut state = self.lock();
        if let Some((_, result, _)) = state.done.iter().find(|(known, ..)| *known == key) {
            return Offered::Done(Arc::clone(result));
        }
        if let Some(open) = state.open.get(&key) {
            return Offered::Taken(open.subscribe());
        }
        if state.is_closed || most == 0 {
            return Offered::Closed;
        }
        if held + state.queue.len() >= most {
            return Offered::Full;
        }
        let (sender, end) = watch::channel(None);
        state.open.insert(key, sender);
        state.queue.push_back((assignment, Instant::now()));
        drop(state);
        self.arrived.notify_one();
        Offered::Taken(end)
    }

    /// Takes the next tasks out of the queue, and when the first of them came.
    pub(super) fn take(&self, most: usize) -> Option<(Vec<Assignment>, Instant)> {
        let mut state = self.lock();
        let count = state.queue.len().min(most);
        let asked = state.queue.front().filter(|_| count > 0)?.1;
        Some((state.queue.drain(..count).map(|(assignment, _)| assignment).collect(), asked))
    }

    /// Tells those who wait, and remembers it for repeats.
    pub(crate) fn finish(&self, result: &TaskResult) {
        let (key, result) = (key_of(result), Arc::new(result.clone()));
        let bytes = serde_json::to_vec(&*result).map_or(0, |text| text.len());
        let mut state = self.lock();
        if let Some(open) = state.open.remove(&key) {
            open.send_replace(Some(End::Result(Arc::clone(&result))));
        }
        state.done.retain(|(known, ..)| *known != key);
        if key.lease.is_none() && result.status != ResultStatus::Completed {
            // Without numbers the next attempt looks like a repeat.
            return;
        }
        state.done.push_back((key, result, bytes));
        state.done_bytes = state.done.iter().map(|(_, _, bytes)| bytes).sum();
        while state.done.len() > REMEMBERED || (state.done_bytes > REMEMBERED_BYTES && state.done.len() > 1) {
            let oldest = state.done.pop_front().map_or(0, |(_, _, bytes)| bytes);
            state.done_bytes -= oldest;
        }
    }

    /// Tells those who wait that there will be no result.
    pub(crate) fn give_up(&self, key: LeaseKey) {
        if let Some(open) = self.lock().open.remove(&key) {
            open.send_replace(Some(End::Gone));
        }
    }

    /// Takes nothing new from now on.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
    }

    /// What nobody took up.
    pub(crate) fn untaken(&self) -> Vec<Assignment> {
        self.lock().queue.drain(..).map(|(assignment, _)| assignment).collect()
    }

    /// Tells everybody who still waits that there will be no result.
    pub(crate) fn give_up_all(&self) {
        for (_, open) in self.lock().open.drain() {
            open.send_replace(Some(End::Gone));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use eap_types::{JsonObject, LeaseId, SessionId, TaskId};

    use super::*;

    fn assignment(task: u16) -> Assignment {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&task.to_be_bytes());
        let mut assignment =
            Assignment::new(TaskId::from_bytes(bytes), SessionId::from_bytes([0; 16]), "work".parse().unwrap(), "x");
        assignment.lease_id = Some(LeaseId::from_bytes(bytes));
        assignment
    }

    fn result(task: u16) -> TaskResult {
        let assignment = assignment(task);
        TaskResult::completed(assignment.task_id, JsonObject::default()).with_lease(assignment.lease_id.unwrap(), 1)
    }

    #[test]
    fn a_repeat_gets_the_first_run_s_end_also_after_it() {
        let counter = Counter::default();
        let Offered::Taken(first) = counter.offer(assignment(1), 0, 1) else { panic!("there is room") };
        let Offered::Taken(repeat) = counter.offer(assignment(1), 0, 1) else { panic!("it is the same") };
        assert_eq!(counter.take(9).unwrap().0.len(), 1, "it runs once");
        assert!(matches!(counter.offer(assignment(2), 1, 1), Offered::Full));
        counter.finish(&result(1));
        for end in [first, repeat] {
            assert!(matches!(&*end.borrow(), Some(End::Result(told)) if **told == result(1)));
        }
        assert!(matches!(counter.offer(assignment(1), 0, 1), Offered::Done(told) if *told == result(1)));
        assert!(counter.take(9).is_none());
    }

    #[test]
    fn what_waits_in_the_queue_takes_up_room_and_a_closed_counter_gives_it_back() {
        let counter = Counter::default();
        counter.offer(assignment(1), 1, 3);
        counter.offer(assignment(2), 1, 3);
        assert!(matches!(counter.offer(assignment(3), 1, 3), Offered::Full));
        assert!(matches!(counter.offer(assignment(3), 1, 0), Offered::Closed));
        assert!(matches!(counter.offer(assignment(1), 1, 0), Offered::Taken(_)), "it is known");
        counter.close();
        assert_eq!(counter.untaken().len(), 2);
        assert!(matches!(counter.offer(assignment(3), 0, 3), Offered::Closed));
        let Offered::Taken(end) = counter.offer(assignment(1), 0, 3) else { panic!("it is known") };
        counter.give_up(LeaseKey::of(&assignment(1)));
        assert!(matches!(&*end.borrow(), Some(End::Gone)));
    }

    #[test]
    fn only_so_many_results_are_remembered() {
        let counter = Counter::default();
        for task in 0..300 {
            counter.finish(&result(task));
        }
        assert!(matches!(counter.offer(assignment(0), 0, 9), Offered::Taken(_)), "the oldest is forgotten");
        assert!(matches!(counter.offer(assignment(299), 0, 9), Offered::Done(_)));
    }
}
