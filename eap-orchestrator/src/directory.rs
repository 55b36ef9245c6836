//! The agents, in memory: their records as stored, their vitals as heard.
//!
//! Loaded at the start and kept in step by the lifecycle, which is the only writer. Heartbeats touch
//! nothing but this, and so do results in their agent's track record; the sweeper writes the vitals that changed once a
//! second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use eap_core::{
    Agent, Allowance, BreakerPolicy, BreakerTurn, Conclusion, LivenessPolicy, RoutingKey, Standing, Vitals,
};
use eap_types::{AgentId, AgentName, AgentState, InstanceId, LeaseId, TenantId, Timestamp};
use subtle::ConstantTimeEq as _;

use crate::announce::lock;
use crate::auth::AgentToken;
use crate::maps::IdMap;
use crate::schemas::{SchemaShelf, Schemas};
use crate::store::{Revision, Stored};

/// One agent: its record and what was last heard of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) agent: Arc<Agent>,
    pub(crate) revision: Revision,
    /// What it takes as input of the task types it published a schema of.
    pub(crate) schemas: Schemas,
    token: Option<[u8; 32]>,
    /// The token before, and until when it works.
    previous: Option<([u8; 32], Timestamp)>,
    /// Whether `token` was used since it came: who asks with the one before has not lost the answer.
    is_token_used: AtomicBool,
    vitals: Mutex<Heard>,
}

#[derive(Debug)]
struct Heard {
    vitals: Vitals,
    unwritten: bool,
    /// From when silence counts: the last sign of life, or the server's own fresh start.
    silent_since: Timestamp,
}

impl Entry {
    fn new(agent: Agent, revision: Revision, schemas: Schemas, vitals: Vitals, unwritten: bool) -> Self {
        let token = agent.token_sha256.as_deref().and_then(crate::auth::unhex);
        let previous = agent.previous_token.as_ref();
        let previous = previous.and_then(|token| Some((crate::auth::unhex(&token.sha256)?, token.valid_until)));
        Self {
            agent: Arc::new(agent),
            revision,
            schemas,
            token,
            previous,
            is_token_used: AtomicBool::new(false),
            vitals: Mutex::new(Heard { silent_since: vitals.last_seen, vitals, unwritten }),
        }
    }

    /// Looks at what was last heard.
    pub(crate) fn with_vitals<T>(&self, look: impl FnOnce(&Vitals) -> T) -> T {
        look(&lock(&self.vitals).vitals)
    }

    /// Whether a token works: the newest one, or the one before within its time.
    fn admits(&self, digest: &[u8; 32], now: impl FnOnce() -> Timestamp) -> bool {
        let is = |known: Option<[u8; 32]>| known.is_some() & bool::from(known.unwrap_or_default().ct_eq(digest));
        let Some((previous, valid_until)) = self.previous else { return is(self.token) };
        if is(self.token) {
            self.is_token_used.store(true, Ordering::Relaxed);
            return true;
        }
        is(Some(previous)) && now() < valid_until
    }

    /// Whether the newest token was used since it came.
    pub(crate) fn is_token_used(&self) -> bool {
        self.is_token_used.load(Ordering::Relaxed)
    }

    /// Whether this token may bring about a new one: not one that was replaced by a token that is in use.
    pub(crate) fn may_renew(&self, digest: &[u8; 32]) -> bool {
        self.token.is_some_and(|token| bool::from(token.ct_eq(digest))) || !self.is_token_used()
    }

    /// What was last heard.
    pub(crate) fn vitals(&self) -> Vitals {
        lock(&self.vitals).vitals.clone()
    }

    /// Changes what was heard; to be written with the next batch.
    pub(crate) fn hear<T>(&self, change: impl FnOnce(&mut Vitals) -> T) -> T {
        let mut heard = lock(&self.vitals);
        heard.unwritten = true;
        let answer = change(&mut heard.vitals);
        heard.silent_since = heard.silent_since.max(heard.vitals.last_seen);
        answer
    }

    /// From when its silence counts.
    pub(crate) fn silent_since(&self) -> Timestamp {
        lock(&self.vitals).silent_since
    }
}

/// All agents.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    entries: RwLock<IdMap<AgentId, Arc<Entry>>>,
    /// Agents whose breaker is open, by the end of its cool-down. One too many does no harm.
    cooling: Mutex<BTreeSet<(Timestamp, AgentId)>>,
    pub(crate) shelf: SchemaShelf,
    /// Whether any agent has published a schema since the start; without, no submit looks for one.
    has_schemas: AtomicBool,
}

impl Directory {
    fn read(&self) -> RwLockReadGuard<'_, IdMap<AgentId, Arc<Entry>>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, IdMap<AgentId, Arc<Entry>>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in everything the store has.
    pub(crate) fn load(&self, agents: Vec<(Stored<Agent>, Vitals)>) {
        let cooling = |(stored, vitals): &(Stored<Agent>, Vitals)| match vitals.record.allowance(stored.now) {
            Allowance::Cooling { until } => Some((until, stored.record.id.clone())),
            _ => None,
        };
        *lock(&self.cooling) = agents.iter().filter_map(cooling).collect();
        let entry = |(stored, vitals): (Stored<Agent>, Vitals)| {
            let schemas = self.schemas_of(&stored.record);
            (stored.record.id.clone(), Arc::new(Entry::new(stored.record, stored.revision, schemas, vitals, false)))
        };
        *self.write() = agents.into_iter().map(entry).collect();
    }

    /// Takes over a record that was committed. Vitals stay unless the record begins a new epoch; the track record stays
    /// in any case.
    pub(crate) fn put(&self, agent: Agent, revision: Revision, first_heard: Option<Vitals>) {
        let schemas = self.schemas_of(&agent);
        let mut entries = self.write();
        let known = entries.get(&agent.id);
        if known.is_some_and(|known| known.revision > revision) {
            return;
        }
        let newest_was_used = known.filter(|known| known.is_token_used()).and_then(|known| known.token);
        let known = known.map(|known| known.vitals());
        let record = known.as_ref().map(|known| known.record.clone()).unwrap_or_default();
        let vitals = first_heard.or(known).unwrap_or_else(|| Vitals::registered(agent.epoch, agent.registered_at));
        let vitals = Vitals { record, ..vitals };
        // Whatever was heard and not yet written moves over with the vitals.
        let entry = Entry::new(agent, revision, schemas, vitals, true);
        if newest_was_used.is_some() && newest_was_used == entry.token {
            entry.is_token_used.store(true, Ordering::Relaxed);
        }
        entries.insert(entry.agent.id.clone(), Arc::new(entry));
    }

    /// Takes over a record that another replica wrote, with what it had heard then; says whether it is newer than what is
    /// known.
    pub(crate) fn follow(&self, agent: Agent, revision: Revision, elsewhere: &Vitals) -> bool {
        let schemas = self.schemas_of(&agent);
        let mut entries = self.write();
        let known = entries.get(&agent.id);
        if known.is_some_and(|known| known.revision >= revision) {
            return false;
        }
        let newest_was_used = known.filter(|known| known.is_token_used()).and_then(|known| known.token);
        let (vitals, unwritten) = match known {
            None => (elsewhere.clone(), false),
            Some(known) => {
                let heard = lock(&known.vitals);
                let mut vitals = heard.vitals.clone();
                if elsewhere.epoch > vitals.epoch {
                    // A new process, of which nobody here has heard.
                    (Vitals { record: vitals.record, ..elsewhere.clone() }, false)
                } else {
                    vitals.hear_also(elsewhere);
                    (vitals, heard.unwritten)
                }
            }
        };
        let silent_since = known.map(|known| known.silent_since());
        let entry = Entry::new(agent, revision, schemas, vitals, unwritten);
        if newest_was_used.is_some() && newest_was_used == entry.token {
            entry.is_token_used.store(true, Ordering::Relaxed);
        }
        if let Some(since) = silent_since {
            let mut heard = lock(&entry.vitals);
            heard.silent_since = heard.silent_since.max(since);
        }
        entries.insert(entry.agent.id.clone(), Arc::new(entry));
        true
    }

    /// All of them.
    pub(crate) fn ids(&self) -> Vec<AgentId> {
        self.read().keys().cloned().collect()
    }

    /// Takes in what others heard of an agent; says whether it takes work again by that.
    pub(crate) fn hear_also(&self, agent: &AgentId, elsewhere: &Vitals) -> bool {
        let entries = self.read();
        let Some(entry) = entries.get(agent) else { return false };
        let mut heard = lock(&entry.vitals);
        let took_work = heard.vitals.takes_work();
        let is_newer_here = (heard.vitals.seq, heard.vitals.beaten_at) > (elsewhere.seq, elsewhere.beaten_at);
        if is_newer_here && heard.vitals.epoch == elsewhere.epoch {
            // One that heard a later sign of life, and not this word, has written over it.
            heard.unwritten = true;
        }
        heard.vitals.hear_also(elsewhere);
        heard.silent_since = heard.silent_since.max(heard.vitals.last_seen);
        !took_work && heard.vitals.takes_work()
    }

    /// Those that were not heard of since `cutoff`, or are gone: others may have purged them.
    pub(crate) fn silent_before(&self, cutoff: Timestamp) -> Vec<AgentId> {
        let is_silent = |entry: &Entry| match entry.agent.standing {
            Standing::Deregistered { at } | Standing::Superseded { at } => at < cutoff,
            _ => lock(&entry.vitals).vitals.last_seen < cutoff,
        };
        let entries = self.read();
        entries.values().filter(|entry| is_silent(entry)).map(|entry| entry.agent.id.clone()).collect()
    }

    /// An agent got tasks, the first under `lease_id`.
    pub(crate) fn serve(&self, agent: &AgentId, lease_id: LeaseId, now: Timestamp) {
        // Under the lock of the entries, so that no registration takes the place of what is changed here.
        if let Some(entry) = self.read().get(agent) {
            entry.hear(|vitals| vitals.record.serve(lease_id, now));
        }
    }

    /// An attempt ended; its agent's track record takes it in, and says what that did to the breaker.
    pub(crate) fn conclude(&self, ended: &Conclusion, now: Timestamp, policy: &BreakerPolicy) -> Option<BreakerTurn> {
        let entries = self.read();
        let entry = entries.get(&ended.agent)?;
        let turn = entry.hear(|vitals| vitals.record.conclude(ended.lease_id, ended.verdict, now, policy))?;
        if let BreakerTurn::Opened { until } = turn {
            lock(&self.cooling).insert((until, ended.agent.clone()));
        }
        Some(turn)
    }

    /// The same as another replica found it, which writes it down.
    pub(crate) fn conclude_also(&self, ended: &Conclusion, at: Timestamp, policy: &BreakerPolicy) {
        let entries = self.read();
        let Some(entry) = entries.get(&ended.agent) else { return };
        let turn = lock(&entry.vitals).vitals.record.conclude(ended.lease_id, ended.verdict, at, policy);
        if let Some(BreakerTurn::Opened { until }) = turn {
            lock(&self.cooling).insert((until, ended.agent.clone()));
        }
    }

    /// An agent got a task elsewhere.
    pub(crate) fn serve_also(&self, agent: &AgentId, lease_id: LeaseId, at: Timestamp) {
        if let Some(entry) = self.read().get(agent) {
            lock(&entry.vitals).vitals.record.serve(lease_id, at);
        }
    }

    /// Takes the agents whose cool-down is over.
    pub(crate) fn take_cooled(&self, now: Timestamp) -> Vec<AgentId> {
        let mut cooling = lock(&self.cooling);
        let mut cooled = Vec::new();
        while cooling.first().is_some_and(|(until, _)| *until <= now) {
            cooled.extend(cooling.pop_first().map(|(_, agent)| agent));
        }
        cooled
    }

    /// Forgets agents that were purged.
    pub(crate) fn remove(&self, agents: &[AgentId]) {
        let mut entries = self.write();
        for agent in agents {
            entries.remove(agent);
        }
    }

    /// One agent.
    pub(crate) fn get(&self, agent: &AgentId) -> Option<Arc<Entry>> {
        self.read().get(agent).cloned()
    }

    /// The agent a live token belongs to.
    pub(crate) fn bearer(&self, token: &AgentToken, now: impl FnOnce() -> Timestamp) -> Option<Arc<Entry>> {
        let entry = self.get(&token.agent);
        if entry.is_none() {
            // Compared even where there is nothing to compare with: existence does not show in the time taken.
            let _: bool = [0; 32].ct_eq(&token.digest).into();
        }
        entry.filter(|entry| entry.admits(&token.digest, now))
    }

    /// The agent of this identity, deregistered or not.
    pub(crate) fn of_identity(&self, tenant: TenantId, name: &AgentName, instance: &InstanceId) -> Option<Arc<Entry>> {
        self.find(|agent| agent.tenant == tenant && agent.name == *name && agent.instance_id.as_ref() == Some(instance))
    }

    /// Whom a registration without instance takes the place of: same name, same endpoint, none of them empty.
    pub(crate) fn superseded_by(&self, newer: &Agent) -> Vec<Arc<Entry>> {
        let Some(endpoint) = &newer.endpoint_url else { return Vec::new() };
        let is_older = |agent: &Agent| {
            agent.id != newer.id
                && agent.tenant == newer.tenant
                && agent.name == newer.name
                && agent.endpoint_url.as_ref() == Some(endpoint)
                && agent.instance_id.is_none()
                && agent.platform.is_none()
                && agent.registered_with == newer.registered_with
                && matches!(agent.standing, Standing::Active | Standing::Draining)
        };
        self.read().values().filter(|entry| is_older(&entry.agent)).cloned().collect()
    }

    /// The agents that a platform brought, those that are gone as well.
    pub(crate) fn of_platform(&self) -> BTreeMap<AgentId, Arc<Agent>> {
        let entries = self.read();
        let brought = entries.values().filter(|entry| entry.agent.platform.is_some());
        brought.map(|entry| (entry.agent.id.clone(), Arc::clone(&entry.agent))).collect()
    }

    /// The agents that left, and their last epochs.
    pub(crate) fn gone(&self) -> Vec<(AgentId, u64)> {
        let is_gone = |agent: &Agent| matches!(agent.standing, Standing::Deregistered { .. });
        let entries = self.read();
        let gone = entries.values().filter(|entry| is_gone(&entry.agent));
        gone.map(|entry| (entry.agent.id.clone(), entry.agent.epoch)).collect()
    }

    fn find(&self, wanted: impl Fn(&Agent) -> bool) -> Option<Arc<Entry>> {
        self.read().values().find(|entry| wanted(&entry.agent)).cloned()
    }

    /// Whether any agent that takes work could ever take a task of this key.
    pub(crate) fn can_serve(&self, key: &RoutingKey) -> bool {
        self.find(|agent| agent.takes_work() && key.admits(agent)).is_some()
    }

    fn schemas_of(&self, agent: &Agent) -> Schemas {
        if !agent.task_schemas.is_empty() {
            self.has_schemas.store(true, Ordering::Release);
        }
        self.shelf.of_record(agent)
    }

    /// Whether an input may have to be as a schema says.
    pub(crate) fn has_schemas(&self) -> bool {
        self.has_schemas.load(Ordering::Acquire)
    }

    /// The agents that are heard of and would get a task of this key.
    pub(crate) fn takers(&self, key: &RoutingKey, now: Timestamp, policy: &LivenessPolicy) -> Vec<Arc<Entry>> {
        let is_taker = |entry: &Entry| {
            entry.agent.takes_work()
                && key.admits(&entry.agent)
                && now.saturating_since(entry.silent_since()) < entry.agent.liveness(policy).offline_after()
        };
        self.read().values().filter(|entry| is_taker(entry)).cloned().collect()
    }

    /// The agents that are pushed to.
    pub(crate) fn pushed(&self) -> Vec<AgentId> {
        let entries = self.read();
        entries.values().filter(|entry| entry.agent.push.is_some()).map(|entry| entry.agent.id.clone()).collect()
    }

    /// The agents of a tenant that are not deregistered, newest first.
    pub(crate) fn of_tenant(&self, tenant: TenantId) -> Vec<Arc<Entry>> {
        let shown = |agent: &Agent| agent.tenant == tenant && !matches!(agent.standing, Standing::Deregistered { .. });
        let mut entries: Vec<_> = self.read().values().filter(|entry| shown(&entry.agent)).cloned().collect();
        entries.sort_by(|a, b| {
            b.agent.registered_at.cmp(&a.agent.registered_at).then_with(|| b.agent.id.cmp(&a.agent.id))
        });
        entries
    }

    /// How many agents are in each state now, in the order of the states.
    pub(crate) fn count_states(&self, now: Timestamp, policy: &LivenessPolicy) -> Vec<(AgentState, u64)> {
        let mut counts: Vec<_> = AgentState::ALL.iter().map(|state| (*state, 0)).collect();
        for entry in self.read().values() {
            let state = entry.agent.state(now.saturating_since(entry.silent_since()), policy);
            if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == state) {
                *count += 1;
            }
        }
        counts
    }

    /// Vitals that changed since the last call, to be written.
    pub(crate) fn take_unwritten(&self) -> Vec<(AgentId, Vitals)> {
        let mut changed = Vec::new();
        for (id, entry) in self.read().iter() {
            let mut heard = lock(&entry.vitals);
            if std::mem::take(&mut heard.unwritten) {
                changed.push((id.clone(), heard.vitals.clone()));
            }
        }
        changed
    }

    /// These vitals were not written after all.
    pub(crate) fn mark_unwritten(&self, agents: &[AgentId]) {
        for entry in agents.iter().filter_map(|agent| self.get(agent)) {
            lock(&entry.vitals).unwritten = true;
        }
    }

    /// Everybody's silence counts anew from `now`.
    pub(crate) fn start_afresh(&self, now: Timestamp) {
        for entry in self.read().values() {
            lock(&entry.vitals).silent_since = now;
        }
    }
}
