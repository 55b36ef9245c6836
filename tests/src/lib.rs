//! What the end-to-end tests share beyond one test binary: who saw what was acknowledged, and the checker of the
//! invariants of docs/reliability.md, section 6.

pub mod invariants;
pub mod witness;
