//! How agents of a platform are, by their own word, and what that means for their tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use eap_core::{Agent, Hindrance, InFlight, Meaning, Quote, Said, Standing, Task, is_free, meaning};
use eap_types::agentkit::{AgentStateView, StateReport, StateWord};
use eap_types::{AgentId, FailureCode, JsonObject, PlatformStateView, RawJson, StepContext, TaskId, TaskResult};
use tokio::sync::Notify;
use tracing::debug;

use super::super::{Lifecycle, Share};
use crate::announce::lock;
use crate::auth::Operator;
use crate::directory::Entry;
use crate::error::Error;
use crate::store::{Change, StateRow};

/// Longer details, in bytes, are not kept beside the state: those of a task's result are kept with that.
const KEPT_DETAILS: usize = 64 * 1024;
/// How many of an agent's newest reports are looked at, to tell what one means that names no task.
const LOOKED_AT: usize = 50;

/// The newest state of each agent of a platform, as the store has it.
#[derive(Debug, Default)]
pub(crate) struct States {
    rows: Mutex<BTreeMap<AgentId, StateRow>>,
    agents: Mutex<BTreeMap<AgentId, Arc<Listener>>>,
}

/// What one agent is listened to with.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    /// Who brings tasks to the agent waits here for it to say something.
    pub(crate) news: Notify,
    /// Its reports are understood one after the other: each sees what those before it said.
    turn: tokio::sync::Mutex<()>,
}

impl States {
    fn load(&self, rows: Vec<StateRow>) {
        *lock(&self.rows) = rows.into_iter().map(|row| (row.agent.clone(), row)).collect();
    }

    /// Takes in what was written, unless what is known is newer; says whether it is news.
    fn put(&self, row: StateRow) -> bool {
        let mut states = lock(&self.rows);
        let known = states.get(&row.agent);
        let is_newer = |known: &StateRow| (row.epoch, row.reported_at) >= (known.epoch, known.reported_at);
        let is_news = known.is_none_or(is_newer) && known != Some(&row);
        if is_news {
            states.insert(row.agent.clone(), row);
        }
        is_news
    }

    /// What an agent last said under its registration.
    fn of(&self, agent: &Agent) -> Option<StateRow> {
        lock(&self.rows).get(&agent.id).filter(|row| row.epoch == agent.epoch).cloned()
    }

    /// Forgets agents that were purged.
    pub(crate) fn forget(&self, agents: &[AgentId]) {
        let (mut states, mut listeners) = (lock(&self.rows), lock(&self.agents));
        for agent in agents {
            states.remove(agent);
            listeners.remove(agent);
        }
    }

    pub(crate) fn listener(&self, agent: &AgentId) -> Arc<Listener> {
        Arc::clone(lock(&self.agents).entry(agent.clone()).or_default())
    }

    /// What keeps work from an agent by its own newest word; nothing for one that is of no platform.
    pub(crate) fn hindrance(&self, agent: &Agent) -> Option<Hindrance> {
        Hindrance::by_report(&self.of(agent)?.state)
    }

    /// Whether an agent of a platform may be given work, by its own word.
    pub(crate) fn is_free(&self, agent: &Agent) -> bool {
        self.of(agent).is_none_or(|row| is_free(StateWord::of(&row.state)))
    }

    /// How an agent of a platform is, for operators.
    pub(crate) fn view(&self, agent: &Agent) -> Option<PlatformStateView> {
        agent.platform.as_ref()?;
        let shown = |state: &str, at| PlatformStateView::new(state, is_free(StateWord::of(state)), at);
        Some(match self.of(agent) {
            Some(row) => shown(&row.state, row.reported_at).with_details(row.details),
            None => shown(StateWord::INITIAL, agent.registered_at),
        })
    }
}

impl Lifecycle {
    pub(in crate::lifecycle) async fn load_states(&self) -> Result<(), Error> {
        self.states.load(self.store.newest_states().await?);
        Ok(())
    }

    /// Takes in what agents said to other replicas.
    pub(in crate::lifecycle) async fn follow_states(&self) -> Result<(), Error> {
        if self.config.agentkit.is_none() {
            return Ok(());
        }
        for row in self.store.newest_states().await? {
            let agent = row.agent.clone();
            if self.states.put(row) {
                self.states.listener(&agent).news.notify_one();
            }
        }
        Ok(())
    }

    /// Takes in how an agent of a platform says it is, and what that means for its tasks. Once this returns, both are kept.
    pub(crate) async fn report_state(
        self: &Arc<Self>,
        operator: &Operator,
        id: &AgentId,
        report: StateReport,
    ) -> Result<(), Error> {
        let listener = self.states.listener(&self.platform_agent(operator, id)?.agent.id);
        let _turn = listener.turn.lock().await;
        let entry = self.platform_agent(operator, id)?;
        let now = self.clock.now();
        let mut row = StateRow {
            agent: id.clone(),
            epoch: entry.agent.epoch,
            // A clock that is ahead once would make everything old that comes after it was set.
            reported_at: report.timestamp.map_or(now, |said| said.min(now)),
            received_at: now,
            state: report.state.clone(),
            details: report.details.clone(),
        };
        entry.hear(|vitals| vitals.last_seen = vitals.last_seen.max(now));
        // The task first: who repeats a report whose answer was lost finds it done.
        let is_result = self.understand(&entry, &report, &row).await?;
        let is_long = row.details.as_ref().is_some_and(|details| details.as_str().len() > KEPT_DETAILS);
        // One that works may have said what comes of it before it is known to.
        if is_long && (is_result || self.leases.count(id) == 0) {
            row.details = None;
        }
        let this = Arc::clone(self);
        self.detached(Share::Running, async move {
            this.commit(Change { states: vec![row.clone()], ..Change::default() }).await?;
            this.states.put(row);
            Ok(())
        })
        .await?;
        listener.news.notify_one();
        Ok(())
    }

    /// Does what a report means for a task that its agent holds. Says whether its details became the task's result.
    async fn understand(self: &Arc<Self>, entry: &Entry, report: &StateReport, row: &StateRow) -> Result<bool, Error> {
        let agent = &entry.agent;
        let leases = self.leases.of(&agent.id);
        if leases.is_empty() {
            return Ok(false);
        }
        let mut in_flight = Vec::with_capacity(leases.len());
        for (id, lease) in &leases {
            let Some(stored) = self.store.task(*id).await? else { continue };
            let is_given = self.exchanges.is_sent(lease.lease_id)
                || self.is_brought_elsewhere(lease)
                || stored.record.state.progress.is_some();
            in_flight.push(InFlight { id: *id, step: step_of(&stored.record), is_given });
        }
        if self.is_about_another(report, &in_flight).await? {
            debug!(agent.id = %agent.id, state = report.state, "a report names a task that its agent does not hold");
            return Ok(false);
        }
        let said = Said { at: row.reported_at, word: report.word(), task: report.task_id() };
        let said_before = match leases.as_slice() {
            [(id, lease)] => self.said_since(agent, *id, lease.attempt).await?,
            _ => Vec::new(),
        };
        let before: Vec<Said> = said_before.iter().map(said_in).collect();
        let (task, result) = match meaning(&said, &in_flight, &before) {
            Meaning::Nothing => return Ok(false),
            Meaning::Works(task) => {
                let held = leases.iter().find(|(id, _)| *id == task);
                if let Some((_, lease)) = held
                    && let Err(error) = self.note(agent, task, Quote::lease(lease.lease_id), &report.state).await
                {
                    debug!(task.id = %task, %error, "that an agent works could not be noted");
                }
                return Ok(false);
            }
            Meaning::Completes(task) => (task, TaskResult::completed(task, JsonObject::default())),
            Meaning::Fails(task) => (task, TaskResult::failed(task, FailureCode::Internal, why(report))),
        };
        let Some((_, lease)) = leases.into_iter().find(|(id, _)| *id == task) else { return Ok(false) };
        let details = match report.word() {
            // That it is done was said before: in that report is what came of it.
            StateWord::Active => end_after(&said_before, row).and_then(|end| end.details.clone()),
            _ => report.details.clone(),
        };
        let result = result.with_output_data(details.unwrap_or_default());
        match self.record(agent, task, result.with_lease(lease.lease_id, lease.attempt)).await {
            Err(
                error @ (Error::Store(_) | Error::Artifacts(_) | Error::Busy { .. } | Error::Broken | Error::Draining),
            ) => Err(error),
            Err(refused) => {
                debug!(task.id = %task, agent.id = %agent.id, %refused, "a report of state came too late for its task");
                Ok(false)
            }
            Ok(_) => Ok(true),
        }
    }

    /// Whether a report names a task of ours that its agent does not hold: one from before. A word of the platform's own may
    /// mean whatever is in flight.
    async fn is_about_another(&self, report: &StateReport, in_flight: &[InFlight]) -> Result<bool, Error> {
        let named: Option<TaskId> = report.task_id().and_then(|name| name.parse().ok());
        match named.filter(|named| in_flight.iter().all(|task| task.id != *named)) {
            Some(named) => Ok(self.store.task(named).await?.is_some()),
            None => Ok(false),
        }
    }

    /// What an agent said since it was given a task.
    async fn said_since(&self, agent: &Agent, task: TaskId, attempt: u32) -> Result<Vec<StateRow>, Error> {
        let Some(stored) = self.store.task(task).await? else { return Ok(Vec::new()) };
        let Some(since) = stored.record.attempt(attempt).map(|attempt| attempt.started_at) else {
            return Ok(Vec::new());
        };
        let rows = self.store.states(&agent.id, LOOKED_AT).await?;
        Ok(rows.into_iter().filter(|row| row.epoch == agent.epoch && row.received_at >= since).collect())
    }

    /// How an agent of a platform is.
    pub(crate) async fn state(&self, operator: &Operator, id: &AgentId) -> Result<AgentStateView, Error> {
        let entry = self.platform_agent(operator, id)?;
        if self.is_followed() {
            // It may have said so to another replica.
            self.store.states(id, 1).await?.into_iter().for_each(|row| {
                self.states.put(row);
            });
        }
        Ok(match self.states.of(&entry.agent) {
            Some(row) => AgentStateView::new(row.agent, row.state, row.details, row.reported_at),
            None => AgentStateView::unknown(id.clone(), entry.agent.registered_at),
        })
    }

    /// What it said, the newest first.
    pub(crate) async fn state_history(
        &self,
        operator: &Operator,
        id: &AgentId,
        limit: usize,
    ) -> Result<Vec<AgentStateView>, Error> {
        self.platform_agent(operator, id)?;
        let rows = self.store.states(id, limit).await?;
        Ok(rows
            .into_iter()
            .map(|row| AgentStateView::new(row.agent, row.state, row.details, row.reported_at))
            .collect())
    }

    fn platform_agent(&self, operator: &Operator, id: &AgentId) -> Result<Arc<Entry>, Error> {
        let is_shown = |entry: &Arc<Entry>| {
            entry.agent.platform.is_some()
                && entry.agent.tenant == operator.tenant
                && !matches!(entry.agent.standing, Standing::Deregistered { .. })
        };
        self.directory.get(id).filter(is_shown).ok_or(Error::UnknownAgent)
    }
}

fn said_in(row: &StateRow) -> Said {
    Said { at: row.reported_at, word: StateWord::of(&row.state), task: None }
}

/// The first report after this one, by the agent's clock, that it is done.
fn end_after<'a>(said: &'a [StateRow], row: &StateRow) -> Option<&'a StateRow> {
    let is_end = |said: &&StateRow| {
        matches!(StateWord::of(&said.state), StateWord::Idle | StateWord::Finished)
            && said.reported_at > row.reported_at
    };
    said.iter().filter(is_end).min_by_key(|said| said.reported_at)
}

/// What the workflow of a task calls it.
fn step_of(task: &Task) -> Option<String> {
    task.spec.context.decode::<StepContext>().ok().map(|context| context.task_id.to_string())
}

/// Why a task failed, as far as the report says.
fn why(report: &StateReport) -> String {
    let details: BTreeMap<String, RawJson> =
        report.details.as_ref().and_then(|details| details.decode().ok()).unwrap_or_default();
    let said = ["error", "error_message", "message", "reason"];
    let said = said.iter().find_map(|name| details.get(*name)?.decode::<String>().ok());
    let said = said.unwrap_or_else(|| "the agent reported an error".to_owned());
    said.chars().take(4_096).collect()
}
