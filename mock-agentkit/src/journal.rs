//! What the mock got and what it sent, for whoever tests against it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;

use eap_types::{AgentId, Timestamp};
use serde::Serialize;
use tokio::sync::watch;

/// Calls of either kind that are kept; the oldest make room.
const MOST_CALLS: usize = 10_000;
/// Bytes of bodies of either kind that are kept; the oldest make room.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// A call that the mock got; those to `/control` are left out.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReceivedCall {
    /// Counts the calls from 1.
    pub number: u64,
    /// When it came.
    pub at: Timestamp,
    /// As in `POST`.
    pub method: String,
    /// The path with the query.
    pub path: String,
    /// The headers by name, without `authorization`.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
    /// The answer; `None` while there is none.
    pub status: Option<u16>,
}

/// A message that the mock sent, or was to send.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SentCall {
    /// Counts the messages from 1, in the order in which what they tell of came to pass.
    pub number: u64,
    /// When that was.
    pub at: Timestamp,
    /// What it tells.
    pub kind: SentKind,
    /// The agent that it is about.
    pub agent_id: AgentId,
    /// Where it goes.
    pub url: String,
    /// The headers by name, without `authorization`.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
    /// Each try, in order; the copies of a fault among them.
    pub attempts: Vec<Attempt>,
    /// What became of it.
    pub ending: Ending,
}

/// What a message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SentKind {
    /// A webhook: an agent came.
    Register,
    /// A webhook: an agent left.
    Deregister,
    /// How an agent is doing.
    State,
    /// A message for an agent, forwarded to where it can be called.
    Forward,
}

/// One try to send a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Attempt {
    /// When it began.
    pub at: Timestamp,
    /// What came of it.
    pub answer: Answer,
}

/// What came of a call.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    /// There was an answer.
    Answered {
        /// Its status.
        status: u16,
        /// Its body as text.
        body: String,
    },
    /// There was none.
    Failed {
        /// Why.
        why: String,
    },
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ending {
    /// It is still being sent.
    Pending,
    /// It was taken with a 2xx.
    Taken,
    /// It was refused for good.
    Refused,
    /// No try of as many as there may be was taken.
    GivenUp,
    /// A fault kept it from being sent.
    Dropped,
    /// The mock was stopped before.
    Cut,
}

impl Answer {
    /// The status, if there was an answer.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            Self::Failed { .. } => None,
        }
    }
}

impl SentCall {
    /// The status of the last answer, if there was any.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.attempts.iter().rev().find_map(|attempt| attempt.answer.status())
    }

    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        value_of(&self.headers, name)
    }

    pub(crate) const fn is_unfinished(&self) -> bool {
        matches!(self.ending, Ending::Pending | Ending::Cut)
    }
}

impl ReceivedCall {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        value_of(&self.headers, name)
    }
}

fn value_of<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

// Bodies are payloads: they are there for who asks for them, and stay out of logs.
impl fmt::Debug for ReceivedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, method, path, body, status, .. } = self;
        write!(f, "#{number} {method} {path} ({} bytes) -> {status:?}", body.len())
    }
}

impl fmt::Debug for SentCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, kind, agent_id, body, attempts, ending, .. } = self;
        let answers: Vec<_> = attempts.iter().map(|attempt| &attempt.answer).collect();
        write!(f, "#{number} {kind:?} of {agent_id} ({} bytes) -> {answers:?} {ending:?}", body.len())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { status, body } => write!(f, "{status} ({} bytes)", body.len()),
            Self::Failed { why } => f.write_str(why),
        }
    }
}

/// One kind of calls, numbered without a gap.
#[derive(Debug)]
struct Log<T> {
    calls: VecDeque<T>,
    /// The number of the next one.
    next: u64,
    bytes: usize,
}

impl<T> Log<T> {
    fn add(&mut self, make: impl FnOnce(u64) -> T, size: impl Fn(&T) -> usize) -> u64 {
        let (number, call) = (self.next, make(self.next));
        self.bytes += size(&call);
        self.calls.push_back(call);
        self.next += 1;
        while self.calls.len() > MOST_CALLS || self.bytes > MOST_BYTES && self.calls.len() > 1 {
            self.bytes -= self.calls.pop_front().as_ref().map_or(0, &size);
        }
        number
    }

    /// A call that may have made room by now.
    fn get(&mut self, number: u64) -> Option<&mut T> {
        let first = self.next - self.calls.len() as u64;
        self.calls.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    fn clear(&mut self) {
        self.calls.clear();
        self.bytes = 0;
    }
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self { calls: VecDeque::new(), next: 1, bytes: 0 }
    }
}

/// Both kinds, and word of every change.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    received: Mutex<Log<ReceivedCall>>,
    sent: Mutex<Log<SentCall>>,
    changes: watch::Sender<()>,
}

const NO_PANIC: &str = "nothing panics while it holds the journal";

impl Journal {
    pub(crate) fn arrived(&self, make: impl FnOnce(u64) -> ReceivedCall) -> u64 {
        let number = self.received.lock().expect(NO_PANIC).add(make, |call| call.body.len());
        self.changes.send_replace(());
        number
    }

    pub(crate) fn answered(&self, number: u64, status: u16) {
        if let Some(call) = self.received.lock().expect(NO_PANIC).get(number) {
            call.status = Some(status);
        }
        self.changes.send_replace(());
    }

    pub(crate) fn sending(&self, make: impl FnOnce(u64) -> SentCall) -> u64 {
        let number = self.sent.lock().expect(NO_PANIC).add(make, |call| call.body.len());
        self.changes.send_replace(());
        number
    }

    pub(crate) fn tried(&self, number: u64, attempt: Attempt) {
        if let Some(call) = self.sent.lock().expect(NO_PANIC).get(number) {
            call.attempts.push(attempt);
        }
        self.changes.send_replace(());
    }

    pub(crate) fn ended(&self, number: u64, ending: Ending) {
        if let Some(call) = self.sent.lock().expect(NO_PANIC).get(number) {
            call.ending = ending;
        }
        self.changes.send_replace(());
    }

    pub(crate) fn received(&self) -> Vec<ReceivedCall> {
        self.received.lock().expect(NO_PANIC).calls.iter().cloned().collect()
    }

    pub(crate) fn sent(&self) -> Vec<SentCall> {
        self.sent.lock().expect(NO_PANIC).calls.iter().cloned().collect()
    }

    pub(crate) fn forget_received(&self) {
        self.received.lock().expect(NO_PANIC).clear();
    }

    pub(crate) fn forget_sent(&self) {
        self.sent.lock().expect(NO_PANIC).clear();
    }

    /// Looks now and after every change, until there is something to give.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        // Subscribed before the first look, so that no change falls between the two.
        let mut changes = self.changes.subscribe();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            changes.changed().await.expect("the journal keeps the sender");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u64, body: &str) -> ReceivedCall {
        let (at, method, path) = (Timestamp::UNIX_EPOCH, "GET".to_owned(), "/".to_owned());
        ReceivedCall { number, at, method, path, headers: Vec::new(), body: body.to_owned(), status: None }
    }

    #[test]
    fn the_oldest_make_room_and_the_others_keep_their_numbers() {
        let journal = Journal::default();
        for _ in 0..MOST_CALLS + 5 {
            journal.arrived(|number| call(number, "x"));
        }
        journal.answered(3, 500);
        journal.answered(7, 200);
        let kept = journal.received();
        assert_eq!((kept.len(), kept[0].number, kept[1].status), (MOST_CALLS, 6, Some(200)));
        journal.forget_received();
        journal.answered(7, 200);
        assert_eq!(journal.arrived(|number| call(number, "x")), MOST_CALLS as u64 + 6);
    }

    #[test]
    fn bodies_are_bounded_and_never_printed() {
        let journal = Journal::default();
        let body = "s3cret".repeat(MOST_BYTES / 24);
        for _ in 0..6 {
            journal.arrived(|number| call(number, &body));
        }
        assert_eq!(journal.received().len(), 4);
        assert!(!format!("{:?}", call(1, "s3cret")).contains("s3cret"));
    }
}
