//! Agents of our own that tasks are pushed to: one handler for all ways, one run for all repeats (A25, A37, G20).

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use eap_agent_sdk::{Agent, AgentBuilder, AgentHandle, HandlerError, Push, Status, Task, TaskContext};
use eap_tests::ports::free_address;
use eap_types::{TaskId, TaskStatus, TaskView};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Answer, Api, in_time};
use crate::sdk_harness::{Fate, Gate, Network, Passing, Process, Site, build_once_free, until};

const LONG: Duration = Duration::from_secs(15);

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn working(agent: AgentBuilder, runs: &Arc<AtomicU32>) -> AgentBuilder {
    let runs = Arc::clone(runs);
    agent.handle("work", move |task: Task<String>, _: TaskContext| {
        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok::<_, HandlerError>(json!({"run": run, "said": task.input})) }
    })
}

async fn online(handle: &AgentHandle) {
    let mut status = handle.watch_status();
    in_time("the agent is online", status.wait_for(|status| *status == Status::Online)).await.expect("it lives");
}

async fn push(address: SocketAddr, headers: &[(&str, &str)], body: &Value) -> Answer {
    let call = Api::at(format!("http://{address}")).post("/task");
    headers.iter().fold(call, |call, (name, value)| call.header(name, value)).json(body).send().await
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}

async fn until_done(site: &Site, task: TaskId) -> TaskView {
    let task = site.until_final(task, LONG).await;
    assert_eq!(task.status, TaskStatus::Completed);
    task
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_pushed_to_a_listener_of_the_agent_s_own() {
    let (site, runs) = (Site::start().await, Arc::new(AtomicU32::new(0)));
    let agent = working(site.agent("AGENT-PUSHED").push(Push::listen(anywhere())), &runs);
    let handle = agent.build().expect("it is described well").start();
    let tasks = [site.submit("work", "one").await, site.submit("work", "two").await];
    for task in tasks {
        until_done(&site, task).await;
    }
    handle.drain();
    let report = handle.wait().await.expect("it ends well");
    assert_eq!((report.completed, report.released, runs.load(Ordering::SeqCst)), (2, 0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_pushed_to_a_router_in_the_author_s_own_service() {
    let (site, runs) = (Site::start().await, Arc::new(AtomicU32::new(0)));
    let listener = TcpListener::bind(anywhere()).await.expect("loopback has a free port");
    let url = format!("http://{}/eap", listener.local_addr().expect("it is bound"));
    let agent =
        working(site.agent("AGENT-PUSHED").push(Push::mounted(url)), &runs).build().expect("it is described well");
    let app = Router::new().nest("/eap", agent.router());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let handle = agent.start();
    let task = site.submit("work", "one").await;
    until_done(&site, task).await;
    handle.drain();
    handle.wait().await.expect("it ends well");
    serving.abort();
}

/// A caller that knows ADR 001 alone: the agent's own token, no attempt, and an answer that is the result.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_caller_gets_the_result_as_the_answer_and_a_repeat_starts_no_second_run() {
    let (site, runs) = (Site::start().await, Arc::new(AtomicU32::new(0)));
    let (address, dir) = (free_address(), site.dir("agent"));
    let agent = working(site.agent("AGENT-PUSHED").push(Push::listen(address)).data_dir(&dir), &runs);
    let handle = agent.build().expect("it is described well").start();
    online(&handle).await;
    let identity: Value =
        serde_json::from_slice(&std::fs::read(dir.join("identity.json")).expect("it is kept")).expect("JSON");
    let token = identity["auth_token"].as_str().expect("it is text");
    let body = json!({"task_id": "0198c0de-0002-7b00-8000-0000000000b1", "task_type": "work", "input": "hello", "context": {}});
    for _ in 0..2 {
        let answer = push(address, &[("x-agent-token", token), ("prefer", "respond-async")], &body).await;
        let result = answer.expect(200);
        assert_eq!((&result["task_id"], &result["status"]), (&body["task_id"], &json!("completed")));
        assert_eq!(result["output_data"], json!({"run": 1, "said": "hello"}));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);

    refused(&push(address, &[("x-agent-token", "eap_x_wrong")], &body).await, 401, "INVALID_TOKEN");
    refused(&push(address, &[], &body).await, 401, "INVALID_TOKEN");
    let signed = [
        ("webhook-id", "0198c0de-0002-7b00-8000-0000000000b1.1"),
        ("webhook-timestamp", "1800000000"),
        ("webhook-signature", "v1,AAAA"),
    ];
    refused(&push(address, &signed, &body).await, 401, "INVALID_TOKEN");
    refused(&push(address, &[("x-agent-token", token)], &json!({"task_id": 1})).await, 422, "VALIDATION_ERROR");
    let health = Api::at(format!("http://{address}")).get("/health").send().await.expect(200);
    assert_eq!((&health["status"], &health["tasks"]), (&json!("healthy"), &json!([])));

    handle.drain();
    assert_eq!(handle.wait().await.expect("it ends well").completed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_agent_says_so_and_tells_when_to_come_back() {
    let site = Site::start().await;
    let (address, dir, gate) = (free_address(), site.dir("agent"), Gate::closed());
    let inside = gate.clone();
    let agent = site.agent("AGENT-PUSHED").push(Push::listen(address)).data_dir(&dir).max_concurrent_tasks(1).handle(
        "work",
        move |_: Task<String>, _: TaskContext| {
            let gate = inside.clone();
            async move {
                gate.pass().await;
                Ok::<_, HandlerError>(())
            }
        },
    );
    let handle = agent.build().expect("it is described well").start();
    online(&handle).await;
    let task = site.submit("work", "long").await;
    until(LONG, "the handler runs", async || (gate.arrived() == 1).then_some(())).await;
    let identity: Value =
        serde_json::from_slice(&std::fs::read(dir.join("identity.json")).expect("it is kept")).expect("JSON");
    let token = identity["auth_token"].as_str().expect("it is text").to_owned();
    let body = json!({"task_id": "0198c0de-0002-7b00-8000-0000000000b1", "input": "hello", "context": {}});
    let full = push(address, &[("x-agent-token", &token)], &body).await;
    assert_eq!(full.header("retry-after"), Some("1"));
    refused(&full, 429, "RATE_LIMITED");
    gate.open();
    until_done(&site, task).await;
    handle.drain();
    handle.wait().await.expect("it ends well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_the_handler_by_a_call() {
    let site = Site::start().await;
    let (started, cancelled) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (begun, stopped) = (Arc::clone(&started), Arc::clone(&cancelled));
    // Once the handler runs, no beat brings the news.
    let at_work = Arc::clone(&started);
    let network = Network::new(move |path, _| {
        let is_beat = path.ends_with("/heartbeat") && at_work.load(Ordering::SeqCst) > 0;
        if is_beat { Fate::Vanishes } else { Fate::Arrives }
    });
    let agent = site.agent("AGENT-PUSHED").push(Push::listen(anywhere())).http(network).handle(
        "work",
        move |_: Task<String>, ctx: TaskContext| {
            let (begun, stopped) = (Arc::clone(&begun), Arc::clone(&stopped));
            async move {
                begun.fetch_add(1, Ordering::SeqCst);
                ctx.cancelled().await;
                stopped.fetch_add(1, Ordering::SeqCst);
                Err::<(), _>(HandlerError::retry("stopped"))
            }
        },
    );
    let handle = agent.build().expect("it is described well").start();
    let task = site.submit("work", "x").await;
    until(LONG, "the handler runs", async || (started.load(Ordering::SeqCst) == 1).then_some(())).await;
    site.operator().cancel(&task.to_string(), None).await.expect(200);
    until(LONG, "the handler is told", async || (cancelled.load(Ordering::SeqCst) == 1).then_some(())).await;
    handle.drain();
    assert_eq!(handle.wait().await.expect("it ends well").cancelled, 1);
}

/// The process dies with a result that nobody has: after its restart, neither the report nor a repeat runs it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_dies_after_its_work_does_not_do_it_again() {
    let (site, runs) = (Site::start().await, Arc::new(AtomicU32::new(0)));
    let address = free_address();
    let describe =
        || working(site.agent("AGENT-MORTAL").data_dir(site.dir("agent")).push(Push::listen(address)), &runs);
    let lost = Arc::new(AtomicU32::new(0));
    let noted = Arc::clone(&lost);
    let network = Network::new(move |path, passing| {
        let is_result = path.ends_with("/result") && matches!(passing, Passing::Request);
        noted.fetch_add(u32::from(is_result), Ordering::SeqCst);
        if is_result { Fate::Vanishes } else { Fate::Arrives }
    });
    let process = Process::start(describe().http(network).build().expect("it is described well"));
    let task = site.submit("work", "once").await;
    until(LONG, "a result is lost", async || (lost.load(Ordering::SeqCst) > 0).then_some(())).await;
    process.kill().await;
    let process = Process::start(build_once_free(describe).await);
    until_done(&site, task).await;
    assert_eq!((site.task(task).await.attempt, runs.load(Ordering::SeqCst)), (1, 1));
    process.kill().await;
}

/// A process that dies with its work half done: another attempt does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_an_agent_that_dies_at_work_is_done_by_the_next_process() {
    let site = Site::start_hasty().await;
    let (address, runs) = (free_address(), Arc::new(AtomicU32::new(0)));
    let describe = || {
        let runs = Arc::clone(&runs);
        let agent = site.agent("AGENT-MORTAL").data_dir(site.dir("agent")).push(Push::listen(address));
        agent.handle("work", move |_: Task<String>, _: TaskContext| {
            let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                if run == 1 {
                    std::future::pending::<()>().await;
                }
                Ok::<_, HandlerError>(run)
            }
        })
    };
    let process = Process::start(describe().build().expect("it is described well"));
    let task = site.submit("work", "once").await;
    until(LONG, "the first run began", async || (runs.load(Ordering::SeqCst) == 1).then_some(())).await;
    process.kill().await;
    let process = Process::start(build_once_free(describe).await);
    until_done(&site, task).await;
    assert_eq!(site.task(task).await.attempt, 2);
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_goes_on_over_a_stop_of_the_orchestrator() {
    let mut site = Site::start().await;
    let (gate, address) = (Gate::closed(), free_address());
    let inside = gate.clone();
    let agent = site.agent("AGENT-PUSHED").push(Push::listen(address)).handle(
        "work",
        move |_: Task<String>, _: TaskContext| {
            let gate = inside.clone();
            async move {
                gate.pass().await;
                Ok::<_, HandlerError>("done")
            }
        },
    );
    let handle = agent.build().expect("it is described well").start();
    let task = site.submit("work", "long").await;
    until(LONG, "the handler runs", async || (gate.arrived() == 1).then_some(())).await;
    site.stop().await;
    gate.open();
    site.come_back().await;
    until_done(&site, task).await;
    assert_eq!(site.task(task).await.attempt, 1);
    handle.drain();
    handle.wait().await.expect("it ends well");
}

/// While the orchestrator pushes nothing, the agent asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_cannot_be_reached_asks_for_its_tasks() {
    let site = Site::start_with(|config| {
        config.timing.heartbeat_interval = Duration::from_secs(1);
        config.push.max_tries = 1;
        config.push.pause_cap = Duration::from_millis(1);
        config.push.backoff_base = Duration::from_millis(1);
        config.push.suspend_failures = 1;
        config.push.suspend_after = Duration::ZERO;
        config.tasks.backoff_base = Duration::from_millis(10);
    })
    .await;
    let runs = Arc::new(AtomicU32::new(0));
    let unreachable = format!("http://{}", free_address());
    let agent = working(site.agent("AGENT-HIDDEN").push(Push::listen(anywhere()).reached_at(unreachable)), &runs);
    let handle = agent.build().expect("it is described well").start();
    let task = site.submit("work", "one").await;
    until_done(&site, task).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    handle.drain();
    handle.wait().await.expect("it ends well");
}

#[test]
fn an_address_that_is_taken_is_an_error_of_its_own() {
    let taken = std::net::TcpListener::bind(anywhere()).expect("loopback has a free port");
    let address = taken.local_addr().expect("it is bound");
    let agent = Agent::builder("http://127.0.0.1:1", "AGENT-PUSHED").push(Push::listen(address));
    let refused = agent.handle("work", |_: Task<String>, _: TaskContext| async { Ok(()) }).build();
    assert!(matches!(refused, Err(eap_agent_sdk::Error::Listen { address: told, .. }) if told == address));
}

/// A result that was done long ago and is not taken yet is remembered by the outbox alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_of_a_task_whose_result_waits_is_answered() {
    let (site, runs) = (Site::start().await, Arc::new(AtomicU32::new(0)));
    let (address, dir) = (free_address(), site.dir("agent"));
    let network = Network::new(|path, _| {
        let is_result = path.ends_with("/result") || path.ends_with("/results");
        if is_result { Fate::Breaks } else { Fate::Arrives }
    });
    let agent = working(site.agent("AGENT-PUSHED").push(Push::listen(address)).data_dir(&dir), &runs);
    let handle = agent.http(network).max_concurrent_tasks(400).drain_grace(Duration::from_millis(10));
    let handle = handle.build().expect("it is described well").start();
    online(&handle).await;
    let identity: Value =
        serde_json::from_slice(&std::fs::read(dir.join("identity.json")).expect("it is kept")).expect("JSON");
    let token = identity["auth_token"].as_str().expect("it is text");
    let assignment = |number: u32| {
        let id = format!("0198c0de-0002-7b00-8000-{number:012x}");
        json!({"task_id": id, "lease_id": id, "attempt": 1, "task_type": "work", "input_data": "x", "context": {}})
    };
    // As many as are remembered for repeats, and one more.
    let pushed = async |number: u32| push(address, &[("x-agent-token", token)], &assignment(number)).await.expect(200);
    for number in 0..257 {
        assert_eq!(pushed(number).await["status"], "completed");
    }
    let result = in_time("the repeat is answered", pushed(0)).await;
    assert_eq!((&result["status"], &result["output_data"]["run"]), (&json!("completed"), &json!(1)));
    assert_eq!(runs.load(Ordering::SeqCst), 257);
    drop(handle);
}

/// Whoever opens connections and says nothing takes no memory without bound; one that waits is served once another ends.
#[tokio::test(flavor = "current_thread")]
async fn connections_beyond_the_bound_wait_until_others_end() {
    let (site, runs) = (Site::start().await, Arc::new(AtomicU32::new(0)));
    let address = free_address();
    let agent = working(site.agent("AGENT-PUSHED").push(Push::listen(address)).max_concurrent_tasks(1), &runs);
    let handle = agent.build().expect("it is described well").start();
    online(&handle).await;
    let mut open = Vec::new();
    for _ in 0..257 {
        open.push(TcpStream::connect(address).await.expect("it listens"));
    }
    let mut late = TcpStream::connect(address).await.expect("it waits in the kernel's queue");
    let health = b"GET /health HTTP/1.1\r\nhost: agent\r\n\r\n";
    late.write_all(health).await.expect("it is sent");
    let mut answer = [0; 1024];
    for _ in 0..100 {
        open[256].write_all(health).await.expect("it is sent");
        let read = in_time("those inside are served", open[256].read(&mut answer)).await.expect("it answers");
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..read]));
    }
    let early = late.try_read(&mut answer);
    assert!(matches!(&early, Err(error) if error.kind() == ErrorKind::WouldBlock), "{early:?}");
    open.pop();
    let read = in_time("one that waited is served", late.read(&mut answer)).await.expect("it answers");
    assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
    handle.drain();
    handle.wait().await.expect("it ends well");
}
