//! What an agent calls itself: its name, the policy for names, and its type.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::checked::{IdError, checked_text, has_chars, read_text};

checked_text! {
    /// The name of an agent that people see, as in `AGENT-EXT-PYTHON-01`.
    ///
    /// It has 3 to 100 characters: ASCII letters, digits, `_`, `.` and `-`, the first of them a
    /// letter or digit (PROTOCOL.md section 1).
    AgentName, "agent name", read_agent_name,
    { "minLength": 3, "maxLength": 100, "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$" }
}

const OPENCODE_PREFIX: &str = "AGENT-";

impl AgentName {
    /// Says whether OpenCode would take the name too: upper-case letters, digits, `_` and `-`,
    /// starting with `AGENT-`.
    #[must_use]
    pub fn is_opencode(&self) -> bool {
        NamePolicy::OpenCode.check(self).is_ok()
    }
}

fn read_agent_name(text: &str) -> Result<Cow<'_, str>, &'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !(3..=100).contains(&text.len()) {
        Err("must have 3 to 100 characters")
    } else if !text.bytes().all(is_allowed) {
        Err("must consist of ASCII letters, digits, underscores, dots and hyphens")
    } else if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Err("must start with a letter or a digit")
    } else {
        Ok(text.into())
    }
}

/// Which names an orchestrator takes; the default is [`Open`](Self::Open).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NamePolicy {
    /// Takes every [`AgentName`].
    #[default]
    Open,
    /// Takes what OpenCode takes: `^[A-Z0-9_-]+$` with the prefix `AGENT-`.
    OpenCode,
}

impl NamePolicy {
    /// Says whether an agent may join under this name.
    ///
    /// # Errors
    /// When the policy refuses the name, in the order of OpenCode: first the grammar, then the
    /// prefix.
    pub fn check(self, name: &AgentName) -> Result<(), NameRefusal> {
        let is_allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        match self {
            Self::Open => Ok(()),
            Self::OpenCode if !name.as_str().bytes().all(is_allowed) => Err(NameRefusal::Grammar),
            Self::OpenCode if !name.as_str().starts_with(OPENCODE_PREFIX) => Err(NameRefusal::Prefix),
            Self::OpenCode => Ok(()),
        }
    }
}

/// Why a [`NamePolicy`] refuses a name; the text is the sentence for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameRefusal {
    /// A character is not allowed, which is answered with 422.
    #[error("Agent name must consist of A-Z, 0-9, '_' and '-'")]
    Grammar,
    /// The prefix is missing, which is answered with 400 and these words of OpenCode.
    #[error("Agent name must start with 'AGENT-'")]
    Prefix,
}

/// The role that an agent plays in a team; for people to read, routing does not look at it.
///
/// Any case is read and lower case is written; a word that is not in the list is kept as sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AgentType {
    /// Designs systems.
    Architect,
    /// Writes what was designed; the default.
    #[default]
    Implementer,
    /// Judges the work of others.
    Reviewer,
    /// Finds causes.
    Debugger,
    /// Brings parts together.
    Integrator,
    /// Hands work to other agents.
    Orchestrator,
    /// Studies and reports.
    Analyst,
    /// Makes things faster or cheaper.
    Optimizer,
    /// Another role, in the agent's own word of 1 to 64 characters.
    Custom(String),
}

impl AgentType {
    const KNOWN: [Self; 8] = [
        Self::Architect,
        Self::Implementer,
        Self::Reviewer,
        Self::Debugger,
        Self::Integrator,
        Self::Orchestrator,
        Self::Analyst,
        Self::Optimizer,
    ];

    /// Gives the word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Architect => "architect",
            Self::Implementer => "implementer",
            Self::Reviewer => "reviewer",
            Self::Debugger => "debugger",
            Self::Integrator => "integrator",
            Self::Orchestrator => "orchestrator",
            Self::Analyst => "analyst",
            Self::Optimizer => "optimizer",
            Self::Custom(word) => word,
        }
    }

    fn checked(text: &str) -> Result<Self, IdError> {
        if !has_chars(text, 1, 64) {
            return Err(IdError::new("agent type", "must have 1 to 64 characters"));
        }
        let known = Self::KNOWN.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(text));
        Ok(known.unwrap_or_else(|| Self::Custom(text.to_owned())))
    }
}

impl fmt::Display for AgentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for AgentType {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::checked(text)
    }
}

impl Serialize for AgentType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for AgentType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, Self::checked)
    }
}

impl JsonSchema for AgentType {
    fn schema_name() -> Cow<'static, str> {
        "AgentType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let known = Self::KNOWN.map(|known| known.to_string());
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 64, "examples": known })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> AgentName {
        text.parse().unwrap()
    }

    #[test]
    fn names_follow_the_grammar_of_the_protocol() {
        for text in ["abc", "AGENT-EXT-PYTHON-01", "0.a_b-c", &"a".repeat(100)] {
            assert_eq!(name(text).as_str(), text);
        }
        for text in ["", "ab", &"a".repeat(101), "-abc", ".abc", "_abc", "a b", "a/b", "naïve", "abc\n"] {
            assert!(text.parse::<AgentName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_open_policy_takes_every_name() {
        assert_eq!(NamePolicy::default().check(&name("translator.1")), Ok(()));
    }

    #[test]
    fn the_opencode_policy_asks_for_the_grammar_before_the_prefix() {
        let check = |text| NamePolicy::OpenCode.check(&name(text));
        assert_eq!(check("AGENT-EXT_1"), Ok(()));
        assert_eq!(check("translator"), Err(NameRefusal::Grammar));
        assert_eq!(check("AGENT-1.0"), Err(NameRefusal::Grammar));
        assert_eq!(check("TRANSLATOR"), Err(NameRefusal::Prefix));
        assert_eq!(NameRefusal::Prefix.to_string(), "Agent name must start with 'AGENT-'");
        assert!(name("AGENT-EXT_1").is_opencode() && !name("TRANSLATOR").is_opencode());
    }

    #[test]
    fn policies_are_lower_case_words() {
        assert_eq!(serde_json::to_string(&NamePolicy::OpenCode).unwrap(), r#""opencode""#);
        assert_eq!(serde_json::from_str::<NamePolicy>(r#""open""#).unwrap(), NamePolicy::Open);
    }

    #[test]
    fn agent_types_come_in_any_case_and_leave_in_lower_case() {
        for known in AgentType::KNOWN {
            let shouted = known.as_str().to_ascii_uppercase();
            assert_eq!(shouted.parse(), Ok(known.clone()));
            assert_eq!(serde_json::to_string(&known).unwrap(), format!("\"{known}\""));
        }
    }

    #[test]
    fn a_custom_agent_type_is_kept_as_sent() {
        let custom: AgentType = serde_json::from_str(r#""Poet Laureate""#).unwrap();
        assert_eq!(custom, AgentType::Custom("Poet Laureate".to_owned()));
        assert_eq!(serde_json::to_string(&custom).unwrap(), r#""Poet Laureate""#);
        assert!("".parse::<AgentType>().is_err() && "x".repeat(65).parse::<AgentType>().is_err());
    }
}
