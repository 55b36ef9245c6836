//! Query strings: known names, checked values, all problems at once.

use std::collections::HashMap;
use std::str::FromStr;

use eap_types::{FieldProblem, limits};
use http::Uri;

use crate::error::Error;

/// The parameters of a query string. A name that is not asked for is ignored, as unknown fields are.
pub(crate) struct Query {
    given: HashMap<String, String>,
    problems: Vec<FieldProblem>,
}

impl Query {
    pub(crate) fn of(uri: &Uri) -> Self {
        let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let given = pairs.into_owned().filter(|(_, value)| !value.is_empty()).collect();
        Self { given, problems: Vec::new() }
    }

    /// A value, if it is given; one that cannot be read becomes a problem.
    pub(crate) fn get<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T> {
        let parsed = self.given.get(name)?.parse();
        if parsed.is_err() {
            self.problems.push(FieldProblem::new(format!("query.{name}"), "value_error", expected));
        }
        parsed.ok()
    }

    /// A number within a range.
    pub(crate) fn number(&mut self, name: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("This is a number from {} to {}.", range.start(), range.end());
        let number = self.get(name, &expected)?;
        if !range.contains(&number) {
            self.problems.push(FieldProblem::new(format!("query.{name}"), "value_error", expected));
        }
        Some(number)
    }

    /// Which page of a list: where it goes on, and how much it holds.
    pub(crate) fn page(&mut self) -> (Option<String>, Option<usize>) {
        let cursor = self.get("cursor", "This is the next_cursor of an earlier page.");
        let limit = self.number("limit", 1..=limits::MAX_PAGE as u64);
        (cursor, limit.and_then(|limit| usize::try_from(limit).ok()))
    }

    /// All problems that were found.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.problems.is_empty() { Ok(()) } else { Err(Error::Invalid { problems: self.problems }) }
    }
}
