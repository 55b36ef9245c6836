//! Every state of a session against every event, as one table.
//!
//! The workflow has two steps, `a` (task 1) and `b` (task 2). The cells were reviewed row by row against docs/protocol.md,
//! section 6; a cell changes by hand. It says what follows:
//!
//! | cell | meaning |
//! |---|---|
//! | `running +2` | a change: the new state, and task 2 is to be made |
//! | `cancelled -1` | the same, and task 1 is to be cancelled |
//! | `=` | let through, nothing to write |
//! | `final` | refused: the session is over |

use super::*;
use eap_core::{SessionDecision, SessionPhase, TaskOrder};

/// The columns: a name, and a session in that state.
fn states() -> Vec<(&'static str, Session)> {
    let fresh = || started(chain(&["a", "b"])).0;
    let then = |events: Vec<SessionEvent>| after(fresh(), events);
    let pause = || SessionEvent::Pause;
    let first_done = || completed(1, "1");
    vec![
        ("started", fresh()),
        ("running", then(vec![taken(1, "alpha", 1)])),
        ("paused", then(vec![taken(1, "alpha", 1), pause()])),
        ("held", then(vec![pause(), first_done()])),
        ("second", then(vec![first_done()])),
        ("last", then(vec![first_done(), pause()])),
        ("completed", then(vec![first_done(), completed(2, "2")])),
        ("failed", then(vec![failed(1, "out of memory")])),
        ("cancelled", then(vec![cancel()])),
    ]
}

/// The rows: a name and an event.
fn events() -> Vec<(&'static str, SessionEvent)> {
    vec![
        ("taken 1", taken(1, "alpha", 1)),
        ("retaken 1", taken(1, "beta", 2)),
        ("taken 2", taken(2, "alpha", 1)),
        ("completed 1", completed(1, "1")),
        ("completed 2", completed(2, "2")),
        ("failed 1", failed(1, "out of memory")),
        ("failed 2", failed(2, "out of memory")),
        ("stopped 1", stopped(1)),
        ("stopped 2", stopped(2)),
        ("stranger", completed(77, "1")),
        ("pause", SessionEvent::Pause),
        ("resume", SessionEvent::Resume),
        ("cancel", cancel()),
    ]
}

fn cell(session: &Session, event: SessionEvent) -> String {
    let number = u8::try_from(session.run.steps.len() + 1).expect("few steps");
    match session.apply(event, session.run.updated_at + Duration::from_secs(1), &next(number)) {
        Err(_) => "final".to_owned(),
        Ok(SessionDecision::Unchanged) => "=".to_owned(),
        Ok(SessionDecision::Changed(change)) => {
            assert_ne!(change.run, session.run, "a change changes something");
            let order = match &change.order {
                None => String::new(),
                Some(TaskOrder::Create(made)) => format!(" +{}", made.id().as_bytes()[0]),
                Some(TaskOrder::Cancel { task, .. }) => format!(" -{}", task.as_bytes()[0]),
                Some(other) => panic!("an order that the table has no sign for: {other:?}"),
            };
            format!("{}{order}", change.run.phase.status())
        }
        Ok(other) => panic!("a step that the table has no sign for: {other:?}"),
    }
}

#[rustfmt::skip]
const TABLE: &[(&str, [&str; 9])] = &[
    // event         started         running         paused          held            second          last            completed  failed   cancelled
    ("taken 1",     ["running",      "=",            "=",            "=",            "=",            "=",            "=",       "=",     "="]),
    ("retaken 1",   ["running",      "running",      "paused",       "=",            "=",            "=",            "=",       "=",     "="]),
    ("taken 2",     ["=",            "=",            "=",            "=",            "running",      "paused",       "=",       "=",     "="]),
    ("completed 1", ["running +2",   "running +2",   "paused",       "=",            "=",            "=",            "=",       "=",     "="]),
    ("completed 2", ["=",            "=",            "=",            "=",            "completed",    "completed",    "=",       "=",     "="]),
    ("failed 1",    ["failed",       "failed",       "failed",       "=",            "=",            "=",            "=",       "=",     "="]),
    ("failed 2",    ["=",            "=",            "=",            "=",            "failed",       "failed",       "=",       "=",     "="]),
    ("stopped 1",   ["cancelled",    "cancelled",    "cancelled",    "=",            "=",            "=",            "=",       "=",     "="]),
    ("stopped 2",   ["=",            "=",            "=",            "=",            "cancelled",    "cancelled",    "=",       "=",     "="]),
    ("stranger",    ["=",            "=",            "=",            "=",            "=",            "=",            "=",       "=",     "="]),
    ("pause",       ["paused",       "paused",       "=",            "=",            "paused",       "=",            "final",   "final", "final"]),
    ("resume",      ["=",            "=",            "running",      "running +2",   "=",            "running",      "final",   "final", "final"]),
    ("cancel",      ["cancelled -1", "cancelled -1", "cancelled -1", "cancelled",    "cancelled -2", "cancelled -2", "final",   "final", "="]),
];

#[test]
fn every_state_answers_every_event_as_the_table_says() {
    let states = states();
    let names: Vec<&str> = states.iter().map(|(name, _)| *name).collect();
    for ((name, event), (row, cells)) in events().into_iter().zip(TABLE) {
        assert_eq!(name, *row);
        let found: Vec<String> = states.iter().map(|(_, session)| cell(session, event.clone())).collect();
        assert_eq!(found, cells, "{name}, in {names:?}");
    }
    assert_eq!(events().len(), TABLE.len());
}

#[test]
fn the_table_leaves_out_no_state_and_no_event() {
    let tried: BTreeSet<String> = states().iter().map(|(_, session)| session.status().to_string()).collect();
    assert_eq!(tried, eap_types::SessionState::ALL.iter().map(ToString::to_string).collect());
    let tried: BTreeSet<String> = events().iter().map(|(_, event)| event.name().to_owned()).collect();
    assert_eq!(tried, words(&["step_taken", "step_over", "pause", "resume", "cancel"]));
    let source = include_str!("../../src/workflow/event.rs");
    let names = source.matches("=> \"").count();
    assert_eq!(tried.len(), names, "every name of an event is in the table");
}

#[test]
fn every_change_applied_again_is_no_change() {
    for (name, session) in states() {
        for (row, event) in events() {
            let now = session.run.updated_at + Duration::from_secs(1);
            let Ok(SessionDecision::Changed(change)) = session.apply(event.clone(), now, &next(7)) else { continue };
            let changed = Session { run: change.run, ..session.clone() };
            let again = changed.apply(event, now + Duration::from_secs(1), &next(8));
            assert!(!matches!(again, Ok(SessionDecision::Changed(_))), "{row} in {name}, applied twice");
        }
    }
}

#[test]
fn a_paused_session_that_no_agent_had_begun_is_started_again_when_it_goes_on() {
    let session = after(started(chain(&["a", "b"])).0, [SessionEvent::Pause, SessionEvent::Resume]);
    assert_eq!(session.run.phase, SessionPhase::Started);
}

#[test]
fn a_final_session_says_why_and_when() {
    let fresh = || started(chain(&["a", "b"])).0;
    let phase = |events: Vec<SessionEvent>| after(fresh(), events).run.phase;
    let reason = "step a failed: out of memory".to_owned();
    assert_eq!(phase(vec![failed(1, "out of memory")]), SessionPhase::Failed { at: at(1), reason });
    let reason = Some("not needed".to_owned());
    assert_eq!(phase(vec![cancel()]), SessionPhase::Cancelled { at: at(1), reason });
    let reason = Some("the task of step b was cancelled: by hand".to_owned());
    assert_eq!(phase(vec![completed(1, "1"), stopped(2)]), SessionPhase::Cancelled { at: at(2), reason });
    assert_eq!(phase(vec![completed(1, "1"), completed(2, "2")]), SessionPhase::Completed { at: at(2) });
}
