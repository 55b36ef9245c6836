//! The AgentKit face (docs/protocol.md section 6): what an agent platform and an orchestrator say to each other.
//!
//! The platform tells by a signed webhook that an agent came or left ([`AgentNotification`]), takes work for its agents
//! ([`RunMessage`], answered by a [`PlatformReply`]), and the agents report how they are ([`StateReport`]). Names are in
//! camel case there, and refusals have a body of their own, [`DetailBody`].
//!
//! ```
//! use eap_types::Timestamp;
//! use eap_types::agentkit::{self, AgentKitSecret, AgentNotification, TOLERANCE};
//!
//! let secrets: [AgentKitSecret; 1] = ["a word that both sides know".parse()?];
//! let now = Timestamp::from_seconds(1_767_225_600);
//! let body = serde_json::to_vec(&AgentNotification::Deregister("a1".parse()?))?;
//! let signed = agentkit::sign(&secrets[0], now, &body);
//!
//! agentkit::verify(&secrets, &signed, &body, now, TOLERANCE)?;
//! let told = AgentNotification::read(&body)?;
//! assert_eq!(told.event_type(), "DEREGISTER");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod agent;
mod detail;
mod notification;
mod reconciled;
mod reply;
mod run;
mod secret;
mod signature;
mod state;
mod state_word;

pub use self::agent::PlatformAgent;
pub use self::detail::{Detail, DetailBody, DetailProblem, LocPart};
pub use self::notification::{AgentNotification, AgentNotified, NotificationRefusal};
pub use self::reconciled::Reconciled;
pub use self::reply::PlatformReply;
pub use self::run::{RunMessage, SessionContext};
pub use self::secret::AgentKitSecret;
pub use self::signature::{ReplayKey, Signed, SignedRefusal, TOLERANCE, Verified, sign, sign_rfc3339, verify};
pub use self::state::{AgentStateHistory, AgentStateView, StateAccepted, StateHistoryQuery, StateReport};
pub use self::state_word::StateWord;
