//! Where the calls of a client find its open socket.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eap_types::socket::{Frame, FrameKind};
use eap_types::{AgentId, ErrorCode, ProblemBody};
use http::StatusCode;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::{mpsc, oneshot, watch};

use crate::call::CallError;
use crate::wire::Answer;

/// A frame to be sent, and who waits for what answers it.
pub(super) struct Outgoing {
    pub(super) kind: FrameKind,
    pub(super) payload: Box<RawValue>,
    pub(super) answer: Option<oneshot::Sender<Frame>>,
}

pub(super) type Sender = mpsc::Sender<Outgoing>;

/// Who waits for the answer to which frame; gone with the connection.
pub(super) type Waiting = HashMap<u64, oneshot::Sender<Frame>>;

/// The open socket of a client, if it has one; a clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Line(Arc<Mutex<Option<Open>>>);

pub(super) struct Open {
    pub(super) agent: AgentId,
    pub(super) outgoing: Sender,
    pub(super) max_frame_bytes: u64,
    /// How many calls have no answer yet.
    pub(super) under_way: Arc<watch::Sender<usize>>,
}

/// A call that is counted as long as it is here.
struct UnderWay(Arc<watch::Sender<usize>>);

/// What stands in a frame beside its payload, at most.
const ENVELOPE_BYTES: u64 = 256;

impl Line {
    /// From now on calls of its agent go over this socket.
    pub(super) fn set(&self, open: Open) {
        *self.lock() = Some(open);
    }

    /// From now on no call goes over this socket.
    pub(super) fn leave(&self, outgoing: &Sender) {
        self.lock().take_if(|open| open.outgoing.same_channel(outgoing));
    }

    /// Makes a call over the agent's socket; `None` if there is none that could carry it.
    pub(crate) async fn call(
        &self,
        agent: &AgentId,
        kind: FrameKind,
        payload: &impl Serialize,
        deadline: Duration,
    ) -> Option<Result<Answer, CallError>> {
        self.lock().as_ref().filter(|open| open.agent == *agent)?;
        let payload = to_raw_value(payload).expect("every payload of the protocol has a JSON form");
        let length = payload.get().len() as u64 + ENVELOPE_BYTES;
        let (answer, answered) = oneshot::channel();
        let _under_way = {
            let line = self.lock();
            let open = line.as_ref().filter(|open| open.agent == *agent && length <= open.max_frame_bytes)?;
            // One that is over, or does not get on, carries nothing more.
            open.outgoing.try_send(Outgoing { kind, payload, answer: Some(answer) }).ok()?;
            UnderWay::begin(&open.under_way)
        };
        Some(match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(frame)) => Ok(read(&frame)),
            Ok(Err(_)) => Err(CallError::Broken { source: "the WebSocket ended before its answer".into() }),
            Err(_) => Err(CallError::Timeout { deadline }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    fn begin(calls: &Arc<watch::Sender<usize>>) -> Self {
        calls.send_modify(|calls| *calls += 1);
        Self(Arc::clone(calls))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|calls| *calls -= 1);
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("is_open", &self.lock().is_some()).finish()
    }
}

/// The answer of HTTP that a frame stands for.
fn read(frame: &Frame) -> Answer {
    let body = frame.payload.as_ref().map_or("", |payload| payload.get());
    let status = if frame.kind() == Some(FrameKind::Error) {
        let problem: ProblemBody = serde_json::from_str(body).unwrap_or_default();
        let said = problem.error_code().map_or(problem.status, ErrorCode::status);
        StatusCode::from_u16(said).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    } else {
        StatusCode::OK
    };
    Answer::of_frame(status, body.to_owned())
}
