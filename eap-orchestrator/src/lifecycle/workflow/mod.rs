//! Workflows: kept, started, and carried on from step to step.
//!
//! What a session does next is decided by the core; here it is read, decided and written together with the task that the
//! decision is about.

mod begun;
mod definitions;
mod onward;
mod sessions;
mod start;

pub(crate) use self::begun::Beginnings;
pub use self::sessions::ListSessions;
pub(crate) use self::start::Start;
