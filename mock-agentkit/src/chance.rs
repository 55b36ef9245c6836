//! Time and chance of the mock: whoever wants other times asks for a fault.

use std::time::{Duration, SystemTime};

use eap_types::{AgentId, Timestamp};

/// The present.
pub(crate) fn now() -> Timestamp {
    #[allow(clippy::disallowed_methods, reason = "the mock plays another machine, whose clock is its own")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::UNIX_EPOCH + since
}

/// An id for an agent that came without one.
pub(crate) fn agent_id() -> AgentId {
    let mut random = [0; 10];
    fill(&mut random);
    AgentId::v7(now(), random)
}

/// Somewhere between half of a duration and all of it.
pub(crate) fn jittered(duration: Duration) -> Duration {
    let mut random = [0; 2];
    fill(&mut random);
    duration / 2 + duration.mul_f64(f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX) / 2.0)
}

fn fill(random: &mut [u8]) {
    #[allow(clippy::disallowed_methods, reason = "ids and jitter of the mock need not be repeated")]
    getrandom::fill(random).expect("the system gives random numbers");
}
