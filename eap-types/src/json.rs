//! Opaque JSON: kept as the text that came, compared by value.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::canonical::write_canonical;
use crate::limits::MAX_JSON_DEPTH;
use crate::scan::scan;

/// JSON that passes through unread, with its text as it came; a clone shares the text.
///
/// Two are equal when their values are, whatever the order of keys, the white space or the
/// spelling of numbers. Once built it can always be read: it is at most
/// [`MAX_JSON_DEPTH`] deep, and every number and every escape in it has a meaning.
#[derive(Clone)]
pub struct RawJson(Arc<RawValue>);

/// A text that is not JSON, or JSON that is not what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct JsonError {
    reason: Reason,
    #[source]
    source: Option<serde_json::Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("text is not JSON")]
    NotJson,
    #[error("JSON is nested too deeply")]
    TooDeep,
    #[error("JSON is not an object")]
    NotAnObject,
    #[error("value cannot be written as JSON")]
    CannotWrite,
    #[error("JSON has another shape than the type asked for")]
    OtherShape,
}

impl JsonError {
    fn new(reason: Reason, source: impl Into<Option<serde_json::Error>>) -> Self {
        Self { reason, source: source.into() }
    }

    /// Says what and why in one line, for places that keep no chain of sources.
    fn to_line(&self) -> String {
        match &self.source {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

impl RawJson {
    /// Checks one JSON text and keeps it.
    ///
    /// # Errors
    /// When it is no JSON, is deeper than [`MAX_JSON_DEPTH`], or holds a number out of range or
    /// half of a surrogate pair.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|e| JsonError::new(Reason::NotJson, e))?;
        Self::from_raw(raw.to_owned())
    }

    /// Writes `value` as JSON and keeps the text.
    ///
    /// # Errors
    /// When the value has no JSON form (a map whose keys are no strings), or is deeper than
    /// [`MAX_JSON_DEPTH`].
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        let raw = serde_json::value::to_raw_value(value).map_err(|e| JsonError::new(Reason::CannotWrite, e))?;
        Self::from_raw(raw)
    }

    pub(crate) fn from_raw(raw: Box<RawValue>) -> Result<Self, JsonError> {
        let scan = scan(raw.get().as_bytes());
        if scan.depth > MAX_JSON_DEPTH {
            return Err(JsonError::new(Reason::TooDeep, None));
        }
        if scan.is_doubtful {
            serde_json::from_str::<Value>(raw.get()).map_err(|e| JsonError::new(Reason::NotJson, e))?;
        }
        Ok(Self(raw.into()))
    }

    /// Gives the text as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Reads the text into a tree; of a key that comes twice the last counts.
    #[must_use]
    pub fn to_value(&self) -> Value {
        serde_json::from_str(self.as_str()).expect("a RawJson was checked when it was built")
    }

    /// Reads the text into a type.
    ///
    /// # Errors
    /// When the JSON has another shape than the type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        serde_json::from_str(self.as_str()).map_err(|e| JsonError::new(Reason::OtherShape, e))
    }

    /// Writes the value with sorted keys and without white space: equal values give equal text.
    ///
    /// A whole number is written without fraction or exponent where 64 bits hold it, so `1`, `1.0`
    /// and `1e0` are equal.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut text = String::with_capacity(self.as_str().len());
        write_canonical(&self.to_value(), &mut text);
        text
    }

    fn is_object(&self) -> bool {
        self.as_str().starts_with('{')
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str() || self.canonical() == other.canonical()
    }
}

impl Eq for RawJson {}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads stay out of logs, whichever way they would get there.
        write!(f, "RawJson({} bytes)", self.as_str().len())
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (*self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_raw(raw).map_err(|e| D::Error::custom(e.to_line()))
    }
}

impl JsonSchema for RawJson {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RawJson".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}

/// A [`RawJson`] that is known to be an object; the default is `{}`.
///
/// It reads like the [`RawJson`] inside it.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct JsonObject(RawJson);

impl JsonObject {
    /// Checks one JSON object and keeps its text.
    ///
    /// # Errors
    /// As [`RawJson::parse`], and when the JSON is not an object.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        RawJson::parse(text)?.try_into()
    }

    /// Writes `value`, a struct or a map, as a JSON object.
    ///
    /// # Errors
    /// As [`RawJson::from_serialize`], and when the JSON is not an object.
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        RawJson::from_serialize(value)?.try_into()
    }

    /// Says whether the object has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let text = self.as_str();
        text[1..text.len() - 1].trim_ascii().is_empty()
    }
}

impl Default for JsonObject {
    fn default() -> Self {
        let raw = RawValue::from_string("{}".to_owned()).expect("two braces are JSON");
        Self(RawJson(raw.into()))
    }
}

impl Deref for JsonObject {
    type Target = RawJson;

    fn deref(&self) -> &RawJson {
        &self.0
    }
}

impl TryFrom<RawJson> for JsonObject {
    type Error = JsonError;

    fn try_from(json: RawJson) -> Result<Self, Self::Error> {
        if json.is_object() { Ok(Self(json)) } else { Err(JsonError::new(Reason::NotAnObject, None)) }
    }
}

impl From<JsonObject> for RawJson {
    fn from(object: JsonObject) -> Self {
        object.0
    }
}

impl fmt::Debug for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = RawJson::deserialize(deserializer)?;
        let given = match json.as_str().as_bytes().first() {
            Some(b'{') => return Ok(Self(json)),
            Some(b'[') => Unexpected::Seq,
            Some(b'"') => Unexpected::Other("string"),
            Some(b't' | b'f') => Unexpected::Other("boolean"),
            Some(b'n') => Unexpected::Unit,
            _ => Unexpected::Other("integer"),
        };
        Err(D::Error::invalid_type(given, &"an object"))
    }
}

impl JsonSchema for JsonObject {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "JsonObject".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}
