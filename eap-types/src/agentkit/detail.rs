//! The bodies of refusals on the AgentKit face, which are not those of the rest of the protocol.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DecodeError, FieldProblem};

/// The body of every 4xx and 5xx on the AgentKit face.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DetailBody {
    /// What is wrong: one sentence, or field by field with 422.
    pub detail: Detail,
}

/// What is wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Detail {
    /// One sentence.
    Text(String),
    /// Every problem of the body.
    Problems(Vec<DetailProblem>),
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DetailProblem {
    /// The kind of problem as a stable word, as in `missing`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where the field stands, as in `["body", "agent_details", "agentId"]`.
    pub loc: Vec<LocPart>,
    /// What is wrong, for people.
    pub msg: String,
}

/// One step on the way to a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[non_exhaustive]
pub enum LocPart {
    /// Into a list.
    Index(u32),
    /// Into an object.
    Name(String),
}

impl DetailBody {
    /// Describes a refusal in one sentence.
    pub fn text(detail: impl Into<String>) -> Self {
        Self { detail: Detail::Text(detail.into()) }
    }

    /// Names problems field by field.
    pub fn problems(problems: impl IntoIterator<Item = DetailProblem>) -> Self {
        Self { detail: Detail::Problems(problems.into_iter().collect()) }
    }

    /// Describes a body that could not be read, with every problem found in it; one that is no JSON has one problem,
    /// `json_invalid`.
    pub fn of_decode(error: &DecodeError) -> Self {
        match error {
            DecodeError::Invalid { problems } => Self::problems(problems.iter().map(DetailProblem::from)),
            other => Self::problems([DetailProblem {
                kind: "json_invalid".to_owned(),
                loc: vec![LocPart::Name("body".to_owned())],
                msg: other.to_string(),
            }]),
        }
    }
}

impl From<&FieldProblem> for DetailProblem {
    fn from(problem: &FieldProblem) -> Self {
        let parts = problem.field.split('.').flat_map(|part| {
            let mut parts = part.split('[');
            let name = parts.next().filter(|name| !name.is_empty()).map(|name| LocPart::Name(name.to_owned()));
            let indexes = parts.map(|index| match index.trim_end_matches(']').parse() {
                Ok(index) => LocPart::Index(index),
                Err(_) => LocPart::Name(index.to_owned()),
            });
            name.into_iter().chain(indexes).collect::<Vec<_>>()
        });
        Self { kind: problem.kind.clone(), loc: parts.collect(), msg: problem.message.clone() }
    }
}
