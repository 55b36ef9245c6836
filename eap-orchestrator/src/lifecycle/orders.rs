//! Operators ask agents to take nothing new, to take work again, to beat at another interval.

use std::sync::Arc;
use std::time::Duration;

use eap_core::{Agent, Orders, Standing};
use eap_types::{AgentDetail, AgentId, CredentialId, Directive, DirectiveId, Feature, Timestamp};
use tracing::info;

use super::registration::agent_event;
use super::submit::invalid;
use super::{Lifecycle, MAX_CONFLICTS, Share, stand_aside};
use crate::auth::Operator;
use crate::clock::draw;
use crate::directory::Entry;
use crate::error::Error;
use crate::store::{AgentWrite, Change, EventKind, Revision, StoreError};

/// What an operator asks of an agent.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// Take nothing new.
    Drain { reason: Option<String> },
    /// Take work again.
    Resume,
    /// Beat at this interval.
    Pace { interval: Duration },
}

impl Order {
    fn kind(&self) -> EventKind {
        match self {
            Self::Drain { .. } => EventKind::AgentDrainAsked,
            Self::Resume => EventKind::AgentResumeAsked,
            Self::Pace { .. } => EventKind::AgentIntervalAsked,
        }
    }
}

impl Lifecycle {
    /// Gives an agent an order, which holds from now on; one that it has already changes nothing.
    pub(crate) async fn order(
        self: &Arc<Self>,
        operator: &Operator,
        id: &AgentId,
        order: Order,
    ) -> Result<AgentDetail, Error> {
        let (this, tenant, id) = (Arc::clone(self), operator.tenant, id.clone());
        self.detached(Share::Running, async move {
            for turn in 0..MAX_CONFLICTS {
                stand_aside(turn).await;
                let is_theirs =
                    |agent: &Agent| agent.tenant == tenant && !matches!(agent.standing, Standing::Deregistered { .. });
                let entry = this.directory.get(&id).filter(|entry| is_theirs(&entry.agent));
                let entry = entry.ok_or(Error::UnknownAgent)?;
                let now = this.clock.now();
                let Some(orders) = this.ordered(&entry.agent, &order, now)? else {
                    return Ok(this.agent_detail(&entry));
                };
                match this.write_orders(&entry, orders, Some(order.kind()), now).await {
                    Err(StoreError::Conflict { .. }) => {}
                    Err(error) => return Err(error.into()),
                    Ok(()) => {
                        info!(agent.id = %id, ?order, "an agent is given an order");
                        let entry = this.directory.get(&id).ok_or(Error::UnknownAgent)?;
                        return Ok(this.agent_detail(&entry));
                    }
                }
            }
            Err(Error::Busy { reason: "other writers kept changing the agent" })
        })
        .await
    }

    /// The orders with one more; `None` if that changes nothing.
    fn ordered(&self, agent: &Agent, order: &Order, now: Timestamp) -> Result<Option<Orders>, Error> {
        // A UUID of version 7 like any other.
        let id = || CredentialId::v7(now, draw(&*self.entropy)).to_string().parse::<DirectiveId>();
        let id = id().map_err(|_| Error::Broken)?;
        Ok(match order {
            Order::Drain { reason } => agent.orders.drained(id, reason.clone(), now),
            Order::Resume => agent.orders.resumed(is_told(agent).then_some(id)),
            Order::Pace { .. } if agent.platform.is_some() => {
                return Err(invalid("path.agent_id", "this agent came through a platform, and sends no heartbeats"));
            }
            Order::Pace { .. } if !is_told(agent) => {
                return Err(invalid("path.agent_id", "this agent did not agree on directives.v1"));
            }
            Order::Pace { interval } => agent.orders.paced(id, *interval, self.config.timing.heartbeat_interval, now),
        })
    }

    /// What the agent says to have heard of need not be repeated.
    pub(super) async fn follow_acks(&self, id: &AgentId, epoch: u64, acks: &[DirectiveId]) -> Result<(), Error> {
        for turn in 0..MAX_CONFLICTS {
            stand_aside(turn).await;
            // A registration that came since then is another process: it has heard of nothing.
            let current = self.directory.get(id).filter(|current| current.agent.epoch == epoch);
            let Some(current) = current else { return Ok(()) };
            let Some(orders) = current.agent.orders.heard(acks) else { return Ok(()) };
            match self.write_orders(&current, orders, None, self.clock.now()).await {
                Err(StoreError::Conflict { .. }) => {}
                outcome => return Ok(outcome?),
            }
        }
        Err(Error::Busy { reason: "other writers kept changing the agent" })
    }

    async fn write_orders(
        &self,
        entry: &Entry,
        orders: Orders,
        kind: Option<EventKind>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let agent = Agent { orders, ..Agent::clone(&entry.agent) };
        let takes_work_again = agent.takes_work() && !entry.agent.takes_work();
        let change = Change {
            events: kind.map(|kind| agent_event(&agent, kind, now)).into_iter().collect(),
            agents: vec![AgentWrite::Update { agent: agent.clone(), revision: entry.revision }],
            ..Change::default()
        };
        self.commit(change).await?;
        let id = agent.id.clone();
        self.directory.put(agent, Revision(entry.revision.0 + 1), None);
        if takes_work_again {
            self.announcements.agent_freed(&id);
            self.announcements.push_changed();
        }
        Ok(())
    }
}

/// What tells an agent of its orders.
pub(super) fn order_directives(agent: &Agent) -> impl Iterator<Item = Directive> {
    agent.orders.directives().filter(|_| is_told(agent))
}

/// Whether the agent understands directives.
fn is_told(agent: &Agent) -> bool {
    agent.features.as_ref().is_some_and(|features| features.contains(Feature::DirectivesV1))
}
