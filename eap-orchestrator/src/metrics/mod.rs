//! What the orchestrator counts of itself.

mod errors;
mod number;

pub(crate) use errors::StoreErrorCounters;
pub(crate) use number::{Counter, Histogram};
