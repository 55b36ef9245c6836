//! The schemas of task types' inputs, each compiled once, however many agents published it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, Weak};

use eap_core::InputSchema;
use eap_types::{FieldProblem, RawJson, TaskType, limits};
use tracing::warn;

use crate::announce::lock;
use crate::auth::sha256;

/// Among so many that nobody holds any more are looked for those to forget.
const SWEEP_FROM: usize = 64;

/// The compiled schemas of one agent.
pub(crate) type Schemas = BTreeMap<TaskType, Arc<InputSchema>>;

/// All compiled schemas that somebody holds, by the digest of their text.
#[derive(Debug, Default)]
pub(crate) struct SchemaShelf {
    by_text: Mutex<HashMap<[u8; 32], Weak<InputSchema>>>,
}

impl SchemaShelf {
    /// Compiles what a registration brings, or says everything that is wrong with it.
    pub(crate) fn read(&self, published: &BTreeMap<TaskType, RawJson>) -> Result<Schemas, Vec<FieldProblem>> {
        let mut schemas = Schemas::new();
        let mut problems = Vec::new();
        let mut patterns = 0;
        for (task_type, schema) in published {
            match self.compiled(schema, &format!("body.task_schemas.{task_type}"), &mut patterns) {
                Ok(schema) => drop(schemas.insert(task_type.clone(), schema)),
                Err(more) => problems.extend(more),
            }
            if patterns > limits::MAX_SCHEMA_PATTERNS {
                let message = format!("must have at most {} patterns together", limits::MAX_SCHEMA_PATTERNS);
                problems.push(FieldProblem::new("body.task_schemas", "value_error", message));
                break;
            }
        }
        problems.truncate(limits::MAX_FIELD_PROBLEMS);
        if problems.is_empty() { Ok(schemas) } else { Err(problems) }
    }

    /// The same of an agent that was let in before. A schema that another version took and this one does not is left
    /// out: its agent counts as one that takes the type without a schema.
    pub(crate) fn of_record(&self, agent: &eap_core::Agent) -> Schemas {
        let compiled = |(task_type, schema): (&TaskType, &RawJson)| match self.compiled(schema, "schema", &mut 0) {
            Ok(schema) => Some((task_type.clone(), schema)),
            Err(problems) => {
                let problem = problems.first().map(ToString::to_string);
                warn!(agent.id = %agent.id, %task_type, problem, "a published schema is not understood; inputs are not checked");
                None
            }
        };
        agent.task_schemas.iter().filter_map(compiled).collect()
    }

    /// Adds to `patterns` those of the schema, whether or not it is refused: it is they that take long.
    fn compiled(
        &self,
        schema: &RawJson,
        at: &str,
        patterns: &mut usize,
    ) -> Result<Arc<InputSchema>, Vec<FieldProblem>> {
        let key = sha256(schema.as_str());
        if let Some(known) = lock(&self.by_text).get(&key).and_then(Weak::upgrade) {
            *patterns += known.patterns();
            return Ok(known);
        }
        let compiled = Arc::new(InputSchema::compile_counted(schema, at, patterns)?);
        let mut shelf = lock(&self.by_text);
        // Another registration may have been faster.
        if let Some(known) = shelf.get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        if shelf.len() >= SWEEP_FROM {
            shelf.retain(|_, schema| schema.strong_count() > 0);
        }
        shelf.insert(key, Arc::downgrade(&compiled));
        Ok(compiled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(schema: &str) -> BTreeMap<TaskType, RawJson> {
        BTreeMap::from([("work".parse().unwrap(), RawJson::parse(schema).unwrap())])
    }

    #[test]
    fn a_schema_is_compiled_once_for_all_who_publish_it_and_forgotten_with_the_last() {
        let shelf = SchemaShelf::default();
        let (one, other) = (shelf.read(&published("{}")).unwrap(), shelf.read(&published("{}")).unwrap());
        assert!(Arc::ptr_eq(&one["work"], &other["work"]));
        drop((one, other));
        for number in 0..=SWEEP_FROM {
            shelf.read(&published(&format!("{{\"minimum\": {number}}}"))).unwrap();
        }
        assert!(lock(&shelf.by_text).len() <= 2, "those that nobody holds are forgotten");
    }

    #[test]
    fn patterns_of_all_schemas_of_an_agent_are_counted_together() {
        let shelf = SchemaShelf::default();
        let of = |from: usize, count: usize, least: &str| {
            let patterns = (from..from + count).map(|number| format!("{{\"pattern\": \"^{number}\"}}"));
            let patterns = patterns.collect::<Vec<_>>().join(",");
            RawJson::parse(&format!("{{\"minLength\": {least}, \"allOf\": [{patterns}]}}")).unwrap()
        };
        let two = |more: usize, least: &str| {
            let half = limits::MAX_SCHEMA_PATTERNS / 2;
            let (one, other) = (of(0, half, least), of(half, half + more, least));
            BTreeMap::from([("a".parse().unwrap(), one), ("b".parse().unwrap(), other)])
        };
        let refused = |published| {
            let problems = shelf.read(&published).unwrap_err();
            problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>()
        };
        let held = shelf.read(&two(0, "0")).unwrap();
        assert_eq!(
            shelf.read(&two(0, "0")).unwrap().len(),
            held.len(),
            "those that are known count once a registration"
        );
        assert_eq!(refused(two(1, "0")), ["body.task_schemas"]);
        let wrong = ["body.task_schemas.a/minLength", "body.task_schemas.b/minLength"];
        assert_eq!(refused(two(0, "-1")), wrong);
        assert_eq!(refused(two(1, "-1")), [wrong[0], wrong[1], "body.task_schemas"], "they were compiled as well");
    }
}
