//! A server, agents of one transport, and a network between them that loses what a scenario wants lost.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eap_agent_sdk::{Agent, AgentBuilder, AgentHandle, Push, Report, Status};
use eap_orchestrator::Config;
use eap_tests::ports::free_address;
use eap_tests::proxy::{Fate, Leg, Passing, Proxy};
use eap_types::{SubmitTask, TaskId, TaskStatus};

use super::script::Stage;
use crate::harness::REGISTRATION_SECRET;
use crate::sdk_harness::{Keep, Process, Site, build_once_free, until};

/// How long anything may take.
pub(super) const LONG: Duration = Duration::from_secs(30);

/// How tasks reach agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Pull,
    Push,
    WebSocket,
}

type Loses = dyn FnMut(&str, Leg) -> bool + Send;

/// One cell of the matrix, for one scenario.
#[derive(Debug)]
pub(super) struct World {
    pub(super) site: Site,
    pub(super) stage: Stage,
    way: Way,
    network: Network,
    /// Between agents and the server.
    to_server: Proxy,
    /// Between the server and the agents that serve, which outlive the part.
    to_agents: RefCell<Vec<Proxy>>,
    /// The attempts of tasks that have ended, for a scenario that tells something else than expected.
    pub(super) lives: Rc<RefCell<Vec<String>>>,
}

/// What the proxies lose.
#[derive(Clone)]
struct Network {
    loses: Arc<Mutex<Box<Loses>>>,
    lost: Arc<AtomicUsize>,
}

impl World {
    pub(super) async fn start(way: Way, keep: Keep, change: fn(&mut Config)) -> Self {
        let site = Site::start_on(keep, change).await;
        let network = Network::faultless();
        let to_server = network.proxy(site.address()).await;
        Self { site, stage: Stage::new(), way, network, to_server, to_agents: RefCell::default(), lives: Rc::default() }
    }

    /// An agent whose handler of `work` does what a task's input says.
    pub(super) async fn role(&self, name: &str) -> Role {
        self.role_over(name, &self.network, self.to_server.url()).await
    }

    /// The same, where nothing is lost.
    pub(super) async fn role_past_the_network(&self, name: &str) -> Role {
        self.role_over(name, &Network::faultless(), self.site.url()).await
    }

    async fn role_over(&self, name: &str, network: &Network, server: String) -> Role {
        let pushed = match self.way {
            Way::Pull | Way::WebSocket => None,
            Way::Push => {
                let address = free_address();
                let proxy = network.proxy(address).await;
                let url = proxy.url();
                self.to_agents.borrow_mut().push(proxy);
                Some((address, url))
            }
        };
        let opens = self.way == Way::WebSocket;
        Role {
            name: name.to_owned(),
            server,
            stage: self.stage.clone(),
            pushed,
            opens,
            change: Box::new(|agent| agent),
        }
    }

    /// Starts the only agent of most scenarios.
    pub(super) async fn start_agent(&self) -> AgentHandle {
        self.role("AGENT-ONLY").await.start().await
    }

    pub(super) async fn submit(&self, script: &str) -> TaskId {
        self.site.submit("work", script).await
    }

    pub(super) async fn submit_with(&self, script: &str, change: impl FnOnce(SubmitTask) -> SubmitTask) -> TaskId {
        self.site.submit_task(change(work(script))).await
    }

    /// Submits a task and waits for its end.
    pub(super) async fn run(&self, script: &str) -> String {
        let task = self.submit(script).await;
        self.end_of(task).await
    }

    /// Waits for the end of a task and tells it: its status, the outcomes of its attempts, what it gave or why it
    /// failed.
    pub(super) async fn end_of(&self, task: TaskId) -> String {
        self.site.until_final(task, LONG).await;
        let attempts = self.site.history(task).await.attempts;
        self.lives.borrow_mut().push(format!("{task}: {attempts:#?}"));
        self.told(task).await
    }

    /// The task as it is now, told as its end is.
    pub(super) async fn told(&self, task: TaskId) -> String {
        let shown = self.site.task_json(task).await;
        let result = &shown["result"];
        let what = match (&result["error_code"], &result["output_data"]["output"]) {
            (serde_json::Value::String(code), _) => format!(": {code}, {}", result["error_message"]),
            (_, serde_json::Value::String(text)) if text.len() < 40 => format!(": {text}"),
            _ => String::new(),
        };
        let status = shown["status"].as_str().expect("a task has a status");
        format!("{status} [{}]{what}", self.site.outcomes(task).await.join(", "))
    }

    pub(super) async fn until_status(&self, task: TaskId, status: TaskStatus) {
        let what = format!("the task is {status}");
        until(LONG, &what, async || (self.site.task(task).await.status == status).then_some(())).await;
    }

    /// Waits until so many handlers are at the gate, or have been.
    pub(super) async fn until_at_the_gate(&self, handlers: usize) {
        until(LONG, "handlers are at the gate", async || (self.stage.gate.arrived() >= handlers).then_some(())).await;
    }

    pub(super) async fn until_runs(&self, runs: usize) {
        until(LONG, "handlers have begun", async || (self.stage.runs() >= runs).then_some(())).await;
    }

    /// From now on the network loses what this says; it hears the name of the call or frame and its way.
    pub(super) fn lose(&self, loses: impl FnMut(&str, Leg) -> bool + Send + 'static) {
        *self.network.loses.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(loses);
    }

    /// Loses the first so many of these.
    pub(super) fn lose_first(&self, times: usize, names: &'static [&'static str], leg: Leg) {
        let mut left = times;
        self.lose(move |what, way| {
            let is_lost = left > 0 && way == leg && names.contains(&what);
            left -= usize::from(is_lost);
            is_lost
        });
    }

    /// Loses one of four of these; by chance, or the same call of a round would be lost each time.
    pub(super) fn lose_one_of_four(&self, which: impl Fn(&str) -> bool + Send + 'static) {
        let mut chance = 4_u32;
        self.lose(move |what, _| {
            let is_one = which(what);
            if is_one {
                chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            }
            is_one && chance >> 30 == 0
        });
    }

    /// How much was lost so far.
    pub(super) fn lost(&self) -> usize {
        self.network.lost.load(Ordering::SeqCst)
    }
}

/// A task of the script.
pub(super) fn work(script: &str) -> SubmitTask {
    SubmitTask::text("work".parse().expect("it is a task type"), script)
}

impl Network {
    fn faultless() -> Self {
        Self { loses: Arc::new(Mutex::new(Box::new(|_, _| false))), lost: Arc::default() }
    }

    async fn proxy(&self, target: SocketAddr) -> Proxy {
        let network = self.clone();
        let decide = move |passing: Passing<'_>| network.decide(passing);
        Proxy::start(target, decide).await.expect("loopback has a free port")
    }

    fn decide(&self, passing: Passing<'_>) -> Fate {
        let mut loses = self.loses.lock().unwrap_or_else(PoisonError::into_inner);
        if loses(passing.what, passing.leg) {
            self.lost.fetch_add(1, Ordering::SeqCst);
            Fate::Breaks
        } else {
            Fate::Arrives
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("lost", &self.lost).finish_non_exhaustive()
    }
}

/// A part that an agent plays: it can be started, and started again.
pub(super) struct Role {
    name: String,
    server: String,
    stage: Stage,
    /// Where it listens for tasks, and under which URL that is reached.
    pushed: Option<(SocketAddr, String)>,
    /// Whether it opens a WebSocket.
    opens: bool,
    change: Box<dyn Fn(AgentBuilder) -> AgentBuilder>,
}

impl Role {
    /// The agent keeps what it knows in this directory.
    pub(super) fn kept_in(self, dir: PathBuf) -> Self {
        self.with(move |agent| agent.data_dir(&dir))
    }

    pub(super) fn with(mut self, change: impl Fn(AgentBuilder) -> AgentBuilder + 'static) -> Self {
        let before = self.change;
        self.change = Box::new(move |agent| change(before(agent)));
        self
    }

    fn describe(&self) -> AgentBuilder {
        let stage = self.stage.clone();
        let bare = Agent::builder(&self.server, &self.name).registration_secret(REGISTRATION_SECRET);
        let agent = bare.handle("work", move |task, ctx| stage.clone().play(task, ctx));
        let agent = match &self.pushed {
            Some((address, url)) => agent.push(Push::listen(*address).reached_at(url)),
            None if self.opens => agent.websocket(),
            None => agent,
        };
        (self.change)(agent)
    }

    /// Starts it in this runtime.
    pub(super) async fn start(&self) -> AgentHandle {
        build_once_free(|| self.describe()).await.start()
    }

    /// Starts it where it can be killed.
    pub(super) async fn start_process(&self) -> Process {
        Process::start(build_once_free(|| self.describe()).await)
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Role").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Waits until an agent is known to the server and the server to it.
pub(super) async fn online(agent: &AgentHandle) {
    let mut status = agent.watch_status();
    let online = tokio::time::timeout(LONG, status.wait_for(|status| *status == Status::Online)).await;
    online.expect("the agent is online in time").expect("the agent lives");
}

/// Stops an agent in good order.
pub(super) async fn stop(agent: AgentHandle) -> Report {
    agent.drain();
    let report = tokio::time::timeout(LONG, agent.wait()).await;
    report.expect("the agent stops in time").expect("the agent stops well")
}
