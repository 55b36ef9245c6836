//! How urgent a task is (docs/protocol.md section 3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How urgent a task is: 0 goes first, 4 last; strict, default 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u8", into = "u8")]
#[schemars(extend("maximum" = 4))]
pub struct Priority(u8);

/// A priority above 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("priority {given} is not between 0 and 4")]
#[non_exhaustive]
pub struct PriorityError {
    /// What was given.
    pub given: u8,
}

impl Priority {
    /// Before everything else.
    pub const FIRST: Self = Self(0);
    /// After everything else.
    pub const LAST: Self = Self(4);

    /// Checks a number.
    ///
    /// # Errors
    ///
    /// The number is above 4.
    pub fn new(given: u8) -> Result<Self, PriorityError> {
        if given <= Self::LAST.0 { Ok(Self(given)) } else { Err(PriorityError { given }) }
    }

    /// The number, 0 to 4.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(2)
    }
}

impl TryFrom<u8> for Priority {
    type Error = PriorityError;

    fn try_from(given: u8) -> Result<Self, Self::Error> {
        Self::new(given)
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}
