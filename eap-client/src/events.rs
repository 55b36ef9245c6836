//! The stream of events: typed, opened again from the last number when it breaks.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::time::Duration;

use eap_types::{EventQuery, EventView, EventsReset, header, path};
use http::Method;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::call::{AnswerBody, CallError};
use crate::error::ClientError;
use crate::operator::{OperatorClient, with_query};
use crate::sse::{Block, Parser};

/// The longest event that is read, in bytes.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// How long a stream may be silent: a server says something every 15 seconds.
const LONGEST_SILENCE: Duration = Duration::from_secs(45);
/// The longest pause before a broken stream is first opened again; it doubles with each further try.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause of all, whatever the server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long an outage lasts at most before it is an error, unless the caller says otherwise.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a stream of events tells.
///
/// There is nothing else, and there will not be: whoever takes events has to say what a reset means to them.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Told {
    /// Something happened.
    Event(EventView),
    /// Events that were not told yet are gone: whatever was made of the events has to be made anew.
    Reset(EventsReset),
}

/// What happens, as [`OperatorClient::events`] opened it; closed when dropped.
///
/// A connection that breaks, ends or falls silent is opened again after a growing pause, from the last number on, so
/// that nothing is missed and nothing comes twice. One event is held at a time, of at most [`MAX_EVENT_BYTES`].
pub struct EventStream {
    client: OperatorClient,
    query: EventQuery,
    connection: Option<Connection>,
    /// Read before anybody asked for it.
    ahead: Option<Block>,
    last_id: Option<u64>,
    failures: u32,
    retry_at: Instant,
    /// When there last was a connection.
    lost_at: Instant,
    patience: Duration,
    on_outage: Option<Box<OnOutage>>,
}

type OnOutage = dyn FnMut(Option<&ClientError>) + Send;

impl EventStream {
    /// Opens the stream, and makes sure of where it begins.
    pub(crate) async fn open(client: OperatorClient, query: EventQuery) -> Result<Self, ClientError> {
        let (last_id, now) = (query.after, Instant::now());
        let mut stream = Self {
            client,
            query,
            connection: None,
            ahead: None,
            last_id,
            failures: 0,
            retry_at: now,
            lost_at: now,
            patience: PATIENCE,
            on_outage: None,
        };
        stream.connect().await?;
        Ok(stream)
    }

    /// Sets how long an outage may last before [`Self::next`] fails with it; default 2 minutes.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Has `on_outage` called with the reason when the connection is lost and with each try that fails, and with `None`
    /// once it is there again.
    #[must_use]
    pub fn with_on_outage(mut self, on_outage: impl FnMut(Option<&ClientError>) + Send + 'static) -> Self {
        self.on_outage = Some(Box::new(on_outage));
        self
    }

    /// Everything up to this number was told, or is not for this stream: where another one can go on.
    pub fn last_id(&self) -> Option<u64> {
        self.last_id
    }

    /// What comes next, once there is anything. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// The server refuses to go on, or cannot be reached for longer than the stream has patience; an event cannot be
    /// read, or is larger than [`MAX_EVENT_BYTES`]. The next call tries again: after the event that cannot be read, but
    /// at the one that is too large, which a stream begun after its number leaves out.
    pub async fn next(&mut self) -> Result<Told, ClientError> {
        loop {
            if let Some(told) = self.step().await? {
                return Ok(told);
            }
        }
    }

    /// The same; `None` once everything up to `number` was told or is known not to be for this stream.
    ///
    /// # Errors
    ///
    /// As those of [`Self::next`].
    pub async fn next_until(&mut self, number: u64) -> Result<Option<Told>, ClientError> {
        while self.last_id.is_none_or(|last_id| last_id < number) {
            if let Some(told) = self.step().await? {
                return Ok(Some(told));
            }
        }
        Ok(None)
    }

    /// One block, or one try to get a connection. It awaits once before it changes anything.
    async fn step(&mut self) -> Result<Option<Told>, ClientError> {
        if let Some(block) = self.ahead.take() {
            return self.told(block);
        }
        let Some(connection) = &mut self.connection else {
            sleep_until(self.retry_at).await;
            return match self.connect().await {
                Ok(()) => {
                    self.notify(None);
                    Ok(None)
                }
                Err(error) => self.lost(error).map(|()| None),
            };
        };
        match connection.block().await {
            Ok(Some(block)) => self.told(block),
            Ok(None) => self.lost(CallError::Broken { source: "the stream ended".into() }.into()).map(|()| None),
            Err(error) => self.lost(error.into()).map(|()| None),
        }
    }

    /// Opens a connection; the first one without a number reads the one that the server begins with, so that nothing
    /// that happens from here on is missed.
    async fn connect(&mut self) -> Result<(), ClientError> {
        let mut connection = self.client.open_events(&self.query, self.last_id).await?;
        if self.last_id.is_none() {
            let deadline = self.client.deadline();
            let first = timeout(deadline, connection.block()).await;
            let first = first.unwrap_or(Err(CallError::Timeout { deadline }))?;
            let block = first.ok_or_else(|| CallError::Broken { source: "the stream ended at once".into() })?;
            match block.data {
                // Its number is taken when it is told.
                Some(_) => self.ahead = Some(block),
                None => self.last_id = Some(number(&block)?),
            }
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// Notes what a block says.
    fn told(&mut self, block: Block) -> Result<Option<Told>, ClientError> {
        self.last_id = Some(number(&block)?);
        let Some(data) = block.data else { return Ok(None) };
        self.failures = 0;
        let told = match block.kind.as_str() {
            EventsReset::KIND => Told::Reset(read(&data)?),
            _ => Told::Event(read(&data)?),
        };
        Ok(Some(told))
    }

    /// Notes that there is no connection, and fails if that is to be told.
    fn lost(&mut self, error: ClientError) -> Result<(), ClientError> {
        if let Some(connection) = self.connection.take() {
            self.lost_at = Instant::now();
            if connection.opened.elapsed() > LONGEST_PAUSE {
                self.failures = 0;
            }
        }
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Instant::now() + pause(self.failures, &error);
        if !may_pass(&error) || self.lost_at.elapsed() >= self.patience {
            return Err(error);
        }
        self.notify(Some(&error));
        Ok(())
    }

    fn notify(&mut self, outage: Option<&ClientError>) {
        if let Some(on_outage) = &mut self.on_outage {
            on_outage(outage);
        }
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_open = self.connection.is_some();
        f.debug_struct("EventStream").field("last_id", &self.last_id).field("is_open", &is_open).finish_non_exhaustive()
    }
}

/// One open answer.
struct Connection {
    body: Box<dyn AnswerBody>,
    parser: Parser,
    opened: Instant,
    /// When anything last came.
    heard: Instant,
}

impl Connection {
    /// The next block; `None` at the end. Dropping the future loses nothing.
    async fn block(&mut self) -> Result<Option<Block>, CallError> {
        loop {
            let block = self.parser.next().map_err(|_| CallError::TooLarge { limit: MAX_EVENT_BYTES })?;
            if block.is_some() {
                return Ok(block);
            }
            // Not from now on: whoever drops the future again and again would never see the end of the silence.
            let piece = timeout_at(self.heard + LONGEST_SILENCE, self.body.piece()).await;
            let piece = piece.unwrap_or(Err(CallError::Timeout { deadline: LONGEST_SILENCE }))?;
            let Some(piece) = piece else { return Ok(None) };
            self.heard = Instant::now();
            self.parser.feed(piece);
        }
    }
}

impl OperatorClient {
    /// Opens the stream of what happens: `GET /api/v1/events`.
    ///
    /// Without a number to begin after, everything that happens once this has returned is told.
    ///
    /// ```no_run
    /// # async fn watch(client: eap_client::OperatorClient) -> Result<(), eap_client::ClientError> {
    /// use eap_client::Told;
    /// use eap_types::EventQuery;
    ///
    /// let mut events = client.events(EventQuery::new().with_kind("task.failed")).await?;
    /// loop {
    ///     match events.next().await? {
    ///         Told::Event(event) => println!("{} {}", event.seq, event.kind),
    ///         Told::Reset(reset) => println!("what came before {} is gone: begin anew", reset.oldest),
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// 422 for a query that breaks a rule, 503 UNAVAILABLE when there are too many streams, and what any call can come
    /// to. What comes later is for [`EventStream::next`].
    pub async fn events(&self, query: EventQuery) -> Result<EventStream, ClientError> {
        EventStream::open(self.clone(), query).await
    }

    async fn open_events(&self, query: &EventQuery, last_id: Option<u64>) -> Result<Connection, ClientError> {
        let path = with_query(
            path::EVENTS,
            [
                ("after", query.after.map(|after| after.to_string())),
                ("task_id", query.task_id.map(|task| task.to_string())),
                ("agent_id", query.agent_id.as_ref().map(ToString::to_string)),
                ("kind", query.kind.clone()),
            ],
        );
        let mut request = self.request(Method::GET, &path).header("accept", header::EVENT_STREAM);
        if let Some(last_id) = last_id {
            request = request.header(header::LAST_EVENT_ID, &last_id.to_string());
        }
        let body = request.open(header::EVENT_STREAM).await?;
        let now = Instant::now();
        Ok(Connection { body, parser: Parser::new(MAX_EVENT_BYTES), opened: now, heard: now })
    }
}

fn number(block: &Block) -> Result<u64, ClientError> {
    let number = block.id.as_deref().and_then(|id| id.parse().ok());
    number.ok_or(ClientError::Unreadable { status: 200, retry_after: None, source: None })
}

fn read<T: DeserializeOwned>(data: &str) -> Result<T, ClientError> {
    serde_json::from_str(data).map_err(|error| ClientError::Unreadable {
        status: 200,
        retry_after: None,
        source: Some(error.into()),
    })
}

/// Whether the stream may go on in a moment.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Call(CallError::Setup { .. } | CallError::TooLarge { .. }) => false,
        ClientError::Call(_) => true,
        error => matches!(error.status(), Some(408 | 425 | 429 | 500 | 502..=504)),
    }
}

/// How long to wait after so many failures: growing, with jitter, and as the server asked within reason.
fn pause(failures: u32, error: &ClientError) -> Duration {
    let longest = (FIRST_PAUSE * 2_u32.saturating_pow(failures.saturating_sub(1).min(10))).min(LONGEST_PAUSE);
    let asked = error.retry_after().unwrap_or_default().min(LONGEST_PAUSE);
    // A new hasher has a new random key: enough chance to part those that were cut off together.
    let chance = RandomState::new().hash_one(failures) % 1_024;
    #[expect(clippy::cast_precision_loss, reason = "the number is below 1,024")]
    let part = 0.5 + chance as f64 / 2_048.0;
    asked.max(longest.mul_f64(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_heed_the_server_within_reason() {
        let broken = ClientError::Call(CallError::Broken { source: "reset".into() });
        for (failures, longest) in [(1, 200), (2, 400), (5, 3_200), (30, 10_000)] {
            let (pause, longest) = (pause(failures, &broken), Duration::from_millis(longest));
            assert!(pause >= longest / 2 && pause <= longest, "{failures}: {pause:?}");
        }
        let asked = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            pause(1, &ClientError::Unreadable { status: 503, retry_after, source: None })
        };
        assert_eq!((asked(3).as_secs(), asked(86_400)), (3, LONGEST_PAUSE));
        let pauses: std::collections::BTreeSet<_> = (0..50).map(|_| pause(20, &broken)).collect();
        assert!(pauses.len() > 1, "they come back at different times");
    }
}
