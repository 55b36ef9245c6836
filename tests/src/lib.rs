//! What the end-to-end tests share beyond one test binary: who saw what was acknowledged, the checker of the invariants
//! of docs/reliability.md, section 6, a network that loses things, ports for what listens later, and a PostgreSQL server.

pub mod invariants;
pub mod link;
pub mod ports;
#[cfg(unix)]
pub mod postgres;
pub mod proxy;
pub mod witness;
