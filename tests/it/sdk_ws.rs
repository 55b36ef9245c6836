//! Agents of our own that keep a WebSocket open, and go on without it when it breaks.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eap_agent_sdk::{Agent, AgentHandle, CancelReason, HandlerError, Status, Task, TaskContext};
use eap_tests::proxy::{Fate, Leg, Proxy};
use eap_types::{TaskId, TaskStatus};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{REGISTRATION_SECRET, in_time};
use crate::sdk_harness::{Gate, Site, until};

const LONG: Duration = Duration::from_secs(15);
const TICK: Duration = Duration::from_millis(50);

/// A network that notes what passes, and breaks what it is told to.
struct Watched {
    proxy: Proxy,
    passed: Arc<Mutex<Vec<(String, Leg)>>>,
    breaks: Arc<Mutex<&'static [&'static str]>>,
}

impl Watched {
    async fn start(site: &Site) -> Self {
        let (passed, breaks) = (Arc::<Mutex<Vec<(String, Leg)>>>::default(), Arc::new(Mutex::new(&[][..])));
        let (log, broken) = (Arc::clone(&passed), Arc::clone(&breaks));
        let decide = move |passing: eap_tests::proxy::Passing<'_>| {
            log.lock().unwrap_or_else(PoisonError::into_inner).push((passing.what.to_owned(), passing.leg));
            let broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
            if broken.contains(&passing.what) { Fate::Breaks } else { Fate::Arrives }
        };
        let proxy = Proxy::start(site.address(), decide).await.expect("loopback has a free port");
        Self { proxy, passed, breaks }
    }

    fn breaks(&self, what: &'static [&'static str]) {
        *self.breaks.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    fn passed(&self, what: &str, leg: Leg) -> usize {
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.iter().filter(|(passed, way)| passed == what && *way == leg).count()
    }
}

/// An agent that counts what it begins with; `gate` waits, `ticking` reports meanwhile, `cancel` waits for a cancel and
/// says why, the rest is echoed.
fn start(url: &str, gate: &Gate, runs: &Arc<AtomicU32>, heard: &Arc<AtomicBool>) -> AgentHandle {
    let (gate, runs, heard) = (gate.clone(), Arc::clone(runs), Arc::clone(heard));
    let work = move |task: Task<String>, ctx: TaskContext| {
        let (gate, runs, heard) = (gate.clone(), Arc::clone(&runs), Arc::clone(&heard));
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            match task.input.as_str() {
                "gate" => gate.pass().await,
                "progress" => {
                    ctx.progress(0.5, "half way").await;
                    gate.pass().await;
                }
                "ticking" => {
                    let passing = gate.pass();
                    tokio::pin!(passing);
                    while timeout(TICK, &mut passing).await.is_err() {
                        ctx.progress(0.5, "on and on").await;
                    }
                }
                "cancel" => {
                    gate.pass().await;
                    ctx.cancelled().await;
                    heard.store(matches!(ctx.cancel_reason(), Some(CancelReason::Requested { .. })), Ordering::SeqCst);
                }
                _ => {}
            }
            Ok::<_, HandlerError>(json!(task.input))
        }
    };
    let agent = Agent::builder(url, "AGENT-WS").registration_secret(REGISTRATION_SECRET).websocket();
    agent.handle("work", work).build().expect("it is described well").start()
}

struct Play {
    gate: Gate,
    runs: Arc<AtomicU32>,
    /// Whether a handler was told to stop because somebody wanted it to.
    heard: Arc<AtomicBool>,
}

impl Play {
    fn new() -> Self {
        Self { gate: Gate::closed(), runs: Arc::default(), heard: Arc::default() }
    }

    async fn start(&self, url: &str) -> AgentHandle {
        let agent = start(url, &self.gate, &self.runs, &self.heard);
        let mut status = agent.watch_status();
        in_time("the agent is online", status.wait_for(|status| *status == Status::Online)).await.expect("it lives");
        agent
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

async fn done(site: &Site, task: TaskId, limit: Duration) -> Value {
    let view = site.until_final(task, limit).await;
    assert_eq!(view.status, TaskStatus::Completed);
    assert_eq!(site.outcomes(task).await, ["completed"]);
    site.task_json(task).await["result"]["output_data"]["output"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_come_and_reports_go_over_the_socket_alone() {
    let (site, play) = (Site::start().await, Play::new());
    let network = Watched::start(&site).await;
    let agent = play.start(&network.proxy.url()).await;
    play.gate.open();
    for input in ["one", "progress"] {
        let task = site.submit("work", input).await;
        assert_eq!(done(&site, task, LONG).await, json!(input));
    }
    agent.drain();
    let report = agent.wait().await.expect("it ends well");
    assert_eq!((report.completed, report.failed, play.runs()), (2, 0, 2));
    assert_eq!(network.passed("agent.hello", Leg::Out), 1);
    assert_eq!(network.passed("task.assigned", Leg::Back), 2);
    assert_eq!(network.passed("task.progress", Leg::Back), 1);
    assert!(network.passed("task.result", Leg::Out) >= 1);
    for call in ["lease", "result", "results", "progress"] {
        assert_eq!(network.passed(call, Leg::Out), 0, "{call}");
    }
}

/// Two heartbeats are the time that the agent has to go on without its socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_cut_at_work_costs_nothing_and_comes_back() {
    const INTERVAL: Duration = Duration::from_secs(5);
    let site = Site::start_with(|config| config.timing.heartbeat_interval = INTERVAL).await;
    let play = Play::new();
    let network = Watched::start(&site).await;
    let agent = play.start(&network.proxy.url()).await;
    let cut = site.submit("work", "gate").await;
    until(LONG, "it is at work", async || (play.gate.arrived() == 1).then_some(())).await;
    assert_eq!(network.passed("lease", Leg::Out), 0, "it came over the socket");
    // The report breaks the socket, and no other one opens.
    network.breaks(&["task.progress", "ws"]);
    let breaking = site.submit("work", "progress").await;
    until(LONG, "the socket is cut", async || (network.passed("task.progress", Leg::Out) >= 1).then_some(())).await;
    let polled = site.submit("work", "polled").await;
    assert_eq!(done(&site, polled, 2 * INTERVAL).await, json!("polled"));
    assert!(network.passed("lease", Leg::Back) >= 1);
    play.gate.open();
    assert_eq!(done(&site, cut, LONG).await, json!("gate"));
    assert_eq!(done(&site, breaking, LONG).await, json!("progress"));
    network.breaks(&[]);
    until(LONG, "it is back", async || (network.passed("agent.hello", Leg::Back) >= 2).then_some(())).await;
    // A poll that is out may bring the first ones; what follows comes over the socket.
    let brought = network.passed("task.assigned", Leg::Back);
    let mut tasks = 3;
    while network.passed("task.assigned", Leg::Back) == brought {
        let task = site.submit("work", "back").await;
        assert_eq!(done(&site, task, LONG).await, json!("back"));
        tasks += 1;
        assert!(tasks < 10, "tasks do not come over the socket again");
    }
    assert_eq!(play.runs(), tasks, "each ran once");
    drop(agent);
}

/// The lease of a minute does not have to end first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_lost_with_the_socket_comes_with_the_next_poll() {
    let (site, play) = (Site::start().await, Play::new());
    let network = Watched::start(&site).await;
    let agent = play.start(&network.proxy.url()).await;
    until(LONG, "the socket is open", async || (network.passed("agent.credit", Leg::Out) > 0).then_some(())).await;
    network.breaks(&["task.assigned", "ws"]);
    let task = site.submit("work", "lost").await;
    assert_eq!(done(&site, task, LONG).await, json!("lost"));
    assert_eq!((network.passed("task.assigned", Leg::Back), play.runs()), (1, 1));
    drop(agent);
}

/// A poll that is out is heard, however many sockets come and go meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_outlives_several_sockets_brings_what_it_got() {
    let (site, play) = (Site::start().await, Play::new());
    let network = Watched::start(&site).await;
    let agent = play.start(&network.proxy.url()).await;
    let ticking = site.submit("work", "ticking").await;
    until(LONG, "it ticks", async || (network.passed("task.progress", Leg::Back) >= 1).then_some(())).await;
    network.breaks(&["task.progress", "ws"]);
    until(LONG, "a poll is out", async || (network.passed("lease", Leg::Out) == 1).then_some(())).await;
    // Each socket opens, and the next tick breaks it.
    network.breaks(&["task.progress"]);
    let opened = network.passed("agent.hello", Leg::Back);
    let reopened = async || (network.passed("agent.hello", Leg::Back) >= opened + 2).then_some(());
    until(LONG, "one more is over, and the next one open", reopened).await;
    network.breaks(&[]);
    let ticked = network.passed("task.progress", Leg::Back);
    until(LONG, "one stays", async || (network.passed("task.progress", Leg::Back) > ticked).then_some(())).await;
    let task = site.submit("work", "waited for").await;
    assert_eq!(done(&site, task, LONG).await, json!("waited for"));
    assert_eq!((network.passed("lease", Leg::Out), network.passed("lease", Leg::Back)), (1, 1));
    play.gate.open();
    assert_eq!(done(&site, ticking, LONG).await, json!("ticking"));
    assert_eq!(play.runs(), 2);
    drop(agent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_the_handler_at_once() {
    let (site, play) = (Site::start().await, Play::new());
    let network = Watched::start(&site).await;
    let agent = play.start(&network.proxy.url()).await;
    let task = site.submit("work", "cancel").await;
    until(LONG, "it is at work", async || (play.gate.arrived() == 1).then_some(())).await;
    // No heartbeat brings it.
    network.breaks(&["heartbeat"]);
    play.gate.open();
    let cancelled = site.operator().cancel(&task.to_string(), None).await;
    cancelled.expect(200);
    until(LONG, "the handler hears", async || play.heard.load(Ordering::SeqCst).then_some(())).await;
    assert_eq!(site.until_final(task, LONG).await.status, TaskStatus::Cancelled);
    drop(agent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_socket_is_to_be_had_the_agent_asks_for_its_tasks() {
    let site = Site::start_with(|config| config.capacity.sockets = 0).await;
    let play = Play::new();
    let network = Watched::start(&site).await;
    let agent = play.start(&network.proxy.url()).await;
    let task = site.submit("work", "asked").await;
    assert_eq!(done(&site, task, LONG).await, json!("asked"));
    assert!(network.passed("ws", Leg::Back) >= 1, "it tried");
    assert!(network.passed("lease", Leg::Back) >= 1);
    drop(agent);
}
