//! The agent as a whole, against an orchestrator in memory.

mod ending;
mod fake;
mod lease;
mod registration;
mod results;
mod work;
