#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod agent;
mod call;
mod error;
mod events;
mod keys;
mod operator;
mod reqwest_call;
mod sse;
mod wire;

pub use agent::{AgentClient, AgentSession, Credentials};
pub use call::{AnswerBody, BoxError, CallError, HttpCall};
pub use error::ClientError;
pub use events::{EventStream, MAX_EVENT_BYTES, Told};
pub use operator::{AgentQuery, OperatorClient};
pub use reqwest_call::{MAX_ANSWER_BYTES, ReqwestCall};
pub use wire::DEFAULT_DEADLINE;
