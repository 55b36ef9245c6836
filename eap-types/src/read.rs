//! The decoder: reads a body whole, so that one answer names every problem.
//!
//! A type says how it is read by implementing [`Decode`] over [`Fields`]; [`from_json`] does the
//! rest. No tree is built on the way: a body becomes a sorted list of names and slices.

use serde::de::IgnoredAny;

use crate::entries::Entries;
use crate::findings::Findings;
use crate::limits::MAX_JSON_DEPTH;
use crate::problem::FieldProblem;
use crate::{ErrorCode, Fields, json_depth};

/// Why a body could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The body is no UTF-8 or no JSON; the message quotes nothing of it.
    #[error("body is not JSON: {message}")]
    Malformed {
        /// What is wrong, with line and column.
        message: String,
    },
    /// Arrays and objects are nested deeper than [`MAX_JSON_DEPTH`].
    #[error("body is nested more than {MAX_JSON_DEPTH} levels deep")]
    TooDeep,
    /// The peer speaks a major version that this crate does not know.
    #[error("protocol version {given:?} is not supported, 1.0 is")]
    UnsupportedVersion {
        /// The version that the peer named.
        given: String,
    },
    /// Fields are missing, of the wrong type or out of range.
    #[error("{}", in_one_line(problems))]
    Invalid {
        /// All problems that were found, at least one, in the order of reading.
        problems: Vec<FieldProblem>,
    },
}

fn in_one_line(problems: &[FieldProblem]) -> String {
    let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
    words.join("; ")
}

impl DecodeError {
    /// Gives the code that the protocol answers this with.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Malformed { .. } | Self::TooDeep => ErrorCode::MalformedJson,
            Self::UnsupportedVersion { .. } => ErrorCode::UnsupportedVersion,
            Self::Invalid { .. } => ErrorCode::ValidationError,
        }
    }

    /// Gives the problems field by field; empty unless the error is [`Invalid`](Self::Invalid).
    #[must_use]
    pub fn problems(&self) -> &[FieldProblem] {
        match self {
            Self::Invalid { problems } => problems,
            _ => &[],
        }
    }

    /// Gives the problems field by field; other errors become one problem of the whole body.
    #[must_use]
    pub fn into_problems(self) -> Vec<FieldProblem> {
        match self {
            Self::Invalid { problems } => problems,
            other => vec![FieldProblem::new("body", "value_error", other.to_string())],
        }
    }
}

/// A type that is read from the fields of a JSON object.
pub trait Decode: Sized {
    /// Reads the fields one by one and notes what is wrong with them in `fields`.
    ///
    /// `None` means that a problem was noted. A value is used only if no problem was noted at all,
    /// so an implementation reads every field before it gives up.
    fn decode(fields: &mut Fields<'_>) -> Option<Self>;
}

/// Reads one JSON object, with all its problems at once.
///
/// ```
/// use eap_types::{Decode, DecodeError, Fields, from_json};
///
/// struct Point(u32, u32);
///
/// impl Decode for Point {
///     fn decode(fields: &mut Fields<'_>) -> Option<Self> {
///         let (x, y) = (fields.required("x"), fields.required("y"));
///         Some(Self(x?, y?))
///     }
/// }
///
/// let Err(DecodeError::Invalid { problems }) = from_json::<Point>(br#"{"x": "one"}"#) else {
///     panic!("two fields are wrong")
/// };
/// assert_eq!(problems[0].to_string(), "body.x: expected a whole number, got a string");
/// assert_eq!(problems[1].to_string(), "body.y: is required");
/// ```
///
/// # Errors
/// When the body is not UTF-8, not JSON, too deep, not an object, holds a key twice, or is not what
/// `T` asks for.
pub fn from_json<T: Decode>(body: &[u8]) -> Result<T, DecodeError> {
    let text =
        std::str::from_utf8(body).map_err(|_| DecodeError::Malformed { message: "it is not UTF-8".to_owned() })?;
    if json_depth(body) > MAX_JSON_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    let mut found = Findings::default();
    let value = match Entries::read(text) {
        Ok(entries) => {
            let mut fields = Fields::new("body".into(), entries, &mut found);
            T::decode(&mut fields)
        }
        Err(error) => {
            // Well-formed JSON of another type is a problem of its value, not of its form.
            if text.trim_ascii_start().starts_with('{') || serde_json::from_str::<IgnoredAny>(text).is_err() {
                return Err(DecodeError::Malformed { message: error.to_string() });
            }
            found.push(FieldProblem::new("body", "type_error", "expected an object"));
            None
        }
    };
    found.conclude(value)
}
