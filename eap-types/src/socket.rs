//! The protocol over a WebSocket (docs/protocol.md section 3, `GET …/{id}/ws`): the frames and what is new in them.
//!
//! A frame that asks for something is the call of the same meaning: its payload is that call's body, and its answer
//! carries that call's answer. So there is one set of payloads, one set of refusals.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::macros::words;
use crate::{AgentId, CancelCause, DirectiveId, HeldTask, LeaseId, TaskId, Timestamp};

/// The subprotocol that both sides have to name (RFC 6455, section 1.9).
pub const SUBPROTOCOL: &str = "eap.v1+json";

/// The code of a close whose token is dead, or became so: the agent registers again.
pub const CLOSE_UNAUTHORIZED: u16 = 4401;
/// The code of a close after which the agent is not there any more.
pub const CLOSE_GONE: u16 = 4404;
/// The code of a close after a silence: no hello, or no frame for too long.
pub const CLOSE_SILENT: u16 = 4408;
/// The code of a close in favour of a newer connection of the same agent, which keeps the leases.
pub const CLOSE_REPLACED: u16 = 4409;
/// The code of a close for want of the subprotocol.
pub const CLOSE_VERSION: u16 = 4426;
/// The code of a close that answers the other side's own (RFC 6455, section 7.4.1).
pub const CLOSE_NORMAL: u16 = 1000;
/// The code of a close because what came is larger than a frame may be, or no message (RFC 6455, section 7.4.1).
pub const CLOSE_UNREADABLE: u16 = 1009;
/// The code of a close for a fault of the server's own; the next try may go better (RFC 6455, section 7.4.1).
pub const CLOSE_FAULT: u16 = 1011;
/// The code of a close by a server that stops; it comes back (RFC 6455 registry).
pub const CLOSE_RESTART: u16 = 1012;
/// The code of a close because the other side does not read what it is sent.
pub const CLOSE_TOO_SLOW: u16 = 1013;

words! {
    /// What a frame says.
    pub enum FrameKind {
        /// Agent: who it is and what it holds; the first frame.
        Hello = "agent.hello",
        /// Agent: the body of a heartbeat.
        AgentHeartbeat = "agent.heartbeat",
        /// Agent: it takes so many tasks more.
        Credit = "agent.credit",
        /// Agent: it has begun with a task.
        TaskAccepted = "task.accepted",
        /// Agent: it does not take a task, which goes back to the queue.
        TaskRejected = "task.rejected",
        /// Agent: how far a task is.
        TaskProgress = "task.progress",
        /// Agent: results.
        TaskResult = "task.result",
        /// Agent: it hands a task back.
        TaskReleased = "task.released",
        /// Agent: it lives; for clients that cannot answer a ping of the WebSocket.
        Pong = "pong",
        /// Server: the connection stands, and under which limits.
        Established = "connection.established",
        /// Server: tasks with their leases.
        TaskAssigned = "task.assigned",
        /// Server: work on a task is to stop.
        TaskCancel = "task.cancel",
        /// Server: something else the agent is asked to do.
        Directive = "agent.directive",
        /// Server: the answer to a heartbeat.
        Heartbeat = "heartbeat",
        /// Either: the frame `ref`, and each before it, is dealt with.
        Ack = "ack",
        /// Server: the frame `ref` is refused.
        Error = "error",
    }
}

/// A frame as it travels: one text message of the WebSocket.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Frame {
    /// What it says; a word that is not known is answered with an error and otherwise left alone.
    pub r#type: String,
    /// Its number, which rises from 1 on each side of a connection.
    pub id: u64,
    /// The number of the other side's frame that it answers.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// When it was made; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// What it carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
}

impl Frame {
    /// A frame without a payload.
    pub fn new(kind: FrameKind, id: u64) -> Self {
        Self { r#type: kind.as_str().to_owned(), id, reference: None, timestamp: None, payload: None }
    }

    /// Makes it the answer to a frame of the other side.
    #[must_use]
    pub fn answering(mut self, reference: u64) -> Self {
        self.reference = Some(reference);
        self
    }

    /// Says when it was made.
    #[must_use]
    pub fn at(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// Sets what it carries.
    #[must_use]
    pub fn with_payload(mut self, payload: Box<RawValue>) -> Self {
        self.payload = Some(payload);
        self
    }

    /// What it says, if that is known.
    pub fn kind(&self) -> Option<FrameKind> {
        self.r#type.parse().ok()
    }
}

/// The first frame of an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Hello {
    /// Every lease the agent holds, those whose result has no answer yet among them. What it holds at the server and
    /// does not list is brought to it again.
    #[serde(default)]
    pub tasks: Vec<HeldTask>,
}

impl Hello {
    /// The hello of an agent that holds these.
    pub fn new(tasks: Vec<HeldTask>) -> Self {
        Self { tasks }
    }
}

/// Room for more tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Credit {
    /// How many tasks more than said so far may be brought, 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub tasks: u32,
}

impl Credit {
    /// So many more.
    pub fn new(tasks: u32) -> Self {
        Self { tasks }
    }
}

/// The first frame of a server: the limits of the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Established {
    /// Whose connection it is.
    pub agent_id: AgentId,
    /// How often a heartbeat is expected, in seconds.
    pub heartbeat_interval_seconds: u64,
    /// How often the server sends a ping, in seconds.
    pub ping_seconds: u64,
    /// After how long without any frame the server closes, in seconds.
    pub idle_seconds: u64,
    /// The largest frame that the server reads, in bytes.
    pub max_frame_bytes: u64,
    /// The server's time.
    pub server_time: Timestamp,
}

impl Established {
    /// A connection of this agent; the limits are then set as fields.
    pub fn new(agent_id: AgentId, server_time: Timestamp) -> Self {
        Self {
            agent_id,
            heartbeat_interval_seconds: 0,
            ping_seconds: 0,
            idle_seconds: 0,
            max_frame_bytes: 0,
            server_time,
        }
    }
}

/// Work on a task is to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CancelNotice {
    /// What a heartbeat acknowledges it by, as any directive.
    pub id: DirectiveId,
    /// The task to stop.
    pub task_id: TaskId,
    /// The lease it was held under.
    pub lease_id: LeaseId,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for programs.
    #[serde(default, deserialize_with = "crate::macros::known_word", skip_serializing_if = "Option::is_none")]
    pub cause: Option<CancelCause>,
}

impl CancelNotice {
    /// Work on this task under this lease is to stop.
    pub fn new(id: DirectiveId, task_id: TaskId, lease_id: LeaseId) -> Self {
        Self { id, task_id, lease_id, reason: None, cause: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let payload = serde_json::value::to_raw_value(&Credit::new(3)).unwrap();
        let frame = Frame::new(FrameKind::Credit, 7).answering(2).with_payload(payload);
        let text = serde_json::to_string(&frame).unwrap();
        assert_eq!(text, r#"{"type":"agent.credit","id":7,"ref":2,"payload":{"tasks":3}}"#);
        let read: Frame = serde_json::from_str(&text).unwrap();
        assert_eq!((read.kind(), read.id, read.reference), (Some(FrameKind::Credit), 7, Some(2)));
        let newer: Frame = serde_json::from_str(r#"{"type":"agent.dance","id":1}"#).unwrap();
        assert_eq!(newer.kind(), None);
    }
}
