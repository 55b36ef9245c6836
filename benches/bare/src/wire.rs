//! The fields that the bare program reads and writes; opaque JSON stays text.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A submit, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub(crate) struct Submit<'a> {
    #[serde(borrow)]
    pub(crate) task_type: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) input: &'a RawValue,
    #[serde(borrow)]
    pub(crate) context: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SubmitBatch<'a> {
    #[serde(borrow)]
    pub(crate) tasks: Vec<Submit<'a>>,
}

/// What is kept of a task, and what its agent gets.
#[derive(Debug, Serialize)]
pub(crate) struct Kept<'a> {
    pub(crate) task_type: &'a str,
    pub(crate) context: Option<&'a RawValue>,
    pub(crate) input_data: &'a RawValue,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Ask {
    #[serde(default = "one")]
    pub(crate) max_tasks: usize,
    #[serde(default)]
    pub(crate) wait_seconds: u64,
}

fn one() -> usize {
    1
}

/// A result, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub(crate) struct Report<'a> {
    #[serde(borrow)]
    pub(crate) task_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) status: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) output_data: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Reports<'a> {
    #[serde(borrow)]
    pub(crate) results: Vec<Report<'a>>,
}

/// What is kept of a result.
#[derive(Debug, Serialize)]
pub(crate) struct KeptResult<'a> {
    pub(crate) status: &'a str,
    pub(crate) output_data: Option<&'a RawValue>,
}

/// The answer to a submit or a result.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) task_id: String,
    pub(crate) status: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Submitted {
    pub(crate) tasks: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Recorded {
    pub(crate) results: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Assigned<'a> {
    pub(crate) task_id: String,
    pub(crate) lease_id: String,
    pub(crate) attempt: u32,
    pub(crate) timeout_seconds: u32,
    pub(crate) task: &'a RawValue,
}

#[derive(Debug, Serialize)]
pub(crate) struct Leased<'a> {
    pub(crate) tasks: Vec<Assigned<'a>>,
}

/// The body of the echo: the fields of a heartbeat.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Echo<'a> {
    #[serde(borrow)]
    pub(crate) status: Cow<'a, str>,
    pub(crate) current_load: f64,
    pub(crate) tasks_in_progress: u32,
    pub(crate) seq: u64,
    #[serde(borrow)]
    pub(crate) metrics: Option<&'a RawValue>,
}
