//! Trying a schema on a value, within bounds.

mod members;

use std::collections::{BTreeSet, HashSet};

use eap_types::{FieldProblem, RawJson, limits};
use serde_json::Value;

use super::pattern::Pattern;
use super::place::Place;
use super::{BYTES_A_STEP, InputSchema, Keyword, Kind, NodeId, equal, words_for};

/// How many schemas may be tried one within the other.
const MAX_DEPTH: usize = 256;
/// Characters of a pattern that are shown to people.
const SHOWN_CHARS: usize = 100;
/// What writing down a problem takes.
const STEPS_A_PROBLEM: usize = 16;

/// What the schemas tried on one value looked at, for `unevaluatedItems` and `unevaluatedProperties`.
#[derive(Default)]
struct Seen<'v> {
    names: HashSet<&'v str>,
    items: BTreeSet<usize>,
}

/// One check on its way through schema and value.
pub(super) struct Walk<'s> {
    schema: &'s InputSchema,
    steps: &'s mut u64,
    /// Problems found so far; `None` if nobody wants to know more than whether there is one.
    found: Option<Vec<FieldProblem>>,
    depth: usize,
    is_cut_short: bool,
}

impl<'s> Walk<'s> {
    pub(super) fn new(schema: &'s InputSchema, steps: &'s mut u64, found: Option<Vec<FieldProblem>>) -> Self {
        Self { schema, steps, found, depth: 0, is_cut_short: false }
    }

    pub(super) fn is_good(&mut self, value: &Value, place: &Place<'_>) -> bool {
        self.tries(0, value, place, &mut Seen::default())
    }

    /// Whether the check was given up, so that its answer says nothing.
    pub(super) fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    pub(super) fn into_problems(self) -> Vec<FieldProblem> {
        self.found.unwrap_or_default()
    }

    /// Counts what is about to be done; `false` if that is too much.
    fn may_take(&mut self, steps: usize) -> bool {
        match self.steps.checked_sub(steps as u64) {
            Some(left) => *self.steps = left,
            None => self.is_cut_short = true,
        }
        !self.is_cut_short
    }

    fn tries<'v>(&mut self, node: NodeId, value: &'v Value, place: &Place<'_>, seen: &mut Seen<'v>) -> bool {
        if self.depth == MAX_DEPTH {
            self.is_cut_short = true;
        }
        if !self.may_take(1) {
            return true;
        }
        self.depth += 1;
        let mut is_good = true;
        // A schema sees what those within it looked at, not what was looked at beside it.
        let mut own = Seen::default();
        let schema = self.schema;
        for keyword in &schema.nodes[node].keywords {
            is_good &= self.keyword(keyword, value, place, &mut own);
            if self.is_enough(is_good) {
                break;
            }
        }
        self.depth -= 1;
        if is_good && schema.tracks && self.may_take(own.names.len() + own.items.len()) {
            seen.names.extend(own.names);
            seen.items.extend(own.items);
        }
        is_good
    }

    /// The same, without telling of problems.
    fn fits<'v>(&mut self, node: NodeId, value: &'v Value, seen: &mut Seen<'v>) -> bool {
        let found = self.found.take();
        let is_good = self.tries(node, value, &Place::Root(""), seen);
        self.found = found;
        is_good
    }

    /// What a schema has to say against a value, for a choice among several.
    fn objections(&mut self, node: NodeId, value: &Value, place: &Place<'_>) -> Vec<FieldProblem> {
        let found = self.found.replace(Vec::new());
        self.tries(node, value, place, &mut Seen::default());
        std::mem::replace(&mut self.found, found).unwrap_or_default()
    }

    fn says(&mut self, is_good: bool, place: &Place<'_>, kind: &str, message: impl FnOnce() -> String) -> bool {
        let has_room = |found: &Vec<FieldProblem>| found.len() < limits::MAX_FIELD_PROBLEMS;
        if !is_good && self.found.as_ref().is_some_and(has_room) && self.may_take(STEPS_A_PROBLEM) {
            let problem = FieldProblem::new(self.written(place), kind, message());
            self.found.get_or_insert_default().push(problem);
        }
        is_good
    }

    /// A place in words; one far down is long.
    fn written(&mut self, place: &Place<'_>) -> String {
        let written = place.to_string();
        self.may_take(written.len() / BYTES_A_STEP);
        written
    }

    fn keyword<'v>(&mut self, keyword: &'s Keyword, value: &'v Value, place: &Place<'_>, seen: &mut Seen<'v>) -> bool {
        match keyword {
            Keyword::Never => self.says(false, place, "value_error", || "is not allowed here".to_owned()),
            Keyword::Type(kinds) => {
                let is_good = kinds.iter().any(|kind| kind.is_of(value));
                self.says(is_good, place, "type_error", || {
                    format!("expected {}, got {}", listed(kinds), words_for(value))
                })
            }
            Keyword::Enum { wanted, message } => {
                let mut steps = 0;
                let is_good = wanted.iter().any(|wanted| equal::is_same(wanted, value, &mut steps));
                self.may_take(steps);
                self.says(is_good, place, "value_error", || message.clone())
            }
            Keyword::Ref(node) => self.tries(*node, value, place, seen),
            Keyword::AllOf(nodes) => self.all_of(nodes, value, place, seen),
            Keyword::AnyOf(nodes) => {
                // All of them, where what they look at counts.
                let mut fitting = 0;
                for node in nodes {
                    fitting += usize::from(self.fits(*node, value, seen));
                    if fitting > 0 && !self.schema.tracks {
                        break;
                    }
                }
                fitting > 0 || self.fits_none(nodes, value, place)
            }
            Keyword::OneOf(nodes) => match nodes.iter().filter(|node| self.fits(**node, value, seen)).count() {
                0 => self.fits_none(nodes, value, place),
                1 => true,
                _ => {
                    self.says(false, place, "value_error", || "fits more than one of the forms it may have".to_owned())
                }
            },
            Keyword::Not(node) => {
                let is_good = !self.fits(*node, value, &mut Seen::default());
                self.says(is_good, place, "value_error", || "has a form that is not allowed here".to_owned())
            }
            Keyword::If { condition, then, otherwise } => {
                let branch = if self.fits(*condition, value, seen) { then } else { otherwise };
                branch.is_none_or(|node| self.tries(node, value, place, seen))
            }
            keyword => match value {
                Value::Number(number) => self.of_number(keyword, number, place),
                Value::String(text) => self.of_text(keyword, text, place),
                Value::Array(items) => self.of_items(keyword, items, place, seen),
                Value::Object(members) => self.of_members(keyword, value, members, place, seen),
                Value::Null | Value::Bool(_) => true,
            },
        }
    }

    fn all_of<'v>(&mut self, nodes: &[NodeId], value: &'v Value, place: &Place<'_>, seen: &mut Seen<'v>) -> bool {
        let mut is_good = true;
        for node in nodes {
            is_good &= self.tries(*node, value, place, seen);
            if self.is_enough(is_good) {
                break;
            }
        }
        is_good
    }

    /// Tells why none of several forms fits: of one alone if the value is clearly meant to have that.
    fn fits_none(&mut self, nodes: &[NodeId], value: &Value, place: &Place<'_>) -> bool {
        if self.found.is_none() {
            return false;
        }
        let here = self.written(place);
        let mut meant: Option<Vec<FieldProblem>> = None;
        let mut is_alone = true;
        for node in nodes {
            let objections = self.objections(*node, value, place);
            // What is wrong with the value itself, or with the word that tells forms apart, speaks against the form.
            let is_at_the_door = |problem: &FieldProblem| {
                let below = problem.field.strip_prefix(&here).unwrap_or_default();
                below.is_empty() || (below.matches('/').count() == 1 && problem.message.starts_with(MUST_BE))
            };
            if objections.is_empty() || objections.iter().any(is_at_the_door) {
                continue;
            }
            if meant.is_some() {
                is_alone = false;
                break;
            }
            meant = Some(objections);
        }
        match meant {
            Some(problems) if is_alone => {
                let found = self.found.get_or_insert_default();
                found.extend(problems);
                found.truncate(limits::MAX_FIELD_PROBLEMS);
                false
            }
            _ => {
                self.says(false, place, "value_error", || format!("has none of the {} forms it may have", nodes.len()))
            }
        }
    }

    fn of_number(&mut self, keyword: &Keyword, number: &serde_json::Number, place: &Place<'_>) -> bool {
        match keyword {
            Keyword::Bound { limit, is_lower, is_open } => {
                let order = equal::compare(number, limit);
                let is_good = order.is_none_or(|order| {
                    let is_past = if *is_lower { order.is_lt() } else { order.is_gt() };
                    !(is_past || (*is_open && order.is_eq()))
                });
                let than = match (is_lower, is_open) {
                    (true, false) => "at least",
                    (true, true) => "more than",
                    (false, false) => "at most",
                    (false, true) => "less than",
                };
                self.says(is_good, place, "value_error", || format!("must be {than} {limit}"))
            }
            Keyword::MultipleOf(unit) => {
                let is_good = equal::is_multiple(number, unit);
                self.says(is_good, place, "value_error", || format!("must be a multiple of {unit}"))
            }
            _ => true,
        }
    }

    fn of_text(&mut self, keyword: &Keyword, text: &str, place: &Place<'_>) -> bool {
        match keyword {
            Keyword::Length { limit, is_lower } => {
                self.may_take(text.len() / BYTES_A_STEP);
                let chars = text.chars().count() as u64;
                self.counts(chars, *limit, *is_lower, "characters", place)
            }
            Keyword::Pattern(pattern) => {
                let is_good = self.is_in(pattern, text);
                self.says(is_good, place, "value_error", || {
                    let shown: String = pattern.as_str().chars().take(SHOWN_CHARS).collect();
                    format!("must match the pattern {shown}")
                })
            }
            _ => true,
        }
    }

    fn is_in(&mut self, pattern: &Pattern, text: &str) -> bool {
        !self.may_take(pattern.steps(text)) || pattern.is_in(text)
    }

    fn counts(&mut self, count: u64, limit: u64, is_lower: bool, what: &str, place: &Place<'_>) -> bool {
        let is_good = if is_lower { count >= limit } else { count <= limit };
        let than = if is_lower { "at least" } else { "at most" };
        self.says(is_good, place, "value_error", || format!("must have {than} {limit} {what}"))
    }

    fn of_items<'v>(&mut self, keyword: &Keyword, items: &'v [Value], place: &Place<'_>, seen: &mut Seen<'v>) -> bool {
        match keyword {
            Keyword::ItemCount { limit, is_lower } => {
                self.counts(items.len() as u64, *limit, *is_lower, "entries", place)
            }
            Keyword::UniqueItems => {
                let is_good = self.are_unique(items);
                self.says(is_good, place, "value_error", || "must not have the same entry twice".to_owned())
            }
            Keyword::Items { first, rest } => {
                let nodes = first.iter().copied().map(Some).chain(std::iter::repeat(*rest));
                let mut is_good = true;
                for ((index, item), node) in items.iter().enumerate().zip(nodes) {
                    let Some(node) = node else { break };
                    is_good &= self.item(node, index, item, place, seen);
                    if self.is_enough(is_good) {
                        break;
                    }
                }
                is_good
            }
            Keyword::Contains { node, least, most } => {
                let mut fitting = 0;
                for (index, item) in items.iter().enumerate() {
                    if self.fits(*node, item, &mut Seen::default()) {
                        fitting += 1;
                        self.note_item(index, seen);
                    }
                }
                let is_good = fitting >= *least && most.is_none_or(|most| fitting <= most);
                self.says(is_good, place, "value_error", || match most {
                    Some(most) => format!("must have {least} to {most} entries of a form that {fitting} have"),
                    None => format!("must have at least {least} entries of a form that {fitting} have"),
                })
            }
            Keyword::UnevaluatedItems(node) => {
                let mut is_good = true;
                for (index, item) in items.iter().enumerate() {
                    if !seen.items.contains(&index) {
                        is_good &= self.item(*node, index, item, place, seen);
                    }
                    if self.is_enough(is_good) {
                        break;
                    }
                }
                is_good
            }
            _ => true,
        }
    }

    fn item<'v>(
        &mut self,
        node: NodeId,
        index: usize,
        item: &'v Value,
        place: &Place<'_>,
        seen: &mut Seen<'v>,
    ) -> bool {
        self.note_item(index, seen);
        self.tries(node, item, &Place::Item(place, index), &mut Seen::default())
    }

    fn note_item(&mut self, index: usize, seen: &mut Seen<'_>) {
        if self.schema.tracks {
            seen.items.insert(index);
        }
    }

    fn are_unique(&mut self, items: &[Value]) -> bool {
        let mut texts = HashSet::with_capacity(items.len().min(1024));
        for item in items {
            let text = RawJson::from_serialize(item).expect("a part of JSON is JSON").canonical();
            if !self.may_take(1 + text.len()) {
                return true;
            }
            if !texts.insert(text) {
                return false;
            }
        }
        true
    }

    /// Whether looking at more would change nothing.
    fn is_enough(&self, is_good: bool) -> bool {
        let is_told = self.found.as_ref().is_none_or(|found| found.len() >= limits::MAX_FIELD_PROBLEMS);
        self.is_cut_short || (!is_good && is_told)
    }
}

/// How a problem begins that names the words a value may be.
const MUST_BE: &str = "must be ";

impl Keyword {
    /// The value is one of these.
    pub(super) fn one_of(wanted: &[Value]) -> Self {
        const MOST: usize = 10;
        let shown: Vec<String> = wanted.iter().take(MOST).map(Value::to_string).collect();
        let shown: String = shown.join(" or ").chars().take(4 * SHOWN_CHARS).collect();
        let message = match wanted.len().saturating_sub(MOST) {
            0 => format!("{MUST_BE}{shown}"),
            more => format!("{MUST_BE}{shown} or one of {more} more"),
        };
        Self::Enum { wanted: wanted.to_vec(), message }
    }
}

fn listed(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| kind.words()).collect::<Vec<_>>().join(" or ")
}
