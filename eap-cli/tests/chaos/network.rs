//! The network: it loses one in twenty of everything, and notes which results were accepted for all the agents know.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use eap_tests::proxy::{Fate, Leg, Passing, Proxy};
use serde_json::Value;

use crate::chance::Chance;

/// One in so many is lost, each way.
const LOSSES: u64 = 20;

/// What all proxies share.
pub(crate) struct Network {
    state: Mutex<State>,
    loses: bool,
}

struct State {
    chance: Chance,
    lost: BTreeMap<&'static str, usize>,
    /// The tasks of results whose answer, that they are accepted, arrived.
    accepted: Vec<String>,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        let state = State { chance: Chance(seed), lost: BTreeMap::new(), accepted: Vec::new() };
        Self { state: Mutex::new(state), loses: true }
    }

    /// One that loses nothing.
    #[allow(dead_code, reason = "each test binary uses its own part")]
    pub(crate) fn without_losses() -> Self {
        Self { loses: false, ..Self::new(0) }
    }

    /// A way over the network to what listens there.
    pub(crate) async fn way_to(self: &Arc<Self>, target: SocketAddr) -> Proxy {
        let network = Arc::clone(self);
        Proxy::start(target, move |passing| network.decide(passing)).await.expect("loopback has a free port")
    }

    fn decide(&self, passing: Passing<'_>) -> Fate {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.loses && state.chance.below(LOSSES) == 0 {
            let way = if passing.leg == Leg::Out { "requests" } else { "answers" };
            *state.lost.entry(way).or_default() += 1;
            return Fate::Breaks;
        }
        if passing.leg == Leg::Back && matches!(passing.what, "result" | "results" | "task.result") {
            state.accepted.extend(accepted(passing.body));
        }
        Fate::Arrives
    }

    pub(crate) fn lost(&self) -> BTreeMap<&'static str, usize> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).lost.clone()
    }

    pub(crate) fn accepted(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).accepted.clone()
    }
}

/// The tasks whose results an answer says to be accepted: that of one result, of several, or a frame with that.
fn accepted(body: &[u8]) -> Vec<String> {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let body = body.get("payload").unwrap_or(&body);
    let several = body["results"].as_array().cloned();
    let results = several.unwrap_or_else(|| vec![body.clone()]);
    let accepted = results.iter().filter(|result| result["status"] == "accepted");
    accepted.filter_map(|result| result["task_id"].as_str().map(str::to_owned)).collect()
}
