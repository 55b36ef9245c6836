//! Workflows and their sessions (docs/protocol.md, section 6), over agents of our own.

mod definitions;
mod directing;
mod faults;
mod flow;
mod others;
mod restarts;
mod running;
mod starting;
