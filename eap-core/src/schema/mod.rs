//! Which inputs a JSON Schema accepts: what an agent published of a task type, compiled once and tried within bounds.
//!
//! Both schema and input come from others, so nothing here can run away: a check takes so many steps and no more, goes
//! so deep and no deeper, and patterns are matched in linear time.

mod check;
mod compile;
mod equal;
mod pattern;
mod place;

use std::collections::BTreeMap;
use std::fmt;

use eap_types::{FieldProblem, RawJson};
use serde_json::Value;

use self::check::Walk;
use self::compile::compile;
use self::pattern::Pattern;
use self::place::Place;

/// Steps that a check may take whatever its input.
const LEAST_STEPS: u64 = 20_000;
/// Steps that it may take for each byte of its input.
const STEPS_A_BYTE: u64 = 8;
/// So many bytes of text are looked at in the time of one step.
const BYTES_A_STEP: usize = 16;

/// A JSON Schema of a task type's input, ready to be tried.
///
/// It is read as draft 2020-12, with the older spellings of drafts 6 to 2019-09 (`definitions`, a list in `items`,
/// `additionalItems`, `dependencies`). `format` and words it does not know say nothing. A `$ref` stays within the schema.
///
/// ```
/// use eap_core::{InputSchema, TaskInput, InputVerdict};
/// use eap_types::RawJson;
///
/// let schema = r#"{"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}"#;
/// let schema = InputSchema::compile(&RawJson::parse(schema)?, "body.task_schemas.count").unwrap();
/// let mut good = TaskInput::new(&RawJson::parse(r#"{"count": 3}"#)?);
/// assert_eq!(schema.verdict(&mut good), InputVerdict::Accepted);
///
/// let mut bad = TaskInput::new(&RawJson::parse(r#"{"count": "three"}"#)?);
/// assert_eq!(schema.verdict(&mut bad), InputVerdict::Refused);
/// let problems = schema.problems(&mut bad, "body.input");
/// assert_eq!(problems[0].to_string(), "body.input/count: expected a whole number, got a string");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct InputSchema {
    nodes: Vec<Node>,
    /// Whether something in it depends on what the rest of it looked at.
    tracks: bool,
    patterns: usize,
}

/// What a schema makes of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputVerdict {
    /// The input is as the schema wants it.
    Accepted,
    /// It is not.
    Refused,
    /// To tell would take more steps than such an input is worth.
    Unknown,
}

/// The input of a task, as it was submitted; of a text that is JSON itself, that JSON as well, because input travels as
/// text and an agent may read it either way (docs/protocol.md, section 3).
///
/// It also counts what checking it takes, over all schemas that are tried on it: however many there are, they have so many
/// steps together.
#[derive(Clone)]
pub struct TaskInput {
    given: Value,
    within: Option<Value>,
    bytes: usize,
    steps_left: u64,
    was_cut_short: bool,
}

/// One schema, or a part of one.
#[derive(Default)]
struct Node {
    keywords: Vec<Keyword>,
}

/// Names a part of a schema.
type NodeId = usize;

/// What a schema says of a value; each says nothing of values of another type.
enum Keyword {
    Never,
    Type(Vec<Kind>),
    Enum { wanted: Vec<Value>, message: String },
    Bound { limit: serde_json::Number, is_lower: bool, is_open: bool },
    MultipleOf(serde_json::Number),
    Length { limit: u64, is_lower: bool },
    Pattern(Pattern),
    ItemCount { limit: u64, is_lower: bool },
    UniqueItems,
    MemberCount { limit: u64, is_lower: bool },
    Required(Vec<String>),
    DependentRequired(Vec<(String, Vec<String>)>),
    Items { first: Vec<NodeId>, rest: Option<NodeId> },
    Contains { node: NodeId, least: u64, most: Option<u64> },
    Members { named: BTreeMap<String, NodeId>, patterns: Vec<(Pattern, NodeId)>, rest: Option<NodeId> },
    MemberNames(NodeId),
    Ref(NodeId),
    AllOf(Vec<NodeId>),
    AnyOf(Vec<NodeId>),
    OneOf(Vec<NodeId>),
    Not(NodeId),
    If { condition: NodeId, then: Option<NodeId>, otherwise: Option<NodeId> },
    DependentSchemas(Vec<(String, NodeId)>),
    UnevaluatedItems(NodeId),
    UnevaluatedMembers(NodeId),
}

/// A type, as schemas tell types apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Boolean,
    Object,
    Array,
    Number,
    Integer,
    String,
}

impl InputSchema {
    /// Reads a schema that stands at `at` in a body.
    ///
    /// # Errors
    /// Everything that is wrong with it: words that have another form than they should, a `$ref` that leads nowhere, out
    /// of the schema or round in a circle, a pattern that cannot be matched in linear time, and what is not understood
    /// here and would change what it accepts (`$dynamicRef`, an `$id` within it, another dialect).
    pub fn compile(schema: &RawJson, at: &str) -> Result<Self, Vec<FieldProblem>> {
        Self::compile_counted(schema, at, &mut 0)
    }

    /// The same for one of several schemas: adds to `patterns` how many it has. Those of a schema that is refused took
    /// their time as well, so they are counted too.
    ///
    /// # Errors
    /// As those of [`compile`](Self::compile).
    pub fn compile_counted(schema: &RawJson, at: &str, patterns: &mut usize) -> Result<Self, Vec<FieldProblem>> {
        compile(&schema.to_value(), at, patterns)
    }

    /// How many patterns it holds; each takes memory that its text does not show.
    #[must_use]
    pub fn patterns(&self) -> usize {
        self.patterns
    }

    /// Says whether an agent that published this takes `input`, as it was given or as the JSON that a text is.
    #[must_use]
    pub fn verdict(&self, input: &mut TaskInput) -> InputVerdict {
        let TaskInput { given, within, steps_left, .. } = input;
        let mut is_unknown = false;
        for reading in std::iter::once(&*given).chain(&*within) {
            let mut walk = Walk::new(self, steps_left, None);
            let is_good = walk.is_good(reading, &Place::Root(""));
            match (walk.is_cut_short(), is_good) {
                (true, _) => is_unknown = true,
                (false, true) => return InputVerdict::Accepted,
                (false, false) => {}
            }
        }
        if is_unknown { InputVerdict::Unknown } else { InputVerdict::Refused }
    }

    /// Lists what is wrong with an input that is refused and stands at `at`, as in `body.input/items/0/count`; of a text
    /// that is a JSON object or list, what is wrong with that. Some are left out if there are very many, or if finding
    /// them would take very long; one is there in any case.
    #[must_use]
    pub fn problems(&self, input: &mut TaskInput, at: &str) -> Vec<FieldProblem> {
        let TaskInput { given, within, steps_left, was_cut_short, .. } = input;
        let meant = within.as_ref().filter(|json| json.is_object() || json.is_array()).unwrap_or(given);
        let mut walk = Walk::new(self, steps_left, Some(Vec::new()));
        walk.is_good(meant, &Place::Root(at));
        *was_cut_short = walk.is_cut_short();
        let mut problems = walk.into_problems();
        if problems.is_empty() {
            // Cut short before the first was found.
            problems.push(FieldProblem::new(at, "value_error", "is not what the agents of this task type take"));
        }
        problems
    }
}

impl fmt::Debug for InputSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputSchema").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

impl TaskInput {
    /// Reads the input of a submission.
    #[must_use]
    pub fn new(input: &RawJson) -> Self {
        let given = input.to_value();
        // Text that is too deep for JSON of the wire is text alone.
        let within = given.as_str().and_then(|text| RawJson::parse(text).ok()).map(|json| json.to_value());
        let bytes = input.as_str().len();
        let steps_left = LEAST_STEPS.saturating_add(STEPS_A_BYTE.saturating_mul(bytes as u64));
        Self { given, within, bytes, steps_left, was_cut_short: false }
    }

    /// Whether [`problems`](InputSchema::problems) gave up before its end when it was last asked, so that it may have found
    /// fewer than there are.
    #[must_use]
    pub fn was_cut_short(&self) -> bool {
        self.was_cut_short
    }
}

/// Input is a user's data and stays out of logs.
impl fmt::Debug for TaskInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskInput({} bytes)", self.bytes)
    }
}

impl Kind {
    /// The type that a schema names with this word.
    fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "object" => Self::Object,
            "array" => Self::Array,
            "number" => Self::Number,
            "integer" => Self::Integer,
            "string" => Self::String,
            _ => return None,
        })
    }

    /// In words for people.
    fn words(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "true or false",
            Self::Object => "an object",
            Self::Array => "a list",
            Self::Number => "a number",
            Self::Integer => "a whole number",
            Self::String => "a string",
        }
    }

    /// Whether a value is of this type; 1.0 is a whole number.
    fn is_of(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Null, Value::Null)
            | (Self::Boolean, Value::Bool(_))
            | (Self::Object, Value::Object(_))
            | (Self::Array, Value::Array(_))
            | (Self::Number, Value::Number(_))
            | (Self::String, Value::String(_)) => true,
            (Self::Integer, Value::Number(number)) => equal::is_whole(number),
            _ => false,
        }
    }
}

/// What a value is, in words for people.
fn words_for(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Object(_) => "an object",
        Value::Array(_) => "a list",
        Value::Number(number) if equal::is_whole(number) => "a whole number",
        Value::Number(_) => "a fraction",
        Value::String(_) => "a string",
    }
}
