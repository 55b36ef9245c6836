//! The one wire from what was committed to those who wait for it.
//!
//! The lifecycle announces; matchmaker, waiting readers and event streams listen. Neither side knows
//! the other, which keeps the graph of modules free of cycles.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eap_core::{RoutingKey, Task, TaskSpec};
use eap_types::{AgentId, RequestId, SessionId, TaskId};
use tokio::sync::{Notify, broadcast, watch};

use crate::error::Error;
use crate::maps::{IdMap, IdSet};
use crate::store::{Ask, Claimed, EventSeq};

/// What was committed, told to whoever waits.
#[derive(Debug)]
pub(crate) struct Announcements {
    head: watch::Sender<EventSeq>,
    supply: Mutex<Supply>,
    supplied: Notify,
    callback_due: Notify,
    pushed: Notify,
    readers: Mutex<IdMap<Awaited, Readers>>,
    takers: Mutex<Option<Arc<dyn Takers>>>,
    connected: broadcast::Sender<(AgentId, EventSeq)>,
}

/// Those who wait for tasks, asked before a task is committed.
pub(crate) trait Takers: fmt::Debug + Send + Sync {
    /// Somebody who waits and could take `task` once it is there: no other task is brought to them meanwhile.
    fn reserve(&self, task: &Task) -> Option<Box<dyn Taker>>;
}

/// Somebody who was reserved; dropped, they wait on.
pub(crate) trait Taker: fmt::Debug + Send {
    /// What to claim, in the transaction that writes the task.
    fn asks(&self) -> Vec<Ask>;

    /// They get what was claimed, or learn that the claim failed.
    fn take(self: Box<Self>, claimed: Result<Vec<Claimed>, Error>);
}

/// Whose end is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Awaited {
    Task(TaskId),
    Session(SessionId),
}

/// Who waits for the end of one of them.
#[derive(Debug, Default)]
struct Readers {
    count: usize,
    end: Arc<Notify>,
}

/// What may let a waiting agent have a task. Bounded by the number of distinct routing keys and agents, and by that of the
/// leases that one look at other replicas' events finds.
#[derive(Debug, Default)]
pub(crate) struct Supply {
    /// Routing keys under which tasks became ready.
    pub(crate) ready: HashMap<RoutingKey, Ready>,
    /// Agents that may have room now: a lease ended, or they came back to work.
    pub(crate) freed: IdSet<AgentId>,
    /// Requests that got tasks at another replica: if one of them waits here as well, its first answer may be lost (G17).
    pub(crate) answered: HashSet<(AgentId, RequestId)>,
}

/// Tasks of one routing key that became ready.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// How many.
    pub(crate) count: u32,
    /// Those that prefer some agents, by their place among the others; the first [`PREFERRING`] of them.
    pub(crate) preferring: Vec<(u32, Arc<TaskSpec>)>,
}

/// How many WebSockets may be opened elsewhere before one that was replaced so is not heard of; it ends by its own silence.
const CONNECTED: usize = 4_096;

/// How many tasks of one key are placed with regard to whom they prefer, of those that became ready at once.
const PREFERRING: usize = 64;

impl Ready {
    fn add(&mut self, spec: &Arc<TaskSpec>) {
        if !spec.preferred_agents.is_empty() && self.preferring.len() < PREFERRING {
            self.preferring.push((self.count, Arc::clone(spec)));
        }
        self.count += 1;
    }
}

impl Announcements {
    pub(crate) fn new(head: EventSeq) -> Self {
        Self {
            head: watch::Sender::new(head),
            supply: Mutex::default(),
            supplied: Notify::new(),
            callback_due: Notify::new(),
            pushed: Notify::new(),
            readers: Mutex::default(),
            takers: Mutex::default(),
            connected: broadcast::Sender::new(CONNECTED),
        }
    }

    /// An agent opened a WebSocket at another replica, which told so by this event.
    pub(crate) fn connected_elsewhere(&self, agent: &AgentId, event: EventSeq) {
        // An error says that nobody listens.
        let _ = self.connected.send((agent.clone(), event));
    }

    /// Hears of those from now on.
    pub(crate) fn connections_elsewhere(&self) -> broadcast::Receiver<(AgentId, EventSeq)> {
        self.connected.subscribe()
    }

    /// From now on, who waits for tasks may be reserved.
    pub(crate) fn let_take(&self, takers: Arc<dyn Takers>) {
        *lock(&self.takers) = Some(takers);
    }

    /// Nobody waits for tasks any more.
    pub(crate) fn stop_taking(&self) {
        *lock(&self.takers) = None;
    }

    /// Reserves somebody who could take `task`, which is about to be committed.
    pub(crate) fn taker(&self, task: &Task) -> Option<Box<dyn Taker>> {
        let takers = lock(&self.takers).clone()?;
        if task.is_ready() { takers.reserve(task) } else { None }
    }

    /// The newest event's number, as it moves.
    pub(crate) fn head(&self) -> watch::Receiver<EventSeq> {
        self.head.subscribe()
    }

    /// Events up to `head` are committed.
    pub(crate) fn committed(&self, head: EventSeq) {
        // Commits are answered out of order: the head only rises.
        self.head.send_if_modified(|known| {
            let risen = head > *known;
            *known = head.max(*known);
            risen
        });
    }

    /// `task` is as it is now: ready, held, or over.
    pub(crate) fn task_changed(&self, task: &Task) {
        if task.is_ready() {
            lock(&self.supply).ready.entry(task.spec.routing.clone()).or_default().add(&task.spec);
            self.supplied.notify_one();
        }
        if task.status().is_final() {
            self.ended(Awaited::Task(task.id()));
        }
    }

    /// A task or a session is over.
    pub(crate) fn ended(&self, what: Awaited) {
        if let Some(readers) = lock(&self.readers).remove(&what) {
            readers.end.notify_waiters();
        }
    }

    /// `tasks` are new: as [`task_changed`](Self::task_changed) for each, at the price of one.
    pub(crate) fn tasks_submitted(&self, tasks: &[Task]) {
        let mut supply = lock(&self.supply);
        for task in tasks.iter().filter(|task| task.is_ready()) {
            // Most tasks of a batch are of one kind, whose key is copied once.
            match supply.ready.get_mut(&task.spec.routing) {
                Some(ready) => ready.add(&task.spec),
                None => supply.ready.entry(task.spec.routing.clone()).or_default().add(&task.spec),
            }
        }
        drop(supply);
        self.supplied.notify_one();
    }

    /// `agent` may have room for work now.
    pub(crate) fn agent_freed(&self, agent: &AgentId) {
        lock(&self.supply).freed.insert(agent.clone());
        self.supplied.notify_one();
    }

    /// A request of `agent` got tasks at another replica.
    pub(crate) fn answered_elsewhere(&self, agent: &AgentId, request: &RequestId) {
        lock(&self.supply).answered.insert((agent.clone(), request.clone()));
        self.supplied.notify_one();
    }

    /// Waits until there is something in [`take_supply`](Self::take_supply). Safe to drop.
    pub(crate) async fn supplied(&self) {
        self.supplied.notified().await;
    }

    /// A task has ended whose callback is due now.
    pub(crate) fn callback_became_due(&self) {
        self.callback_due.notify_one();
    }

    /// Waits until a callback became due since this was last waited for. Safe to drop.
    pub(crate) async fn callback_due(&self) {
        self.callback_due.notified().await;
    }

    /// There may be an agent more to push to.
    pub(crate) fn push_changed(&self) {
        self.pushed.notify_one();
    }

    /// Waits until there may be an agent more to push to since this was last waited for. Safe to drop.
    pub(crate) async fn agents_pushed(&self) {
        self.pushed.notified().await;
    }

    /// Takes what came since the last call.
    pub(crate) fn take_supply(&self) -> Supply {
        std::mem::take(&mut *lock(&self.supply))
    }

    /// Is told when this task becomes final. Ask before reading the task, or the end may be missed.
    pub(crate) fn reader(&self, task: TaskId) -> Reader<'_> {
        self.reader_of(Awaited::Task(task))
    }

    /// The same, for a session too.
    pub(crate) fn reader_of(&self, what: Awaited) -> Reader<'_> {
        let mut readers = lock(&self.readers);
        let readers = readers.entry(what).or_default();
        readers.count += 1;
        Reader { announcements: self, what, end: Arc::clone(&readers.end) }
    }
}

/// Waits for the end of one task or session.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    announcements: &'a Announcements,
    what: Awaited,
    end: Arc<Notify>,
}

impl Reader<'_> {
    /// A future that is registered from the moment this returns.
    pub(crate) fn ended(&self) -> tokio::sync::futures::Notified<'_> {
        self.end.notified()
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let mut all = lock(&self.announcements.readers);
        // The end takes the entry out; one that stands there then is of later readers.
        let Some(readers) = all.get_mut(&self.what).filter(|readers| Arc::ptr_eq(&readers.end, &self.end)) else {
            return;
        };
        readers.count -= 1;
        if readers.count == 0 {
            all.remove(&self.what);
        }
    }
}

/// Locks a mutex whose data no panic can leave half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
