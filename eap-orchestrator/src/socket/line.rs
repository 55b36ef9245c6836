//! The sending half of a socket: numbers, deadlines, and words for the end.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use eap_types::Timestamp;
use eap_types::socket::{Frame, FrameKind};
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// How long the other side may take to read a frame.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last word may take.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) code: u16,
    pub(super) why: &'static str,
}

/// The other side is gone, or does not read.
pub(super) const CUT: End = End { code: eap_types::socket::CLOSE_TOO_SLOW, why: "the other side does not read" };

pub(super) struct Line {
    sink: SplitSink<WebSocket, Message>,
    newest: u64,
}

impl Line {
    pub(super) fn new(sink: SplitSink<WebSocket, Message>) -> Self {
        Self { sink, newest: 0 }
    }

    /// Sends a frame that answers nothing.
    pub(super) async fn tell(&mut self, kind: FrameKind, now: Timestamp, payload: &impl Serialize) -> Result<(), End> {
        let payload = to_raw_value(payload).ok();
        self.send(kind, None, now, payload).await
    }

    /// Answers a frame of the other side; one that could not be read has no number.
    pub(super) async fn answer(
        &mut self,
        kind: FrameKind,
        reference: Option<u64>,
        now: Timestamp,
        payload: Option<Box<RawValue>>,
    ) -> Result<(), End> {
        self.send(kind, reference, now, payload).await
    }

    async fn send(
        &mut self,
        kind: FrameKind,
        reference: Option<u64>,
        now: Timestamp,
        payload: Option<Box<RawValue>>,
    ) -> Result<(), End> {
        self.newest += 1;
        let mut frame = Frame::new(kind, self.newest).at(now);
        frame.reference = reference;
        frame.payload = payload;
        let Ok(text) = serde_json::to_string(&frame) else { return Err(CUT) };
        self.write(Message::text(text)).await
    }

    pub(super) async fn ping(&mut self) -> Result<(), End> {
        self.write(Message::Ping(bytes::Bytes::new())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        match tokio::time::timeout(PATIENCE, self.sink.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(CUT),
        }
    }

    /// Says why, as far as the other side still reads.
    pub(super) async fn close(&mut self, end: End) {
        let frame = CloseFrame { code: end.code, reason: end.why.into() };
        let _ = tokio::time::timeout(LAST_WORD, self.sink.send(Message::Close(Some(frame)))).await;
    }
}
