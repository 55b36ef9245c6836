//! One JSON object taken apart into names and slices, before anybody reads the values.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer as _};
use serde_json::value::RawValue;

/// The names and values of one object, sorted by name, each value a slice of the body.
#[derive(Default)]
pub(crate) struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Entries<'a> {
    /// Takes one object apart, without a look into its values.
    pub(crate) fn read(text: &'a str) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let mut entries = deserializer.deserialize_map(EntriesVisitor)?;
        deserializer.end()?;
        // Stable, so that the last of two equal names stays the last.
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self(entries))
    }

    /// Gives the value of a field that was sent and is not `null`.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let index = self.0.binary_search_by(|(other, _)| other.as_ref().cmp(name)).ok()?;
        Some(self.0[index].1).filter(|raw| raw.get() != "null")
    }

    /// Goes through the names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_ref())
    }

    /// Goes through the names that come again.
    pub(crate) fn repeated(&self) -> impl Iterator<Item = &str> {
        self.names().zip(self.names().skip(1)).filter(|(before, name)| before == name).map(|(_, name)| name)
    }
}

struct EntriesVisitor;

impl<'de> de::Visitor<'de> for EntriesVisitor {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::with_capacity(16);
        while let Some((Name(name), value)) = map.next_entry()? {
            entries.push((name, value));
        }
        Ok(entries)
    }
}

/// A name, borrowed from the body unless it holds an escape.
struct Name<'a>(Cow<'a, str>);

impl<'de> de::Deserialize<'de> for Name<'de> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl<'de> de::Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(NameVisitor)
    }
}
