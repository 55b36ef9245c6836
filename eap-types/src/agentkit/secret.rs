//! The secret that a platform and an orchestrator share.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{IdError, Secret};

/// A secret that webhooks of a platform are signed with: any text of at least one byte, as it is.
///
/// `Debug` hides it, and there is no `PartialEq`: a comparison that stops at the first difference tells how far a guess
/// was right.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentKitSecret(Secret);

impl AgentKitSecret {
    /// Takes the text of a secret.
    ///
    /// # Errors
    ///
    /// If it is empty.
    pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
        let text = text.into();
        if text.is_empty() {
            Err(IdError::new("AgentKit secret", "must not be empty"))
        } else {
            Ok(Self(Secret::new(text)))
        }
    }

    /// Shows the text, for the one who is to sign or verify with it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl FromStr for AgentKitSecret {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

impl TryFrom<String> for AgentKitSecret {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        Self::new(text)
    }
}

impl From<AgentKitSecret> for String {
    fn from(secret: AgentKitSecret) -> Self {
        secret.expose().to_owned()
    }
}
