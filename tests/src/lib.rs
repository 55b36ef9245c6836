//! What the end-to-end tests share beyond one test binary: who saw what was acknowledged, the checker of the invariants
//! of docs/reliability.md, section 6, and a network that loses things.

pub mod invariants;
pub mod proxy;
pub mod witness;
