//! The AgentKit face: which webhooks are taken, and what a body of that face says.

mod bodies;
mod notifications;
mod signatures;
