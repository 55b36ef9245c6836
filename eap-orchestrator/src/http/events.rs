//! `GET /api/v1/events`: what happens, as Server-Sent Events.
//!
//! A watcher has a cursor and no queue: what it has not taken yet stays in the store, and its stream is asked for more
//! only once the last piece is on its way.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use eap_types::{EventsReset, header};
use http::{HeaderMap, HeaderValue};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::call::OperatorCall;
use super::error::ApiError;
use super::query::Query;
use crate::error::Error;
use crate::events::{EventFilter, Events, Look};
use crate::lifecycle::{event_view, invalid};
use crate::metrics::event_kinds;
use crate::orchestrator::Orchestrator;
use crate::store::{EventKind, EventSeq};

/// How long a stream may be silent: proxies cut what says nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What happens from now on, or from where a watcher left off.
pub(super) async fn stream(orchestrator: Orchestrator, call: OperatorCall) -> Result<Response, ApiError> {
    let mut query = Query::of(&call.parts.uri);
    let after = query.get::<u64>("after", "This is the number of an event.");
    let filter = EventFilter {
        task: query.get("task_id", "This is a task's id."),
        agent: query.get("agent_id", "This is an agent's id."),
        kinds: query.get("kind", &Kinds::expected()).map(|Kinds(kinds)| kinds).unwrap_or_default(),
    };
    query.finish()?;
    let after = match last_event_id(&call.parts.headers)?.or(after) {
        Some(number) => EventSeq(number),
        None => orchestrator.lifecycle().store.head().await.map_err(Error::from)?,
    };
    let place = orchestrator.place_for_watcher()?;
    let events = orchestrator.watch(&call.operator, after, filter);
    let watcher = Watcher { events, told: None, beat: Instant::now() + KEEP_ALIVE, _place: place };
    let pieces = futures_util::stream::unfold(watcher, async |mut watcher: Watcher| {
        let piece = watcher.next_piece().await?;
        Some((Ok::<_, Infallible>(piece), watcher))
    });
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(header::EVENT_STREAM));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would hold events back until its buffer is full.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Kinds of events as a query has them: each one that there is.
struct Kinds(BTreeSet<String>);

impl Kinds {
    fn expected() -> String {
        let known: BTreeSet<&str> = event_kinds().map(EventKind::as_str).collect();
        let known: Vec<&str> = known.into_iter().collect();
        format!("This is a kind of event, or several with commas between them: {}.", known.join(", "))
    }
}

impl FromStr for Kinds {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let known = |kind: &str| event_kinds().find(|known| known.as_str() == kind);
        let kinds: Option<BTreeSet<String>> =
            text.split(',').map(|kind| known(kind).map(|kind| kind.as_str().to_owned())).collect();
        kinds.map(Self).ok_or(())
    }
}

/// Where a client that was cut off wants to go on; it comes with the very query of its first call, and wins over it.
fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let Some(given) = headers.get(header::LAST_EVENT_ID).filter(|given| !given.is_empty()) else { return Ok(None) };
    let number = given.to_str().ok().and_then(|text| text.parse().ok());
    let field = format!("header.{}", header::LAST_EVENT_ID);
    number.map(Some).ok_or_else(|| invalid(&field, "This is the number of an event."))
}

/// One open stream.
struct Watcher {
    events: Events,
    /// Up to which number its client knows that it has seen everything; nothing was sent yet if `None`.
    told: Option<EventSeq>,
    /// When something has to be sent next.
    beat: Instant,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// What to send next, once there is something; `None` at the end.
    async fn next_piece(&mut self) -> Option<Bytes> {
        let mut text = String::new();
        if self.told.is_none() {
            // At once, so that the client knows that it is heard, and from where to go on.
            self.tell_place(&mut text);
        }
        while text.is_empty() {
            match timeout_at(self.beat, self.events.look()).await {
                Ok(Ok(Look::Events(events))) => {
                    for event in events {
                        let (number, view) = (event.seq, event_view(event));
                        write_event(&mut text, number, &view.kind, &view);
                        self.told = Some(number);
                    }
                }
                Ok(Ok(Look::Reset { oldest })) => {
                    let before = self.events.cursor();
                    write_event(&mut text, before, EventsReset::KIND, &EventsReset::new(oldest.0));
                    self.told = Some(before);
                }
                // Whoever wants no more than there is now learns that this was it, however much of it is for others.
                Ok(Ok(Look::Level)) if self.told != Some(self.events.cursor()) => self.tell_place(&mut text),
                Ok(Ok(Look::Level)) => {}
                Ok(Err(Error::Draining)) => return None,
                Ok(Err(error)) => {
                    // The client comes back and goes on where this ends.
                    warn!(%error, "a stream of events ended early");
                    return None;
                }
                Err(_) => self.tell_place(&mut text),
            }
        }
        self.beat = Instant::now() + KEEP_ALIVE;
        Some(text.into())
    }

    /// A comment, and the number from which to go on if it moved: what is not for this watcher is not looked at again.
    fn tell_place(&mut self, text: &mut String) {
        text.push_str(":\n");
        let place = self.events.cursor();
        if self.told != Some(place) {
            let _ = writeln!(text, "id: {}", place.0);
            self.told = Some(place);
        }
        text.push('\n');
    }
}

/// One event as the wire has it.
fn write_event(text: &mut String, id: EventSeq, kind: &str, data: &impl Serialize) {
    let json = serde_json::to_string(data).unwrap_or_default();
    let _ = writeln!(text, "id: {}\nevent: {kind}", id.0);
    // White space of a sender's own may be in it, and an end of line would end the field.
    for line in json.split(['\n', '\r']) {
        let _ = writeln!(text, "data: {line}");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use eap_types::JsonObject;

    use super::*;
    use crate::auth::Operator;
    use crate::config::Access;

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_has_nothing_to_tell_shows_that_it_lives() {
        let orchestrator = Orchestrator::builder_in_memory().access(Access::Open).build().unwrap();
        orchestrator.start().await.unwrap();
        let mut watcher = Watcher {
            events: orchestrator.watch(&Operator::host(), EventSeq(0), EventFilter::default()),
            told: None,
            beat: Instant::now() + KEEP_ALIVE,
            _place: orchestrator.place_for_watcher().unwrap(),
        };
        assert_eq!(watcher.next_piece().await.unwrap(), ":\nid: 0\n\n");
        for _ in 0..3 {
            let before = Instant::now();
            assert_eq!(watcher.next_piece().await.unwrap(), ":\n\n");
            assert_eq!(before.elapsed().as_secs(), KEEP_ALIVE.as_secs());
        }
    }

    #[test]
    fn the_end_of_a_line_in_the_data_ends_nothing() {
        let mut text = String::new();
        let data = JsonObject::parse("{\"a\":\n1,\r\n\"b\": 2}").unwrap();
        write_event(&mut text, EventSeq(7), "task.ready", &data);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["id: 7", "event: task.ready"]);
        assert!(lines[2..lines.len() - 1].iter().all(|line| line.starts_with("data: ")), "{text}");
        assert!(text.ends_with("\n\n"));
    }
}
