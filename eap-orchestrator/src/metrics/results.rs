//! Reported results, by what became of them.

use std::array;

use eap_types::{FailureCode, ResultStatus, TaskResult};

use super::Counter;
use crate::error::Error;

/// What a report said, kept while it is on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reported {
    Completed,
    Failed(FailureCode),
}

/// One counter for each way a report can end.
#[derive(Debug)]
pub(crate) struct ResultCounters {
    completed: Counter,
    failed: [Counter; FailureCode::ALL.len()],
    duplicate: Counter,
    late: Counter,
    conflict: Counter,
    refused: Counter,
    unrecorded: Counter,
}

impl Default for ResultCounters {
    fn default() -> Self {
        Self {
            completed: Counter::default(),
            failed: array::from_fn(|_| Counter::default()),
            duplicate: Counter::default(),
            late: Counter::default(),
            conflict: Counter::default(),
            refused: Counter::default(),
            unrecorded: Counter::default(),
        }
    }
}

impl Reported {
    pub(crate) fn of(result: &TaskResult) -> Self {
        match result.status {
            ResultStatus::Completed => Self::Completed,
            // As the core reads it.
            _ => Self::Failed(result.error_code.unwrap_or(FailureCode::HandlerError)),
        }
    }
}

impl ResultCounters {
    /// The report was taken; `is_duplicate` if it was known.
    pub(crate) fn taken(&self, reported: Reported, is_duplicate: bool) {
        let counter = match reported {
            _ if is_duplicate => &self.duplicate,
            Reported::Completed => &self.completed,
            Reported::Failed(code) => &self.failed[code as usize],
        };
        counter.add(1);
    }

    /// The report was not taken.
    pub(crate) fn not_taken(&self, why: &Error) {
        let counter = match why {
            Error::LeaseLost { .. } | Error::TaskFinal { .. } => &self.late,
            Error::ResultConflict { .. } => &self.conflict,
            Error::Store(_) | Error::Busy { .. } | Error::Broken | Error::Draining => &self.unrecorded,
            _ => &self.refused,
        };
        counter.add(1);
    }

    /// Every outcome with its error code, and how many there were.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let failed = FailureCode::ALL.iter().zip(&self.failed);
        let plain = [
            ("completed", &self.completed),
            ("duplicate", &self.duplicate),
            ("late", &self.late),
            ("conflict", &self.conflict),
            ("refused", &self.refused),
            ("unrecorded", &self.unrecorded),
        ];
        let plain = plain.into_iter().map(|(outcome, counter)| (outcome, "", counter.get()));
        plain.chain(failed.map(|(code, counter)| ("failed", code.as_str(), counter.get())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_counted_under_its_own_word() {
        for (index, code) in FailureCode::ALL.iter().enumerate() {
            assert_eq!(*code as usize, index, "{code}");
        }
    }
}
