//! Ready tasks to those who ask, from the heads of the routes they may take from.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use eap_core::Task;
use eap_types::Timestamp;
use rusqlite::{Connection, Params, params};

use super::fault::Fault;
use super::journal::{Journal, Place, place};
use super::ledger::Ledger;
use super::rows::{StateText, number};
use crate::canary;
use crate::store::{Ask, Claimed, Claims, Decide, Demand, MAX_CLAIM_BYTES, events_of};

/// How many places of a route are read at once, at most.
const PAGE: i64 = 64;

/// The next places of a route at the priority that was reached; what waits behind them costs nothing.
pub(super) const PLACES_AT: &str = "SELECT priority, seq FROM task INDEXED BY task_ready \
     WHERE route = ?1 AND priority = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4";

/// The first places behind a priority. Two queries, because one comparison of both columns would walk
/// over every place of the priority that was reached.
pub(super) const PLACES_BEHIND: &str = "SELECT priority, seq FROM task INDEXED BY task_ready \
     WHERE route = ?1 AND priority > ?2 ORDER BY priority, seq LIMIT ?3";

/// A walk over the ready tasks of one route, in order: those of the tables and those of the journal.
struct Walk {
    route: i64,
    /// The place of the last task that came from the journal.
    young: Option<Place>,
    page: VecDeque<Place>,
    last: Option<Place>,
    is_at_end: bool,
}

impl Walk {
    fn new(route: i64) -> Self {
        Self { route, young: None, page: VecDeque::new(), last: None, is_at_end: false }
    }

    fn next(&mut self, connection: &Connection, journal: &Journal, page: i64) -> Result<Option<Place>, Fault> {
        if self.page.is_empty() && !self.is_at_end {
            let route = self.route;
            if let Some((priority, seq)) = self.last {
                self.read(connection, PLACES_AT, params![route, priority, seq, page])?;
            }
            let room = page - self.page.len() as i64;
            if room > 0 {
                let priority = self.last.map_or(-1, |(priority, _)| priority);
                self.read(connection, PLACES_BEHIND, params![route, priority, room])?;
                self.is_at_end = (self.page.len() as i64) < page;
            }
            self.last = self.page.back().copied();
        }
        let young = journal.next_ready(self.route, self.young);
        if young.is_some_and(|young| self.page.front().is_none_or(|old| young < *old)) {
            self.young = young;
            return Ok(young);
        }
        Ok(self.page.pop_front())
    }

    fn read(&mut self, connection: &Connection, sql: &str, params: impl Params) -> Result<(), Fault> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        while let Some(row) = rows.next()? {
            self.page.push_back((row.get(0)?, row.get(1)?));
        }
        Ok(())
    }
}

impl Ledger {
    /// Serves every ask in turn; see [`Repository::claim`](crate::store::Repository::claim).
    pub(super) fn claim(&mut self, demand: &Demand, decide: &Decide) -> Result<Claims, Fault> {
        let now = self.clock.now();
        let answers = demand.asks.iter().map(|ask| self.serve(ask, now, decide)).collect::<Result<_, _>>()?;
        Ok(Claims { answers, head: self.head() })
    }

    fn serve(&mut self, ask: &Ask, now: Timestamp, decide: &Decide) -> Result<Claimed, Fault> {
        let agent = &ask.agent;
        let holder = self.holders.of(&self.connection, &self.journal, &agent.id)?;
        if holder.epoch != Some(number(agent.epoch)) {
            return Ok(Claimed::default());
        }
        let room = ask.max_tasks.min(agent.max_concurrent_tasks.saturating_sub(holder.leases()));
        if let Some(request) = &ask.request_id
            && !canary::sings("request-id-ignored")
            && let claimed = holder.claimed_by(request)
            && !claimed.is_empty()
        {
            let tasks = self.claimed_before(&claimed)?;
            return Ok(Claimed { tasks, repeated: true, ..Claimed::default() });
        }
        let routes = self.routes.open_to(agent, ask.task_types.as_ref());
        if routes.is_empty() {
            return Ok(Claimed { is_exhausted: room > 0, ..Claimed::default() });
        }
        self.take(ask, routes, room as usize, now, decide)
    }

    /// Where they stand, in the tables or in the journal: a repeat is answered on a full disk, too.
    fn claimed_before(&self, claimed: &[i64]) -> Result<Vec<Task>, Fault> {
        let mut tasks = claimed.iter().map(|seq| self.by_number(*seq)).collect::<Result<Vec<_>, _>>()?;
        tasks.sort_by_key(|known| place(known.seq, &known.task));
        Ok(tasks.into_iter().map(|known| Task::clone(&known.task)).collect())
    }

    /// Fills the room from all routes at once, in their common order.
    fn take(
        &mut self,
        ask: &Ask,
        routes: Vec<i64>,
        room: usize,
        now: Timestamp,
        decide: &Decide,
    ) -> Result<Claimed, Fault> {
        let mut taken = Vec::new();
        if room == 0 {
            return Ok(Claimed::default());
        }
        let page = i64::try_from(room).map_or(PAGE, |room| room.min(PAGE));
        let mut walks: Vec<Walk> = routes.into_iter().map(Walk::new).collect();
        let mut heads: BinaryHeap<Reverse<(Place, usize)>> = BinaryHeap::new();
        for (index, walk) in walks.iter_mut().enumerate() {
            match walk.next(&self.connection, &self.journal, page)? {
                Some(place) => heads.push(Reverse((place, index))),
                None => self.routes.cool(walk.route),
            }
        }
        let (mut bytes, mut is_any_refused) = (0, false);
        while bytes < MAX_CLAIM_BYTES
            && let Some(Reverse(((_, seq), index))) = heads.pop()
        {
            let before = self.by_number(seq)?;
            if let Ok(changed) = decide(&before.task, ask, now) {
                let task = Arc::new(Task { spec: Arc::clone(&before.task.spec), state: changed.state });
                self.update_task(&before, &task, &StateText::of(&task)?)?;
                self.insert_events(&events_of(&task, &changed.notes, now))?;
                bytes += task.spec.payload_bytes();
                taken.push(Task::clone(&task));
                if taken.len() == room {
                    break;
                }
            } else {
                is_any_refused = true;
            }
            // Refused tasks are passed over: from here on, whole pages.
            if let Some(place) = walks[index].next(&self.connection, &self.journal, PAGE)? {
                heads.push(Reverse((place, index)));
            }
        }
        let is_exhausted = heads.is_empty() && taken.len() < room && !is_any_refused;
        Ok(Claimed { tasks: taken, is_exhausted, ..Claimed::default() })
    }
}
