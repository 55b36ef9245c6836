//! What the server says about a lease reaches the handler that works under it, and no other.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eap_agent_sdk::{CancelReason, HandlerError, LeaseStatus, Task, TaskContext};
use eap_types::{AttemptOutcome, ResultStatus, TaskId, TaskStatus};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::harness::{Agent as RawAgent, in_time};
use crate::sdk_harness::{Fate, Gate, Network, Passing, Site, until};

const LONG: Duration = Duration::from_secs(5);
/// How soon after the answer that says so a handler hears that its lease is lost (A12).
const PROMPTLY: Duration = Duration::from_millis(100);

/// How a handler was told to stop.
#[derive(Debug)]
struct Stop {
    task: TaskId,
    attempt: u32,
    reason: Option<CancelReason>,
    lease: LeaseStatus,
    at: Instant,
}

/// A handler that waits at the gate and tells how it was stopped, if it was.
async fn wait_or_tell(gate: Gate, stops: mpsc::Sender<Stop>, ctx: TaskContext) -> Result<String, HandlerError> {
    tokio::select! {
        biased;
        () = ctx.cancelled() => {}
        () = gate.pass() => return Ok("through the gate".to_owned()),
    }
    let stop = Stop {
        task: ctx.task_id(),
        attempt: ctx.attempt(),
        reason: ctx.cancel_reason(),
        lease: ctx.lease(),
        at: Instant::now(),
    };
    stops.send(stop).await.expect("the test listens");
    Err(HandlerError::fatal("stopped"))
}

/// Takes a heartbeat, the channel on which an agent that polls hears of a cancellation (A24).
#[tokio::test]
async fn a_cancelled_task_stops_its_handler_with_the_reason_and_no_other() {
    let site = Site::start_hasty().await;
    let (gate, (stops, mut stopped)) = (Gate::closed(), mpsc::channel(8));
    let waiting = gate.clone();
    let work = move |_: Task<String>, ctx: TaskContext| wait_or_tell(waiting.clone(), stops.clone(), ctx);
    let agent = site.agent("AGENT-CANCEL").handle("work", work).build().unwrap().start();
    let [unwanted, wanted] = [site.submit("work", "unwanted").await, site.submit("work", "wanted").await];
    until(LONG, "both run", async || (gate.arrived() == 2).then_some(())).await;

    let reason = json!({"reason": "nobody wants it any more"});
    let answer = site.operator().cancel(&unwanted.to_string(), Some(&reason)).await.expect(200);
    assert_eq!(answer["status"], "cancelled", "it is final at once");
    let stop = in_time("the handler is stopped", stopped.recv()).await.unwrap();
    assert_eq!(stop.task, unwanted);
    assert_eq!(stop.reason, Some(CancelReason::Requested { reason: Some("nobody wants it any more".to_owned()) }));

    gate.open();
    assert_eq!(site.until_final(wanted, LONG).await.status, TaskStatus::Completed);
    assert_eq!(site.task(unwanted).await.status, TaskStatus::Cancelled);
    assert_eq!(site.outcomes(unwanted).await, ["cancelled"]);
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.completed, report.cancelled, report.refused), (1, 1, 0), "{report}");
    assert!(stopped.recv().await.is_none(), "nobody else was stopped");
}

#[tokio::test]
async fn a_lost_lease_stops_its_handler_within_100_ms_of_the_answer_and_no_other() {
    let site = Site::start_hasty().await;
    let (gate, (stops, mut stopped)) = (Gate::closed(), mpsc::channel(8));
    let waiting = gate.clone();
    let work = move |_: Task<String>, ctx: TaskContext| wait_or_tell(waiting.clone(), stops.clone(), ctx);
    let told = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&told);
    let network = Network::new(move |path, passing| {
        if let Passing::Answer(answer) = passing
            && path.ends_with("/heartbeat")
            && String::from_utf8_lossy(answer.body()).contains(r#""lost":true"#)
        {
            noted.lock().expect("no test panics with the lock").get_or_insert_with(Instant::now);
        }
        Fate::Arrives
    });
    let dir = site.dir("agent");
    let agent = site.agent("AGENT-LOST").max_concurrent_tasks(2).data_dir(&dir).http(network).handle("work", work);
    let agent = agent.build().unwrap().start();
    let [lost, kept] = [site.submit("work", "lost").await, site.submit("work", "kept").await];
    until(LONG, "both run", async || (gate.arrived() == 2).then_some(())).await;

    // The same agent, behind its own back.
    let identity: Value = serde_json::from_slice(&fs::read(dir.join("identity.json")).unwrap()).unwrap();
    let double = RawAgent::of(site.operator().api.clone(), identity);
    let lease = site.history(lost).await.attempts[0].lease_id;
    let release = json!({"lease_id": lease, "attempt": 1, "draining": true, "reason": "behind its back"});
    double.release(&lost.to_string(), Some(&release)).await.expect(200);

    let stop = in_time("the handler is stopped", stopped.recv()).await.unwrap();
    assert_eq!((stop.task, stop.attempt), (lost, 1));
    assert_eq!((stop.reason, stop.lease), (Some(CancelReason::LeaseLost), LeaseStatus::Lost));
    let told = told.lock().unwrap().expect("a heartbeat's answer said so");
    let took = stop.at.saturating_duration_since(told);
    assert!(took < PROMPTLY, "it took {took:?}");

    gate.open();
    for (task, outcomes) in [(lost, vec!["released", "completed"]), (kept, vec!["completed"])] {
        assert_eq!(site.until_final(task, LONG).await.status, TaskStatus::Completed);
        assert_eq!(site.outcomes(task).await, outcomes);
    }
    agent.drain();
    let report = agent.wait().await.unwrap();
    assert_eq!((report.completed, report.cancelled, report.refused), (2, 1, 0), "{report}");
    assert!(stopped.recv().await.is_none(), "nobody else was stopped");
}

/// Takes the two seconds of a lease that runs out.
#[tokio::test]
async fn an_agent_behind_a_partition_gives_way_to_the_one_that_took_over() {
    let site = Site::start_hasty().await;
    let (is_cut, gate) = (Arc::new(AtomicBool::new(false)), Gate::closed());
    let cut = Arc::clone(&is_cut);
    let network = Network::new(move |_, _| if cut.load(Ordering::Relaxed) { Fate::Vanishes } else { Fate::Arrives });
    let (refusals, mut refused) = mpsc::channel(8);
    let (stops, mut stopped) = mpsc::channel(8);
    let waiting = gate.clone();
    // Deaf to its cancellation, so that a late result arrives.
    let deaf = move |_: Task<String>, ctx: TaskContext| {
        let (gate, stops) = (waiting.clone(), stops.clone());
        async move {
            gate.pass().await;
            ctx.cancelled().await;
            stops.send(ctx.cancel_reason()).await.expect("the test listens");
            Ok::<_, HandlerError>("late")
        }
    };
    // With no room for more, so that no poll of its is left at the server to be answered into the void.
    let first = site.agent("AGENT-CUT-OFF").max_concurrent_tasks(1).http(network).handle("work", deaf);
    let first = first.on_refused(move |result| refusals.try_send(result).expect("the test listens"));
    let first = first.build().unwrap().start();
    let task = site.submit("work", "once").await;
    until(LONG, "it runs", async || (gate.arrived() == 1).then_some(())).await;
    gate.open();

    is_cut.store(true, Ordering::Relaxed);
    let take_over = |_: Task<String>, _: TaskContext| async { Ok("in time") };
    let second = site.agent("AGENT-REACHABLE").handle("work", take_over).build().unwrap().start();
    let done = site.until_final(task, LONG).await;
    assert_eq!((done.status, done.attempt, done.agent_id), (TaskStatus::Completed, 2, second.agent_id()));
    assert!(stopped.try_recv().is_err(), "behind the partition the work goes on");

    is_cut.store(false, Ordering::Relaxed);
    let reason = in_time("the first agent hears of it", stopped.recv()).await.unwrap();
    assert_eq!(reason, Some(CancelReason::LeaseLost));
    let refused = in_time("the late result is refused", refused.recv()).await.unwrap();
    assert_eq!(refused.status, 409);
    let history = site.history(task).await;
    assert_eq!(history.attempts[0].outcome, AttemptOutcome::Expired);
    assert_eq!(history.attempts[1].outcome, AttemptOutcome::Completed);
    let late = history.late_results.first().expect("the late result is kept as evidence");
    assert_eq!((late.attempt, late.result.status), (1, ResultStatus::Completed));
    assert_eq!(site.task_json(task).await["result"]["output_data"], json!({"output": "in time"}));
    drop(first);
}

#[tokio::test]
async fn progress_is_seen_by_whoever_asks_for_the_task() {
    let site = Site::start().await;
    let gates = [Gate::closed(), Gate::closed()];
    let waiting = gates.clone();
    let work = move |_: Task<String>, ctx: TaskContext| {
        let [first, second] = waiting.clone();
        async move {
            ctx.progress(0.25, "a quarter").await;
            first.pass().await;
            ctx.progress(0.5, "half way").await;
            second.pass().await;
            Ok::<_, HandlerError>(())
        }
    };
    let _agent = site.agent("AGENT-PROGRESS").handle("work", work).build().unwrap().start();
    let task = site.submit("work", "slowly").await;
    let shown = async |wanted: Value| {
        until(LONG, "its progress is shown", async || {
            let task = site.task_json(task).await;
            (task["status"] == "leased" && task["progress"] == wanted).then_some(())
        })
        .await;
    };
    shown(json!({"progress": 0.25, "message": "a quarter"})).await;
    gates[0].open();
    shown(json!({"progress": 0.5, "message": "half way"})).await;
    gates[1].open();
    assert_eq!(site.until_final(task, LONG).await.status, TaskStatus::Completed);
}
