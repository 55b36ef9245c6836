//! What a platform tells of an agent, as a record of ours.

use std::collections::{BTreeMap, BTreeSet};

use eap_core::{Agent, OnPlatform, Standing};
use eap_types::agentkit::PlatformAgent;
use eap_types::{
    AgentId, AgentName, AgentType, Capabilities, Capability, Features, FieldProblem, JsonObject, Labels, RawJson,
    TenantId, Timestamp,
};

use crate::auth::{hex, sha256};
use crate::error::Error;

/// What an agent offers that named no capability: a task can still be given to it by its id.
const NAMELESS: &str = "agentkit";

/// What is known of an agent of which only the end was told.
pub(super) fn tombstone(id: &AgentId, sent_at: Timestamp, now: Timestamp) -> Agent {
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

/// The words of a platform as capabilities; one of which nothing is left is a problem.
pub(super) fn capabilities(words: &[String]) -> Result<Capabilities, Error> {
    let mut problems = Vec::new();
    let mut offered = BTreeSet::new();
    for (place, word) in words.iter().enumerate() {
        match Capability::of_words(word) {
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

fn nameless() -> Capabilities {
    Capabilities::new([NAMELESS]).expect("the word is a capability")
}

/// A name of ours: what the platform calls the agent if that is one, else its id, else something made of that.
pub(super) fn name(told: &PlatformAgent) -> AgentName {
    name_of(&told.agent_name, &told.agent_id)
}

fn name_of(name: &str, id: &AgentId) -> AgentName {
    let made_up = || format!("agentkit-{}", &hex(&sha256(id.as_str()))[..12]).parse();
    name.parse().or_else(|_| id.as_str().parse()).or_else(|_| made_up()).expect("hex digits behind a word are a name")
}

/// One task at a time, unless the agent says that it can do more.
pub(super) fn max_concurrent_tasks(metadata: &JsonObject) -> u32 {
    let members: BTreeMap<String, RawJson> = metadata.decode().unwrap_or_default();
    let given = members.get("max_concurrent_tasks").and_then(|number| number.decode::<u32>().ok());
    given.map_or(1, |given| given.clamp(1, eap_types::limits::MAX_CONCURRENT_TASKS))
}
