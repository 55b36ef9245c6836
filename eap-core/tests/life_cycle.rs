//! Every phase of a task against every event, as one table.
//!
//! All but the first two phases share a past: attempt 1 was alpha's and was forgotten (expired), attempt
//! 2 was beta's and was released without fault, attempt 3 is alpha's and is the newest. Gamma is able but
//! never held the task. The columns are named in [`phases`], the rows in [`events`].
//!
//! The cells were reviewed row by row against docs/reliability.md, section 1, and nothing regenerates them:
//! a cell changes by hand. It says what follows:
//!
//! | cell | meaning |
//! |---|---|
//! | `wait:failed` | a change: the new phase, and the outcome of the newest attempt (`-` if there is none) |
//! | `leased:open+` | the same, and the lease now ends later |
//! | `=` | let through, nothing to write |
//! | `dup` | the first answer again |
//! | `404` | never assigned to this agent |
//! | `422` | lease and attempt do not belong together |
//! | `conflict3` | attempt 3 has another result |
//! | `final3`, `lost1` | TASK_FINAL or LEASE_LOST, and the caller's attempt, if it has one |
//! | `full` | the attempt has told as much output as it may |
//! | `unready`, `early` | not to be taken now; nothing is due |
//!
//! The phases `ready` and `wait` are both `queued`: claimable, and delayed or backing off.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::*;
use eap_core::{EndOfLease, Phase, Quote, Refusal, Step, Task, TaskEvent, TaskSpec};

/// Queued tasks.
const QUEUED: &str = include_str!("life_cycle/queued.txt");
/// Leased and final tasks.
const TAKEN: &str = include_str!("life_cycle/taken.txt");

/// One column: a name, a task in that phase, and the time of the event.
fn phases() -> Vec<(&'static str, Life)> {
    let with_past = |spec| {
        let mut life = Life::of(spec);
        life.assign(ALPHA, 1).go(forget(ALPHA, 1));
        life.assign(BETA, 2).go(release(BETA, by_lease(2), EndOfLease::Draining));
        life.assign(ALPHA, 3).go(progress(ALPHA, by_lease(3), 5));
        life
    };
    let holding = || with_past(spec());
    let on_last_attempt = || with_past(TaskSpec { max_attempts: 2, ..spec() });
    let out_of_time = |max_attempts| {
        let mut life = with_past(TaskSpec { timeout: seconds(50), max_attempts, ..spec() });
        life.wait(seconds(51));
        life
    };
    let then = |mut life: Life, event: TaskEvent| {
        life.go(event);
        life
    };
    let after = |mut life: Life, count: u64| {
        life.wait(seconds(count));
        life
    };

    let mut rejected_and_ready = then(holding(), report(ALPHA, by_lease(3), rejected("no")));
    rejected_and_ready.sweep();
    let mut overdue = with_past(TaskSpec { expires_at: Some(at(100)), ..spec() });
    overdue.go(forget(ALPHA, 3));
    overdue.wait_until(at(100));

    vec![
        // Queued.
        ("new", Life::new()),
        ("delayed", Life::of(TaskSpec { run_at: Some(at(500)), ..spec() })),
        ("lapsed", then(after(holding(), 60), due())),
        ("overdue", overdue),
        ("retrying", then(holding(), report(ALPHA, by_lease(3), failed("F")))),
        ("timed_out", then(out_of_time(3), due())),
        ("handed_back", then(holding(), release(ALPHA, by_lease(3), handed_back()))),
        ("rejected", rejected_and_ready),
        // Leased: a while ago, past its expiry, past its deadline; none swept yet.
        ("leased", after(holding(), 20)),
        ("stale", after(holding(), 61)),
        ("late", out_of_time(3)),
        // Its lease is live, and its handler was quiet for too long.
        ("quiet", after(with_past(TaskSpec { inactivity: Some(seconds(20)), ..spec() }), 20)),
        // Final: by a result, by a failure, by a timeout on the last attempt, by hand, by expiries.
        ("completed", then(holding(), report(ALPHA, by_lease(3), completed("C")))),
        ("failed", then(holding(), report(ALPHA, by_lease(3), fatal("G")))),
        ("ran_out", then(out_of_time(2), due())),
        ("cancelled", then(holding(), cancel())),
        ("dead", then(after(on_last_attempt(), 60), due())),
    ]
}

/// One row: a name and an event.
fn events() -> Vec<(String, TaskEvent)> {
    let both = Quote { lease_id: Some(lease(3)), attempt: Some(3) };
    let mixed = Quote { lease_id: Some(lease(3)), attempt: Some(1) };
    let quotes = [
        ("newest", ALPHA, by_lease(3)),
        ("numbered", ALPHA, by_number(3)),
        ("both", ALPHA, both),
        ("plain", ALPHA, Quote::default()),
        ("older", ALPHA, by_lease(1)),
        ("mixed", ALPHA, mixed),
        ("beta's", ALPHA, by_lease(2)),
        ("unknown", ALPHA, by_lease(9)),
        ("beta", BETA, by_lease(2)),
        ("beta_plain", BETA, Quote::default()),
        ("stranger", GAMMA, by_lease(3)),
    ];
    let mut rows = Vec::new();
    let mut row = |name: &str, event| rows.push((name.to_owned(), event));

    row("assign alpha", assign(ALPHA, 4));
    row("assign gamma", assign(GAMMA, 4));
    row("renew newest", renew(ALPHA, 3));
    row("renew older", renew(ALPHA, 1));
    row("renew moved", renew_at(ALPHA, 3, 0.5));
    row("renew echo", renew_at(ALPHA, 3, 0.1));
    row("renew beta", renew(BETA, 3));
    row("renew stranger", renew(GAMMA, 3));
    row("forget newest", forget(ALPHA, 3));
    row("forget older", forget(ALPHA, 1));
    row("forget beta", forget(BETA, 3));
    row("forget stranger", forget(GAMMA, 3));
    row("adopt by nobody", adopt(3, "push:1", "push:2"));
    row("due", due());
    row("fresh_start", TaskEvent::FreshStart);
    row("cancel", cancel());
    row("release undelivered", release(ALPHA, by_lease(3), undelivered()));
    row("release draining", release(ALPHA, by_lease(3), EndOfLease::Draining));
    row("release deregistered", release(ALPHA, by_lease(3), EndOfLease::Deregistered));
    row("release unclaimed", release(ALPHA, by_lease(3), EndOfLease::Unclaimed));
    row("release no place", release(ALPHA, by_lease(3), EndOfLease::NoPlace));
    row("release not free", release(ALPHA, by_lease(3), EndOfLease::NotFree));
    row("progress again", progress(ALPHA, by_lease(3), 5));
    row("output again", output(ALPHA, by_lease(3), 5, "text"));
    row("output newest", output(ALPHA, by_lease(3), 6, "text"));
    row("output older", output(ALPHA, by_lease(1), 6, "text"));
    row("output too_much", output(ALPHA, by_lease(3), 6, &"x".repeat((1 << 20) + 1)));
    for (name, id, quote) in quotes {
        row(&format!("progress {name}"), progress(id, quote, 6));
        row(&format!("handed_back {name}"), release(id, quote, handed_back()));
        row(&format!("completed {name}"), report(id, quote, completed("C")));
        row(&format!("failed {name}"), report(id, quote, failed("F")));
        row(&format!("fatal {name}"), report(id, quote, fatal("G")));
        row(&format!("rejected {name}"), report(id, quote, rejected("no")));
    }
    rows
}

/// What follows, in the notation of the table.
fn cell(before: &Task, answer: &Result<Step, Refusal>) -> String {
    let numbered =
        |word: &str, attempt: &Option<u32>| format!("{word}{}", attempt.map_or(String::new(), |n| n.to_string()));
    match answer {
        Ok(Step::Changed(change)) => {
            let phase = match &change.state.phase {
                Phase::Queued { ready_at: None } => "ready",
                Phase::Queued { ready_at: Some(_) } => "wait",
                phase => phase.status().as_str(),
            };
            let outcome = change.state.attempts.last().map_or("-", |attempt| attempt.outcome.as_str());
            let ends = |phase: &Phase| match phase {
                Phase::Leased(lease) => Some(lease.expires_at),
                _ => None,
            };
            let is_longer = before.lease().is_some() && ends(&change.state.phase) > ends(&before.state.phase);
            format!("{phase}:{outcome}{}", if is_longer { "+" } else { "" })
        }
        Ok(Step::Unchanged) => "=".to_owned(),
        Ok(Step::Duplicate) => "dup".to_owned(),
        Err(Refusal::NotAssigned) => "404".to_owned(),
        Err(Refusal::Mismatch) => "422".to_owned(),
        Err(Refusal::ResultConflict { attempt }) => format!("conflict{attempt}"),
        Err(Refusal::TaskFinal { attempt, .. }) => numbered("final", attempt),
        Err(Refusal::LeaseLost { attempt }) => numbered("lost", attempt),
        Err(Refusal::OutputFull { .. }) => "full".to_owned(),
        Err(Refusal::NotReady) => "unready".to_owned(),
        Err(Refusal::NotDue) => "early".to_owned(),
        other => panic!("the table has no word for {other:?}"),
    }
}

/// The cells that are written down: (event, phase) to what is expected.
fn written(table: &str) -> BTreeMap<(String, String), String> {
    let mut lines = table.lines().filter(|line| !line.trim().is_empty());
    let columns: Vec<&str> = lines.next().expect("a header").split('|').skip(1).map(str::trim).collect();
    let mut cells = BTreeMap::new();
    for line in lines {
        let mut words = line.split('|').map(str::trim);
        let event = words.next().expect("a row has a name").to_owned();
        let row: Vec<&str> = words.collect();
        assert_eq!(row.len(), columns.len(), "a cell is missing in the row {event:?}");
        for (phase, expected) in columns.iter().zip(row) {
            assert!(!expected.is_empty(), "the cell {event:?} x {phase:?} is empty");
            let twice = cells.insert((event.clone(), (*phase).to_owned()), expected.to_owned());
            assert_eq!(twice, None, "the cell {event:?} x {phase:?} is there twice");
        }
    }
    cells
}

fn whole_table() -> BTreeMap<(String, String), String> {
    let mut cells = written(QUEUED);
    cells.extend(written(TAKEN));
    cells
}

#[test]
fn every_phase_answers_every_event_as_the_table_says() {
    let mut expected = whole_table();
    let mut wrong = Vec::new();
    for (phase, life) in phases() {
        for (name, event) in events() {
            let answer = life.clone().ask(event);
            let found = cell(&life.task, &answer);
            match expected.remove(&(name.clone(), phase.to_owned())) {
                Some(expected) if expected == found => {}
                Some(expected) => wrong.push(format!("{name} x {phase}: must be {expected}, is {found}")),
                None => wrong.push(format!("{name} x {phase}: is {found}, but the table has no such cell")),
            }
        }
    }
    wrong.extend(expected.into_keys().map(|(event, phase)| format!("{event} x {phase}: nothing makes this cell")));
    assert!(wrong.is_empty(), "{} cells differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The variants of `pub enum name`, as the source has them.
fn variants(source: &str, name: &str) -> BTreeSet<String> {
    let body = source.split(&format!("pub enum {name} {{\n")).nth(1).expect("the enum is in this file");
    let body = body.split("\n}").next().expect("the enum ends");
    let is_variant = |line: &&str| line.starts_with("    ") && line[4..].starts_with(|c: char| c.is_ascii_uppercase());
    let word = |line: &str| line.trim().split(|c: char| !c.is_ascii_alphanumeric()).next().map(str::to_owned);
    let found: BTreeSet<String> = body.lines().filter(is_variant).filter_map(word).collect();
    assert!(found.len() > 2, "the variants of {name} are read from the source");
    found
}

fn words_of(shown: &str) -> impl Iterator<Item = &str> {
    shown.split(|c: char| !c.is_ascii_alphanumeric())
}

#[test]
fn the_table_leaves_out_no_event_no_ending_no_report_and_no_phase() {
    let shown: String = events().iter().map(|(_, event)| format!("{event:?} ")).collect();
    let tried: BTreeSet<&str> = words_of(&shown).collect();
    let source = include_str!("../src/task/event.rs");
    for name in ["TaskEvent", "EndOfLease", "ReportKind"] {
        for variant in variants(source, name) {
            assert!(tried.contains(variant.as_str()), "{name}::{variant} is missing in the table");
        }
    }

    let shown: String = phases().iter().map(|(_, life)| format!("{:?} ", life.phase())).collect();
    let tried: BTreeSet<&str> = words_of(&shown).collect();
    for variant in variants(include_str!("../src/task/phase.rs"), "Phase") {
        assert!(tried.contains(variant.as_str()), "Phase::{variant} is missing in the table");
    }

    assert_eq!(whole_table().len(), phases().len() * events().len());
}
