//! How a handler says that it failed.

use std::error::Error as StdError;
use std::fmt;

use eap_types::FailureCode;
use serde_json::Value;

/// Why a handler did not do its task, and whether trying again may help.
///
/// Any error becomes one by `?`: `HANDLER_ERROR`, to be tried again. For that it is not an error
/// itself.
///
/// ```
/// use eap_agent_sdk::HandlerError;
///
/// fn page(text: &str) -> Result<u32, HandlerError> {
///     let page = text.trim().parse()?;
///     if page == 0 { Err(HandlerError::invalid_input("pages count from 1")) } else { Ok(page) }
/// }
/// assert!(page("0").is_err());
/// ```
#[derive(Clone, PartialEq)]
pub struct HandlerError {
    pub(crate) code: FailureCode,
    pub(crate) message: String,
    /// `None` leaves it to the code.
    pub(crate) retryable: Option<bool>,
    pub(crate) output: Option<Value>,
}

impl HandlerError {
    /// The work failed, and may succeed the next time.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(FailureCode::HandlerError, message)
    }

    /// The work failed, and would fail again.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { retryable: Some(false), ..Self::new(FailureCode::HandlerError, message) }
    }

    /// This agent does not take the task; another may.
    pub fn reject(message: impl Into<String>) -> Self {
        Self::new(FailureCode::Rejected, message)
    }

    /// The input is wrong, for every agent.
    pub fn invalid_input(message: impl Into<String>) -> Self {
        Self { retryable: Some(false), ..Self::new(FailureCode::InvalidInput, message) }
    }

    /// Adds data that tells about the failure; it becomes the result's `output_data`.
    #[must_use]
    pub fn with_output(mut self, output: Value) -> Self {
        self.output = Some(output);
        self
    }

    /// Sets why the work failed, for programs; whether it may be tried again stays as it was.
    #[must_use]
    pub fn with_code(mut self, code: FailureCode) -> Self {
        self.code = code;
        self
    }

    /// Why the work failed, for programs.
    pub fn code(&self) -> FailureCode {
        self.code
    }

    /// Why the work failed, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether another attempt may succeed.
    pub fn is_retryable(&self) -> bool {
        self.retryable.unwrap_or(self.code != FailureCode::InvalidInput)
    }

    fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: None, output: None }
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self::retry(message)
    }
}

/// Output may be a user's data and stays out of logs.
impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError")
            .field("code", &self.code)
            .field("message", &self.message)
            .field("retryable", &self.is_retryable())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the page")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn any_error_becomes_a_retryable_failure_with_its_whole_chain() {
        let cause = "x".parse::<u32>().expect_err("x is no number");
        let error = HandlerError::from(Outer(cause));
        assert_eq!(error.message(), "cannot read the page: invalid digit found in string");
        assert_eq!(error.code(), FailureCode::HandlerError);
        assert!(error.is_retryable());
    }

    #[test]
    fn fatal_and_invalid_input_are_not_tried_again_and_a_rejection_is() {
        assert!(!HandlerError::fatal("no").is_retryable());
        assert!(!HandlerError::invalid_input("no").is_retryable());
        assert!(HandlerError::reject("no").is_retryable());
        assert!(!HandlerError::fatal("no").with_code(FailureCode::ResourceExhausted).is_retryable());
    }
}
