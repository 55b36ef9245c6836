//! Why a task is where it is: `GET /api/v1/tasks/{id}/explain` (docs/protocol.md section 3).

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RoutingView, TaskStatus};
use crate::macros::words;
use crate::{
    AgentId, AgentName, AgentState, HealthStatus, LoadBand, TaskId, TaskType, Timestamp, TrackRecordView, figure,
};

words! {
    /// What a task waits for, or that it does not.
    pub enum Whereabouts {
        /// The next agent that can take it.
        Ready = "ready",
        /// Its `run_at`.
        Delayed = "delayed",
        /// The end of a back-off, after an attempt.
        BackingOff = "backing_off",
        /// Its holder.
        Leased = "leased",
        /// Nothing: it is over.
        Final = "final",
    }
}

words! {
    /// Why an agent cannot take a task now.
    pub enum RefusalCode {
        /// The task names another agent.
        OtherAgent = "other_agent",
        /// It does not offer a capability that is required.
        MissingCapability = "missing_capability",
        /// It does not carry a label that is asked for.
        MissingLabel = "missing_label",
        /// Another registration took its place.
        Superseded = "superseded",
        /// It finishes what it holds and takes nothing new.
        Draining = "draining",
        /// An operator asked that it take nothing new.
        Drained = "drained",
        /// It was not heard of for three beats.
        Offline = "offline",
        /// It says that it is busy.
        Busy = "busy",
        /// It is an agent of a platform, and by the state that it last reported it is not free.
        NotFree = "not_free",
        /// Nothing is pushed to it, and no poll of it waits.
        PushSuspended = "push_suspended",
        /// It holds as many tasks as it may.
        Full = "full",
        /// It rejected this task a short while ago.
        Excluded = "excluded",
        /// Too many of its results were failures.
        BreakerOpen = "breaker_open",
        /// The trial task that decides about its breaker is with it.
        OnTrial = "on_trial",
    }
}

/// Why a task is where it is, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct TaskExplanation {
    /// The task.
    pub task_id: TaskId,
    /// What kind of work it is.
    pub task_type: TaskType,
    /// Where it stands.
    pub status: TaskStatus,
    /// What it waits for.
    pub whereabouts: Whereabouts,
    /// When that wait ends by itself: the delay, the back-off, the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The agent that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The newest attempt's number; 0 before the first.
    pub attempt: u32,
    /// How many of `max_attempts` are used up: attempts that were done, failed or expired.
    #[serde(default)]
    pub attempts_used: u32,
    /// How often it is tried at most.
    pub max_attempts: u32,
    /// All of this in one sentence, for people.
    pub summary: String,
    /// Which agents may do it.
    pub routing: RoutingView,
    /// Whether it waits and no registered agent could do it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_capable_agent: bool,
    /// The agents, those that can take it now first, each group best first; at most 100. None once the task is over.
    #[serde(default)]
    pub candidates: Vec<Candidate>,
    /// How many agents were looked at.
    pub agents: u64,
    /// How many of all of them are refused, by reason; an agent may have several.
    #[serde(default)]
    pub refused: BTreeMap<RefusalCode, u64>,
    /// When this was so.
    pub explained_at: Timestamp,
}

impl TaskExplanation {
    /// A task at one moment; everything else is set as fields.
    pub fn new(
        task_id: TaskId,
        task_type: TaskType,
        status: TaskStatus,
        whereabouts: Whereabouts,
        routing: RoutingView,
        explained_at: Timestamp,
    ) -> Self {
        Self {
            task_id,
            task_type,
            status,
            whereabouts,
            until: None,
            agent_id: None,
            attempt: 0,
            attempts_used: 0,
            max_attempts: crate::limits::DEFAULT_ATTEMPTS,
            summary: String::new(),
            routing,
            no_capable_agent: false,
            candidates: Vec::new(),
            agents: 0,
            refused: BTreeMap::new(),
            explained_at,
        }
    }
}

/// One agent, measured against a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Candidate {
    /// The agent.
    pub agent_id: AgentId,
    /// Its name.
    pub name: AgentName,
    /// How well it suits the task, 0 to 1: the sum of `parts`, at most 1.
    #[serde(serialize_with = "figure::write")]
    pub score: f64,
    /// What the score is made of.
    pub parts: ScoreParts,
    /// How it has done so far.
    pub track_record: TrackRecordView,
    /// How many tasks it holds.
    pub leases: u32,
    /// How many it may hold.
    pub max_concurrent_tasks: u32,
    /// What that makes of its load.
    pub load: LoadBand,
    /// What the server makes of it.
    pub state: AgentState,
    /// How it says it is doing; absent before its first beat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<HealthStatus>,
    /// Whether one of its polls waits for work like this now.
    pub waiting: bool,
    /// Why it cannot take the task now; empty if it can.
    #[serde(default)]
    pub refusals: Vec<CandidateRefusal>,
}

impl Candidate {
    /// An agent that holds nothing and does not ask for work; everything else is set as fields.
    pub fn new(agent_id: AgentId, name: AgentName, max_concurrent_tasks: u32) -> Self {
        Self {
            agent_id,
            name,
            score: 0.0,
            parts: ScoreParts::default(),
            track_record: TrackRecordView::new(),
            leases: 0,
            max_concurrent_tasks,
            load: LoadBand::Idle,
            state: AgentState::Online,
            status: None,
            waiting: false,
            refusals: Vec::new(),
        }
    }
}

/// What a score is made of: each part with its weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ScoreParts {
    /// For its tier, at most 0.4.
    #[serde(serialize_with = "figure::write")]
    pub tier: f64,
    /// For how little else it can do, at most 0.3.
    #[serde(serialize_with = "figure::write")]
    pub capability_match: f64,
    /// For the room it has, at most 0.2.
    #[serde(serialize_with = "figure::write")]
    pub load: f64,
    /// For how it says it is doing, at most 0.1.
    #[serde(serialize_with = "figure::write")]
    pub availability: f64,
    /// 0.2 if the task prefers it.
    #[serde(serialize_with = "figure::write")]
    pub preferred: f64,
}

/// One reason why an agent cannot take a task now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CandidateRefusal {
    /// The reason.
    pub code: RefusalCode,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The capabilities, or labels as in `region=eu`, that it lacks.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub missing: BTreeSet<String>,
    /// In a word: the state that the agent reported (`not_free`), or why nothing is pushed to it (`push_suspended`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<String>,
}

impl CandidateRefusal {
    /// A reason with nothing to add.
    pub fn new(code: RefusalCode) -> Self {
        Self { code, until: None, missing: BTreeSet::new(), word: None }
    }

    /// Sets when it ends by itself.
    #[must_use]
    pub fn with_until(mut self, until: Timestamp) -> Self {
        self.until = Some(until);
        self
    }

    /// Sets what is missing.
    #[must_use]
    pub fn with_missing<W: Into<String>>(mut self, missing: impl IntoIterator<Item = W>) -> Self {
        self.missing = missing.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the word for the agent's state, or for why nothing is pushed to it.
    #[must_use]
    pub fn with_word(mut self, word: impl Into<String>) -> Self {
        self.word = Some(word.into());
        self
    }
}
