//! An agent's record and its life.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use eap_types::{
    AgentId, AgentName, AgentState, AgentType, Capabilities, Capability, DirectiveId, Features, HealthStatus,
    InstanceId, JsonObject, Labels, RawJson, TaskType, TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::orders::Orders;
use crate::platform::{self, OnPlatform};
use crate::policy::LivenessPolicy;
use crate::push::Push;
use crate::score::TrackRecord;

/// An agent as it registered, and what became of it.
///
/// What changes with every beat (status, load, time of the last sign of life) is [`Vitals`], kept apart:
/// a heartbeat is not a commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id, kept over all registrations of the same identity.
    pub id: AgentId,
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// Its name; (tenant, name, instance) is its identity.
    pub name: AgentName,
    /// Which of several processes of that name it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<InstanceId>,
    /// Its own version.
    pub version: String,
    /// Its role.
    pub agent_type: AgentType,
    /// What it can be asked to do.
    pub capabilities: Capabilities,
    /// Words to route by.
    #[serde(default)]
    pub labels: Labels,
    /// Where it serves, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// Its own words about itself.
    #[serde(default)]
    pub metadata: JsonObject,
    /// The JSON Schemas of its task types' inputs, as it published them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub task_schemas: BTreeMap<TaskType, RawJson>,
    /// What it and the server agreed on; `None` for an older peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// How many leases it may hold at once.
    pub max_concurrent_tasks: u32,
    /// The name of the registration secret it came with; `None` for open registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_with: Option<String>,
    /// What it may offer: what its registration secret admitted; anything if this is empty. Coming back with its live
    /// token does not widen it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub admitted_capabilities: BTreeSet<Capability>,
    /// SHA-256 of its live token, in hex; `None` once deregistered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_sha256: Option<String>,
    /// The token before, while it still works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_token: Option<PreviousToken>,
    /// An operator asked it to get a new token, and it has not done so yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationIntent>,
    /// What operators asked of it beside that.
    #[serde(default, skip_serializing_if = "Orders::is_blank")]
    pub orders: Orders,
    /// How tasks are pushed to it, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<Push>,
    /// The platform that brought it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<OnPlatform>,
    /// Rises by one with each registration.
    pub epoch: u64,
    /// When it last registered.
    pub registered_at: Timestamp,
    /// What became of it.
    pub standing: Standing,
}

/// A token that was replaced and works for a while yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousToken {
    /// SHA-256 of it, in hex.
    pub sha256: String,
    /// When it stops working.
    pub valid_until: Timestamp,
}

/// The wish that an agent get a new token; it ends with the rotation or with a registration, which brings one as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationIntent {
    /// The directive that tells the agent.
    pub id: DirectiveId,
    /// Since when.
    pub at: Timestamp,
}

/// Why a token is not replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoRotation {
    /// The token that asks is not one of the agent's, or no longer.
    Dead,
    /// The token that asks was replaced, and the newer one is in use: who has the older alone may have stolen it.
    Replaced,
}

/// What became of an agent, beside its being heard or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum Standing {
    /// It takes work.
    Active,
    /// It finishes what it holds and takes no more.
    Draining,
    /// A newer registration of the same name and endpoint took its place; it gets no more work.
    Superseded {
        /// Since when.
        at: Timestamp,
    },
    /// It left; its identity is kept for a while.
    Deregistered {
        /// Since when.
        at: Timestamp,
    },
}

/// What can happen to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AgentEvent {
    /// The same identity registers again.
    Register,
    /// A sign of life that takes work.
    Beat,
    /// A beat with status `offline` or `draining: true`.
    Drain,
    /// Another registration took its place.
    Supersede,
    /// It leaves, or is removed.
    Deregister,
}

impl AgentEvent {
    /// Every event, for tables.
    pub const ALL: [Self; 5] = [Self::Register, Self::Beat, Self::Drain, Self::Supersede, Self::Deregister];

    /// The word for this event in refusals and diagrams.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Beat => "beat",
            Self::Drain => "drain",
            Self::Supersede => "supersede",
            Self::Deregister => "deregister",
        }
    }
}

impl Standing {
    /// What follows from `event` at `now`; `None` if this standing has no such way on.
    ///
    /// A deregistered agent comes back by registering alone; a superseded one stays so, however often
    /// it beats, until it registers again.
    #[must_use]
    pub fn after(self, event: AgentEvent, now: Timestamp) -> Option<Self> {
        match (self, event) {
            (_, AgentEvent::Register) | (Self::Active | Self::Draining, AgentEvent::Beat) => Some(Self::Active),
            (Self::Active | Self::Draining, AgentEvent::Drain) => Some(Self::Draining),
            (Self::Active | Self::Draining, AgentEvent::Supersede) => Some(Self::Superseded { at: now }),
            (Self::Superseded { at }, AgentEvent::Beat | AgentEvent::Drain | AgentEvent::Supersede) => {
                Some(Self::Superseded { at })
            }
            (Self::Deregistered { at }, AgentEvent::Deregister) => Some(Self::Deregistered { at }),
            (_, AgentEvent::Deregister) => Some(Self::Deregistered { at: now }),
            (Self::Deregistered { .. }, AgentEvent::Beat | AgentEvent::Drain | AgentEvent::Supersede) => None,
        }
    }

    /// The state shown after `silence` without a sign of life.
    #[must_use]
    pub fn state(self, silence: Duration, policy: &LivenessPolicy) -> AgentState {
        match self {
            Self::Superseded { .. } => AgentState::Superseded,
            Self::Deregistered { .. } => AgentState::Deregistered,
            Self::Active | Self::Draining if silence >= policy.offline_after() => AgentState::Offline,
            Self::Draining => AgentState::Draining,
            Self::Active if silence >= policy.suspect_after() => AgentState::Suspect,
            Self::Active => AgentState::Online,
        }
    }
}

impl Agent {
    /// Whether it announced no features: an older peer, served exactly as ADR 001 has it.
    #[must_use]
    pub fn is_older_peer(&self) -> bool {
        self.features.is_none()
    }

    /// Whether it may be given work at all, as far as its standing and the orders of operators go.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        self.standing == Standing::Active && self.orders.drain.is_none()
    }

    /// Whether it is one of those that are there: it may drain, but it has not left, and no other took its place.
    #[must_use]
    pub fn is_there(&self) -> bool {
        matches!(self.standing, Standing::Active | Standing::Draining)
    }

    /// Whether it finishes what it holds: by its own word, or because an operator asked for it.
    #[must_use]
    pub fn drains(&self) -> bool {
        self.standing == Standing::Draining || self.orders.drain.is_some()
    }

    /// How its silence is read.
    #[must_use]
    pub fn liveness(&self, policy: &LivenessPolicy) -> LivenessPolicy {
        LivenessPolicy { heartbeat_interval: self.orders.silence_unit(policy.heartbeat_interval) }
    }

    /// The state shown after `silence` without a sign of life.
    #[must_use]
    pub fn state(&self, silence: Duration, policy: &LivenessPolicy) -> AgentState {
        let standing = match self.standing {
            Standing::Active if self.orders.drain.is_some() => Standing::Draining,
            standing => standing,
        };
        // A platform says by webhook when one of its agents goes; until then silence means nothing.
        let silence = if self.platform.is_some() { Duration::ZERO } else { silence };
        standing.state(silence, &self.liveness(policy))
    }

    /// When it left or lost its place, and for an agent of a platform, which may be silent for as long as it likes, never
    /// before that; `None` if that is a matter of when it was last heard of.
    #[must_use]
    pub fn gone_at(&self) -> Option<Timestamp> {
        match self.standing {
            Standing::Deregistered { at } | Standing::Superseded { at } => Some(at),
            Standing::Active | Standing::Draining => self.platform.is_some().then_some(Timestamp::MAX),
        }
    }

    fn is_previous(&self, sha256: &str, now: Timestamp) -> bool {
        self.previous_token.as_ref().is_some_and(|token| token.sha256 == sha256 && now < token.valid_until)
    }

    /// The same with a new token, asked for with the token `asking`, which works on for `overlap`.
    ///
    /// A token that was itself replaced may ask again only while the one that replaced it was never used
    /// (`is_newest_used`): then the answer was lost, and the new token takes the place of the one nobody has. Its own
    /// end stays. At most two tokens work at any time.
    ///
    /// # Errors
    ///
    /// When the token that asks does not work, or was replaced by one that is in use.
    pub fn rotated(
        &self,
        asking: &str,
        is_newest_used: bool,
        new_sha256: String,
        now: Timestamp,
        overlap: Duration,
    ) -> Result<Self, NoRotation> {
        let previous = if self.token_sha256.as_deref() == Some(asking) {
            PreviousToken { sha256: asking.to_owned(), valid_until: now + overlap }
        } else {
            match &self.previous_token {
                Some(previous) if self.is_previous(asking, now) && !is_newest_used => previous.clone(),
                Some(_) if self.is_previous(asking, now) => return Err(NoRotation::Replaced),
                _ => return Err(NoRotation::Dead),
            }
        };
        Ok(Self { token_sha256: Some(new_sha256), previous_token: Some(previous), rotation: None, ..self.clone() })
    }

    /// How long a lease of this agent holds: an older peer renews by heartbeat alone and gets 3 H; an agent of a platform
    /// renews nothing, and has as long as the time limit of the attempt.
    #[must_use]
    pub fn lease_length(&self, lease: Duration, policy: &LivenessPolicy) -> Duration {
        match (&self.platform, self.is_older_peer()) {
            (Some(_), _) => platform::LEASE,
            (None, true) => policy.plain_lease(),
            (None, false) => lease,
        }
    }
}

/// What an agent's beats and results say of it; lives in memory and is written in batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    /// When the server last heard of it, by the server's clock.
    pub last_seen: Timestamp,
    /// When its last beat was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beaten_at: Option<Timestamp>,
    /// The word of its last beat; `None` before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<HealthStatus>,
    /// The load it last told, 0 to 1.
    #[serde(default)]
    pub current_load: f64,
    /// The tasks it last said to be working on.
    #[serde(default)]
    pub tasks_in_progress: u64,
    /// Its metrics.
    #[serde(default)]
    pub metrics: JsonObject,
    /// The highest `seq` of this epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The epoch these beats belong to.
    pub epoch: u64,
    /// Whether a beat of this epoch has listed its tasks.
    #[serde(default)]
    pub has_listed_tasks: bool,
    /// How it has done so far, over all epochs.
    #[serde(default, skip_serializing_if = "TrackRecord::is_blank")]
    pub record: TrackRecord,
}

impl Vitals {
    /// Of an agent that has just registered under `epoch`.
    #[must_use]
    pub fn registered(epoch: u64, now: Timestamp) -> Self {
        Self {
            last_seen: now,
            beaten_at: None,
            status: None,
            current_load: 0.0,
            tasks_in_progress: 0,
            metrics: JsonObject::default(),
            seq: None,
            epoch,
            has_listed_tasks: false,
            record: TrackRecord::default(),
        }
    }

    /// Takes in what was heard of the same agent elsewhere. Its record is kept by everybody on his own.
    pub fn hear_also(&mut self, elsewhere: &Self) {
        if elsewhere.epoch != self.epoch {
            return;
        }
        self.last_seen = self.last_seen.max(elsewhere.last_seen);
        self.has_listed_tasks |= elsewhere.has_listed_tasks;
        if (elsewhere.seq, elsewhere.beaten_at) > (self.seq, self.beaten_at) {
            let record = std::mem::take(&mut self.record);
            let (last_seen, has_listed_tasks) = (self.last_seen, self.has_listed_tasks);
            *self = Self { record, last_seen, has_listed_tasks, ..elsewhere.clone() };
        }
    }

    /// Whether these were heard after `others`, of the same agent.
    #[must_use]
    pub fn are_newer_than(&self, others: &Self) -> bool {
        (self.epoch, self.last_seen) > (others.epoch, others.last_seen)
    }

    /// Whether a beat with this `seq` is older than one already heard in this epoch (G15).
    #[must_use]
    pub fn is_stale(&self, seq: Option<u64>) -> bool {
        matches!((self.seq, seq), (Some(known), Some(given)) if given <= known)
    }

    /// Whether the agent's own word lets it take more work: not when `busy` or `offline`.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        !matches!(self.status, Some(HealthStatus::Busy | HealthStatus::Offline))
    }
}
