//! What is reported in place of a result that the orchestrator cannot take.

use eap_types::{FailureCode, ProblemBody, TaskResult};

/// How much is said at most of why a result was refused, in characters.
const MAX_REASON_CHARS: usize = 1000;

/// What is reported instead of a result that no request can carry (RELIABILITY.md A31).
pub(super) fn too_large(result: &TaskResult, size: usize) -> TaskResult {
    let message = format!("the result is too large for the orchestrator: {size} bytes");
    in_place_of(result, FailureCode::ResourceExhausted, message)
}

/// What is reported instead of a result whose content the orchestrator does not take.
pub(super) fn not_taken(result: &TaskResult, problem: Option<&ProblemBody>) -> TaskResult {
    let mut message = "the orchestrator does not take the result".to_owned();
    if let Some(problem) = problem {
        message = format!("{message}: {}", problem.detail);
        if let Some(field) = problem.details.first() {
            message = format!("{message} ({} {})", field.field, field.message);
        }
    }
    in_place_of(result, FailureCode::Internal, message.chars().take(MAX_REASON_CHARS).collect::<String>())
}

fn in_place_of(result: &TaskResult, code: FailureCode, message: String) -> TaskResult {
    let mut failed = TaskResult::failed(result.task_id, code, message).with_retryable(false);
    failed.lease_id = result.lease_id;
    failed.attempt = result.attempt;
    failed.execution_time_ms = result.execution_time_ms;
    failed
}
