//! The two macros behind the payloads: enums that are words on the wire, and messages that decode whole.

use std::borrow::Cow;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer};
use serde_json::value::RawValue;

use crate::{Decode, from_json};

/// A word that is not one of those the protocol has for the place it stood in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown word `{given}`, expected one of {expected}")]
#[non_exhaustive]
pub struct UnknownWord {
    /// The word that was given.
    pub given: String,
    /// The words that are understood, separated by commas.
    pub expected: String,
}

/// Declares an enum whose variants are fixed words, each spelled once.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, schemars::JsonSchema,
        )]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every word, in the order of the protocol document.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as it is written on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        // By hand: a derived one would take a map with the word as its key, too.
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let given = <std::borrow::Cow<'de, str> as serde::Deserialize<'de>>::deserialize(deserializer)?;
                given.parse().map_err(serde::de::Error::custom)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::UnknownWord;

            fn from_str(given: &str) -> Result<Self, Self::Err> {
                match given {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(crate::UnknownWord {
                        given: given.to_owned(),
                        expected: [$($word),+].join(", "),
                    }),
                }
            }
        }
    };
}
pub(crate) use words;

/// Reads a member of a reply that other servers may send as `null`: that means absent.
pub(crate) fn null_as_default<'de, D: Deserializer<'de>, T: Default + serde::Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads a word of a reply that a newer server may send and this version does not know: that means absent.
pub(crate) fn known_word<'de, D: Deserializer<'de>, T: FromStr>(deserializer: D) -> Result<Option<T>, D::Error> {
    let given = Option::<Cow<'de, str>>::deserialize(deserializer)?;
    Ok(given.and_then(|given| given.parse().ok()))
}

/// Gives messages that implement [`Decode`] a `Deserialize` that checks just as much.
macro_rules! decode_via_fields {
    ($($message:ty),+ $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $message {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::macros::deserialize_whole(deserializer)
            }
        }
    )+};
}
pub(crate) use decode_via_fields;

/// Reads a message out of another one; every problem found is named in the one error.
pub(crate) fn deserialize_whole<'de, T: Decode, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = Box::<RawValue>::deserialize(deserializer)?;
    from_json(text.get().as_bytes()).map_err(D::Error::custom)
}
