//! Which leases are being brought by a push: a process may get one after it said what it holds.

use std::sync::{Arc, Mutex};

use eap_types::LeaseId;

use crate::announce::lock;
use crate::maps::IdMap;

/// The leases of pushes that are under way or were accepted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchanges(Arc<Mutex<IdMap<LeaseId, Stage>>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Surely nobody has it.
    Untaken,
    /// Sent last to the process of this epoch.
    SentTo(u64),
    GivenUp,
}

/// The push of one lease, until this is dropped: once what the agent answered is written down, or, where it works on
/// the task by itself, once it does not hold the lease any more.
#[derive(Debug)]
pub(crate) struct Exchange {
    exchanges: Exchanges,
    lease: LeaseId,
}

impl Exchanges {
    /// Begins the push of a lease; one that `may_have` reached its agent before did so under an older epoch.
    pub(crate) fn begin(&self, lease: LeaseId, may_have: bool) -> Exchange {
        lock(&self.0).insert(lease, if may_have { Stage::SentTo(0) } else { Stage::Untaken });
        Exchange { exchanges: self.clone(), lease }
    }

    /// Whether somebody may have got it by a push that is under way.
    pub(crate) fn is_sent(&self, lease: LeaseId) -> bool {
        matches!(lock(&self.0).get(&lease), Some(Stage::SentTo(_)))
    }

    /// Whether this process surely does not have the task, and will not get it any more: the one that may have had it
    /// is gone.
    pub(crate) fn give_up(&self, lease: LeaseId, epoch: u64) -> bool {
        match lock(&self.0).get_mut(&lease) {
            Some(Stage::Untaken) => false,
            Some(Stage::SentTo(reached)) if *reached == epoch => false,
            Some(stage) => {
                *stage = Stage::GivenUp;
                true
            }
            None => true,
        }
    }
}

impl Exchange {
    /// Notes that it is sent to this process now; says whether it may be.
    pub(crate) fn send_to(&self, epoch: u64) -> bool {
        match lock(&self.exchanges.0).get_mut(&self.lease) {
            Some(Stage::GivenUp) | None => false,
            Some(stage) => {
                *stage = Stage::SentTo(epoch);
                true
            }
        }
    }

    /// Notes that nobody who was sent it has it.
    pub(crate) fn note_untaken(&self) {
        if let Some(stage @ Stage::SentTo(_)) = lock(&self.exchanges.0).get_mut(&self.lease) {
            *stage = Stage::Untaken;
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        lock(&self.exchanges.0).remove(&self.lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_to_a_process_is_not_given_up_and_what_is_given_up_is_not_sent() {
        let (exchanges, lease) = (Exchanges::default(), LeaseId::from_bytes([7; 16]));
        assert!(exchanges.give_up(lease, 1), "nobody brings it");
        let exchange = exchanges.begin(lease, false);
        assert!(!exchanges.give_up(lease, 1), "it is still to come");
        assert!(exchange.send_to(1) && !exchanges.give_up(lease, 1));
        exchange.note_untaken();
        assert!(!exchanges.give_up(lease, 2), "it comes to this one");
        assert!(exchange.send_to(2) && !exchanges.give_up(lease, 2));
        assert!(exchanges.give_up(lease, 3) && !exchange.send_to(3));
        drop(exchange);
        let again = exchanges.begin(lease, true);
        assert!(exchanges.give_up(lease, 3) && !again.send_to(3), "what had it is gone");
    }
}
