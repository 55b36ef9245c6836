//! What was committed, by the kinds of events it was committed with.

use std::array;

use eap_core::NoteKind;

use super::Counter;
use crate::store::{EventKind, NewEvent};

/// The kinds that are no task's; those that are have their places behind them.
const OTHERS: [EventKind; 26] = [
    EventKind::AgentRegistered,
    EventKind::AgentDraining,
    EventKind::AgentResumed,
    EventKind::AgentSuperseded,
    EventKind::AgentDeregistered,
    EventKind::KeyCreated,
    EventKind::KeyRevoked,
    EventKind::RegistrationSecretCreated,
    EventKind::RegistrationSecretRevoked,
    EventKind::CallbackDelivered,
    EventKind::CallbackFailed,
    EventKind::CallbackGivenUp,
    EventKind::AgentRotationAsked,
    EventKind::AgentTokenRotated,
    EventKind::AgentPushSuspended,
    EventKind::AgentPushResumed,
    EventKind::AgentDrainAsked,
    EventKind::AgentResumeAsked,
    EventKind::AgentIntervalAsked,
    EventKind::WorkflowStarted,
    EventKind::WorkflowRunning,
    EventKind::WorkflowPaused,
    EventKind::WorkflowCompleted,
    EventKind::WorkflowFailed,
    EventKind::WorkflowCancelled,
    EventKind::AgentConnected,
];

const KINDS: usize = OTHERS.len() + NoteKind::ALL.len();

/// One counter for each kind of event.
#[derive(Debug)]
pub(crate) struct EventCounters([Counter; KINDS]);

/// The events of a commit that is under way, to be counted once it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventTally([u32; KINDS]);

impl Default for EventCounters {
    fn default() -> Self {
        Self(array::from_fn(|_| Counter::default()))
    }
}

impl EventCounters {
    /// A commit is done.
    pub(crate) fn count(&self, tally: &EventTally) {
        for (counter, events) in self.0.iter().zip(tally.0).filter(|(_, events)| *events > 0) {
            counter.add(events.into());
        }
    }

    /// A claim leased so many tasks.
    pub(crate) fn leased(&self, tasks: u64) {
        self.0[place(EventKind::Task(NoteKind::Leased))].add(tasks);
    }

    /// Every kind by its word, and how many there were.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        kinds().map(EventKind::as_str).zip(self.0.iter().map(Counter::get))
    }
}

impl EventTally {
    pub(crate) fn of(events: &[NewEvent]) -> Self {
        let mut tally = [0; KINDS];
        for event in events {
            if let Some(events) = tally.get_mut(place(event.kind)) {
                *events += 1;
            }
        }
        Self(tally)
    }
}

/// Every kind, in the order of their places.
pub(crate) fn kinds() -> impl Iterator<Item = EventKind> {
    OTHERS.into_iter().chain(NoteKind::ALL.iter().map(|kind| EventKind::Task(*kind)))
}

/// Where a kind is counted. A new one does not compile until it has its place here and in [`OTHERS`].
const fn place(kind: EventKind) -> usize {
    match kind {
        EventKind::AgentRegistered => 0,
        EventKind::AgentDraining => 1,
        EventKind::AgentResumed => 2,
        EventKind::AgentSuperseded => 3,
        EventKind::AgentDeregistered => 4,
        EventKind::KeyCreated => 5,
        EventKind::KeyRevoked => 6,
        EventKind::RegistrationSecretCreated => 7,
        EventKind::RegistrationSecretRevoked => 8,
        EventKind::CallbackDelivered => 9,
        EventKind::CallbackFailed => 10,
        EventKind::CallbackGivenUp => 11,
        EventKind::AgentRotationAsked => 12,
        EventKind::AgentTokenRotated => 13,
        EventKind::AgentPushSuspended => 14,
        EventKind::AgentPushResumed => 15,
        EventKind::AgentDrainAsked => 16,
        EventKind::AgentResumeAsked => 17,
        EventKind::AgentIntervalAsked => 18,
        EventKind::WorkflowStarted => 19,
        EventKind::WorkflowRunning => 20,
        EventKind::WorkflowPaused => 21,
        EventKind::WorkflowCompleted => 22,
        EventKind::WorkflowFailed => 23,
        EventKind::WorkflowCancelled => 24,
        EventKind::AgentConnected => 25,
        EventKind::Task(kind) => OTHERS.len() + kind as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_counted_under_its_own_word() {
        for (index, kind) in kinds().enumerate() {
            assert_eq!(place(kind), index, "{}", kind.as_str());
        }
    }
}
