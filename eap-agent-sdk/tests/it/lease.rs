//! Heartbeats, renewals, and what happens when they say no or nothing.

use std::time::{Duration, Instant};

use eap_agent_sdk::types::{ErrorCode, ProblemBody};
use eap_agent_sdk::{CancelReason, HandlerError, LeaseStatus, Status, Task, TaskContext};
use serde_json::json;
use tokio::sync::mpsc;

use crate::fake::{Dice, Fake, PATIENCE, Rule, lease, task};

type Stop = (u8, Option<CancelReason>, Instant);

/// A handler that works until it is told to stop, and tells when and why.
fn watchful(
    stops: mpsc::Sender<Stop>,
) -> impl Fn(Task<u8>, TaskContext) -> futures_util::future::BoxFuture<'static, Result<(), HandlerError>> {
    move |task, ctx| {
        let stops = stops.clone();
        Box::pin(async move {
            ctx.cancelled().await;
            stops.send((task.input, ctx.cancel_reason(), Instant::now())).await?;
            Err(HandlerError::retry("stopped"))
        })
    }
}

async fn next(stops: &mut mpsc::Receiver<Stop>) -> Stop {
    tokio::time::timeout(PATIENCE, stops.recv()).await.expect("a handler is told to stop").unwrap()
}

fn lists(body: &serde_json::Value, number: u8) -> bool {
    body["tasks"].as_array().is_some_and(|tasks| tasks.iter().any(|held| held["lease_id"] == json!(lease(number))))
}

#[tokio::test]
async fn a_lost_lease_stops_that_task_alone_and_at_once() {
    let fake = Fake::new();
    fake.change(|state| state.lease_ms = 600);
    let (sender, mut stops) = mpsc::channel(8);
    let agent = fake.agent().handle("watch", watchful(sender)).build().unwrap().start();
    fake.submit(1, "watch", "1");
    fake.submit(2, "watch", "2");
    fake.until("both are listed", |state| {
        state.calls("/heartbeat").any(|beat| lists(&beat.body, 1) && lists(&beat.body, 2)).then_some(())
    })
    .await;
    fake.change(|state| state.lost.insert(lease(1).to_string()));
    let (number, reason, stopped) = next(&mut stops).await;
    assert_eq!((number, reason), (1, Some(CancelReason::LeaseLost)));
    let told = fake.state().calls("/heartbeat").filter(|beat| lists(&beat.body, 1)).last().unwrap().at;
    assert!(stopped - told < Duration::from_millis(100), "{:?}", stopped - told);
    let beats = fake.state().count("/heartbeat");
    fake.until_seen("/heartbeat", beats + 2).await;
    let last = fake.state().calls("/heartbeat").last().unwrap().body.clone();
    assert!(!lists(&last, 1) && lists(&last, 2));
    assert!(stops.try_recv().is_err());
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.cancelled, report.released), (1, 1));
    assert!(fake.state().results.is_empty());
}

#[tokio::test]
async fn a_cancel_directive_stops_the_task_and_is_acknowledged() {
    let fake = Fake::new();
    fake.change(|state| state.lease_ms = 600);
    let (sender, mut stops) = mpsc::channel(8);
    let agent = fake.agent().handle("watch", watchful(sender)).build().unwrap().start();
    fake.submit(1, "watch", "1");
    fake.until("it is listed", |state| state.calls("/heartbeat").any(|b| lists(&b.body, 1)).then_some(())).await;
    fake.change(|state| {
        state.directives.push(json!({
            "id": "d-1", "type": "cancel", "task_id": task(1), "lease_id": lease(1), "reason": "not needed",
        }));
    });
    let (_, reason, _) = next(&mut stops).await;
    assert_eq!(reason, Some(CancelReason::Requested { reason: Some("not needed".to_owned()) }));
    // The acknowledgement travels with the next beat, whenever that is.
    fake.submit(2, "watch", "2");
    fake.until("it is acknowledged", |state| state.directives.is_empty().then_some(())).await;
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.cancelled, report.failed), (1, 0));
}

#[tokio::test]
async fn a_directive_says_why_an_attempt_was_ended() {
    let fake = Fake::new();
    let (sender, mut stops) = mpsc::channel(8);
    let agent = fake.agent().handle("watch", watchful(sender)).build().unwrap().start();
    let requested = CancelReason::Requested { reason: Some("words".to_owned()) };
    let causes = [
        ("cancelled", requested.clone()),
        ("timeout", CancelReason::Timeout),
        ("inactivity", CancelReason::Inactivity),
        // A word of a newer orchestrator.
        ("moonlight", requested),
    ];
    for ((cause, expected), number) in causes.into_iter().zip(1..) {
        fake.submit(number, "watch", &number.to_string());
        fake.until("it is taken", |state| state.queue.is_empty().then_some(())).await;
        fake.change(|state| {
            state.directives.push(json!({
                "id": format!("d-{number}"), "type": "cancel", "task_id": task(number), "lease_id": lease(number),
                "reason": "words", "cause": cause,
            }));
        });
        let (stopped, reason, _) = next(&mut stops).await;
        assert_eq!((stopped, reason), (number, Some(expected)), "{cause}");
    }
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.cancelled, report.failed, report.refused), (4, 0, 0), "{report}");
}

#[tokio::test]
async fn an_agent_that_is_drained_takes_nothing_and_goes_on_when_resumed_or_registered_anew() {
    let fake = Fake::new();
    fake.change(|state| state.interval_seconds = 1);
    let agent = fake.agent().handle("work", |_: Task<String>, _| async { Ok(()) }).build().unwrap().start();
    let direct = |id: &str, kind: &str| {
        let directive = json!({ "id": id, "type": kind });
        fake.change(|state| state.directives.push(directive));
    };
    let heard = || fake.until("it is acknowledged", |state| state.directives.is_empty().then_some(()));
    fake.submit(1, "work", "");
    fake.until("it works", |state| state.result(1).cloned()).await;
    direct("d-1", "drain");
    heard().await;
    let beats = async |count: usize| {
        let seen = fake.state().count("/heartbeat");
        fake.until_seen("/heartbeat", seen + count).await;
    };
    // The poll that was out waits for a second.
    beats(3).await;
    let asked = fake.state().count("/tasks/lease");
    fake.submit(2, "work", "");
    beats(2).await;
    assert_eq!(fake.state().count("/tasks/lease"), asked);
    assert_eq!(fake.state().result(2), None);
    direct("r-1", "resume");
    fake.until("it goes on", |state| state.result(2).cloned()).await;
    direct("d-2", "drain");
    heard().await;
    // Whoever forgot the agent knows of no drain either, and would never resume it.
    fake.change(crate::fake::State::wipe);
    fake.submit(3, "work", "");
    fake.until("it takes work again", |state| state.result(3).cloned()).await;
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test]
async fn an_agent_beats_at_the_interval_that_a_directive_sets() {
    let fake = Fake::new();
    fake.change(|state| {
        state.interval_seconds = 3600;
        state.directives.push(json!({ "id": "i-1", "type": "set_interval", "heartbeat_interval_seconds": 1 }));
    });
    let agent = fake.agent().handle("work", |_: Task<String>, _| async { Ok(()) }).build().unwrap().start();
    // The first is sent at once, the second by the new interval.
    fake.until_seen("/heartbeat", 2).await;
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test]
async fn the_refusal_of_a_report_says_why_an_attempt_was_ended() {
    let fake = Fake::new();
    for (cause, expected, number) in [
        ("timeout", CancelReason::Timeout, 1),
        ("cancelled", CancelReason::Requested { reason: Some("words".to_owned()) }, 2),
    ] {
        let problem = ProblemBody::new(ErrorCode::TaskFinal, "it is over", "r-1");
        let problem = problem.with_cause(cause.parse().unwrap(), Some("words".to_owned()));
        fake.rule("/progress", [Rule::RefuseWith(Box::new(problem))]);
        fake.submit(number, "work", "");
        let (sender, mut reasons) = mpsc::channel(1);
        let work = move |_: Task<String>, ctx: TaskContext| {
            let sender = sender.clone();
            async move {
                ctx.emit("something").await;
                ctx.cancelled().await;
                sender.send(ctx.cancel_reason()).await?;
                Err::<(), _>(HandlerError::retry("stopped"))
            }
        };
        let agent = fake.agent().handle("work", work).build().unwrap().start();
        let reason = tokio::time::timeout(PATIENCE, reasons.recv()).await.expect("the handler is told to stop");
        assert_eq!(reason.unwrap(), Some(expected), "{cause}");
        agent.drain();
        let report = agent.wait().await.unwrap();
        assert_eq!((report.cancelled, report.refused), (1, 0), "{report}");
    }
}

#[tokio::test]
async fn a_heartbeat_that_is_refused_is_repeated_at_once_with_the_least() {
    let fake = Fake::new();
    fake.rule("/heartbeat", [Rule::Refuse(ErrorCode::PayloadTooLarge)]);
    let handler = watchful(mpsc::channel(1).0);
    let agent = fake.agent().handle("watch", handler).entropy(Dice::showing(255)).build().unwrap().start();
    fake.until_seen("/heartbeat", 2).await;
    let beats: Vec<_> = fake.state().calls("/heartbeat").cloned().collect();
    assert!(beats[0].body.get("work_loop").is_some());
    let mut keys: Vec<_> = beats[1].body.as_object().unwrap().keys().cloned().collect();
    keys.retain(|key| !["current_load", "tasks_in_progress", "metrics"].contains(&key.as_str()));
    assert_eq!(keys, ["seq", "status", "tasks"]);
    assert_eq!(beats[1].body["metrics"], json!({}));
    assert!(beats[1].at - beats[0].at < Duration::from_millis(400), "at once, without the pause of 500 ms");
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test]
async fn an_outage_makes_a_lease_uncertain_and_costs_no_work() {
    let fake = Fake::new();
    fake.change(|state| state.lease_ms = 300);
    let (sender, mut seen) = mpsc::channel(8);
    let work = move |_: Task<String>, ctx: TaskContext| {
        let sender = sender.clone();
        async move {
            for wanted in [LeaseStatus::Held, LeaseStatus::Uncertain, LeaseStatus::Held] {
                while ctx.lease() != wanted {
                    tokio::task::yield_now().await;
                }
                sender.send(wanted).await?;
            }
            Ok("done")
        }
    };
    let agent = fake.agent().handle("work", work).build().unwrap().start();
    fake.submit(1, "work", "");
    assert_eq!(seen.recv().await, Some(LeaseStatus::Held));
    fake.change(|state| state.is_down = true);
    assert_eq!(seen.recv().await, Some(LeaseStatus::Uncertain));
    assert_eq!(agent.status(), Status::Uncertain);
    fake.change(|state| state.is_down = false);
    assert_eq!(seen.recv().await, Some(LeaseStatus::Held));
    fake.until("a result", |state| state.result(1).cloned()).await;
    assert_eq!(fake.state().count("/register"), 1);
    agent.drain();
    assert_eq!(agent.wait().await.unwrap().completed, 1);
}

#[tokio::test]
async fn a_strict_agent_stops_when_its_lease_is_over_by_its_own_count() {
    let fake = Fake::new();
    fake.change(|state| state.lease_ms = 1_000);
    fake.submit(1, "watch", "1");
    let (sender, mut stops) = mpsc::channel(8);
    let agent = fake.agent().handle("watch", watchful(sender)).fence_locally().build().unwrap().start();
    fake.until("it is listed", |state| state.calls("/heartbeat").any(|b| lists(&b.body, 1)).then_some(())).await;
    fake.change(|state| state.is_down = true);
    let renewed = fake.state().calls("/heartbeat").filter(|beat| lists(&beat.body, 1)).last().unwrap().at;
    let (_, reason, stopped) = next(&mut stops).await;
    assert_eq!(reason, Some(CancelReason::LeaseLost));
    assert!(stopped - renewed < Duration::from_millis(1_200));
    agent.drain();
    agent.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_block_every_thread_miss_no_heartbeat_and_lose_no_lease() {
    let fake = Fake::new();
    fake.change(|state| state.lease_ms = 300);
    let block = |_: Task<String>, ctx: TaskContext| async move {
        std::thread::sleep(Duration::from_millis(700));
        Ok(ctx.is_cancelled())
    };
    for number in 1..=4 {
        fake.submit(number, "block", "");
    }
    let agent = fake.agent().handle("block", block).max_concurrent_tasks(4).build().unwrap().start();
    fake.until("four results", |state| (state.results.len() == 4).then_some(())).await;
    for number in 1..=4 {
        assert_eq!(fake.state().result(number).unwrap()["output_data"], json!({ "output": false }));
    }
    let beats: Vec<Instant> =
        fake.state().calls("/heartbeat").filter(|beat| lists(&beat.body, 1)).map(|beat| beat.at).collect();
    let longest = beats.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest < Duration::from_millis(300), "{longest:?} between two renewals of a lease of 300 ms");
    assert!(beats.len() >= 5, "{} renewals", beats.len());
    agent.drain();
    agent.wait().await.unwrap();
}
