//! What a handler gives back, and the one form behind every handler.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;

use async_trait::async_trait;
use eap_types::{Artifact, Assignment};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::context::TaskContext;
use crate::failure::HandlerError;
use crate::input::Task;

/// Does tasks of one type: the form that sees the whole assignment and can give artifacts.
///
/// [`crate::AgentBuilder::handle`] makes one from an async function.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Does one task.
    ///
    /// It runs on the runtime that the agent was started on, beside other tasks. When it is dropped
    /// halfway, the agent has given up on it: its time was up or the agent stops.
    ///
    /// # Errors
    ///
    /// The task is not done; the error says whether another attempt may succeed.
    async fn run(&self, task: Assignment, ctx: TaskContext) -> Result<Output, HandlerError>;
}

/// What a task produced.
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Output {
    /// The product as data; what is no object is sent as `{"output": value}`, and `null` as `{}`.
    pub data: Value,
    /// Files that the work produced, at most 100.
    pub artifacts: Vec<Artifact>,
    /// How many tokens the work used; not negative.
    pub tokens_used: Option<f64>,
    /// What the work cost in US dollars; not negative.
    pub cost_usd: Option<f64>,
}

impl Output {
    /// Takes anything that serde can write as the product.
    ///
    /// # Errors
    ///
    /// The value has no JSON form, as a map whose keys are not text; another attempt would end the
    /// same.
    pub fn of<T: Serialize + ?Sized>(product: &T) -> Result<Self, HandlerError> {
        let data = serde_json::to_value(product)
            .map_err(|error| HandlerError::fatal(format!("the output has no JSON form: {error}")))?;
        Ok(Self { data, ..Self::default() })
    }

    /// Adds a file.
    #[must_use]
    pub fn artifact(mut self, artifact: Artifact) -> Self {
        self.artifacts.push(artifact);
        self
    }

    /// Sets how many tokens the work used.
    #[must_use]
    pub fn with_tokens_used(mut self, tokens: f64) -> Self {
        self.tokens_used = Some(tokens);
        self
    }

    /// Sets what the work cost in US dollars.
    #[must_use]
    pub fn with_cost_usd(mut self, dollars: f64) -> Self {
        self.cost_usd = Some(dollars);
        self
    }
}

/// The product is a user's data and stays out of logs.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("artifacts", &self.artifacts.len()).finish_non_exhaustive()
    }
}

/// An async function as a [`Handler`].
pub(crate) struct Typed<T, F> {
    run: F,
    input: PhantomData<fn(T)>,
}

impl<T, F> Typed<T, F> {
    pub(crate) fn new(run: F) -> Self {
        Self { run, input: PhantomData }
    }
}

#[async_trait]
impl<T, O, F, R> Handler for Typed<T, F>
where
    T: DeserializeOwned + Send + 'static,
    O: Serialize + Send,
    F: Fn(Task<T>, TaskContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, HandlerError>> + Send,
{
    async fn run(&self, task: Assignment, ctx: TaskContext) -> Result<Output, HandlerError> {
        let task = Task::read(task)?;
        let product = (self.run)(task, ctx).await?;
        Output::of(&product)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn output_without_a_json_form_fails_for_good() {
        let odd = BTreeMap::from([((1, 2), 3)]);
        assert!(!Output::of(&odd).unwrap_err().is_retryable());
    }
}
