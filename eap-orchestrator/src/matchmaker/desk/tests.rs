//! Polls that meet at the desk, one step at a time: nothing runs until a test waits.

use std::collections::BTreeSet;
use std::time::Duration;

use eap_core::{Agent, BreakerPolicy, RoutingKey, Task, TaskSpec, Verdict, Vitals};
use eap_types::{JsonObject, LeaseId, Priority, SessionId, TaskId, TenantId, Timestamp};
use tokio::sync::oneshot;

use super::*;
use crate::announce::Takers as _;
use crate::clock::ManualClock;
use crate::config::Access;
use crate::matchmaker::handover::Handover;
use crate::matchmaker::waiting::tests::agent;
use crate::orchestrator::Orchestrator;
use crate::store::{AgentWrite, Ask, Change, TaskWrite};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

type Answer = oneshot::Receiver<Result<Handover, Error>>;

/// A desk over a store in memory.
fn desk() -> Arc<Desk> {
    let builder = Orchestrator::builder_in_memory().clock(Arc::new(ManualClock::at(NOW))).access(Access::Open);
    Arc::new(Desk::new(Arc::clone(builder.build().unwrap().lifecycle())))
}

/// Lets these agents be known; they failed so often.
async fn join(desk: &Desk, agents: &[Arc<Agent>], failures: u16) {
    let write = |agent: &Arc<Agent>| {
        let mut vitals = Vitals::registered(1, NOW);
        for failure in 0..failures {
            let mut lease = [0; 16];
            lease[..2].copy_from_slice(&failure.to_be_bytes());
            let (lease, policy) = (LeaseId::from_bytes(lease), BreakerPolicy::default());
            vitals.record.conclude(lease, Some(Verdict::Failure), Timestamp::UNIX_EPOCH, &policy);
        }
        AgentWrite::Insert(Agent::clone(agent), vitals)
    };
    let change = Change { agents: agents.iter().map(write).collect(), ..Change::default() };
    desk.lifecycle.store.commit(change).await.unwrap();
    desk.lifecycle.directory.load(desk.lifecycle.store.agents().await.unwrap());
}

/// An agent whose next task is its trial.
async fn on_trial(desk: &Desk, capabilities: &[&str]) -> Arc<Agent> {
    let mut known = agent("on-trial", capabilities[0]);
    let capabilities = capabilities.iter().map(|text| text.parse::<eap_types::Capability>().unwrap());
    Arc::make_mut(&mut known).capabilities = eap_types::Capabilities::new(capabilities).unwrap();
    join(desk, &[Arc::clone(&known)], 20).await;
    let entry = desk.lifecycle.directory.get(&known.id).unwrap();
    assert_eq!(entry.with_vitals(|vitals| vitals.record.allowance(NOW)), eap_core::Allowance::Trial);
    known
}

fn key(task_type: &str) -> RoutingKey {
    RoutingKey::of_type(TenantId::default(), task_type.parse().unwrap())
}

fn task(number: u8, task_type: &str) -> Task {
    Task::submitted(TaskSpec {
        id: TaskId::v7(NOW, [number; 10]),
        routing: key(task_type),
        session_id: SessionId::v7(NOW, [number; 10]),
        input: String::new(),
        context: JsonObject::default(),
        preferred_agents: BTreeSet::default(),
        requirements: Vec::new(),
        priority: Priority::default(),
        inactivity: None,
        timeout: Duration::from_secs(3600),
        max_attempts: 3,
        run_at: None,
        expires_at: None,
        created_at: NOW,
        traceparent: None,
        requeued_from: None,
        is_step: false,
        callback_url: None,
    })
}

/// A task that is ready, of which nobody was told.
async fn submit(desk: &Desk, task: &Task) {
    let change = Change { tasks: vec![TaskWrite::Insert(task.clone())], ..Change::default() };
    desk.lifecycle.store.commit(change).await.unwrap();
}

fn ask(desk: &Arc<Desk>, agent: &Arc<Agent>, task_types: &[&str]) -> Answer {
    ask_under(desk, agent, task_types, None)
}

fn ask_under(desk: &Arc<Desk>, agent: &Arc<Agent>, task_types: &[&str], request: Option<String>) -> Answer {
    let (reply, answer) = oneshot::channel();
    let ask = Ask {
        agent: Arc::clone(agent),
        max_tasks: 1,
        request_id: request.map(|request| request.parse().unwrap()),
        task_types: (!task_types.is_empty()).then(|| task_types.iter().map(|text| text.parse().unwrap()).collect()),
        lease: Duration::from_secs(60),
    };
    let deadline = Instant::now() + Duration::from_secs(3600);
    desk.receive(Poll { ask, deadline, reply, number: None, is_postponed: false });
    answer
}

/// The task that an ask is answered with; time flies while nothing happens.
async fn taken(answer: Answer) -> Option<TaskId> {
    let answered = tokio::time::timeout(Duration::from_secs(60), answer).await;
    answered.expect("it is answered").unwrap().unwrap().accept().first().map(Task::id)
}

/// Waits until so many polls wait and none is out.
async fn until_waiting(desk: &Desk, polls: usize) {
    while lock(&desk.state).waiting.len() < polls || lock(&desk.state).polls_out > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_poll_of_a_trial_hangs_up_the_next_one_has_its_turn() {
    let desk = desk();
    let agent = on_trial(&desk, &["sum"]).await;
    let task = task(1, "sum");
    submit(&desk, &task).await;
    drop(ask(&desk, &agent, &[]));
    let next = ask(&desk, &agent, &[]);
    assert_eq!(taken(next).await, Some(task.id()));
}

#[tokio::test(start_paused = true)]
async fn when_the_claim_of_a_trial_fails_the_next_poll_has_its_turn() {
    let desk = desk();
    let agent = on_trial(&desk, &["sum"]).await;
    let first = ask(&desk, &agent, &[]);
    until_waiting(&desk, 1).await;
    let task = task(1, "sum");
    let taker = desk.reserve(&task).expect("somebody waits");
    let next = ask(&desk, &agent, &[]);
    submit(&desk, &task).await;
    taker.take(Err(Error::Broken));
    assert!(first.await.unwrap().is_err());
    assert_eq!(taken(next).await, Some(task.id()));
}

#[tokio::test(start_paused = true)]
async fn what_the_other_polls_of_an_agent_missed_is_brought_to_them() {
    let desk = desk();
    let agent = on_trial(&desk, &["sum", "count"]).await;
    let counting = ask(&desk, &agent, &["count"]);
    until_waiting(&desk, 1).await;
    let _summing = ask(&desk, &agent, &["sum"]);
    // While that one is out with what may be the trial, the other is passed over.
    let task = task(1, "count");
    submit(&desk, &task).await;
    let ready = HashMap::from([(key("count"), Ready { count: 1, preferring: Vec::new() })]);
    desk.supply(Supply { ready, ..Supply::default() });
    assert_eq!(taken(counting).await, Some(task.id()));
}

#[tokio::test(start_paused = true)]
async fn those_at_the_door_do_not_stay_there_behind_some_that_may_not_ask() {
    let desk = desk();
    let crowd: Vec<_> = (0..MAX_OUT).map(|number| agent(&format!("idle-{number}"), "sum")).collect();
    let able = agent("able", "count");
    join(&desk, &crowd, 0).await;
    join(&desk, &[Arc::clone(&able)], 0).await;
    let _idle: Vec<Answer> = crowd.iter().map(|agent| ask(&desk, agent, &[])).collect();
    until_waiting(&desk, MAX_OUT).await;
    desk.supply(Supply { freed: crowd.iter().map(|agent| agent.id.clone()).collect(), ..Supply::default() });
    assert_eq!(lock(&desk.state).polls_out, MAX_OUT);
    // As many as are let in when four claims return, one after the other, and some more.
    let unknown = agent("unknown", "count");
    let _refused: Vec<Answer> = (0..4_000).map(|_| ask(&desk, &unknown, &[])).collect();
    let task = task(1, "count");
    submit(&desk, &task).await;
    assert_eq!(lock(&desk.state).door.len(), 4_000);
    let answer = ask(&desk, &able, &[]);
    assert_eq!(taken(answer).await, Some(task.id()));
}
