//! The agent as a whole, against an orchestrator in memory.

mod ending;
mod fake;
mod lease;
mod output;
mod registration;
mod results;
mod testing;
mod work;
