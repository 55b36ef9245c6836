//! What a typed handler is given: the task, with its input read as the handler's type.

use std::any::{Any, TypeId};
use std::fmt;
use std::time::Duration;

use eap_types::{Assignment, JsonObject, SessionId, TaskId, TaskType};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::HandlerError;

/// A task as a typed handler sees it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Task<T> {
    /// The work itself, read as the handler's type.
    pub input: T,
    /// Names the task; with `attempt`, the key that makes effects outside idempotent.
    pub id: TaskId,
    /// What the task belongs to, if the orchestrator says so.
    pub session_id: Option<SessionId>,
    /// What kind of work it is.
    pub task_type: TaskType,
    /// What else there is to know, as the submitter gave it.
    pub context: JsonObject,
    /// Words that the submitter passed through; nothing matches them.
    pub requirements: Vec<String>,
    /// Which attempt at the task this is, from 1.
    pub attempt: u32,
    /// How many attempts the task has at most, if the orchestrator says so.
    pub max_attempts: Option<u32>,
    /// How urgent the task is, 0 (first) to 4, if the orchestrator says so.
    pub priority: Option<u8>,
    /// How long this attempt may take; after it the handler is cancelled.
    pub timeout: Duration,
}

/// Input and context are a user's data and stay out of logs.
impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id)
            .field("task_type", &self.task_type)
            .field("attempt", &self.attempt)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned + 'static> Task<T> {
    pub(crate) fn read(assignment: Assignment) -> Result<Self, HandlerError> {
        Ok(Self {
            input: read_input(assignment.input_data)?,
            id: assignment.task_id,
            session_id: assignment.session_id,
            task_type: assignment.task_type,
            context: assignment.context,
            requirements: assignment.requirements,
            attempt: assignment.attempt.unwrap_or(1),
            max_attempts: assignment.max_attempts,
            priority: assignment.priority,
            timeout: Duration::from_secs(assignment.timeout_seconds),
        })
    }
}

/// Text for `String`, JSON if it is some for `Value`, else JSON of the type's own shape.
fn read_input<T: DeserializeOwned + 'static>(text: String) -> Result<T, HandlerError> {
    let wanted = TypeId::of::<T>();
    if wanted == TypeId::of::<String>() {
        return Ok(same_type(text));
    }
    if wanted == TypeId::of::<Value>() {
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        return Ok(same_type(value));
    }
    serde_json::from_str(&text)
        .map_err(|error| HandlerError::invalid_input(format!("the input is not what the handler takes: {error}")))
}

fn same_type<S: 'static, T: 'static>(value: S) -> T {
    let value: Box<dyn Any> = Box::new(value);
    *value.downcast().expect("the caller compared the two types")
}

#[cfg(test)]
mod tests {
    use eap_types::FailureCode;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Page {
        number: u32,
    }

    fn read<T: DeserializeOwned + 'static>(text: &str) -> Result<T, HandlerError> {
        read_input(text.to_owned())
    }

    #[test]
    fn text_stays_text_even_when_it_is_json() {
        assert_eq!(read::<String>("{\"number\":1}").unwrap(), "{\"number\":1}");
        assert_eq!(read::<String>("\"quoted\"").unwrap(), "\"quoted\"");
    }

    #[test]
    fn a_value_is_the_json_or_else_the_text() {
        assert_eq!(read::<Value>("[1, 2]").unwrap(), json!([1, 2]));
        assert_eq!(read::<Value>("Guten Morgen").unwrap(), json!("Guten Morgen"));
    }

    #[test]
    fn another_type_is_read_from_json_or_the_input_is_invalid() {
        assert_eq!(read::<Page>("{\"number\": 3}").unwrap(), Page { number: 3 });
        let error = read::<Page>("{\"number\": \"three\"}").unwrap_err();
        assert_eq!(error.code(), FailureCode::InvalidInput);
        assert!(!error.is_retryable());
    }
}
