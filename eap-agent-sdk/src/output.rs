//! What a handler emits while it works, until the orchestrator has it.

use std::fmt;
use std::mem;
use std::time::Duration;

use eap_types::{ProgressReport, limits};

use crate::progress::DEADLINE;

/// How long a result waits at most for what its handler emitted: as long as one report may take.
pub(crate) const LONGEST_HOLD: Duration = DEADLINE;

/// The output of one attempt that is not told yet. It is bounded, as an attempt may emit so much in all.
#[derive(Default)]
pub(crate) struct Outgoing {
    waiting: String,
    /// How many bytes were emitted in all.
    emitted: usize,
    /// Whether nothing more is taken in.
    is_closed: bool,
    /// The report that carries a part and has no answer yet: it is repeated as it was.
    unanswered: Option<ProgressReport>,
}

impl Outgoing {
    /// Takes a part in; says whether it is the one that is cut, as there is no room for all of it.
    pub(crate) fn add(&mut self, delta: &str) -> bool {
        if self.is_closed {
            return false;
        }
        let taken = beginning(delta, limits::MAX_OUTPUT_BYTES - self.emitted);
        self.waiting.push_str(taken);
        self.emitted += taken.len();
        self.is_closed = taken.len() < delta.len();
        self.is_closed
    }

    /// Whether all of it was told, or will not be.
    pub(crate) fn is_told(&self) -> bool {
        self.waiting.is_empty() && self.unanswered.is_none()
    }

    /// All that waits, which is all that was emitted while nobody takes it.
    #[cfg(feature = "testing")]
    pub(crate) fn waiting(&self) -> &str {
        &self.waiting
    }

    /// The report that is to be repeated.
    pub(crate) fn unanswered(&self) -> Option<&ProgressReport> {
        self.unanswered.as_ref()
    }

    /// Puts as much as fits into a report, and keeps that until it has an answer.
    pub(crate) fn fill(&mut self, report: &mut ProgressReport) {
        if self.waiting.is_empty() {
            return;
        }
        let rest = self.waiting.split_off(beginning(&self.waiting, limits::MAX_OUTPUT_DELTA_BYTES).len());
        report.output_delta = Some(mem::replace(&mut self.waiting, rest));
        self.unanswered = Some(report.clone());
    }

    /// The report that was sent last has an answer.
    pub(crate) fn answered(&mut self) {
        self.unanswered = None;
    }

    /// Takes nothing more in: the handler is through.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Forgets what was not told: nobody would take it.
    pub(crate) fn give_up(&mut self) {
        self.close();
        self.waiting = String::new();
        self.unanswered = None;
    }
}

/// What a handler emits is a user's data and stays out of logs.
impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("waiting", &self.waiting.len())
            .field("emitted", &self.emitted)
            .finish_non_exhaustive()
    }
}

/// As many whole characters of a text as fit into so many bytes.
fn beginning(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(outgoing: &mut Outgoing) -> Vec<String> {
        let mut parts = Vec::new();
        while !outgoing.is_told() {
            let mut report = ProgressReport::new(parts.len() as u64);
            outgoing.fill(&mut report);
            parts.push(report.output_delta.expect("there was something to tell"));
            outgoing.answered();
        }
        parts
    }

    #[test]
    fn parts_are_joined_and_cut_between_characters() {
        let mut outgoing = Outgoing::default();
        let text = "ä".repeat(limits::MAX_OUTPUT_DELTA_BYTES / 2) + "ö";
        outgoing.add("x");
        outgoing.add(&text);
        let parts = parts(&mut outgoing);
        // The last character but one would be cut in two.
        assert_eq!(parts.iter().map(String::len).collect::<Vec<_>>(), [limits::MAX_OUTPUT_DELTA_BYTES - 1, 4]);
        assert_eq!(parts.concat(), format!("x{text}"));
    }

    #[test]
    fn an_attempt_emits_a_mebibyte_and_is_told_once_that_there_is_no_more_room() {
        let mut outgoing = Outgoing::default();
        assert!(!outgoing.add(&"x".repeat(limits::MAX_OUTPUT_BYTES - 1)));
        assert!(outgoing.add("ä"), "half of it would fit");
        assert!(!outgoing.add("y"), "it was said already");
        assert_eq!(parts(&mut outgoing).concat().len(), limits::MAX_OUTPUT_BYTES - 1);
    }

    #[test]
    fn what_has_no_answer_is_not_told_and_what_is_given_up_is_not_repeated() {
        let mut outgoing = Outgoing::default();
        outgoing.add("one");
        let mut report = ProgressReport::new(1);
        outgoing.fill(&mut report);
        assert_eq!(outgoing.unanswered(), Some(&report));
        assert!(!outgoing.is_told());
        outgoing.give_up();
        outgoing.add("two");
        assert!(outgoing.is_told() && outgoing.unanswered().is_none());
    }
}
