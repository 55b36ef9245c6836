//! How the journal is spelled: records one after the other, each a byte that says what it is, numbers of eight bytes, and
//! texts behind their length.

use std::borrow::Cow;

use eap_types::{AgentId, TaskId, TenantId};

use super::event_row::EventRow;
use super::fault::Fault;
use crate::store::Revision;
use crate::store::prepared::Kept;

const TASK: u8 = 1;
const STATE: u8 = 2;
const RESULT: u8 = 3;
const EVENT: u8 = 4;
/// Instead of the length of a text or the value of a number that is not there.
const ABSENT: u32 = u32::MAX;

/// What one commit did.
#[derive(Debug, Default)]
pub(super) struct Page(Vec<u8>);

/// One thing that it did.
pub(super) enum Record<'p> {
    /// A task as it then was.
    Task {
        seq: i64,
        revision: i64,
        spec: &'p str,
        state: &'p str,
    },
    /// A new state.
    State {
        seq: i64,
        revision: i64,
        state: &'p str,
    },
    Result {
        seq: i64,
        kept: Kept,
    },
    Event(EventRow),
}

impl Page {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn task(&mut self, seq: i64, revision: i64, spec: &str, state: &str) {
        self.0.push(TASK);
        self.number(seq);
        self.number(revision);
        self.text(Some(spec.as_bytes()));
        self.text(Some(state.as_bytes()));
    }

    pub(super) fn state(&mut self, seq: i64, revision: Revision, state: &str) {
        self.0.push(STATE);
        self.number(seq);
        self.number(revision.0.cast_signed());
        self.text(Some(state.as_bytes()));
    }

    pub(super) fn result(&mut self, seq: i64, Kept { attempt, recorded_at, text }: &Kept) {
        self.0.push(RESULT);
        self.number(seq);
        self.number(i64::from(*attempt));
        self.number(*recorded_at);
        self.text(Some(text.as_bytes()));
    }

    pub(super) fn event(&mut self, event: &EventRow) {
        self.0.push(EVENT);
        self.number(event.number);
        self.number(event.at);
        self.number(event.task_seq.unwrap_or(-1));
        self.number(event.attempt.map_or(-1, i64::from));
        self.text(Some(event.tenant.as_bytes()));
        self.text(Some(event.kind.as_bytes()));
        self.text(event.task.as_ref().map(|task| &task.as_bytes()[..]));
        self.text(event.agent.as_ref().map(|agent| agent.as_str().as_bytes()));
        self.text(event.detail.as_ref().map(String::as_bytes));
    }

    fn number(&mut self, number: i64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: Option<&[u8]>) {
        // Nothing that comes in is nearly as long.
        let length = text.map_or(ABSENT, |text| u32::try_from(text.len()).unwrap_or(ABSENT));
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(text.unwrap_or_default());
    }

    /// What stands on a page.
    pub(super) fn records(page: &[u8]) -> impl Iterator<Item = Result<Record<'_>, Fault>> {
        let mut rest = Rest(page);
        std::iter::from_fn(move || (!rest.0.is_empty()).then(|| rest.record()))
    }
}

/// What is left to read of a page.
struct Rest<'p>(&'p [u8]);

impl<'p> Rest<'p> {
    fn record(&mut self) -> Result<Record<'p>, Fault> {
        let record = self.next();
        if record.is_err() {
            // Where the next one begins is not known.
            self.0 = &[];
        }
        record
    }

    fn next(&mut self) -> Result<Record<'p>, Fault> {
        match self.take(1)?[0] {
            TASK => Ok(Record::Task {
                seq: self.number()?,
                revision: self.number()?,
                spec: self.text()?,
                state: self.text()?,
            }),
            STATE => Ok(Record::State { seq: self.number()?, revision: self.number()?, state: self.text()? }),
            RESULT => {
                let seq = self.number()?;
                let attempt = u32::try_from(self.number()?).map_err(Fault::nonsense)?;
                let (recorded_at, text) = (self.number()?, self.text()?.to_owned());
                Ok(Record::Result { seq, kept: Kept { attempt, recorded_at, text } })
            }
            EVENT => self.event().map(Record::Event),
            _ => Err(Fault::nonsense("a record of the journal is of no known kind")),
        }
    }

    fn event(&mut self) -> Result<EventRow, Fault> {
        let (number, at) = (self.number()?, self.number()?);
        let (task_seq, attempt) = (self.number()?, self.number()?);
        let tenant: [u8; 16] = self.text_bytes()?.unwrap_or_default().try_into().map_err(Fault::nonsense)?;
        let kind = Cow::Owned(self.text()?.to_owned());
        let task = self.text_bytes()?.map(<[u8; 16]>::try_from).transpose().map_err(Fault::nonsense)?;
        let agent = self.optional_text()?.map(str::parse::<AgentId>).transpose().map_err(Fault::nonsense)?;
        Ok(EventRow {
            number,
            at,
            task_seq: (task_seq >= 0).then_some(task_seq),
            attempt: (attempt >= 0).then(|| u32::try_from(attempt)).transpose().map_err(Fault::nonsense)?,
            tenant: TenantId::from_bytes(tenant),
            kind,
            task: task.map(TaskId::from_bytes),
            agent,
            detail: self.optional_text()?.map(str::to_owned),
        })
    }

    fn take(&mut self, length: usize) -> Result<&'p [u8], Fault> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or_else(|| Fault::nonsense("a page of the journal ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<i64, Fault> {
        Ok(i64::from_le_bytes(self.take(8)?.try_into().map_err(Fault::nonsense)?))
    }

    fn text_bytes(&mut self) -> Result<Option<&'p [u8]>, Fault> {
        let length = u32::from_le_bytes(self.take(4)?.try_into().map_err(Fault::nonsense)?);
        if length == ABSENT { Ok(None) } else { self.take(length as usize).map(Some) }
    }

    fn optional_text(&mut self) -> Result<Option<&'p str>, Fault> {
        self.text_bytes()?.map(std::str::from_utf8).transpose().map_err(Fault::nonsense)
    }

    fn text(&mut self) -> Result<&'p str, Fault> {
        self.optional_text()?.ok_or_else(|| Fault::nonsense("a text of the journal is missing"))
    }
}
