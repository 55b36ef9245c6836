//! Whether a submitted input is what agents say they take (docs/protocol.md, section 3).

use std::collections::BTreeMap;
use std::sync::Arc;

use eap_core::{InputSchema, InputVerdict, RoutingKey, TaskInput};
use eap_types::{AgentId, FieldProblem, PublishedSchema, RawJson, TaskType, TaskTypeView};

use super::Lifecycle;
use crate::auth::Operator;
use crate::error::Error;

impl Lifecycle {
    /// Refuses an input that no agent would take: there are agents that would get the task, each of them published a
    /// schema of its type, and none of the schemas accepts it. `at` says where in the body the task stands.
    pub(super) fn check_input(&self, key: &RoutingKey, input: &RawJson, at: &str) -> Result<(), Error> {
        if !self.directory.has_schemas() {
            return Ok(());
        }
        let takers = self.directory.takers(key, self.clock.now(), &self.config.timing.liveness());
        let mut schemas: Vec<&Arc<InputSchema>> = Vec::new();
        for taker in &takers {
            // It takes the type without a schema: anything may be meant for it.
            let Some(schema) = taker.schemas.get(&key.task_type) else { return Ok(()) };
            if !schemas.iter().any(|known| Arc::ptr_eq(known, schema)) {
                schemas.push(schema);
            }
        }
        if schemas.is_empty() {
            return Ok(());
        }
        let mut input = TaskInput::new(input);
        if schemas.iter().any(|schema| schema.verdict(&mut input) != InputVerdict::Refused) {
            return Ok(());
        }
        let field = format!("{at}.input");
        // Of several, the one that the input comes nearest to; the words decide between equals, so that whoever asks again
        // is told the same.
        let by_distance = |problems: &Vec<FieldProblem>| {
            (problems.len(), problems.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let nearest = schemas.iter().map(|schema| schema.problems(&mut input, &field)).min_by_key(by_distance);
        let mut problems = nearest.unwrap_or_default();
        if schemas.len() > 1 {
            let message =
                format!("fits none of the {} schemas that agents published; the nearest is told of", schemas.len());
            problems.push(FieldProblem::new(field, "value_error", message));
        }
        Err(Error::Invalid { problems })
    }

    /// What the agents that do tasks of one type take.
    pub(crate) fn task_type_view(&self, operator: &Operator, task_type: &TaskType) -> TaskTypeView {
        let key = RoutingKey::of_type(operator.tenant, task_type.clone());
        let takers = self.directory.takers(&key, self.clock.now(), &self.config.timing.liveness());
        let mut view = TaskTypeView::new(task_type.clone(), takers.len() as u64);
        let mut publishers: BTreeMap<String, (RawJson, Vec<AgentId>)> = BTreeMap::new();
        for taker in takers.iter().filter(|taker| taker.schemas.contains_key(task_type)) {
            let Some(schema) = taker.agent.task_schemas.get(task_type) else { continue };
            let (_, agents) = publishers.entry(schema.as_str().to_owned()).or_insert((schema.clone(), Vec::new()));
            agents.push(taker.agent.id.clone());
        }
        let published: usize = publishers.values().map(|(_, agents)| agents.len()).sum();
        view.is_checked = published > 0 && published == takers.len();
        view.schemas = publishers
            .into_values()
            .map(|(schema, mut agents)| {
                agents.sort();
                PublishedSchema::new(schema, agents)
            })
            .collect();
        view
    }
}
