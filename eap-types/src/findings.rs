//! What was found wrong with one body while it was read.

use crate::limits::MAX_FIELD_PROBLEMS;
use crate::{DecodeError, FieldProblem};

/// What was found wrong with one body so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    problems: Vec<FieldProblem>,
    unlisted: usize,
    unsupported_version: Option<String>,
}

impl Findings {
    /// Notes a problem.
    pub(crate) fn push(&mut self, problem: FieldProblem) {
        // A body of a million wrong entries must not become an answer that is larger still.
        if self.problems.len() < MAX_FIELD_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.unlisted += 1;
        }
    }

    /// Notes that the peer speaks another major version.
    pub(crate) fn refuse_version(&mut self, given: String) {
        self.unsupported_version = Some(given);
    }

    /// Gives the value if nothing was found wrong.
    pub(crate) fn conclude<T>(mut self, value: Option<T>) -> Result<T, DecodeError> {
        if let Some(given) = self.unsupported_version {
            return Err(DecodeError::UnsupportedVersion { given });
        }
        match value {
            Some(value) if self.problems.is_empty() => return Ok(value),
            None if self.problems.is_empty() => {
                self.problems.push(FieldProblem::new("body", "value_error", "is not valid"));
            }
            _ if self.unlisted > 0 => {
                let message = format!("has {} more problems", self.unlisted);
                self.problems.push(FieldProblem::new("body", "value_error", message));
            }
            _ => {}
        }
        Err(DecodeError::Invalid { problems: self.problems })
    }
}
