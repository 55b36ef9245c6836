//! What the tests with real agents share: a server that goes and comes back, an agent in a process-like runtime of its
//! own, a network that fails on purpose, gates for handlers, and longer waits.

mod gate;
mod network;
mod process;
mod site;
mod wait;

pub(crate) use gate::Gate;
pub(crate) use network::{Fate, Network, Passing};
pub(crate) use process::{Process, build_once_free};
pub(crate) use site::{Keep, Site};
pub(crate) use wait::{full_length, until};
