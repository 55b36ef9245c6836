//! Agents that a platform (AgentKit) brought: how its webhooks are ordered, and what their reports of state mean.
//!
//! Such an agent takes work through its platform and sends no heartbeats (docs/protocol.md, section 6).

use std::time::Duration;

use eap_types::agentkit::StateWord;
use eap_types::{TaskId, Timestamp};
use serde::{Deserialize, Serialize};

/// How long a lease of such an agent holds: the time limit of its attempt ends it before.
pub(crate) const LEASE: Duration = Duration::from_secs(400 * 24 * 3600);

/// What makes an agent one of a platform: a part of its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnPlatform {
    /// What the platform calls it.
    pub name: String,
    /// When the newest webhook about it that took effect was sent.
    pub newest_event: Timestamp,
}

impl OnPlatform {
    /// Whether a webhook sent at `sent_at` is older than one that took effect (G27). Times that are told in whole seconds say
    /// nothing of the order within one: then they apply as they come.
    #[must_use]
    pub fn is_outdated(&self, sent_at: Timestamp) -> bool {
        let [sent, newest] = [sent_at, self.newest_event]
            .map(|at| (at.as_micros().div_euclid(MICROS), at.as_micros().rem_euclid(MICROS)));
        if sent.0 == newest.0 && (sent.1 == 0 || newest.1 == 0) { false } else { sent < newest }
    }
}

impl OnPlatform {
    /// The same once a webhook sent at `sent_at` took effect.
    #[must_use]
    pub fn after(&self, sent_at: Timestamp) -> Self {
        Self { newest_event: self.newest_event.max(sent_at), ..self.clone() }
    }
}

/// Microseconds in a second.
const MICROS: i64 = 1_000_000;

/// Whether an agent that is in this state, by its own word, may be given work.
#[must_use]
pub fn is_free(state: StateWord) -> bool {
    matches!(state, StateWord::Unknown | StateWord::Idle | StateWord::Finished)
}

/// A task that an agent holds, by the names it may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Its id.
    pub id: TaskId,
    /// What its workflow calls it.
    pub step: Option<String>,
    /// Whether its platform may have it: one that is still on its way is meant only where it is named.
    pub is_given: bool,
}

/// One report of an agent, as far as it matters for its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// When it was so, by the agent's own clock.
    pub at: Timestamp,
    /// The state.
    pub word: StateWord,
    /// The task it named, as it named it.
    pub task: Option<String>,
}

/// What a report means for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing.
    Nothing,
    /// The agent works on it.
    Works(TaskId),
    /// The agent has done it.
    Completes(TaskId),
    /// The agent has failed at it.
    Fails(TaskId),
}

/// Says what a report means for one of the tasks that its agent holds.
///
/// `before` are the agent's other reports since the task in flight was given to it, in any order: reports are read in the
/// order of their own times, whatever order they come in. They matter only where one task is in flight.
#[must_use]
pub fn meaning(report: &Said, in_flight: &[InFlight], before: &[Said]) -> Meaning {
    if let Some(task) = named(report, in_flight) {
        return match report.word {
            StateWord::Active if in_flight.len() == 1 => after(report, before, task),
            StateWord::Active => Meaning::Works(task),
            StateWord::Idle | StateWord::Finished => Meaning::Completes(task),
            StateWord::Error => Meaning::Fails(task),
            _ => Meaning::Nothing,
        };
    }
    let [InFlight { id, is_given: true, .. }] = in_flight else { return Meaning::Nothing };
    match report.word {
        // What was said since, the agent said as one that is well.
        StateWord::Error if before.iter().all(|said| said.at <= report.at) => Meaning::Fails(*id),
        StateWord::Idle | StateWord::Finished if before.iter().any(|said| is_active(said) && said.at <= report.at) => {
            Meaning::Completes(*id)
        }
        StateWord::Active => after(report, before, *id),
        _ => Meaning::Nothing,
    }
}

/// A report that the agent works, which may have been overtaken by the one that it is done.
fn after(report: &Said, before: &[Said], id: TaskId) -> Meaning {
    // Of one time, they are taken as they come.
    let is_end = |said: &Said| matches!(said.word, StateWord::Idle | StateWord::Finished) && said.at > report.at;
    if before.iter().any(is_end) { Meaning::Completes(id) } else { Meaning::Works(id) }
}

fn is_active(said: &Said) -> bool {
    said.word == StateWord::Active
}

/// The task in flight that a report names; a name that fits none counts as none.
fn named(report: &Said, in_flight: &[InFlight]) -> Option<TaskId> {
    let name = report.task.as_deref()?;
    let by_id = name.parse().ok().and_then(|id: TaskId| in_flight.iter().find(|task| task.id == id));
    let mut by_step = in_flight.iter().filter(|task| task.step.as_deref() == Some(name));
    // One step of two sessions may be in flight twice: then its name tells nothing.
    let only = by_step.next().filter(|_| by_step.next().is_none());
    by_id.or(only).map(|task| task.id)
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn id(number: u8) -> TaskId {
        TaskId::from_bytes([number; 16])
    }

    fn task(number: u8, step: &str) -> InFlight {
        InFlight { id: id(number), step: Some(step.to_owned()), is_given: true }
    }

    fn said(second: i64, word: StateWord, task: Option<&str>) -> Said {
        Said { at: Timestamp::from_seconds(second), word, task: task.map(str::to_owned) }
    }

    const WORDS: [StateWord; 7] = [
        StateWord::Unknown,
        StateWord::Initializing,
        StateWord::Idle,
        StateWord::Active,
        StateWord::Error,
        StateWord::Finished,
        StateWord::Other,
    ];

    #[test]
    fn a_report_that_names_a_task_is_about_that_one() {
        let held = [task(1, "t1"), task(2, "t2"), task(3, "t2")];
        for (name, about) in [(id(2).to_string(), 2), ("t1".to_owned(), 1)] {
            for word in WORDS {
                let expected = match word {
                    StateWord::Active => Meaning::Works(id(about)),
                    StateWord::Idle | StateWord::Finished => Meaning::Completes(id(about)),
                    StateWord::Error => Meaning::Fails(id(about)),
                    _ => Meaning::Nothing,
                };
                assert_eq!(meaning(&said(5, word, Some(&name)), &held, &[]), expected, "{name} {word:?}");
            }
        }
        // Named by a step that two of them are, or by nothing that is held: as if nothing was named.
        for name in ["t2", "t9", "", &id(9).to_string()] {
            assert_eq!(meaning(&said(5, StateWord::Idle, Some(name)), &held, &[]), Meaning::Nothing, "{name}");
        }
    }

    #[test]
    fn without_a_name_the_one_task_in_flight_is_done_when_work_came_before() {
        let held = [task(1, "t1")];
        let busy = said(10, StateWord::Active, None);
        for word in [StateWord::Idle, StateWord::Finished] {
            assert_eq!(meaning(&said(11, word, None), &held, &[]), Meaning::Nothing, "it was idle before it began");
            assert_eq!(meaning(&said(11, word, None), &held, slice::from_ref(&busy)), Meaning::Completes(id(1)));
            assert_eq!(meaning(&said(10, word, None), &held, slice::from_ref(&busy)), Meaning::Completes(id(1)));
            assert_eq!(meaning(&said(9, word, None), &held, slice::from_ref(&busy)), Meaning::Nothing, "an older one");
            assert_eq!(meaning(&said(11, word, Some("t9")), &held, slice::from_ref(&busy)), Meaning::Completes(id(1)));
            // The other way round.
            let end = said(11, word, None);
            assert_eq!(meaning(&busy, &held, slice::from_ref(&end)), Meaning::Completes(id(1)));
            let named = said(10, StateWord::Active, Some("t1"));
            assert_eq!(meaning(&named, &held, slice::from_ref(&end)), Meaning::Completes(id(1)));
            assert_eq!(meaning(&named, &[task(1, "t1"), task(2, "t2")], &[end]), Meaning::Works(id(1)));
            assert_eq!(meaning(&busy, &held, &[said(9, word, None)]), Meaning::Works(id(1)));
        }
        assert_eq!(meaning(&said(11, StateWord::Error, None), &held, &[]), Meaning::Fails(id(1)));
        assert_eq!(
            meaning(&said(9, StateWord::Error, None), &held, slice::from_ref(&busy)),
            Meaning::Nothing,
            "from before"
        );
        let idle = said(10, StateWord::Idle, None);
        assert_eq!(meaning(&busy, &held, &[idle]), Meaning::Works(id(1)), "of one time, as they come");
        assert_eq!(meaning(&busy, &held, &[]), Meaning::Works(id(1)));
        for word in [StateWord::Unknown, StateWord::Initializing, StateWord::Other] {
            assert_eq!(meaning(&said(11, word, None), &held, slice::from_ref(&busy)), Meaning::Nothing);
        }
    }

    #[test]
    fn what_is_still_on_its_way_is_meant_only_by_its_name() {
        let held = [InFlight { is_given: false, ..task(1, "t1") }];
        let busy = said(10, StateWord::Active, None);
        for word in WORDS {
            assert_eq!(meaning(&said(11, word, None), &held, slice::from_ref(&busy)), Meaning::Nothing, "{word:?}");
        }
        assert_eq!(meaning(&said(11, StateWord::Idle, Some("t1")), &held, &[]), Meaning::Completes(id(1)));
    }

    #[test]
    fn without_a_name_nothing_is_said_of_several_tasks_or_none() {
        let held = [task(1, "t1"), task(2, "t2")];
        let busy = said(10, StateWord::Active, None);
        for word in WORDS {
            assert_eq!(meaning(&said(11, word, None), &held, slice::from_ref(&busy)), Meaning::Nothing);
            assert_eq!(meaning(&said(11, word, None), &[], slice::from_ref(&busy)), Meaning::Nothing);
        }
    }

    #[test]
    fn work_is_given_to_the_unknown_the_idle_and_the_finished() {
        let free: Vec<_> = WORDS.into_iter().filter(|word| is_free(*word)).collect();
        assert_eq!(free, [StateWord::Unknown, StateWord::Idle, StateWord::Finished]);
    }

    #[test]
    fn webhooks_of_one_second_apply_as_they_come_unless_they_say_more() {
        let newest = Timestamp::from_micros(10_700_000);
        let agent = OnPlatform { name: "a".to_owned(), newest_event: newest };
        assert!(agent.is_outdated(Timestamp::from_micros(9_999_999)));
        assert!(!agent.is_outdated(Timestamp::from_seconds(10)), "which moment of it is not told");
        assert!(agent.is_outdated(Timestamp::from_micros(10_699_999)));
        assert!(!agent.is_outdated(newest));
        assert!(!agent.is_outdated(Timestamp::from_seconds(11)));
        let whole = OnPlatform { newest_event: Timestamp::from_seconds(10), ..agent };
        assert!(!whole.is_outdated(Timestamp::from_micros(10_000_001)));
        assert!(whole.is_outdated(Timestamp::from_micros(9_999_999)));
    }
}
