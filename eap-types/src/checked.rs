//! Words that check themselves: one macro for every string type with a rule, and its error.

use std::convert::Infallible;

/// A word that breaks the rule of its type.
///
/// The text names the type and its rule and never repeats the value, so that it can go into a log
/// or an answer whatever was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {why}")]
pub struct IdError {
    what: &'static str,
    why: &'static str,
}

impl IdError {
    pub(crate) const fn new(what: &'static str, why: &'static str) -> Self {
        Self { what, why }
    }

    /// Names the kind of word that was refused, as in `agent id`.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        self.what
    }

    /// Says which rule it breaks, as in `must have 1 to 128 characters`.
    #[must_use]
    pub const fn why(&self) -> &'static str {
        self.why
    }
}

impl From<Infallible> for IdError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Says whether `text` has `least` to `most` characters.
///
/// A character has at most four bytes, so a text that is far too long is not walked through.
pub(crate) fn has_chars(text: &str, least: usize, most: usize) -> bool {
    text.len() <= most.saturating_mul(4) && (least..=most).contains(&text.chars().count())
}

/// Says whether `text` has 1 to `most` visible ASCII characters.
pub(crate) fn is_visible_ascii(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Makes a string newtype that is valid once it is built.
///
/// `read` turns the text into the form that is kept, or says which rule it breaks.
macro_rules! checked_text {
    (
        $(#[$doc:meta])*
        $name:ident, $what:literal, $read:path, { $($schema:tt)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Gives the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            fn checked(text: &str) -> Result<Self, $crate::IdError> {
                let read: fn(&str) -> Result<std::borrow::Cow<'_, str>, &'static str> = $read;
                read(text)
                    .map(|text| Self(text.as_ref().into()))
                    .map_err(|why| $crate::IdError::new($what, why))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::IdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::checked(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = $crate::IdError;

            fn try_from(text: &str) -> Result<Self, Self::Error> {
                Self::checked(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::IdError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::checked(&text)
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.0.as_ref().to_owned()
            }
        }

        impl From<&$name> for String {
            fn from(word: &$name) -> Self {
                word.0.as_ref().to_owned()
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::checked::read_text(deserializer, Self::checked)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", $($schema)* })
            }
        }
    };
}
pub(crate) use checked_text;

/// Reads a string and hands it to `check` without a copy in between.
pub(crate) fn read_text<'de, D, T, E>(deserializer: D, check: impl FnOnce(&str) -> Result<T, E>) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    E: std::fmt::Display,
{
    struct Text<F>(F);

    impl<T, E: std::fmt::Display, F: FnOnce(&str) -> Result<T, E>> serde::de::Visitor<'_> for Text<F> {
        type Value = T;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<X: serde::de::Error>(self, text: &str) -> Result<T, X> {
            (self.0)(text).map_err(X::custom)
        }
    }

    deserializer.deserialize_str(Text(check))
}
