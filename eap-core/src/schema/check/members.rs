//! What a schema says of the members of an object.

use serde_json::{Map, Value};

use super::{Seen, Walk};
use crate::schema::place::Place;
use crate::schema::{BYTES_A_STEP, Keyword, NodeId};

impl Walk<'_> {
    pub(super) fn of_members<'v>(
        &mut self,
        keyword: &Keyword,
        value: &'v Value,
        members: &'v Map<String, Value>,
        place: &Place<'_>,
        seen: &mut Seen<'v>,
    ) -> bool {
        match keyword {
            Keyword::MemberCount { limit, is_lower } => {
                self.counts(members.len() as u64, *limit, *is_lower, "members", place)
            }
            Keyword::Required(names) => self.has_all(names, members, place),
            Keyword::DependentRequired(dependent) => {
                let mut is_good = self.may_take(dependent.len());
                for (_, names) in dependent.iter().filter(|(name, _)| members.contains_key(name)) {
                    is_good &= self.has_all(names, members, place);
                }
                is_good
            }
            Keyword::DependentSchemas(schemas) => {
                self.may_take(schemas.len());
                let nodes: Vec<NodeId> =
                    schemas.iter().filter(|(name, _)| members.contains_key(name)).map(|(_, node)| *node).collect();
                self.all_of(&nodes, value, place, seen)
            }
            Keyword::MemberNames(node) => {
                let mut is_good = true;
                for name in members.keys() {
                    self.may_take(name.len() / BYTES_A_STEP);
                    let is_name = self.fits(*node, &Value::String(name.clone()), &mut Seen::default());
                    let place = Place::Member(place, name);
                    is_good &=
                        self.says(is_name, &place, "value_error", || "has a name that is not allowed".to_owned());
                    if self.is_enough(is_good) {
                        break;
                    }
                }
                is_good
            }
            Keyword::Members { named, patterns, rest } => {
                let mut is_good = true;
                for (name, member) in members {
                    // Looked up by its name, even if no schema is for it.
                    if !self.may_take(1 + name.len() / BYTES_A_STEP) {
                        break;
                    }
                    let mut nodes: Vec<NodeId> = named.get(name).copied().into_iter().collect();
                    for (pattern, node) in patterns {
                        if self.is_in(pattern, name) {
                            nodes.push(*node);
                        }
                    }
                    if nodes.is_empty() {
                        nodes.extend(rest);
                    }
                    for node in nodes {
                        is_good &= self.member(node, name, member, place, seen);
                    }
                    if self.is_enough(is_good) {
                        break;
                    }
                }
                is_good
            }
            Keyword::UnevaluatedMembers(node) => {
                let mut is_good = true;
                for (name, member) in members {
                    if !seen.names.contains(name.as_str()) {
                        is_good &= self.member(*node, name, member, place, seen);
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

    fn member<'v>(
        &mut self,
        node: NodeId,
        name: &'v str,
        member: &'v Value,
        place: &Place<'_>,
        seen: &mut Seen<'v>,
    ) -> bool {
        if self.schema.tracks {
            seen.names.insert(name);
        }
        self.tries(node, member, &Place::Member(place, name), &mut Seen::default())
    }

    fn has_all(&mut self, names: &[String], members: &Map<String, Value>, place: &Place<'_>) -> bool {
        let mut is_good = self.may_take(names.len());
        for name in names {
            let has = members.contains_key(name);
            is_good &= self.says(has, &Place::Member(place, name), "missing", || "is required".to_owned());
        }
        is_good
    }
}
