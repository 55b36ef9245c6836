//! Draws the life cycles by trying every event in every state that can be reached, and compares the
//! drawing with `diagrams.md`, which is part of the crate's documentation.
//!
//! `EAP_UPDATE=1 cargo test -p eap-core --test diagrams` writes the file anew.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use common::*;
use eap_core::{
    AgentEvent, EndOfLease, LivenessPolicy, NextTask, ReportKind, Session, SessionDecision, SessionEvent, SessionSpec,
    Standing, StepOutcome, Task, TaskEvent, TaskPolicy, TaskSpec,
};
use eap_types::{AgentState, RawJson, SessionState, TaskId, TaskStatus};

/// From, to, and the words on the arrow.
type Arrows<S> = BTreeMap<(S, S), BTreeSet<String>>;

/// The word on the arrow: the event, and for a report what it says.
fn word_for(event: &TaskEvent) -> String {
    match event {
        TaskEvent::Report { report, .. } => match &report.kind {
            ReportKind::Completed => "report completed".to_owned(),
            ReportKind::Failed { retryable: true, .. } => "report failed".to_owned(),
            ReportKind::Failed { .. } => "report failed for good".to_owned(),
            _ => "report rejected".to_owned(),
        },
        other => other.name().replace('_', " "),
    }
}

/// Everything that could happen to this task now.
fn task_events(task: &Task) -> Vec<TaskEvent> {
    let newest = u32::try_from(task.state.attempts.len()).expect("few attempts");
    let (agents, quote) = ([ALPHA, BETA], by_lease(newest));
    let mut events = vec![due(), cancel(), TaskEvent::FreshStart];
    for id in agents {
        events.push(assign(id, newest + 1));
        events.push(renew(id, newest));
        events.push(forget(id, newest));
        events.push(progress(id, quote, 1));
        for why in [handed_back(), undelivered(), EndOfLease::Draining] {
            events.push(release(id, quote, why));
        }
        for what in [completed("x"), failed("x"), fatal("x"), rejected("x")] {
            events.push(report(id, quote, what));
        }
    }
    events
}

/// What tells two tasks apart as far as the diagram goes.
fn signature(task: &Task) -> String {
    let outcomes = task.state.attempts.iter().map(|attempt| (attempt.outcome, attempt.given_up, attempt.reported));
    let ends = task.lease().map(|lease| lease.expires_at >= lease.deadline);
    format!("{} {} {ends:?} {:?}", task.status(), task.is_ready(), outcomes.collect::<Vec<_>>())
}

/// All arrows between the states of a task, with small limits so that each of them is reached.
fn task_arrows() -> Arrows<TaskStatus> {
    let mut policy = TaskPolicy::default();
    (policy.max_expiries, policy.max_releases) = (2, 2);
    let mut arrows = Arrows::new();
    let mut tried = BTreeSet::new();
    let starts = [None, Some(at(50))].into_iter().flat_map(|run_at| {
        [seconds(30), TIMEOUT].map(|timeout| {
            let spec = TaskSpec { run_at, timeout, max_attempts: 2, expires_at: Some(at(5000)), ..spec() };
            (Task::submitted(spec), at(0))
        })
    });
    let mut open: Vec<_> = starts.collect();
    while let Some((task, now)) = open.pop() {
        // Two moments: soon, and when something is due.
        let moments = [Some(now + seconds(20)), task.due_at().map(|due_at| due_at.max(now))];
        for (now, event) in
            moments.into_iter().flatten().flat_map(|now| task_events(&task).into_iter().map(move |event| (now, event)))
        {
            let word = word_for(&event);
            let Some(change) = task.apply(event, now, &policy).ok().and_then(eap_core::Step::changed) else { continue };
            let next = Task { spec: task.spec.clone(), state: change.state };
            arrows.entry((task.status(), next.status())).or_default().insert(word);
            let deep = next.state.attempts.len() > 4;
            if !deep && tried.insert(signature(&next)) {
                open.push((next, now));
            }
        }
    }
    arrows
}

/// All arrows between the states of an agent, by its own events and by its silence.
fn agent_arrows() -> Arrows<AgentState> {
    let policy = LivenessPolicy::default();
    let silences = [Duration::ZERO, policy.suspect_after(), policy.offline_after()];
    let words = ["", "1.5 H of silence", "3 H of silence"];
    let mut arrows = Arrows::new();
    let mut tried = BTreeSet::new();
    let mut open = vec![(Standing::Active, 0_usize)];
    while let Some((standing, silence)) = open.pop() {
        let from = standing.state(silences[silence], &policy);
        let mut go = |word: &str, next: (Standing, usize)| {
            let to = next.0.state(silences[next.1], &policy);
            // What changes nothing is no arrow.
            if to != from {
                arrows.entry((from, to)).or_default().insert(word.to_owned());
            }
            if tried.insert(format!("{next:?}")) {
                open.push(next);
            }
        };
        for event in AgentEvent::ALL {
            let is_sign_of_life = matches!(event, AgentEvent::Register | AgentEvent::Beat | AgentEvent::Drain);
            if let Some(next) = standing.after(event, at(0)) {
                go(event.name(), (next, if is_sign_of_life { 0 } else { silence }));
            }
        }
        if silence + 1 < silences.len() {
            go(words[silence + 1], (standing, silence + 1));
        }
    }
    arrows
}

/// All arrows between the states of a session of two steps, and of one.
fn session_arrows() -> Arrows<SessionState> {
    let task = |number: usize| TaskId::from_bytes([u8::try_from(number).expect("few tasks"); 16]);
    let mut arrows = Arrows::new();
    let mut tried = BTreeSet::new();
    let mut open: Vec<Session> = [r#""nextTaskId": "b""#, r#""parameters": {}"#]
        .into_iter()
        .map(|link| {
            let second = if link.contains("next") { r#", {"taskId": "b", "name": "b"}"# } else { "" };
            let steps = format!(r#"[{{"taskId": "a", "name": "a", {link}}}{second}]"#);
            let text = format!(r#"{{"id": "w", "name": "w", "version": "1", "tasks": {steps}}}"#);
            let spec = SessionSpec {
                id: spec().session_id,
                tenant: spec().routing.tenant,
                workflow: serde_json::from_str(&text).expect("a workflow"),
                agent_id: Some(agent(ALPHA)),
                started_by: "ci".to_owned(),
                initial_payload: None,
                created_at: at(0),
                traceparent: None,
            };
            Session::start(spec, &NextTask { id: task(1), timeout: TIMEOUT, offered: None }).0
        })
        .collect();
    while let Some(session) = open.pop() {
        let newest = session.run.steps.len();
        let over = |outcome| SessionEvent::StepOver { task: task(newest), agent: None, attempts: 1, outcome };
        let result = RawJson::parse("1").expect("a number");
        let events = [
            ("step taken", SessionEvent::StepTaken { task: task(newest), agent: agent(ALPHA), attempt: 1 }),
            ("step completed", over(StepOutcome::Completed { result })),
            ("step failed", over(StepOutcome::Failed { reason: "no".to_owned() })),
            ("step cancelled", over(StepOutcome::Cancelled { reason: None })),
            ("pause", SessionEvent::Pause),
            ("resume", SessionEvent::Resume),
            ("cancel", SessionEvent::Cancel { reason: None }),
        ];
        let next = NextTask { id: task(newest + 1), timeout: TIMEOUT, offered: None };
        for (word, event) in events {
            let change = session.apply(event, at(1), &next).ok().and_then(SessionDecision::changed);
            let Some(change) = change else { continue };
            let changed = Session { run: change.run, ..session.clone() };
            arrows.entry((session.status(), changed.status())).or_default().insert(word.to_owned());
            if tried.insert(format!("{:?} {}", changed.run, changed.spec.workflow.tasks.len())) {
                open.push(changed);
            }
        }
    }
    arrows
}

fn draw<S: Copy + Ord + std::fmt::Display>(start: &str, arrows: &Arrows<S>, ends: &[S]) -> String {
    let mut text = format!("```mermaid\nstateDiagram-v2\n    {start}\n");
    for ((from, to), words) in arrows {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let _ = writeln!(text, "    {from} --> {to}: {}", words.join(", "));
    }
    for end in ends {
        let _ = writeln!(text, "    {end} --> [*]");
    }
    text + "```\n"
}

fn document() -> String {
    let (tasks, agents) = (task_arrows(), agent_arrows());
    let finals: Vec<TaskStatus> = TaskStatus::ALL.iter().copied().filter(|status| status.is_final()).collect();
    let mut text = String::from(
        "# The life of a task\n\
         \n\
         Drawn by trying every event in every state that can be reached; a test redraws it and compares. The\n\
         words on an arrow are events ([`TaskEvent`]), those after `report` are what the agent reports. An\n\
         arrow back to the same state changes the record without leaving it: a renewal, a delay that is over,\n\
         a late report.\n\n",
    );
    text += &draw("[*] --> queued: submit", &tasks, &finals);
    text += "\n\
         `due` is the sweeper finding that a time has come: a delay is over, a lease has lapsed, an attempt has\n\
         run out of time, the task has expired. A report takes a *queued* task to its end only from the newest\n\
         attempt, whose lease lapsed and which nobody has replaced. `failed` is a failure that another attempt\n\
         may mend; on the last one it leads to the state `failed` as well.\n\
         \n\
         # The life of an agent\n\
         \n\
         Drawn in the same way, from [`Standing::after`] and [`Standing::state`]. H is the heartbeat interval;\n\
         silence ends with the next beat.\n\n";
    text += &draw("[*] --> online: register", &agents, &[]);
    text += "\n\
         # The life of a session\n\
         \n\
         Drawn in the same way, from [`Session::apply`], with workflows of one step and of two. A step is\n\
         over when its task is. *paused* holds back the step that would follow; the one that runs goes on.\n\n";
    let finals: Vec<SessionState> = SessionState::ALL.iter().copied().filter(|state| state.is_final()).collect();
    text += &draw("[*] --> started: start", &session_arrows(), &finals);
    text
}

#[test]
fn the_diagrams_in_the_documentation_are_those_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("diagrams.md");
    let drawn = document();
    if std::env::var_os("EAP_UPDATE").is_some() {
        std::fs::write(&path, &drawn).expect("diagrams.md is writable");
    }
    let written = std::fs::read_to_string(&path).expect("diagrams.md is readable");
    assert!(written == drawn, "diagrams.md is not what the code does; EAP_UPDATE=1 redraws it. The code:\n{drawn}");
}

#[test]
fn the_diagrams_show_every_state_and_no_way_out_of_an_end() {
    let (tasks, agents) = (task_arrows(), agent_arrows());
    for status in TaskStatus::ALL {
        assert!(tasks.keys().any(|(_, to)| to == status), "{status} is never reached");
    }
    assert!(tasks.keys().all(|(from, _)| !from.is_final()));
    for state in AgentState::ALL {
        assert!(agents.keys().any(|(_, to)| to == state), "{state} is never reached");
    }
    let sessions = session_arrows();
    for state in SessionState::ALL.iter().filter(|state| **state != SessionState::Started) {
        assert!(sessions.keys().any(|(_, to)| to == state), "{state} is never reached");
    }
    assert!(sessions.keys().all(|(from, _)| !from.is_final()));
    let ways_back: BTreeSet<&str> = agents
        .iter()
        .filter(|((from, _), _)| *from == AgentState::Deregistered)
        .flat_map(|(_, words)| words.iter().map(String::as_str))
        .collect();
    assert_eq!(ways_back, BTreeSet::from(["register"]), "who left comes back by registering alone");
}
