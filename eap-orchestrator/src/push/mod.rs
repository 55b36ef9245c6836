//! Tasks brought to agents that serve: each such agent has a pusher, which asks for work as a poll of its own would.
//!
//! So there is one queue and one claim for all ways: order, scores, breaker and `max_concurrent_tasks` hold over pushes
//! and polls together. What was leased for a push says in its request id which process brings it; once that one is gone, be it
//! by a restart or one of several replicas, a pusher takes those attempts over and sends them again, so nothing is lost with
//! the process.

mod delivery;
mod exchange;
mod message;
mod probe;
mod pusher;
mod run;

use std::collections::HashSet;
use std::sync::Arc;

use eap_types::AgentId;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use self::pusher::Pusher;
use crate::lifecycle::Lifecycle;
use crate::matchmaker::Matchmaker;
use crate::outbound::OutboundCall;

/// What every pusher needs.
#[derive(Debug)]
struct Shared {
    lifecycle: Arc<Lifecycle>,
    matchmaker: Matchmaker,
    outbound: Arc<dyn OutboundCall>,
    /// Places for open exchanges.
    places: Semaphore,
}

/// Lets every agent that is pushed to have its pusher, until `stop`; then exchanges get a part of the grace.
pub(crate) async fn run(
    lifecycle: Arc<Lifecycle>,
    matchmaker: Matchmaker,
    outbound: Arc<dyn OutboundCall>,
    stop: CancellationToken,
) {
    let places = Semaphore::new(lifecycle.config.capacity.pushes);
    let shared = Arc::new(Shared { lifecycle, matchmaker, outbound, places });
    let lifecycle = &shared.lifecycle;
    let (mut pushers, mut known) = (JoinSet::<AgentId>::new(), HashSet::<AgentId>::new());
    loop {
        for agent in lifecycle.directory.pushed() {
            if known.insert(agent.clone()) {
                let pusher = Pusher::new(Arc::clone(&shared), agent.clone());
                let stop = stop.clone();
                pushers.spawn(async move {
                    pusher.run(stop).await;
                    agent
                });
            }
        }
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = pushers.join_next() => Some(ended),
            () = lifecycle.announcements.agents_pushed() => None,
        };
        match ended {
            None => {}
            Some(Ok(agent)) => drop(known.remove(&agent)),
            Some(Err(broken)) => {
                error!(error = %broken, "a pusher broke");
                lifecycle.failed("a pusher panicked".to_owned());
            }
        }
    }
    while pushers.join_next().await.is_some() {}
}
