//! Agents of a platform (AgentKit): its webhooks bring and take them, its reports say how they are and what they did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use eap_core::{
    Agent, AgentEvent, InFlight, Meaning, OnPlatform, Push, Quote, Said, Standing, Task, Vitals, is_free, meaning,
};
use eap_types::agentkit::{AgentNotification, AgentStateView, PlatformAgent, StateReport, StateWord};
use eap_types::{
    AgentId, AgentName, AgentType, Capabilities, Capability, FailureCode, Features, FieldProblem, JsonObject, Labels,
    RawJson, StepContext, TaskId, TaskResult, TenantId, Timestamp,
};
use tokio::sync::Notify;
use tracing::{debug, info};

use super::registration::agent_event;
use super::{Lifecycle, MAX_CONFLICTS, Share, stand_aside};
use crate::announce::lock;
use crate::auth::{Operator, hex, sha256};
use crate::directory::Entry;
use crate::error::Error;
use crate::store::{AgentWrite, Change, EventKind, RecordRef, Revision, StateRow, StoreError, WebhookRow};

/// What an agent offers that named no capability: a task can still be given to it by its id.
const NAMELESS: &str = "agentkit";
/// How many of an agent's newest reports are looked at, to tell what one means that names no task.
const LOOKED_AT: usize = 50;

/// A webhook that came from its platform, as far as that can be known.
#[derive(Debug)]
pub(crate) struct Notified {
    pub(crate) told: AgentNotification,
    /// When it was sent; when it came, if it was not signed.
    pub(crate) sent_at: Timestamp,
    /// Tells a repeat; nothing does if it was not signed.
    pub(crate) digest: Option<[u8; 32]>,
}

/// What came of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noticed {
    /// It took effect.
    Applied,
    /// It was there before, and had its effect then.
    Duplicate,
    /// A newer one about the same agent took effect before: this one does not.
    Outdated,
}

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

    /// Takes in what was written, unless what is known is newer.
    fn put(&self, row: StateRow) {
        let mut states = lock(&self.rows);
        let is_newer = |known: &StateRow| (row.epoch, row.reported_at) >= (known.epoch, known.reported_at);
        if states.get(&row.agent).is_none_or(is_newer) {
            states.insert(row.agent.clone(), row);
        }
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

    /// Whether an agent of a platform may be given work, by its own word.
    pub(crate) fn is_free(&self, agent: &Agent) -> bool {
        self.of(agent).is_none_or(|row| is_free(StateWord::of(&row.state)))
    }
}

impl Lifecycle {
    pub(super) async fn load_states(&self) -> Result<(), Error> {
        self.states.load(self.store.newest_states().await?);
        Ok(())
    }

    /// Has a webhook take effect, once (G26) and in order (G27).
    pub(crate) async fn notified(self: &Arc<Self>, notified: Notified) -> Result<Noticed, Error> {
        let this = Arc::clone(self);
        self.detached(Share::Running, async move { this.notice(&notified).await }).await
    }

    async fn notice(&self, notified: &Notified) -> Result<Noticed, Error> {
        let id = notified.told.agent_id();
        for turn in 0..MAX_CONFLICTS {
            stand_aside(turn).await;
            let now = self.clock.now();
            let webhook = notified.digest.map(|digest| WebhookRow { digest, received_at: now });
            let known = self.directory.get(id);
            let done = match (&notified.told, known.as_deref()) {
                (_, Some(known)) if known.agent.platform.is_none() => {
                    return Err(Error::Forbidden { reason: "this agent did not come by a webhook" });
                }
                (_, Some(known)) if is_outdated(known, notified.sent_at) => self
                    .commit(Change { webhook, ..Change::default() })
                    .await
                    .map(|()| Noticed::Outdated)
                    .map_err(Error::from),
                (AgentNotification::Register(told), known) => self.arrive(told, known, notified.sent_at, webhook).await,
                (_, Some(known)) if !matches!(known.agent.standing, Standing::Deregistered { .. }) => {
                    let platform = known.agent.platform.as_ref().map(|platform| platform.after(notified.sent_at));
                    self.retire_with(known, platform, webhook).await.map(|_| Noticed::Applied)
                }
                (_, known) => self.bury(id, known, notified.sent_at, webhook).await,
            };
            match done {
                Err(Error::Store(StoreError::Duplicate { record: RecordRef::Webhook })) => {
                    return self.repeated(&notified.told).await;
                }
                // Somebody else changed the agent meanwhile.
                Err(Error::Store(StoreError::Conflict { .. } | StoreError::Duplicate { .. })) => {}
                done => return done,
            }
        }
        Err(Error::Busy { reason: "other webhooks about this agent kept coming" })
    }

    /// What was begun by a webhook whose answer was lost is finished by its repeat.
    async fn repeated(&self, told: &AgentNotification) -> Result<Noticed, Error> {
        let id = told.agent_id();
        self.release_gone(id).await?;
        debug!(agent.id = %id, event = told.event_type(), "a webhook came again");
        Ok(Noticed::Duplicate)
    }

    /// An agent comes, comes back, or has changed.
    async fn arrive(
        &self,
        told: &PlatformAgent,
        known: Option<&Entry>,
        sent_at: Timestamp,
        webhook: Option<WebhookRow>,
    ) -> Result<Noticed, Error> {
        let now = self.clock.now();
        let capabilities = capabilities(&told.capabilities)?;
        let newest_event = known
            .and_then(|known| known.agent.platform.as_ref())
            .map_or(sent_at, |platform| platform.newest_event.max(sent_at));
        let platform = OnPlatform { name: told.agent_name.clone(), newest_event };
        let is_there = |known: &&Entry| !matches!(known.agent.standing, Standing::Deregistered { .. });
        let before = known.filter(is_there);
        if let Some(gone) = known.filter(|known| !is_there(known)) {
            // Its tasks went with it, even if that was cut off.
            self.release_all(&gone.agent.id, gone.agent.epoch).await?;
        }
        let agent = Agent {
            id: told.agent_id.clone(),
            tenant: TenantId::default(),
            name: name(told),
            instance_id: None,
            version: told.version.clone(),
            agent_type: AgentType::default(),
            capabilities,
            labels: Labels::default(),
            endpoint_url: Some(told.contact_endpoint.clone()),
            metadata: told.metadata.clone(),
            task_schemas: BTreeMap::new(),
            features: Some(Features::default()),
            max_concurrent_tasks: max_concurrent_tasks(&told.metadata),
            registered_with: None,
            admitted_capabilities: BTreeSet::new(),
            token_sha256: None,
            previous_token: None,
            rotation: None,
            orders: before.map(|known| known.agent.orders.clone()).unwrap_or_default(),
            push: self.outbound.as_ref().map(|_| Push::by_platform()),
            platform: Some(platform),
            epoch: match (known, before) {
                (None, _) => 1,
                (Some(_), Some(before)) => before.agent.epoch,
                // Its life before is over, and what it said then.
                (Some(gone), None) => gone.agent.epoch + 1,
            },
            registered_at: before.map_or(now, |known| known.agent.registered_at),
            standing: before.map_or(Standing::Active, |known| known.agent.standing),
        };
        let event = agent_event(&agent, EventKind::AgentRegistered, now);
        let first_heard = before.is_none().then(|| Vitals::registered(agent.epoch, now));
        self.put_platform_agent(agent, known, first_heard, event, webhook).await?;
        info!(agent.id = %told.agent_id, agent.name = %told.agent_name, "an agent came by a webhook");
        self.announcements.agent_freed(&told.agent_id);
        self.announcements.push_changed();
        Ok(Noticed::Applied)
    }

    /// An agent that is not there goes: what is older than that does not bring it (A44).
    async fn bury(
        &self,
        id: &AgentId,
        known: Option<&Entry>,
        sent_at: Timestamp,
        webhook: Option<WebhookRow>,
    ) -> Result<Noticed, Error> {
        let now = self.clock.now();
        let (agent, first_heard) = match known {
            Some(known) => {
                let platform = known.agent.platform.as_ref().map(|platform| platform.after(sent_at));
                let standing = known.agent.standing.after(AgentEvent::Deregister, now).unwrap_or(known.agent.standing);
                (Agent { platform, standing, ..Agent::clone(&known.agent) }, None)
            }
            None => (tombstone(id, sent_at, now), Some(Vitals::registered(0, now))),
        };
        let event = agent_event(&agent, EventKind::AgentDeregistered, now);
        self.put_platform_agent(agent, known, first_heard, event, webhook).await?;
        self.release_gone(id).await?;
        Ok(Noticed::Applied)
    }

    /// Gives back what an agent holds that is gone.
    async fn release_gone(&self, id: &AgentId) -> Result<(), Error> {
        match self.directory.get(id) {
            Some(entry) if matches!(entry.agent.standing, Standing::Deregistered { .. }) => {
                self.release_all(id, entry.agent.epoch).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Whether agents of the platform can be given work.
    pub(crate) fn reaches_platform(&self) -> bool {
        self.config.agentkit.as_ref().is_some_and(|face| face.direct || face.url.is_some())
    }

    async fn put_platform_agent(
        &self,
        agent: Agent,
        known: Option<&Entry>,
        first_heard: Option<Vitals>,
        event: crate::store::NewEvent,
        webhook: Option<WebhookRow>,
    ) -> Result<(), Error> {
        let mut change = Change { events: vec![event], webhook, ..Change::default() };
        let revision = match known {
            None => {
                let vitals = first_heard.clone().unwrap_or_else(|| Vitals::registered(agent.epoch, self.clock.now()));
                change.agents.push(AgentWrite::Insert(agent.clone(), vitals));
                Revision(1)
            }
            Some(known) => {
                change.agents.push(AgentWrite::Update { agent: agent.clone(), revision: known.revision });
                change.vitals.extend(first_heard.clone().map(|vitals| (agent.id.clone(), vitals)));
                Revision(known.revision.0 + 1)
            }
        };
        self.commit(change).await?;
        self.directory.put(agent, revision, first_heard);
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
        let row = StateRow {
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
        self.understand(&entry, &report, &row).await?;
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

    /// Does what a report means for a task that its agent holds.
    async fn understand(self: &Arc<Self>, entry: &Entry, report: &StateReport, row: &StateRow) -> Result<(), Error> {
        let agent = &entry.agent;
        let leases = self.leases.of(&agent.id);
        if leases.is_empty() {
            return Ok(());
        }
        let mut in_flight = Vec::with_capacity(leases.len());
        for (id, lease) in &leases {
            let Some(stored) = self.store.task(*id).await? else { continue };
            let is_given = self.exchanges.is_sent(lease.lease_id) || stored.record.state.progress.is_some();
            in_flight.push(InFlight { id: *id, step: step_of(&stored.record), is_given });
        }
        let said = Said { at: row.reported_at, word: report.word(), task: report.task_id() };
        let before = match leases.as_slice() {
            [(id, lease)] => self.said_since(agent, *id, lease.attempt).await?,
            _ => Vec::new(),
        };
        let (task, result) = match meaning(&said, &in_flight, &before) {
            Meaning::Nothing => return Ok(()),
            Meaning::Works(task) => {
                let held = leases.iter().find(|(id, _)| *id == task);
                if let Some((_, lease)) = held
                    && let Err(error) = self.note(agent, task, Quote::lease(lease.lease_id), &report.state).await
                {
                    debug!(task.id = %task, %error, "that an agent works could not be noted");
                }
                return Ok(());
            }
            Meaning::Completes(task) => (task, TaskResult::completed(task, JsonObject::default())),
            Meaning::Fails(task) => (task, TaskResult::failed(task, FailureCode::Internal, why(report))),
        };
        let Some((_, lease)) = leases.into_iter().find(|(id, _)| *id == task) else { return Ok(()) };
        let result = result.with_output_data(report.details.clone().unwrap_or_default());
        match self.record(agent, task, result.with_lease(lease.lease_id, lease.attempt)).await {
            Err(
                error @ (Error::Store(_) | Error::Artifacts(_) | Error::Busy { .. } | Error::Broken | Error::Draining),
            ) => Err(error),
            Err(refused) => {
                debug!(task.id = %task, agent.id = %agent.id, %refused, "a report of state came too late for its task");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// What an agent said since it was given a task.
    async fn said_since(&self, agent: &Agent, task: TaskId, attempt: u32) -> Result<Vec<Said>, Error> {
        let Some(stored) = self.store.task(task).await? else { return Ok(Vec::new()) };
        let Some(since) = stored.record.attempt(attempt).map(|attempt| attempt.started_at) else {
            return Ok(Vec::new());
        };
        let rows = self.store.states(&agent.id, LOOKED_AT).await?;
        let rows = rows.into_iter().filter(|row| row.epoch == agent.epoch && row.received_at >= since);
        Ok(rows.map(|row| Said { at: row.reported_at, word: StateWord::of(&row.state), task: None }).collect())
    }

    /// How an agent of a platform is.
    pub(crate) fn state(&self, operator: &Operator, id: &AgentId) -> Result<AgentStateView, Error> {
        let entry = self.platform_agent(operator, id)?;
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

/// Whether a platform says anything of an agent that is not known, or known otherwise.
pub(super) fn platform_agent_changed(known: &Agent, told: &PlatformAgent) -> bool {
    let offered = capabilities(&told.capabilities).ok();
    matches!(known.standing, Standing::Deregistered { .. })
        || known.platform.as_ref().is_none_or(|platform| platform.name != told.agent_name)
        || known.version != told.version
        || known.endpoint_url.as_ref() != Some(&told.contact_endpoint)
        || known.metadata != told.metadata
        || Some(&known.capabilities) != offered.as_ref()
}

fn is_outdated(known: &Entry, sent_at: Timestamp) -> bool {
    known.agent.platform.as_ref().is_some_and(|platform| platform.is_outdated(sent_at))
}

/// What is known of an agent of which only the end was told.
fn tombstone(id: &AgentId, sent_at: Timestamp, now: Timestamp) -> Agent {
    let name = name_of(id.as_str(), id);
    Agent {
        id: id.clone(),
        tenant: TenantId::default(),
        name,
        instance_id: None,
        version: String::new(),
        agent_type: AgentType::default(),
        capabilities: nameless(),
        labels: Labels::default(),
        endpoint_url: None,
        metadata: JsonObject::default(),
        task_schemas: BTreeMap::new(),
        features: Some(Features::default()),
        max_concurrent_tasks: 1,
        registered_with: None,
        admitted_capabilities: BTreeSet::new(),
        token_sha256: None,
        previous_token: None,
        rotation: None,
        orders: Default::default(),
        push: None,
        platform: Some(OnPlatform { name: id.to_string(), newest_event: sent_at }),
        epoch: 0,
        registered_at: now,
        standing: Standing::Deregistered { at: now },
    }
}

/// The words of a platform as capabilities: in lower case, with `_` for whatever else a capability has not. One of which
/// nothing is left is a problem.
fn capabilities(words: &[String]) -> Result<Capabilities, Error> {
    let mut problems = Vec::new();
    let mut offered = BTreeSet::new();
    for (place, word) in words.iter().enumerate() {
        match word.parse().or_else(|_| folded(word).parse::<Capability>()) {
            Ok(capability) => {
                offered.insert(capability);
            }
            Err(why) => {
                let field = format!("body.agent_details.capabilities[{place}]");
                problems.push(FieldProblem::new(field, "value_error", why.to_string()));
            }
        }
    }
    if !problems.is_empty() {
        return Err(Error::Invalid { problems });
    }
    Ok(if offered.is_empty() { nameless() } else { Capabilities::new(offered).unwrap_or_else(|_| nameless()) })
}

fn folded(word: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    let mut folded: String = word.chars().map(|c| if fits(c) { c.to_ascii_lowercase() } else { '_' }).collect();
    folded.truncate(64);
    folded.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

fn nameless() -> Capabilities {
    Capabilities::new([NAMELESS]).expect("the word is a capability")
}

/// A name of ours: what the platform calls the agent if that is one, else its id, else something made of that.
fn name(told: &PlatformAgent) -> AgentName {
    name_of(&told.agent_name, &told.agent_id)
}

fn name_of(name: &str, id: &AgentId) -> AgentName {
    let made_up = || format!("agentkit-{}", &hex(&sha256(id.as_str()))[..12]).parse();
    name.parse().or_else(|_| id.as_str().parse()).or_else(|_| made_up()).expect("hex digits behind a word are a name")
}

/// One task at a time, unless the agent says that it can do more.
fn max_concurrent_tasks(metadata: &JsonObject) -> u32 {
    let members: BTreeMap<String, RawJson> = metadata.decode().unwrap_or_default();
    let given = members.get("max_concurrent_tasks").and_then(|number| number.decode::<u32>().ok());
    given.map_or(1, |given| given.clamp(1, eap_types::limits::MAX_CONCURRENT_TASKS))
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
