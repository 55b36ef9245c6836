//! `GET {endpoint_url}/health`: whether an agent that was not heard of is there.

use std::sync::Arc;
use std::time::Duration;

use eap_types::{Heartbeat, from_json};
use tracing::debug;

use super::Shared;
use crate::directory::Entry;
use crate::error::causes;
use crate::outbound::CallLimits;

const DEADLINE: Duration = Duration::from_secs(10);
const ANSWER_BYTES: usize = 16 * 1024;

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// A heartbeat, which was taken in as one.
    Alive,
    /// Anything else.
    Silent,
}

pub(super) async fn probe(shared: &Shared, entry: &Arc<Entry>) -> Probe {
    let Ok(request) = shared.health(&entry.agent) else { return Probe::Silent };
    let limits = CallLimits::headers_within(DEADLINE).with_answer(ANSWER_BYTES);
    let answer = match shared.outbound.call(request, limits).await {
        Ok(answer) if answer.status() == http::StatusCode::OK => answer,
        Ok(_) => return Probe::Silent,
        Err(error) => {
            debug!(agent.id = %entry.agent.id, error = causes(&error), "a probe was not answered");
            return Probe::Silent;
        }
    };
    let Ok(beat) = from_json::<Heartbeat>(answer.body()) else { return Probe::Silent };
    // The agent may have registered meanwhile: what the older process says is its own matter.
    let current = shared.lifecycle.directory.get(&entry.agent.id);
    match current.filter(|current| current.agent.epoch == entry.agent.epoch) {
        Some(current) if shared.lifecycle.beat(&current, beat).await.is_ok() => Probe::Alive,
        _ => Probe::Silent,
    }
}
