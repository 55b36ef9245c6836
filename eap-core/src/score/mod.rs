//! Which of several agents should have a task, and which may not have it at all.
//!
//! The formula, its tables and the breaker are docs/protocol.md, section 3, "Routing".

mod breaker;
mod hindrance;
mod rating;
mod track_record;

pub use breaker::{Allowance, BreakerTurn};
pub use hindrance::{Hindrance, room_for_work};
pub use rating::{Rating, Score, load_band};
pub use track_record::{Conclusion, TrackRecord, Verdict};
