//! What goes on over an open socket: frames out, frames in, and the end.

use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eap_types::LeaseReply;
use eap_types::socket::{Frame, FrameKind};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::line::{Outgoing, Waiting};
use super::{SocketEnd, SocketEvent};
use crate::call::{BoxError, Connection};

/// How long the server may take to read a frame.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last answers are waited for.
const LAST_ANSWERS: Duration = Duration::from_secs(3);
/// How long the goodbye may take.
const LAST_WORD: Duration = Duration::from_secs(1);

pub(super) type Stream = WebSocketStream<Box<dyn Connection>>;

/// The sending half: frames with their numbers.
pub(super) struct FrameSink {
    sink: SplitSink<Stream, Message>,
    newest: u64,
}

/// The reading half.
pub(super) struct FrameSource {
    stream: SplitStream<Stream>,
    /// After how long without any message the connection is taken for dead.
    pub(super) silence: Duration,
}

pub(super) fn split(stream: Stream, silence: Duration) -> (FrameSink, FrameSource) {
    let (sink, stream) = stream.split();
    (FrameSink { sink, newest: 0 }, FrameSource { stream, silence })
}

impl FrameSink {
    /// The number of the next frame.
    pub(super) fn next_number(&self) -> u64 {
        self.newest + 1
    }

    pub(super) async fn send(&mut self, outgoing: Outgoing) -> Result<(), SocketEnd> {
        self.newest += 1;
        let frame = Frame::new(outgoing.kind, self.newest).with_payload(outgoing.payload);
        let text = serde_json::to_string(&frame).expect("a frame has a JSON form");
        self.write(Message::text(text), PATIENCE).await
    }

    async fn write(&mut self, message: Message, patience: Duration) -> Result<(), SocketEnd> {
        match timeout(patience, self.sink.send(message)).await {
            Ok(sent) => sent.map_err(broken),
            Err(_) => Err(broken("the server does not read")),
        }
    }
}

impl FrameSource {
    /// The next frame. A text that is none, as a newer server may send, is passed over.
    pub(super) async fn next(&mut self) -> Result<Frame, SocketEnd> {
        loop {
            let Ok(came) = timeout(self.silence, self.stream.next()).await else {
                return Err(broken("nothing came for too long"));
            };
            match came {
                Some(Ok(Message::Text(text))) => {
                    if let Ok(frame) = serde_json::from_str(&text) {
                        return Ok(frame);
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(SocketEnd::Closed { code: frame.map_or(1005, |frame| frame.code.into()) });
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(broken(error)),
                None => return Err(broken("the connection was closed")),
            }
        }
    }
}

pub(super) fn broken(source: impl Into<BoxError>) -> SocketEnd {
    SocketEnd::Broken { source: source.into() }
}

/// Everything after the hello, to the end of the connection or of whoever listens.
pub(super) async fn converse(
    mut sink: FrameSink,
    mut source: FrameSource,
    mut outgoing: mpsc::Receiver<Outgoing>,
    events: mpsc::Sender<Result<SocketEvent, SocketEnd>>,
    calls: watch::Receiver<usize>,
) {
    let waiting = Mutex::new(Waiting::new());
    let end = tokio::select! {
        end = read(&mut source, &waiting, &events) => Some(end),
        end = write(&mut sink, &mut outgoing, &waiting) => Some(end),
        () = leave(&events, calls) => None,
    };
    // From here on a call finds that this way is closed, and takes another one.
    drop((outgoing, waiting));
    match end {
        Some(end) => {
            let _ = events.send(Err(end)).await;
        }
        None => {
            let _ = sink.write(Message::Close(None), LAST_WORD).await;
        }
    }
}

/// Nobody listens any more, and nobody waits for an answer.
async fn leave(events: &mpsc::Sender<Result<SocketEvent, SocketEnd>>, mut calls: watch::Receiver<usize>) {
    events.closed().await;
    let _ = timeout(LAST_ANSWERS, calls.wait_for(|calls| *calls == 0)).await;
}

async fn write(sink: &mut FrameSink, outgoing: &mut mpsc::Receiver<Outgoing>, waiting: &Mutex<Waiting>) -> SocketEnd {
    while let Some(mut next) = outgoing.recv().await {
        if let Some(answer) = next.answer.take() {
            if answer.is_closed() {
                // Nobody waits for it any more, so that it must not happen either.
                continue;
            }
            lock(waiting).insert(sink.next_number(), answer);
        }
        if let Err(end) = sink.send(next).await {
            return end;
        }
    }
    // The last answers may still come.
    pending().await
}

async fn read(
    source: &mut FrameSource,
    waiting: &Mutex<Waiting>,
    events: &mpsc::Sender<Result<SocketEvent, SocketEnd>>,
) -> SocketEnd {
    loop {
        let frame = match source.next().await {
            Ok(frame) => frame,
            Err(end) => return end,
        };
        if let Some(reference) = frame.reference {
            let waits = lock(waiting).remove(&reference);
            if let Some(waits) = waits {
                let _ = waits.send(frame);
            }
        } else if let Some(event) = event(&frame) {
            // Once nobody listens, only answers count.
            let _ = events.send(Ok(event)).await;
        }
    }
}

/// What a frame brings; `None` if it is nothing that this side knows.
fn event(frame: &Frame) -> Option<SocketEvent> {
    match frame.kind()? {
        FrameKind::TaskAssigned => payload::<LeaseReply>(frame).map(|assigned| SocketEvent::Assigned(assigned.tasks)),
        FrameKind::TaskCancel => payload(frame).map(SocketEvent::Cancel),
        FrameKind::Directive => payload(frame).map(SocketEvent::Directive),
        _ => None,
    }
}

pub(super) fn payload<T: DeserializeOwned>(frame: &Frame) -> Option<T> {
    serde_json::from_str(frame.payload.as_ref()?.get()).ok()
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
