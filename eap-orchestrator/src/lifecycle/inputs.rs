//! Whether a submitted input is what agents say they take (docs/protocol.md, section 3).

use std::collections::BTreeMap;
use std::sync::Arc;

use eap_core::{InputSchema, InputVerdict, RoutingKey, TaskInput};
use eap_types::{AgentId, FieldProblem, PublishedSchema, RawJson, TaskType, TaskTypeView, limits};

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
        Err(Error::Invalid { problems: told(&schemas, &mut input, &format!("{at}.input")) })
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

/// What is said of an input that stands at `field` and that none of the schemas accepts.
fn told(schemas: &[&Arc<InputSchema>], input: &mut TaskInput, field: &str) -> Vec<FieldProblem> {
    // Of several, the one that the input comes nearest to, which is not known of one whose check was cut short; the words
    // decide between equals, so that whoever asks again is told the same.
    let by_distance = |(was_cut_short, problems): &(bool, Vec<FieldProblem>)| {
        (*was_cut_short, problems.len(), problems.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let tried = schemas.iter().map(|schema| {
        let problems = schema.problems(input, field);
        (input.was_cut_short(), problems)
    });
    let (_, mut problems) = tried.min_by_key(by_distance).unwrap_or_default();
    if schemas.len() > 1 {
        problems.truncate(limits::MAX_FIELD_PROBLEMS - 1);
        let message =
            format!("fits none of the {} schemas that agents published; the nearest is told of", schemas.len());
        problems.push(FieldProblem::new(field, "value_error", message));
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(schemas: &[Value], input: &Value) -> Vec<String> {
        let json = |value| RawJson::from_serialize(value).unwrap();
        let schemas: Vec<_> =
            schemas.iter().map(|schema| Arc::new(InputSchema::compile(&json(schema), "schema").unwrap())).collect();
        let mut input = TaskInput::new(&json(input));
        let problems = told(&schemas.iter().collect::<Vec<_>>(), &mut input, "body.input");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn no_more_problems_are_told_of_than_a_body_may_have() {
        let of = |word: &str| json!({"items": {"type": word}});
        let told = said(&[of("string"), of("object")], &json!(vec![1; 200]));
        assert_eq!(told.len(), limits::MAX_FIELD_PROBLEMS);
        assert!(told.last().unwrap().contains("fits none of the 2 schemas"));
    }

    #[test]
    fn a_schema_whose_check_was_cut_short_is_not_the_nearest() {
        let slow = json!({"allOf": vec![json!({"maxLength": 20_000}); 1_000]});
        let near = json!({"allOf": [{"type": "object"}, {"type": "array"}]});
        for schemas in [[slow.clone(), near.clone()], [near, slow]] {
            let told = said(&schemas, &json!("x".repeat(20_000)));
            let expected = ["expected an object", "expected a list"];
            assert_eq!(told[..2], expected.map(|words| format!("body.input: {words}, got a string")));
        }
    }
}
