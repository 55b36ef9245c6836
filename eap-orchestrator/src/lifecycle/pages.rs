//! Lists in pages: how much one holds, where it goes on, and where the next one does.

use eap_types::limits;

use super::invalid;
use crate::error::Error;
use crate::store::Insertion;

/// The size of a page: 50 unless told, 1 to 500.
pub(crate) fn page_limit(given: Option<usize>) -> Result<usize, Error> {
    let limit = given.unwrap_or(limits::DEFAULT_PAGE);
    if (1..=limits::MAX_PAGE).contains(&limit) {
        Ok(limit)
    } else {
        Err(invalid("query.limit", "The limit is a number from 1 to 500."))
    }
}

/// Where a page goes on.
pub(super) fn cursor(given: Option<&str>) -> Result<Option<Insertion>, Error> {
    let number = given.map(str::parse).transpose();
    let number = number.map_err(|_| invalid("query.cursor", "This is no cursor of an earlier page."))?;
    Ok(number.map(Insertion))
}

/// A page of what was found, which was asked for with one more than it shows; and where the next one begins, if there is one.
pub(super) fn cut<T>(mut found: Vec<(Insertion, T)>, limit: usize) -> (Vec<T>, Option<String>) {
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let next = found.last().filter(|_| !is_last).map(|(number, _)| number.0.to_string());
    (found.into_iter().map(|(_, entry)| entry).collect(), next)
}
