//! Ready tasks to those who ask.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use eap_core::{Changed, Task};
use eap_types::{AgentId, Timestamp};

use super::database::{Time, Transaction};
use super::fault::Fault;
use super::ground::{Known, KnownAgent};
use super::holders::{Holder, tasks_at};
use super::incoming::Incoming;
use super::look::{Asker, Looked, look};
use super::pool::{PAGE, Pool};
use super::routes::KnownRoutes;
use crate::canary;
use crate::store::prepared::{StateText, number};
use crate::store::{Ask, Claimed, Decide, MAX_CLAIM_BYTES, NewEvent, events_of};

/// How many refused tasks are kept in memory for the next ask, at most.
const MAX_REFUSED: usize = 512;

/// The asks of one transaction, served in turn.
pub(super) struct Claiming<'a> {
    /// As they are stored, or as the batch writes them.
    askers: HashMap<AgentId, Asker>,
    incoming: &'a Incoming<'a>,
    holders: HashMap<AgentId, Holder>,
    /// What each ask may take from, in their order.
    open: std::vec::IntoIter<Vec<i64>>,
    pool: Option<Pool>,
    now: Timestamp,
    leased: Leased,
}

/// Tasks that were leased and are yet to be written, by their numbers, with the texts of their states.
#[derive(Debug, Default)]
pub(super) struct Leased(HashMap<i64, (Task, StateText)>);

impl Leased {
    pub(super) fn get(&self, number: i64) -> Option<&(Task, StateText)> {
        self.0.get(&number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &(Task, StateText))> {
        self.0.iter().map(|(number, leased)| (*number, leased))
    }
}

impl<'a> Claiming<'a> {
    /// Looks around, and at the heads of what the first asks may take from, for all of them that are alike.
    pub(super) async fn open(
        transaction: &mut Transaction<'_>,
        written: &HashMap<AgentId, Known<KnownAgent>>,
        incoming: &'a Incoming<'a>,
        asks: &[&Ask],
        routes: &mut KnownRoutes,
        clock: &Time,
    ) -> Result<Self, Fault> {
        let mut ids: Vec<&str> = asks.iter().map(|ask| ask.agent.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let known = asks.first().map_or_else(Vec::new, |ask| routes.open_to(ask));
        let alike = asks.iter().take_while(|ask| routes.open_to(ask) == known);
        let wanted: usize = alike.map(|ask| ask.max_tasks.min(ask.agent.max_concurrent_tasks) as usize).sum();
        let most = if known.is_empty() { 0 } else { wanted.min(PAGE) };
        let Looked { mut askers, mut holders, now, pool } =
            look(transaction, &ids, (known, most), incoming, routes, clock).await?;
        let as_asker = |known: &KnownAgent| Asker { epoch: known.epoch, is_active: known.is_active };
        askers.extend(written.iter().map(|(id, known)| (id.clone(), as_asker(&known.more))));
        for (place, write) in incoming.iter() {
            if let Some(lease) = write.task.lease() {
                holders.entry(lease.agent.clone()).or_default().add(lease.request_id.clone(), place);
            }
        }
        let open: Vec<Vec<i64>> = asks.iter().map(|ask| routes.open_to(ask)).collect();
        Ok(Self { askers, incoming, holders, open: open.into_iter(), pool, now, leased: Leased::default() })
    }

    /// Serves the next ask; see [`Repository::claim`](crate::store::Repository::claim).
    pub(super) async fn serve(
        &mut self,
        transaction: &mut Transaction<'_>,
        ask: &Ask,
        decide: &Decide,
        events: &mut Vec<NewEvent>,
    ) -> Result<Claimed, Fault> {
        let routes = self.open.next().unwrap_or_default();
        let agent = &ask.agent;
        let takes_work = |asker: &Asker| asker.is_active && asker.epoch == number(agent.epoch);
        if !self.askers.get(&agent.id).is_some_and(takes_work) {
            return Ok(Claimed::default());
        }
        let holder = self.holders.entry(agent.id.clone()).or_default();
        let request = ask.request_id.as_ref().filter(|_| !canary::sings("request-id-ignored"));
        if let Some(request) = request
            && let claimed = holder.claimed_by(request)
            && !claimed.is_empty()
        {
            let mut stored = tasks_at(transaction, &agent.id, request, &claimed).await?;
            let mut of = |number| match (self.leased.get(number), self.incoming.get(number)) {
                (Some((task, _)), _) => Some(task.clone()),
                (None, Some(write)) => Some(Task::clone(&write.task)),
                (None, None) => stored.remove(&number),
            };
            let tasks: Vec<Task> = claimed.iter().filter_map(|(_, number)| of(*number)).collect();
            if !tasks.is_empty() {
                return Ok(Claimed { tasks, repeated: true, ..Claimed::default() });
            }
            holder.forget(request);
        }
        let room = ask.max_tasks.min(agent.max_concurrent_tasks.saturating_sub(holder.leases)) as usize;
        if room == 0 {
            return Ok(Claimed::default());
        }
        self.take(transaction, ask, routes, room, decide, events).await
    }

    /// Fills the room from all routes at once and from what the batch itself writes, in their common order.
    async fn take(
        &mut self,
        transaction: &mut Transaction<'_>,
        ask: &Ask,
        routes: Vec<i64>,
        room: usize,
        decide: &Decide,
        events: &mut Vec<NewEvent>,
    ) -> Result<Claimed, Fault> {
        // Agents that are alike ask of the same routes, and share what was read.
        let mut pool = match self.pool.take() {
            Some(pool) if pool.routes == routes => pool,
            _ => Pool::new(routes),
        };
        let mut incoming = self.incoming.open_to(ask, &self.leased).into_iter().peekable();
        let alike = self.open.as_slice().iter().take_while(|routes| **routes == pool.routes).count();
        let (mut taken, mut bytes, mut is_any_refused, mut next) = (Vec::new(), 0, false, 0);
        // Of the refused tasks, which others may want.
        let (mut kept_bytes, mut is_any_dropped) = (0, false);
        while taken.len() < room && bytes < MAX_CLAIM_BYTES {
            let newcomer = match (pool.tasks.get(next), incoming.peek()) {
                (Some((first, _)), Some((place, _))) if first < place => None,
                (None, Some((place, _))) if !pool.reaches(*place) => None,
                (_, first) => first.copied(),
            };
            let Some((place, task)) = newcomer.map(|(place, write)| (place, &*write.task)).or_else(|| pool.get(next))
            else {
                if pool.is_at_end {
                    break;
                }
                // Refused tasks are passed over: then, whole pages.
                let page = if is_any_refused { PAGE } else { (room - taken.len()) * (1 + alike) };
                let is_known = |number| self.leased.get(number).is_some() || self.incoming.has(number);
                pool.read_on(transaction, page.min(PAGE), MAX_CLAIM_BYTES - bytes, is_known).await?;
                continue;
            };
            let decided = decided(decide, task, ask, self.now)?;
            let spec = Arc::clone(&task.spec);
            is_any_refused |= decided.is_none();
            if newcomer.is_some() {
                incoming.next();
            } else if decided.is_some() {
                pool.tasks.remove(next);
            } else {
                kept_bytes += spec.payload_bytes();
                if next < MAX_REFUSED && kept_bytes < MAX_CLAIM_BYTES {
                    next += 1;
                } else {
                    is_any_dropped = true;
                    pool.tasks.remove(next);
                }
            }
            let Some(Changed { state, notes, .. }) = decided else { continue };
            let task = Task { spec, state };
            bytes += task.spec.payload_bytes();
            events.extend(events_of(&task, &notes, self.now));
            let holder = self.holders.entry(ask.agent.id.clone()).or_default();
            holder.add(ask.request_id.clone(), place);
            self.leased.0.insert(place.1, (task.clone(), StateText::of(&task)?));
            taken.push(task);
        }
        let is_all = pool.is_at_end && next >= pool.tasks.len() && incoming.peek().is_none();
        let is_exhausted = is_all && taken.len() < room && !is_any_refused && !pool.is_shared;
        let is_contended = pool.is_shared;
        // Whoever comes next must not miss what was dropped, and reads anew.
        self.pool = Some(pool).filter(|_| !is_any_dropped);
        Ok(Claimed { tasks: taken, repeated: false, is_exhausted, is_contended })
    }

    /// What was leased, to be written.
    pub(super) fn close(self) -> Leased {
        self.leased
    }
}

/// What follows if the ask gets the task; `None` if it does not. What decides is a stranger's code.
fn decided(decide: &Decide, task: &Task, ask: &Ask, now: Timestamp) -> Result<Option<Changed>, Fault> {
    let outcome = catch_unwind(AssertUnwindSafe(|| decide(task, ask, now)));
    outcome.map(Result::ok).map_err(|_| Fault::nonsense("what decides on claims panicked"))
}
