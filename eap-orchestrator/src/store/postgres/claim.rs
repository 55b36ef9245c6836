//! Ready tasks to those who ask.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use eap_core::{Changed, Task};
use eap_types::{AgentId, Timestamp};
use sqlx::postgres::PgRow;

use super::database::{Time, Transaction};
use super::fault::Fault;
use super::ground::{Known, KnownAgent};
use super::holders::{self, Holder, tasks_at};
use super::pool::{PAGE, Pool};
use super::routes::{KnownRoutes, RouteIds};
use super::values::{arguments, is_null};
use super::write::TaskRows;
use crate::canary;
use crate::store::prepared::{StateText, number};
use crate::store::{Ask, Claimed, Decide, MAX_CLAIM_BYTES, NewEvent, events_of};

/// How many refused tasks are kept in memory for the next ask, at most.
const MAX_REFUSED: usize = 512;

/// The time, the routes that were made since `$1`, and what the agents `$2` hold: their rows are locked, so nothing is
/// added to it but by this transaction. A row has either the columns of a holder, from [`HOLDER`] on, or those before.
const LOOK: &str = "SELECT eap.clock(), m.value, r.id, r.key, NULL::text, NULL::text, NULL::int8, NULL::int8 \
     FROM eap.meta m LEFT JOIN eap.route r ON r.id > $1 WHERE m.key = 'forgotten_routes' \
     UNION ALL SELECT NULL, NULL, NULL, NULL, holder, request_id, priority, seq FROM eap.task WHERE holder = ANY($2)";
const HOLDER: usize = 4;

/// The agents whose rows are locked.
type Agents = HashMap<AgentId, Known<KnownAgent>>;

/// The asks of one transaction, served in turn.
pub(super) struct Claiming<'a> {
    agents: &'a Agents,
    holders: HashMap<AgentId, Holder>,
    /// What each ask may take from, in their order.
    open: std::vec::IntoIter<Vec<i64>>,
    pool: Option<Pool>,
    now: Timestamp,
    /// What was leased so far, and is yet to be written.
    leased: HashMap<i64, (Task, StateText)>,
}

impl<'a> Claiming<'a> {
    pub(super) async fn open(
        transaction: &mut Transaction<'_>,
        agents: &'a Agents,
        asks: &[&Ask],
        routes: &mut KnownRoutes,
        clock: &Time,
    ) -> Result<Self, Fault> {
        let mut ids: Vec<&str> = asks.iter().map(|ask| ask.agent.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let rows = transaction.rows(LOOK, arguments![routes.newest(), ids]).await?;
        let (held, known): (Vec<&PgRow>, Vec<&PgRow>) =
            rows.iter().partition(|row| is_null(row, HOLDER).is_ok_and(|is| !is));
        let holders = holders::of_rows(&held, HOLDER)?;
        let now = clock.at(known.first().ok_or_else(|| Fault::nonsense("there is no time"))?, 0)?;
        routes.catch_up(transaction, &known, 1).await?;
        let open: Vec<Vec<i64>> = asks.iter().map(|ask| routes.open_to(ask)).collect();
        Ok(Self { agents, holders, open: open.into_iter(), pool: None, now, leased: HashMap::new() })
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
        let takes_work = |known: &Known<KnownAgent>| known.more.is_active && known.more.epoch == number(agent.epoch);
        if !self.agents.get(&agent.id).is_some_and(takes_work) {
            return Ok(Claimed::default());
        }
        let holder = self.holders.entry(agent.id.clone()).or_default();
        let request = ask.request_id.as_ref().filter(|_| !canary::sings("request-id-ignored"));
        if let Some(request) = request
            && let claimed = holder.claimed_by(request)
            && !claimed.is_empty()
        {
            let mut stored = tasks_at(transaction, &agent.id, request, &claimed).await?;
            let mut of = |seq: &i64| self.leased.get(seq).map(|(task, _)| task.clone()).or_else(|| stored.remove(seq));
            let tasks: Vec<Task> = claimed.iter().filter_map(|(_, seq)| of(seq)).collect();
            if !tasks.is_empty() {
                return Ok(Claimed { tasks, repeated: true, ..Claimed::default() });
            }
            holder.forget(request);
        }
        let room = ask.max_tasks.min(agent.max_concurrent_tasks.saturating_sub(holder.leases)) as usize;
        if routes.is_empty() || room == 0 {
            return Ok(Claimed { is_exhausted: room > 0, ..Claimed::default() });
        }
        self.take(transaction, ask, routes, room, decide, events).await
    }

    /// Fills the room from all routes at once, in their common order.
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
        let alike = self.open.as_slice().iter().take_while(|routes| **routes == pool.routes).count();
        let (mut taken, mut bytes, mut is_any_refused, mut next) = (Vec::new(), 0, false, 0);
        // Of the refused tasks, which others may want.
        let (mut kept_bytes, mut is_any_dropped) = (0, false);
        while taken.len() < room && bytes < MAX_CLAIM_BYTES {
            let Some((place, task)) = pool.tasks.get(next) else {
                if pool.is_at_end {
                    break;
                }
                // Refused tasks are passed over: then, whole pages.
                let page = if is_any_refused { PAGE } else { (room - taken.len()) * (1 + alike) };
                let room = MAX_CLAIM_BYTES - bytes;
                pool.read_on(transaction, page.min(PAGE), room, |seq| self.leased.contains_key(&seq)).await?;
                continue;
            };
            let Some(changed) = decided(decide, task, ask, self.now)? else {
                is_any_refused = true;
                kept_bytes += task.spec.payload_bytes();
                if next < MAX_REFUSED && kept_bytes < MAX_CLAIM_BYTES {
                    next += 1;
                } else {
                    is_any_dropped = true;
                    pool.tasks.remove(next);
                }
                continue;
            };
            let task = Task { spec: Arc::clone(&task.spec), state: changed.state };
            let place = *place;
            pool.tasks.remove(next);
            bytes += task.spec.payload_bytes();
            events.extend(events_of(&task, &changed.notes, self.now));
            let holder = self.holders.entry(ask.agent.id.clone()).or_default();
            holder.add(ask.request_id.clone(), place);
            self.leased.insert(place.1, (task.clone(), StateText::of(&task)?));
            taken.push(task);
        }
        let is_exhausted =
            pool.is_at_end && next >= pool.tasks.len() && taken.len() < room && !is_any_refused && !pool.is_shared;
        let is_contended = pool.is_shared;
        // Whoever comes next must not miss what was dropped, and reads anew.
        self.pool = Some(pool).filter(|_| !is_any_dropped);
        Ok(Claimed { tasks: taken, repeated: false, is_exhausted, is_contended })
    }

    /// What was leased, to be written.
    pub(super) fn close(self) -> Leased {
        Leased(self.leased.into_values().collect())
    }
}

/// Tasks that were leased, with the texts of their states.
#[derive(Debug, Default)]
pub(super) struct Leased(Vec<(Task, StateText)>);

impl Leased {
    pub(super) fn rows(&self) -> Result<TaskRows<'_>, Fault> {
        let mut rows = TaskRows::default();
        // A task that was leased has no route any more.
        let no_routes = RouteIds::new();
        for (task, text) in &self.0 {
            rows.push(task, text, &no_routes)?;
        }
        Ok(rows)
    }
}

/// What follows if the ask gets the task; `None` if it does not. What decides is a stranger's code.
fn decided(decide: &Decide, task: &Task, ask: &Ask, now: Timestamp) -> Result<Option<Changed>, Fault> {
    let outcome = catch_unwind(AssertUnwindSafe(|| decide(task, ask, now)));
    outcome.map(Result::ok).map_err(|_| Fault::nonsense("what decides on claims panicked"))
}
