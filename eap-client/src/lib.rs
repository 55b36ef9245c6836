#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod agent;
mod artifact;
#[cfg(unix)]
mod artifact_dir;
mod call;
mod error;
mod events;
mod keys;
mod operator;
mod reqwest_call;
#[cfg(feature = "websocket")]
mod socket;
mod sse;
mod upload;
mod watch;
mod wire;
mod workflows;

pub use agent::{AgentClient, AgentSession, Credentials};
pub use artifact::ArtifactStream;
#[cfg(unix)]
pub use artifact_dir::{ArtifactDir, ArtifactDirError, ArtifactFile};
pub use call::{AnswerBody, BoxError, CallError, Connection, HttpCall, Upgrade};
pub use error::ClientError;
pub use events::{EventStream, MAX_EVENT_BYTES, Told};
pub use operator::{AgentQuery, OperatorClient};
pub use reqwest_call::{MAX_ANSWER_BYTES, ReqwestCall};
#[cfg(feature = "websocket")]
pub use socket::{AgentSocket, SocketEnd, SocketEvent};
pub use upload::Upload;
pub use watch::{TaskNews, TaskWatch};
pub use wire::DEFAULT_DEADLINE;
