//! Changes on their way into a database: records as the JSON and the columns that every back end with tables writes.

use std::sync::Arc;

use eap_core::{Agent, Session, Task, Vitals};
use eap_types::{AgentId, CredentialId, RequestId, TaskId, Timestamp};

use super::{
    AgentWrite, CallbackWrite, Change, CredentialWrite, IdempotencyKeyRow, LateResultRow, NewEvent, ResultRow,
    Revision, SessionWrite, StateRow, TaskWrite, WebhookRow, WorkflowRow,
};

/// A change with its records already in JSON, which is work for the caller, not for the writer.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) tasks: Vec<PreparedTask>,
    pub(super) agents: Vec<PreparedAgent>,
    pub(super) results: Vec<PreparedResult>,
    pub(super) late_results: Vec<PreparedLateResult>,
    pub(super) sessions: Vec<PreparedSession>,
    pub(super) workflows: Vec<PreparedWorkflow>,
    pub(super) callbacks: Vec<CallbackWrite>,
    pub(super) idempotency: Option<IdempotencyKeyRow>,
    pub(super) webhook: Option<WebhookRow>,
    pub(super) states: Vec<StateRow>,
    pub(super) vitals: Vec<(AgentId, PreparedVitals)>,
    pub(super) credentials: Vec<PreparedCredential>,
    pub(super) last_used: Vec<(CredentialId, Timestamp)>,
    pub(super) pulse: Option<Timestamp>,
    pub(super) events: Vec<NewEvent>,
    /// About how much it adds to the file.
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct PreparedTask {
    pub(super) task: Arc<Task>,
    pub(super) write: PreparedTaskWrite,
    pub(super) state: StateText,
}

#[derive(Debug)]
pub(super) enum PreparedTaskWrite {
    Insert { spec: String },
    Update { revision: Revision },
}

#[derive(Debug)]
pub(super) struct PreparedAgent {
    pub(super) agent: Agent,
    pub(super) record: String,
    pub(super) write: PreparedAgentWrite,
}

#[derive(Debug)]
pub(super) enum PreparedAgentWrite {
    Insert(PreparedVitals),
    Update { revision: Revision },
}

#[derive(Debug)]
pub(super) struct PreparedSession {
    pub(super) session: Session,
    pub(super) write: PreparedSessionWrite,
    pub(super) run: String,
}

#[derive(Debug)]
pub(super) enum PreparedSessionWrite {
    Insert { spec: String },
    Update { revision: Revision },
}

#[derive(Debug)]
pub(super) struct PreparedWorkflow {
    pub(super) row: WorkflowRow,
    pub(super) record: String,
}

#[derive(Debug)]
pub(super) struct PreparedCredential {
    pub(super) write: CredentialWrite,
    pub(super) record: String,
}

#[derive(Debug)]
pub(super) struct PreparedVitals {
    /// Replicas may write of one agent out of order; one process does not.
    #[cfg(feature = "postgres")]
    pub(super) epoch: i64,
    pub(super) last_seen: i64,
    pub(super) text: String,
}

#[derive(Debug)]
pub(super) struct PreparedResult {
    pub(super) task: TaskId,
    pub(super) kept: Arc<Kept>,
}

#[derive(Debug)]
pub(super) struct PreparedLateResult {
    pub(super) task: TaskId,
    pub(super) attempt: u32,
    pub(super) agent: AgentId,
    pub(super) received_at: i64,
    pub(super) text: String,
}

/// A result as it is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) attempt: u32,
    pub(super) recorded_at: i64,
    pub(super) text: String,
}

impl Kept {
    /// The result as a reader is told it.
    pub(super) fn row(&self, task: TaskId) -> Result<ResultRow, serde_json::Error> {
        let recorded_at = Timestamp::from_micros(self.recorded_at);
        Ok(ResultRow { task, attempt: self.attempt, recorded_at, result: serde_json::from_str(&self.text)? })
    }
}

/// The columns of a task that change with its state, beside its route.
#[derive(Debug)]
pub(super) struct StateColumns<'a> {
    pub(super) status: &'static str,
    pub(super) due_at: Option<i64>,
    pub(super) holder: Option<&'a str>,
    pub(super) request: Option<&'a str>,
    pub(super) ended_at: Option<i64>,
    pub(super) last_agent: Option<&'a str>,
}

impl<'a> StateColumns<'a> {
    pub(super) fn of(task: &'a Task) -> Self {
        let lease = task.lease();
        Self {
            status: task.status().as_str(),
            due_at: task.due_at().map(Timestamp::as_micros),
            holder: lease.map(|lease| lease.agent.as_str()),
            request: lease.and_then(|lease| lease.request_id.as_ref()).map(RequestId::as_str),
            ended_at: task.state.phase.is_final().then(|| task.state.updated_at.as_micros()),
            last_agent: task.newest_attempt().map(|attempt| attempt.agent.as_str()),
        }
    }
}

/// The state of a task as it is written.
#[derive(Debug)]
pub(super) struct StateText {
    /// The canonical routing key, while the task is ready.
    pub(super) route: Option<String>,
    pub(super) text: String,
}

impl StateText {
    pub(super) fn of(task: &Task) -> Result<Self, serde_json::Error> {
        let route = task.is_ready().then(|| task.spec.routing.canonical());
        Ok(Self { route, text: serde_json::to_string(&task.state)? })
    }
}

impl PreparedVitals {
    fn of(vitals: &Vitals) -> Result<Self, serde_json::Error> {
        Ok(Self {
            #[cfg(feature = "postgres")]
            epoch: number(vitals.epoch),
            last_seen: vitals.last_seen.as_micros(),
            text: serde_json::to_string(vitals)?,
        })
    }
}

impl Prepared {
    pub(super) fn of(change: Change) -> Result<Self, serde_json::Error> {
        let Change { tasks, agents, results, late_results, callbacks, idempotency, vitals, pulse, events, .. } = change;
        let (credentials, last_used) = (change.credentials, change.last_used);
        let (webhook, states) = (change.webhook, change.states);
        let (sessions, workflows) = (change.sessions, change.workflows);
        let result = |task, attempt, recorded_at: Timestamp, result| -> Result<_, serde_json::Error> {
            let text = serde_json::to_string(&result)?;
            let kept = Kept { attempt, recorded_at: recorded_at.as_micros(), text };
            Ok(PreparedResult { task, kept: Arc::new(kept) })
        };
        let late = |row: LateResultRow| -> Result<_, serde_json::Error> {
            let text = serde_json::to_string(&row.result)?;
            let LateResultRow { task, attempt, agent, received_at, .. } = row;
            Ok(PreparedLateResult { task, attempt, agent, received_at: received_at.as_micros(), text })
        };
        let mut prepared = Self {
            tasks: tasks.into_iter().map(PreparedTask::of).collect::<Result<_, _>>()?,
            agents: agents.into_iter().map(PreparedAgent::of).collect::<Result<_, _>>()?,
            results: results
                .into_iter()
                .map(|row| result(row.task, row.attempt, row.recorded_at, row.result))
                .collect::<Result<_, _>>()?,
            late_results: late_results.into_iter().map(late).collect::<Result<_, _>>()?,
            sessions: sessions.into_iter().map(PreparedSession::of).collect::<Result<_, _>>()?,
            workflows: workflows.into_iter().map(PreparedWorkflow::of).collect::<Result<_, _>>()?,
            callbacks,
            idempotency,
            webhook,
            states,
            vitals: vitals
                .into_iter()
                .map(|(agent, vitals)| Ok((agent, PreparedVitals::of(&vitals)?)))
                .collect::<Result<_, serde_json::Error>>()?,
            credentials: credentials.into_iter().map(PreparedCredential::of).collect::<Result<_, _>>()?,
            last_used,
            pulse,
            events,
            bytes: 0,
        };
        prepared.bytes = prepared.count_bytes();
        Ok(prepared)
    }

    fn count_bytes(&self) -> usize {
        let tasks = self.tasks.iter().map(|task| {
            let spec = match &task.write {
                PreparedTaskWrite::Insert { spec } => spec.len(),
                PreparedTaskWrite::Update { .. } => 0,
            };
            spec + task.state.text.len()
        });
        let agents = self.agents.iter().map(|agent| agent.record.len());
        let results = self.results.iter().map(|row| row.kept.text.len());
        let late = self.late_results.iter().map(|row| row.text.len());
        let sessions = self.sessions.iter().map(|session| {
            let spec = match &session.write {
                PreparedSessionWrite::Insert { spec } => spec.len(),
                PreparedSessionWrite::Update { .. } => 0,
            };
            spec + session.run.len()
        });
        let workflows = self.workflows.iter().map(|workflow| workflow.record.len());
        let vitals = self.vitals.iter().map(|(_, vitals)| vitals.text.len());
        let credentials = self.credentials.iter().map(|credential| credential.record.len());
        let details = |row: &StateRow| row.details.as_ref().map_or(0, |details| details.as_str().len());
        let states = self.states.iter().map(|row| row.state.len() + details(row));
        let events = self.events.iter().map(|event| event.detail.as_str().len());
        tasks
            .chain(agents)
            .chain(results)
            .chain(late)
            .chain(sessions)
            .chain(workflows)
            .chain(vitals)
            .chain(credentials)
            .chain(states)
            .chain(events)
            .sum()
    }
}

impl PreparedTask {
    fn of(write: TaskWrite) -> Result<Self, serde_json::Error> {
        let state = StateText::of(write.task())?;
        let (task, write) = match write {
            TaskWrite::Insert(task) => {
                let spec = serde_json::to_string(&*task.spec)?;
                (task, PreparedTaskWrite::Insert { spec })
            }
            TaskWrite::Update { task, revision } => (task, PreparedTaskWrite::Update { revision }),
        };
        Ok(Self { task: Arc::new(task), write, state })
    }
}

impl PreparedSession {
    fn of(write: SessionWrite) -> Result<Self, serde_json::Error> {
        let run = serde_json::to_string(&write.session().run)?;
        let (session, write) = match write {
            SessionWrite::Insert(session) => {
                let spec = serde_json::to_string(&*session.spec)?;
                (session, PreparedSessionWrite::Insert { spec })
            }
            SessionWrite::Update { session, revision } => (session, PreparedSessionWrite::Update { revision }),
        };
        Ok(Self { session, write, run })
    }
}

impl PreparedWorkflow {
    fn of(row: WorkflowRow) -> Result<Self, serde_json::Error> {
        Ok(Self { record: serde_json::to_string(&row.workflow)?, row })
    }
}

impl PreparedCredential {
    fn of(write: CredentialWrite) -> Result<Self, serde_json::Error> {
        Ok(Self { record: serde_json::to_string(write.credential())?, write })
    }
}

impl PreparedAgent {
    fn of(write: AgentWrite) -> Result<Self, serde_json::Error> {
        let (agent, write) = match write {
            AgentWrite::Insert(agent, vitals) => (agent, PreparedAgentWrite::Insert(PreparedVitals::of(&vitals)?)),
            AgentWrite::Update { agent, revision } => (agent, PreparedAgentWrite::Update { revision }),
        };
        Ok(Self { record: serde_json::to_string(&agent)?, agent, write })
    }

    pub(super) fn gone_at(&self) -> Option<i64> {
        self.agent.gone_at().map(Timestamp::as_micros)
    }
}

/// A counter as databases have it; none of ours comes near the end of an `i64`.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A limit as databases have it.
pub(super) fn rows_at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
