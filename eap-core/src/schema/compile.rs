//! From the JSON of a schema to what is tried.

use std::collections::HashMap;

use eap_types::{FieldProblem, limits};
use serde_json::{Map, Number, Value};

use super::pattern::Pattern;
use super::place::Place;
use super::{InputSchema, Keyword, Kind, Node, NodeId};

/// The dialects that are read; each may end in an empty fragment.
const DIALECTS: [&str; 4] = [
    "json-schema.org/draft-06/schema",
    "json-schema.org/draft-07/schema",
    "json-schema.org/draft/2019-09/schema",
    "json-schema.org/draft/2020-12/schema",
];

/// Words that change what a schema accepts, and that are not understood here.
const NOT_UNDERSTOOD: [&str; 2] = ["$dynamicRef", "$recursiveRef"];

/// Compiles a schema, and adds to `patterns` how many it has, whether or not it is refused.
pub(super) fn compile(schema: &Value, at: &str, patterns: &mut usize) -> Result<InputSchema, Vec<FieldProblem>> {
    let mut compiler = Compiler {
        root: schema,
        at,
        nodes: Vec::new(),
        known: HashMap::new(),
        refs: Vec::new(),
        patterns: 0,
        problems: Vec::new(),
    };
    compiler.node(schema, &Place::Root(at));
    compiler.follow();
    if compiler.problems.is_empty() && compiler.is_circular() {
        compiler.problem(&Place::Root(at), "value_error", "has a $ref that comes back to itself for the same value");
    }
    let Compiler { mut nodes, patterns: own, problems, .. } = compiler;
    *patterns += own;
    if !problems.is_empty() {
        return Err(problems);
    }
    for node in &mut nodes {
        node.keywords.sort_by_key(Keyword::rank);
    }
    let tracks = |keyword: &Keyword| matches!(keyword, Keyword::UnevaluatedItems(_) | Keyword::UnevaluatedMembers(_));
    let tracks = nodes.iter().flat_map(|node| &node.keywords).any(tracks);
    Ok(InputSchema { nodes, tracks, patterns: own })
}

struct Compiler<'s> {
    root: &'s Value,
    at: &'s str,
    nodes: Vec<Node>,
    /// The parts that were read, by where they are in memory: as JSON pointers, deep ones under long names would take
    /// many times the room of the schema.
    known: HashMap<*const Value, NodeId>,
    /// Parts that are to be as another part, and the pointer to that.
    refs: Vec<(NodeId, &'s Value, String)>,
    patterns: usize,
    problems: Vec<FieldProblem>,
}

impl<'s> Compiler<'s> {
    fn problem(&mut self, at: &Place<'_>, kind: &str, message: impl Into<String>) {
        if self.problems.len() < limits::MAX_FIELD_PROBLEMS {
            self.problems.push(FieldProblem::new(at.to_string(), kind, message));
        }
    }

    /// Reads a schema that stands at `at`.
    fn node(&mut self, schema: &'s Value, at: &Place<'_>) -> NodeId {
        let id = self.nodes.len();
        if let Some(known) = self.known.insert(schema, id) {
            self.known.insert(schema, known);
            return known;
        }
        self.nodes.push(Node::default());
        match schema {
            Value::Bool(true) => {}
            Value::Bool(false) => self.nodes[id].keywords.push(Keyword::Never),
            Value::Object(members) => {
                let keywords = self.keywords(id, members, at);
                self.nodes[id].keywords = keywords;
            }
            _ => self.problem(at, "type_error", "a schema is an object, true or false"),
        }
        id
    }

    fn keywords(&mut self, id: NodeId, members: &'s Map<String, Value>, at: &Place<'_>) -> Vec<Keyword> {
        let mut keywords = Vec::new();
        for (word, value) in members {
            keywords.extend(self.keyword(id, word, value, members, at));
        }
        keywords.extend(self.items(members, at));
        keywords.extend(self.members(members, at));
        keywords
    }

    /// Reads one word of the schema that stands at `within`, with what the words `beside` it say.
    fn keyword(
        &mut self,
        id: NodeId,
        word: &str,
        value: &'s Value,
        beside: &'s Map<String, Value>,
        within: &Place<'_>,
    ) -> Option<Keyword> {
        let at = &Place::Member(within, word);
        match word {
            "$schema" => self.dialect(value, at),
            "$id" if !matches!(within, Place::Root(_)) => {
                self.problem(at, "not_supported", "an $id within a schema is not supported");
                None
            }
            "$ref" => self.reference(id, value, at),
            word if NOT_UNDERSTOOD.contains(&word) => {
                self.problem(at, "not_supported", format!("{word} is not supported"));
                None
            }
            "$defs" | "definitions" => {
                self.each_named(value, at);
                None
            }
            "type" => self.types(value, at).map(Keyword::Type),
            "const" => Some(Keyword::one_of(std::slice::from_ref(value))),
            "enum" => self.list(value, at).map(|values| Keyword::one_of(values)),
            "minimum" => self.bound(value, at, true, false),
            "maximum" => self.bound(value, at, false, false),
            "exclusiveMinimum" => self.bound(value, at, true, true),
            "exclusiveMaximum" => self.bound(value, at, false, true),
            "multipleOf" => self.number(value, at).and_then(|unit| {
                let is_above = unit.as_f64().is_some_and(|unit| unit > 0.0);
                if !is_above {
                    self.problem(at, "value_error", "must be above 0");
                }
                is_above.then_some(Keyword::MultipleOf(unit))
            }),
            "minLength" => self.count(value, at).map(|limit| Keyword::Length { limit, is_lower: true }),
            "maxLength" => self.count(value, at).map(|limit| Keyword::Length { limit, is_lower: false }),
            "pattern" => self.pattern(value.as_str(), at).map(Keyword::Pattern),
            "minItems" => self.count(value, at).map(|limit| Keyword::ItemCount { limit, is_lower: true }),
            "maxItems" => self.count(value, at).map(|limit| Keyword::ItemCount { limit, is_lower: false }),
            "uniqueItems" => self.flag(value, at).then_some(Keyword::UniqueItems),
            "minProperties" => self.count(value, at).map(|limit| Keyword::MemberCount { limit, is_lower: true }),
            "maxProperties" => self.count(value, at).map(|limit| Keyword::MemberCount { limit, is_lower: false }),
            "required" => self.names(value, at).map(Keyword::Required),
            "dependentRequired" => self.dependent_names(value, at).map(Keyword::DependentRequired),
            "dependentSchemas" => Some(Keyword::DependentSchemas(self.each_named(value, at))),
            "dependencies" => self.dependencies(value, at),
            "propertyNames" => Some(Keyword::MemberNames(self.node(value, at))),
            "contains" => Some(self.contains(value, beside, within)),
            "allOf" => self.each_of(value, at).map(Keyword::AllOf),
            "anyOf" => self.each_of(value, at).map(Keyword::AnyOf),
            "oneOf" => self.each_of(value, at).map(Keyword::OneOf),
            "not" => Some(Keyword::Not(self.node(value, at))),
            "if" => Some(self.condition(value, beside, within)),
            "unevaluatedItems" => Some(Keyword::UnevaluatedItems(self.node(value, at))),
            "unevaluatedProperties" => Some(Keyword::UnevaluatedMembers(self.node(value, at))),
            _ => None,
        }
    }

    fn dialect(&mut self, value: &Value, at: &Place<'_>) -> Option<Keyword> {
        let dialect = value.as_str().unwrap_or_default();
        let bare = dialect.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('#');
        if !DIALECTS.contains(&bare) {
            self.problem(at, "not_supported", "is no dialect that is read here: drafts 6, 7, 2019-09 and 2020-12 are");
        }
        None
    }

    fn reference(&mut self, id: NodeId, value: &Value, at: &Place<'_>) -> Option<Keyword> {
        let pointer = value.as_str().and_then(|text| text.strip_prefix('#')).and_then(unescaped);
        match pointer.filter(|pointer| pointer.is_empty() || pointer.starts_with('/')) {
            None => self.problem(
                at,
                "not_supported",
                "leads out of the schema: a $ref is # and a JSON pointer, as in #/$defs/Page",
            ),
            Some(pointer) => match self.root.pointer(&pointer) {
                None => self.problem(at, "value_error", "leads nowhere"),
                Some(target) => self.refs.push((id, target, pointer)),
            },
        }
        None
    }

    /// Reads what is referred to, and what that refers to.
    fn follow(&mut self) {
        while let Some((id, target, pointer)) = self.refs.pop() {
            let to = self.node(target, &Place::Pointer(self.at, &pointer));
            self.nodes[id].keywords.push(Keyword::Ref(to));
        }
    }

    /// Whether a schema comes back to itself without having gone into the value: it would be tried for ever.
    fn is_circular(&self) -> bool {
        let onward = |id: NodeId| {
            let nodes: Vec<NodeId> = self.nodes[id].keywords.iter().flat_map(Keyword::in_place).collect();
            nodes.into_iter()
        };
        #[derive(Clone, Copy, PartialEq)]
        enum Visit {
            None,
            Begun,
            Done,
        }
        let mut visits = vec![Visit::None; self.nodes.len()];
        for start in 0..self.nodes.len() {
            if visits[start] == Visit::Done {
                continue;
            }
            visits[start] = Visit::Begun;
            // On a way of its own, because the way may be as long as the schema.
            let mut way = vec![(start, onward(start))];
            while let Some((id, rest)) = way.last_mut() {
                let Some(next) = rest.next() else {
                    visits[*id] = Visit::Done;
                    way.pop();
                    continue;
                };
                match visits[next] {
                    Visit::Begun => return true,
                    Visit::Done => {}
                    Visit::None => {
                        visits[next] = Visit::Begun;
                        way.push((next, onward(next)));
                    }
                }
            }
        }
        false
    }

    fn types(&mut self, value: &Value, at: &Place<'_>) -> Option<Vec<Kind>> {
        let words = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let mut kinds = Vec::new();
        for word in words {
            let kind = word.as_str().and_then(Kind::of_word);
            if kind.is_some_and(|kind| !kinds.contains(&kind)) {
                kinds.extend(kind);
            }
            if kind.is_none() {
                kinds.clear();
                break;
            }
        }
        if kinds.is_empty() {
            self.problem(
                at,
                "value_error",
                "must be null, boolean, object, array, number, integer or string, or a list of them",
            );
        }
        Some(kinds)
    }

    fn bound(&mut self, value: &Value, at: &Place<'_>, is_lower: bool, is_open: bool) -> Option<Keyword> {
        self.number(value, at).map(|limit| Keyword::Bound { limit, is_lower, is_open })
    }

    fn number(&mut self, value: &Value, at: &Place<'_>) -> Option<Number> {
        let number = value.as_number().cloned();
        if number.is_none() {
            self.problem(at, "type_error", "must be a number");
        }
        number
    }

    fn count(&mut self, value: &Value, at: &Place<'_>) -> Option<u64> {
        // 3.0 is a count as well.
        let whole =
            |number: &Number| number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..9e15).contains(float));
        let count = value.as_u64().or_else(|| value.as_number().and_then(whole).map(|float| float as u64));
        if count.is_none() {
            self.problem(at, "type_error", "must be a whole number from 0");
        }
        count
    }

    fn flag(&mut self, value: &Value, at: &Place<'_>) -> bool {
        if !value.is_boolean() {
            self.problem(at, "type_error", "must be true or false");
        }
        value.as_bool().unwrap_or_default()
    }

    fn list(&mut self, value: &'s Value, at: &Place<'_>) -> Option<&'s Vec<Value>> {
        let list = value.as_array();
        if list.is_none() {
            self.problem(at, "type_error", "must be a list");
        }
        list
    }

    fn object(&mut self, value: &'s Value, at: &Place<'_>) -> Option<&'s Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.problem(at, "type_error", "must be an object");
        }
        object
    }

    fn names(&mut self, value: &Value, at: &Place<'_>) -> Option<Vec<String>> {
        let names = value.as_array().map(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
        let names: Option<Vec<String>> = names.flatten();
        if names.is_none() {
            self.problem(at, "type_error", "must be a list of names");
        }
        names
    }

    fn pattern(&mut self, text: Option<&str>, at: &Place<'_>) -> Option<Pattern> {
        let Some(text) = text else {
            self.problem(at, "type_error", "must be a string");
            return None;
        };
        self.patterns += 1;
        // Compiling them is what takes long.
        if self.patterns > limits::MAX_SCHEMA_PATTERNS {
            self.problem(at, "value_error", format!("is one pattern more than {}", limits::MAX_SCHEMA_PATTERNS));
            return None;
        }
        Pattern::new(text).map_err(|message| self.problem(at, "value_error", message)).ok()
    }

    fn each_of(&mut self, value: &'s Value, at: &Place<'_>) -> Option<Vec<NodeId>> {
        let schemas = self.list(value, at)?;
        if schemas.is_empty() {
            self.problem(at, "value_error", "must not be empty");
        }
        Some(schemas.iter().enumerate().map(|(index, schema)| self.node(schema, &Place::Item(at, index))).collect())
    }

    fn each_named(&mut self, value: &'s Value, at: &Place<'_>) -> Vec<(String, NodeId)> {
        let Some(schemas) = self.object(value, at) else { return Vec::new() };
        let read = |(name, schema): (&String, &'s Value)| (name.clone(), self.node(schema, &Place::Member(at, name)));
        schemas.iter().map(read).collect()
    }

    fn dependent_names(&mut self, value: &'s Value, at: &Place<'_>) -> Option<Vec<(String, Vec<String>)>> {
        let members = self.object(value, at)?;
        let read =
            |(name, names): (&String, &Value)| Some((name.clone(), self.names(names, &Place::Member(at, name))?));
        Some(members.iter().filter_map(read).collect())
    }

    /// Draft 7 had names and schemas under one word.
    fn dependencies(&mut self, value: &'s Value, at: &Place<'_>) -> Option<Keyword> {
        let mut schemas = Vec::new();
        for (name, needed) in self.object(value, at)? {
            let at = &Place::Member(at, name);
            let node = match needed {
                Value::Array(_) => {
                    let names = self.names(needed, at).unwrap_or_default();
                    self.nodes.push(Node { keywords: vec![Keyword::Required(names)] });
                    self.nodes.len() - 1
                }
                schema => self.node(schema, at),
            };
            schemas.push((name.clone(), node));
        }
        Some(Keyword::DependentSchemas(schemas))
    }

    fn contains(&mut self, value: &'s Value, beside: &'s Map<String, Value>, within: &Place<'_>) -> Keyword {
        let mut limit = |word: &str| beside.get(word).and_then(|count| self.count(count, &Place::Member(within, word)));
        let (least, most) = (limit("minContains"), limit("maxContains"));
        Keyword::Contains {
            node: self.node(value, &Place::Member(within, "contains")),
            least: least.unwrap_or(1),
            most,
        }
    }

    fn condition(&mut self, value: &'s Value, beside: &'s Map<String, Value>, within: &Place<'_>) -> Keyword {
        let condition = self.node(value, &Place::Member(within, "if"));
        let mut branch = |word: &str| beside.get(word).map(|schema| self.node(schema, &Place::Member(within, word)));
        Keyword::If { condition, then: branch("then"), otherwise: branch("else") }
    }

    /// `prefixItems` and `items`, or as they were called before: a list in `items`, and `additionalItems`.
    fn items(&mut self, members: &'s Map<String, Value>, at: &Place<'_>) -> Option<Keyword> {
        let (first, rest) = match (members.get("prefixItems"), members.get("items")) {
            (None, Some(Value::Array(_))) => ("items", "additionalItems"),
            _ => ("prefixItems", "items"),
        };
        let (first, rest) = (members.get_key_value(first), members.get_key_value(rest));
        if first.is_none() && rest.is_none() {
            return None;
        }
        let first = match first {
            Some((word, schemas)) => self.each_of(schemas, &Place::Member(at, word))?,
            None => Vec::new(),
        };
        let rest = rest.map(|(word, schema)| self.node(schema, &Place::Member(at, word)));
        Some(Keyword::Items { first, rest })
    }

    fn members(&mut self, members: &'s Map<String, Value>, at: &Place<'_>) -> Option<Keyword> {
        let (named, patterns) = (members.get("properties"), members.get("patternProperties"));
        let rest = members.get("additionalProperties");
        if named.is_none() && patterns.is_none() && rest.is_none() {
            return None;
        }
        let named = named.map(|schemas| self.each_named(schemas, &Place::Member(at, "properties")));
        let patterns_at = &Place::Member(at, "patternProperties");
        let patterns = patterns.map(|schemas| self.each_named(schemas, patterns_at)).unwrap_or_default();
        let patterns = patterns
            .into_iter()
            .filter_map(|(text, node)| Some((self.pattern(Some(&text), &Place::Member(patterns_at, &text))?, node)))
            .collect();
        let rest = rest.map(|schema| self.node(schema, &Place::Member(at, "additionalProperties")));
        Some(Keyword::Members { named: named.unwrap_or_default().into_iter().collect(), patterns, rest })
    }
}

/// A fragment without its percent signs; `None` if that makes no text.
fn unescaped(fragment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
            let (high, low) = (digit()?, digit()?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

impl Keyword {
    /// In which order what a schema says is tried: the cheap first, what looks back on the rest last.
    fn rank(&self) -> u8 {
        match self {
            Self::Never | Self::Type(_) => 0,
            Self::Enum { .. }
            | Self::Bound { .. }
            | Self::MultipleOf(_)
            | Self::Length { .. }
            | Self::ItemCount { .. }
            | Self::MemberCount { .. }
            | Self::Required(_)
            | Self::DependentRequired(_) => 1,
            Self::Pattern(_) | Self::UniqueItems | Self::MemberNames(_) => 2,
            Self::Items { .. } | Self::Contains { .. } | Self::Members { .. } => 3,
            Self::Ref(_)
            | Self::AllOf(_)
            | Self::AnyOf(_)
            | Self::OneOf(_)
            | Self::Not(_)
            | Self::If { .. }
            | Self::DependentSchemas(_) => 4,
            Self::UnevaluatedItems(_) | Self::UnevaluatedMembers(_) => 5,
        }
    }

    /// The schemas that are tried on the same value.
    fn in_place(&self) -> Vec<NodeId> {
        match self {
            Self::Ref(node) | Self::Not(node) => vec![*node],
            Self::AllOf(nodes) | Self::AnyOf(nodes) | Self::OneOf(nodes) => nodes.clone(),
            Self::If { condition, then, otherwise } => {
                [Some(*condition), *then, *otherwise].into_iter().flatten().collect()
            }
            Self::DependentSchemas(schemas) => schemas.iter().map(|(_, node)| *node).collect(),
            _ => Vec::new(),
        }
    }
}
