//! The agents of the platform, and the order of what is told of each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use eap_types::agentkit::PlatformAgent;
use eap_types::{AgentId, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::chance::now;
use crate::error::RegisterError;

/// Which of AgentKit's two shapes an agent was registered in, which decides how work reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The platform plays the agent.
    Mock,
    /// The agent is elsewhere: the platform forwards to it.
    Real,
}

#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub(crate) agent: PlatformAgent,
    pub(crate) shape: Shape,
}

/// The place of an event among those of its agent.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) at: Timestamp,
    /// Cancelled once what was told of the agent before is over.
    pub(crate) before: Option<CancellationToken>,
    /// To be cancelled once the next one may be told.
    pub(crate) over: CancellationToken,
}

#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    agents: BTreeMap<AgentId, Registered>,
    /// The last event of each agent of which something is under way.
    turns: HashMap<AgentId, CancellationToken>,
}

const NO_PANIC: &str = "nothing panics while it holds the registry";

impl Inner {
    fn turn(&mut self, id: &AgentId) -> Turn {
        self.turns.retain(|_, over| !over.is_cancelled());
        let over = CancellationToken::new();
        let before = self.turns.insert(id.clone(), over.clone());
        Turn { at: now(), before, over }
    }
}

impl Registry {
    /// Adds an agent, or describes it anew. In the real shape no two may share a name.
    pub(crate) fn add(&self, agent: &PlatformAgent, shape: Shape) -> Result<Turn, RegisterError> {
        let mut inner = self.0.lock().expect(NO_PANIC);
        let is_taken = || inner.agents.values().any(|known| known.agent.agent_name == agent.agent_name);
        if shape == Shape::Real && is_taken() {
            return Err(RegisterError::DuplicateName { name: agent.agent_name.clone() });
        }
        inner.agents.insert(agent.agent_id.clone(), Registered { agent: agent.clone(), shape });
        Ok(inner.turn(&agent.agent_id))
    }

    /// Takes an agent off; `None` if it was not there.
    pub(crate) fn remove(&self, id: &AgentId) -> Option<Turn> {
        let mut inner = self.0.lock().expect(NO_PANIC);
        inner.agents.remove(id)?;
        Some(inner.turn(id))
    }

    pub(crate) fn get(&self, id: &str) -> Option<Registered> {
        self.0.lock().expect(NO_PANIC).agents.get(id).cloned()
    }

    pub(crate) fn named(&self, name: &str) -> Option<Registered> {
        self.0.lock().expect(NO_PANIC).agents.values().find(|known| known.agent.agent_name == name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<PlatformAgent> {
        self.0.lock().expect(NO_PANIC).agents.values().map(|known| known.agent.clone()).collect()
    }
}
