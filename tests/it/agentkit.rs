//! The face of an agent platform (docs/protocol.md, section 6): webhooks and states.

mod dispatch;
mod platform;
mod reconcile;
mod shown;
mod states;
mod webhooks;
mod with_mock;
mod workflows;
