//! What a platform answers.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::RawJson;

/// The answer of a platform to any call.
///
/// One shape of AgentKit leaves out what it has nothing to say of, the other one writes `null`: both are kept as they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct PlatformReply {
    /// `"success"` or `"error"`.
    pub status: String,
    /// One sentence for people.
    pub message: String,
    /// What was asked for.
    #[serde(default, deserialize_with = "as_it_came", skip_serializing_if = "Option::is_none")]
    pub data: Option<RawJson>,
    /// A word for what went wrong; absent or `null` if nothing did.
    #[serde(default, deserialize_with = "as_it_came", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::or_null::<String>")]
    pub error_code: Option<Option<String>>,
}

impl PlatformReply {
    /// The status of a call that was carried out.
    pub const SUCCESS: &'static str = "success";
    /// The status of a call that was not.
    pub const ERROR: &'static str = "error";
    /// What the platform says of work that it will forward by itself.
    pub const SCHEDULED: &'static str = "scheduled";

    /// Says that a call was carried out.
    pub fn success(message: impl Into<String>) -> Self {
        Self { status: Self::SUCCESS.to_owned(), message: message.into(), data: None, error_code: None }
    }

    /// Says that a call was not carried out.
    pub fn error(message: impl Into<String>) -> Self {
        Self { status: Self::ERROR.to_owned(), ..Self::success(message) }
    }

    /// Sets what was asked for.
    #[must_use]
    pub fn with_data(mut self, data: RawJson) -> Self {
        self.data = Some(data);
        self
    }

    /// Sets the word for what went wrong, or says by `null` that nothing did.
    #[must_use]
    pub fn with_error_code(mut self, error_code: Option<&str>) -> Self {
        self.error_code = Some(error_code.map(str::to_owned));
        self
    }
}

/// Reads a member that may be `null`, and is then not taken for absent.
fn as_it_came<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
