//! A gate that handlers wait at until the test opens it.

use std::sync::Arc;

use tokio::sync::watch;

/// Closed until it is opened for good; clones are the same gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    is_open: bool,
    arrived: usize,
}

impl Gate {
    pub(crate) fn closed() -> Self {
        Self { state: Arc::new(watch::Sender::new(State::default())) }
    }

    pub(crate) fn open(&self) {
        self.state.send_modify(|state| state.is_open = true);
    }

    /// How many have come to the gate so far, whether they are through or not.
    pub(crate) fn arrived(&self) -> usize {
        self.state.borrow().arrived
    }

    /// Waits until the gate is open.
    pub(crate) async fn pass(&self) {
        self.state.send_modify(|state| state.arrived += 1);
        self.state.subscribe().wait_for(|state| state.is_open).await.expect("the gate holds its own sender");
    }
}
