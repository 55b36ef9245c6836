//! What an agent can do and what a task asks for: capabilities and task types, one grammar.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::checked::{IdError, checked_text};
use crate::limits::MAX_CAPABILITIES;

checked_text! {
    /// One thing that an agent can be asked to do, as in `code_review`.
    ///
    /// It has 1 to 64 characters of `a-z`, `0-9`, `_`, `.`, `:` and `-`, the first of them a letter
    /// or digit; upper case is read and becomes lower case (PROTOCOL.md section 1). OpenCode's own
    /// words are constants in [`capability`](crate::capability).
    Capability, "capability", read_skill,
    { "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$" }
}
checked_text! {
    /// The kind of a task, as in `text.translate`; the grammar is that of a [`Capability`].
    TaskType, "task type", read_skill,
    { "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$" }
}

fn read_skill(text: &str) -> Result<Cow<'_, str>, &'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    if !(1..=64).contains(&text.len()) {
        Err("must have 1 to 64 characters")
    } else if !text.bytes().all(is_allowed) {
        Err("must consist of ASCII letters, digits, underscores, dots, colons and hyphens")
    } else if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Err("must start with a letter or a digit")
    } else if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Ok(text.to_ascii_lowercase().into())
    } else {
        Ok(text.into())
    }
}

impl Capability {
    /// The words of a platform as a capability: in lower case, with `_` for whatever else a capability has not, at most 64
    /// characters of them. What is a capability as it stands stays as it is.
    ///
    /// ```
    /// use eap_types::Capability;
    ///
    /// assert_eq!(Capability::of_words("Text Summarization")?.as_str(), "text_summarization");
    /// assert_eq!(Capability::of_words("text.translate")?.as_str(), "text.translate");
    /// assert!(Capability::of_words("…").is_err());
    /// # Ok::<(), eap_types::IdError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If nothing is left of the words.
    pub fn of_words(words: &str) -> Result<Self, IdError> {
        let folded = || match folded(words) {
            nothing if nothing.is_empty() => Err(IdError::new("capability", "must have a letter or a digit")),
            folded => folded.parse(),
        };
        words.parse().or_else(|_| folded())
    }
}

fn folded(words: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    let mut folded: String = words.chars().map(|c| if fits(c) { c.to_ascii_lowercase() } else { '_' }).collect();
    folded.truncate(64);
    folded.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

impl From<TaskType> for Capability {
    fn from(task_type: TaskType) -> Self {
        Self(task_type.0)
    }
}

impl From<Capability> for TaskType {
    fn from(capability: Capability) -> Self {
        Self(capability.0)
    }
}

/// What an agent can be asked to do: a sorted set of 1 to 64 capabilities.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Capabilities(BTreeSet<Capability>);

impl Capabilities {
    /// Collects capabilities, or words that are to become some; duplicates merge.
    ///
    /// ```
    /// use eap_types::{Capabilities, capability};
    ///
    /// let offered = Capabilities::new([capability::CODE_REVIEW, "text.translate"])?;
    /// assert_eq!(offered.len(), 2);
    /// # Ok::<(), eap_types::IdError>(())
    /// ```
    ///
    /// # Errors
    /// When a word breaks the grammar, or there are none or more than [`MAX_CAPABILITIES`].
    pub fn new<I>(words: I) -> Result<Self, IdError>
    where
        I: IntoIterator,
        I::Item: TryInto<Capability, Error: Into<IdError>>,
    {
        let mut found = BTreeSet::new();
        for word in words {
            found.insert(word.try_into().map_err(Into::into)?);
            Self::check_count(found.len())?;
        }
        Self::check_count(found.len())?;
        Ok(Self(found))
    }

    fn check_count(count: usize) -> Result<(), IdError> {
        match count {
            0 => Err(IdError::new("capabilities", "must name at least one")),
            count if count > MAX_CAPABILITIES => Err(IdError::new("capabilities", "must name at most 64")),
            _ => Ok(()),
        }
    }

    /// Goes through the capabilities in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Capability> + '_ {
        self.0.iter()
    }

    /// Says whether the agent can be asked to do this.
    #[must_use]
    pub fn contains(&self, capability: &Capability) -> bool {
        self.0.contains(capability)
    }

    /// Counts the capabilities; there is at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "the set is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Says whether the agent can do all that is required.
    #[must_use]
    pub fn is_superset_of(&self, required: &BTreeSet<Capability>) -> bool {
        self.0.is_superset(required)
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Capabilities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(CapabilitiesVisitor)
    }
}

struct CapabilitiesVisitor;

impl<'de> de::Visitor<'de> for CapabilitiesVisitor {
    type Value = Capabilities;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of capabilities")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut words: A) -> Result<Capabilities, A::Error> {
        let mut found = BTreeSet::new();
        while let Some(word) = words.next_element()? {
            found.insert(word);
        }
        Capabilities::check_count(found.len()).map_err(de::Error::custom)?;
        Ok(Capabilities(found))
    }
}

impl JsonSchema for Capabilities {
    fn schema_name() -> Cow<'static, str> {
        "Capabilities".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<Capability>();
        // No maximum: duplicates merge before the 64 are counted.
        json_schema!({ "type": "array", "items": item, "minItems": 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_and_task_types_share_one_grammar() {
        for text in ["a", "0", "text.translate", "a:b-c_d.e", &"a".repeat(64)] {
            assert_eq!(text.parse::<Capability>().unwrap().as_str(), text);
            assert_eq!(text.parse::<TaskType>().unwrap().as_str(), text);
        }
        for text in ["", ".a", "_a", "-a", ":a", "a b", "a/b", "é", &"a".repeat(65)] {
            assert!(text.parse::<Capability>().is_err(), "{text:?}");
            assert!(text.parse::<TaskType>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn upper_case_is_folded() {
        assert_eq!("Code_Review".parse::<Capability>().unwrap().as_str(), "code_review");
        assert_eq!(serde_json::from_str::<TaskType>(r#""Text.A""#).unwrap().as_str(), "text.a");
    }

    #[test]
    fn a_task_type_is_a_capability_and_back() {
        let task_type: TaskType = "text.translate".parse().unwrap();
        let capability = Capability::from(task_type.clone());
        assert_eq!(capability.as_str(), "text.translate");
        assert_eq!(TaskType::from(capability), task_type);
    }

    #[test]
    fn duplicates_merge_and_leave_in_order() {
        let read: Capabilities = serde_json::from_str(r#"["b", "A", "a"]"#).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"["a","b"]"#);
        assert_eq!(read, Capabilities::new(["a", "b"]).unwrap());
    }

    #[test]
    fn a_set_has_one_to_64_members() {
        let words = |count| (0..count).map(|n| format!("c{n}")).collect::<Vec<_>>();
        assert!(Capabilities::new(words(0)).is_err());
        assert_eq!(Capabilities::new(words(64)).unwrap().len(), 64);
        assert!(Capabilities::new(words(65)).is_err());
        let sent = serde_json::to_string(&words(65)).unwrap();
        assert!(serde_json::from_str::<Capabilities>(&sent).is_err());
        assert!(serde_json::from_str::<Capabilities>("[]").is_err());
    }

    #[test]
    fn an_agent_may_offer_more_than_is_required_and_never_less() {
        let offered = Capabilities::new(["a", "b"]).unwrap();
        let required = |words: &[&str]| words.iter().map(|word| word.parse().unwrap()).collect();
        assert!(offered.is_superset_of(&required(&["a"])));
        assert!(offered.is_superset_of(&required(&[])));
        assert!(!offered.is_superset_of(&required(&["a", "c"])));
    }
}
