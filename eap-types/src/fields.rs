//! The fields of one JSON object while it is read, and the problems found on the way.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::entries::Entries;
use crate::findings::Findings;
use crate::plain_words;
use crate::problem::FieldProblem;
use crate::{Decode, DecodeError, JsonObject, RawJson};

/// The fields of one JSON object, read one by one; what is wrong with them is collected.
///
/// An implementation of [`Decode`] gets one. `null` counts as absent. A method that gives `None`
/// for a field that was sent has noted a problem, named by its path, as in `body.tasks[0].seq`.
pub struct Fields<'a> {
    path: Cow<'a, str>,
    entries: Entries<'a>,
    found: &'a mut Findings,
}

/// An entry of a list, read on its own, behind the bytes it takes.
type SizedItem<T> = (usize, Result<T, Vec<FieldProblem>>);

impl<'a> Fields<'a> {
    pub(crate) fn new(path: Cow<'a, str>, entries: Entries<'a>, found: &'a mut Findings) -> Self {
        let fields = Self { path, entries, found };
        for name in fields.entries.repeated() {
            let path = fields.body_field_path(name);
            fields.found.push(FieldProblem::new(path, "duplicate", "comes more than once"));
        }
        fields
    }

    /// Gives the path of a field for people, as in `body.tasks[0].lease_id`.
    #[must_use]
    pub fn body_field_path(&self, name: &str) -> String {
        // A name comes from the peer and may be long; the start is enough to find it.
        let end = name.char_indices().nth(100).map_or(name.len(), |(end, _)| end);
        format!("{}.{}", self.path, &name[..end])
    }

    /// Notes that a field breaks a rule; `kind` is a stable word, as in `value_error`.
    pub fn problem(&mut self, name: &str, kind: &str, message: impl Into<String>) {
        let path = self.body_field_path(name);
        self.found.push(FieldProblem::new(path, kind, message));
    }

    /// Notes that the peer speaks another major version; [`DecodeError::UnsupportedVersion`] then
    /// goes before every other problem.
    pub fn unsupported_version(&mut self, given: impl Into<String>) {
        self.found.refuse_version(given.into());
    }

    /// Says whether a field was sent and is not `null`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.get(name).is_some()
    }

    /// Reads a field that must be there.
    pub fn required<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        if !self.has(name) {
            self.problem(name, "missing", "is required");
        }
        self.optional(name)
    }

    /// Reads a field that may be absent.
    pub fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let raw = self.entries.get(name)?;
        match serde_json::from_str(raw.get()) {
            Ok(value) => Some(value),
            Err(error) => {
                let (kind, message) = plain_words::of(&error, raw);
                self.problem(name, kind, message);
                None
            }
        }
    }

    /// Reads a field that has a default of its type; also the default when a problem was noted.
    pub fn or_default<T: DeserializeOwned + Default>(&mut self, name: &str) -> T {
        self.optional(name).unwrap_or_default()
    }

    /// Reads a field that is `default` when absent; also when a problem was noted.
    pub fn or<T: DeserializeOwned>(&mut self, name: &str, default: T) -> T {
        self.optional(name).unwrap_or(default)
    }

    /// Reads a whole number within `range`, or gives `default` when the field is absent.
    pub fn range(&mut self, name: &str, range: RangeInclusive<u64>, default: Option<u64>) -> Option<u64> {
        if !self.has(name) {
            return default;
        }
        let number = self.optional(name)?;
        if range.contains(&number) {
            return Some(number);
        }
        let (least, most) = (range.start(), range.end());
        self.problem(name, "value_error", format!("must be between {least} and {most}"));
        None
    }

    /// Reads a number between 0 and 1, both included.
    pub fn fraction(&mut self, name: &str) -> Option<f64> {
        let number = self.optional(name)?;
        if (0.0..=1.0).contains(&number) {
            return Some(number);
        }
        self.problem(name, "value_error", "must be between 0 and 1");
        None
    }

    /// Reads a number that is not below zero.
    pub fn finite_non_negative(&mut self, name: &str) -> Option<f64> {
        let number: f64 = self.optional(name)?;
        if number.is_finite() && number >= 0.0 {
            return Some(number);
        }
        self.problem(name, "value_error", "must not be below 0");
        None
    }

    /// Reads a text of at most `max_chars` characters.
    pub fn text(&mut self, name: &str, max_chars: usize) -> Option<String> {
        let text: String = self.optional(name)?;
        if crate::checked::has_chars(&text, 0, max_chars) {
            return Some(text);
        }
        self.problem(name, "value_error", format!("must have at most {max_chars} characters"));
        None
    }

    /// Reads a nested object, with all its problems.
    pub fn object<T: Decode>(&mut self, name: &str) -> Option<T> {
        let raw = self.entries.get(name)?;
        let path = self.body_field_path(name);
        self.nested(path, raw)
    }

    /// Reads a list of objects, with all their problems.
    pub fn array<T: Decode>(&mut self, name: &str) -> Option<Vec<T>> {
        let items = self.raw_items(name)?;
        let path = self.body_field_path(name);
        let mut read = Vec::with_capacity(items.len());
        let mut is_whole = true;
        for (index, raw) in items.into_iter().enumerate() {
            match self.nested(format!("{path}[{index}]"), raw) {
                Some(item) => read.push(item),
                None => is_whole = false,
            }
        }
        is_whole.then_some(read)
    }

    /// Reads a list that must be there, of at most `most` objects, each with its own problems: a bad one does
    /// not spoil the others.
    pub fn each<T: Decode>(&mut self, name: &str, most: usize) -> Option<Vec<Result<T, Vec<FieldProblem>>>> {
        Some(self.each_sized(name, most)?.into_iter().map(|(_, item)| item).collect())
    }

    /// The same, with the bytes that each takes.
    pub(crate) fn each_sized<T: Decode>(&mut self, name: &str, most: usize) -> Option<Vec<SizedItem<T>>> {
        if !self.has(name) {
            self.problem(name, "missing", "is required");
        }
        let items = self.raw_items(name)?;
        if items.len() > most {
            self.problem(name, "value_error", format!("must not have more than {most} entries"));
            return None;
        }
        let path = self.body_field_path(name);
        let read_one = |(index, raw): (usize, &RawValue)| {
            let mut found = Findings::default();
            let mut alone = Fields::new(Cow::Borrowed("body"), Entries::default(), &mut found);
            let item = alone.nested(format!("{path}[{index}]"), raw);
            (raw.get().len(), found.conclude(item).map_err(DecodeError::into_problems))
        };
        Some(items.into_iter().enumerate().map(read_one).collect())
    }

    /// Reads any JSON and keeps its text.
    pub fn raw(&mut self, name: &str) -> Option<RawJson> {
        self.optional(name)
    }

    /// Reads a JSON object and keeps its text; `None` when it is absent.
    pub fn json_object(&mut self, name: &str) -> Option<JsonObject> {
        self.optional(name)
    }

    /// Refuses a field of the protocol that this version does not serve, unless it is empty.
    pub fn refuse_unbuilt(&mut self, name: &str) {
        let Some(raw) = self.entries.get(name) else { return };
        let text = raw.get();
        let is_empty = text.starts_with(['"', '[', '{']) && text[1..text.len() - 1].trim_ascii().is_empty();
        if !is_empty {
            self.problem(name, "not_supported", format!("{name} is not served by this version"));
        }
    }

    fn raw_items(&mut self, name: &str) -> Option<Vec<&'a RawValue>> {
        let raw = self.entries.get(name)?;
        match serde_json::from_str(raw.get()) {
            Ok(items) => Some(items),
            Err(error) => {
                let (kind, message) = plain_words::of(&error, raw);
                self.problem(name, kind, message);
                None
            }
        }
    }

    fn nested<T: Decode>(&mut self, path: String, raw: &RawValue) -> Option<T> {
        match Entries::read(raw.get()) {
            Ok(entries) => {
                let mut fields = Fields::new(path.into(), entries, self.found);
                T::decode(&mut fields)
            }
            Err(error) => {
                let (kind, message) = plain_words::of(&error, raw);
                self.found.push(FieldProblem::new(path, kind, message));
                None
            }
        }
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets: names are enough.
        let names: Vec<_> = self.entries.names().collect();
        f.debug_struct("Fields").field("path", &self.path).field("names", &names).finish()
    }
}
