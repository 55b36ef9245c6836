//! The schema that everything of a store stands in, and the names that statements have by it.

use std::borrow::Cow;

use crate::store::StoreError;

/// The schema that statements are written for.
const DEFAULT: &str = "eap";

/// The longest name that PostgreSQL keeps whole.
const MAX_BYTES: usize = 63;

/// A checked name of a schema.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    name: String,
    /// What stands in front of a table's name.
    prefix: String,
}

impl Schema {
    /// Checks a name: lower-case letters, digits and `_`, not a digit first, nothing that is PostgreSQL's own.
    pub(super) fn named(name: &str) -> Result<Self, StoreError> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let is_name = (1..=MAX_BYTES).contains(&name.len())
            && name.chars().all(is_plain)
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.starts_with("pg_");
        if !is_name {
            let reason = format!(
                "{name:?} cannot name a schema: it takes up to {MAX_BYTES} lower-case letters, digits and underscores, \
                 begins with no digit, and pg_ is PostgreSQL's own"
            );
            return Err(StoreError::Refused { reason });
        }
        Ok(Self { name: name.to_owned(), prefix: format!("\"{name}\".") })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where those who share the schema tell each other that something was committed. Another program's words there cost a
    /// look that finds nothing.
    pub(super) fn channel(&self) -> &str {
        &self.name
    }

    /// A statement for this schema, from one that names its tables as in `eap.task`.
    ///
    /// Full names, because a `search_path` would be state of a session, which no proxy keeps between transactions.
    pub(super) fn sql<'s>(&self, statement: &'s str) -> Cow<'s, str> {
        if self.name == DEFAULT {
            Cow::Borrowed(statement)
        } else {
            Cow::Owned(statement.replace("eap.", &self.prefix))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_the_schema_they_are_for() {
        let sql = "SELECT t.rev FROM eap.task t JOIN eap.result r ON r.seq = t.seq";
        assert_eq!(Schema::named("eap").unwrap().sql(sql), sql);
        let other = Schema::named("user").unwrap();
        assert_eq!(other.sql(sql), r#"SELECT t.rev FROM "user".task t JOIN "user".result r ON r.seq = t.seq"#);
    }

    #[test]
    fn a_name_is_a_plain_word() {
        for name in ["eap", "_", "a1_b", &"x".repeat(63)] {
            assert!(Schema::named(name).is_ok(), "{name}");
        }
        for name in ["", "1a", "Eap", "a-b", "a.b", "a\"b", "pg_temp", "ä", &"x".repeat(64)] {
            assert!(matches!(Schema::named(name), Err(StoreError::Refused { .. })), "{name}");
        }
    }
}
