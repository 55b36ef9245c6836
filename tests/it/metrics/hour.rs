//! One hour of an orchestrator's life, in seconds: all that can happen to tasks and agents happens, some of it often.

use std::collections::HashMap;
use std::sync::Arc;

use eap_orchestrator::Clock as _;
use eap_orchestrator::ManualClock;
use eap_orchestrator::store::Repository;
use eap_types::Timestamp;
use serde_json::{Value, json};

use super::page::Page;
use super::truth::{Truth, Values, add};
use crate::harness::{Agent, Server, Setup, eventually, id_of, work};

/// What is said to agents and operators, as they count it themselves.
#[derive(Debug, Default)]
struct Told {
    results: Values,
    claims: Values,
    polls: Values,
    beats: Values,
    overtaken: u64,
    submits: Values,
}

/// The hour as it goes.
pub(super) struct Hour {
    server: Server,
    store: Arc<dyn Repository>,
    clock: Arc<ManualClock>,
    /// When the server was started, and what the store held then.
    started: Timestamp,
    before: Truth,
    told: Told,
    agents: Vec<Worker>,
    taken: u64,
    minute: i64,
}

/// An agent and what it has in its hands.
struct Worker {
    agent: Agent,
    held: HashMap<String, Value>,
    /// Tasks it does not list any more, though it holds them.
    forgotten: Vec<Value>,
    seq: u64,
}

impl Hour {
    /// `store` is opened on `clock`.
    pub(super) async fn begin(store: Arc<dyn Repository>, clock: Arc<ManualClock>) -> Self {
        let server = Setup::store(Arc::clone(&store)).clock(Arc::clone(&clock)).start().await;
        let started = clock.now();
        let mut hour = Self {
            server,
            store,
            clock,
            started,
            before: Truth::default(),
            told: Told::default(),
            agents: Vec::new(),
            taken: 0,
            minute: 0,
        };
        for (name, capabilities) in
            [("AGENT-A", vec!["translate", "sum"]), ("AGENT-B", vec!["translate"]), ("AGENT-C", vec!["gpu", "render"])]
        {
            let members = json!({"capabilities": capabilities, "max_concurrent_tasks": 20});
            let agent = hour.server.agent_with(name, members).await;
            hour.agents.push(Worker { agent, held: HashMap::new(), forgotten: Vec::new(), seq: 0 });
        }
        hour
    }

    /// Half of it.
    pub(super) async fn half(&mut self) {
        for _ in 0..30 {
            self.submit().await;
            self.work().await;
            self.agents_come_and_go().await;
            for _ in 0..2 {
                self.beat().await;
                self.clock.advance(std::time::Duration::from_secs(30));
                self.settle().await;
            }
            self.late_news().await;
            self.minute += 1;
        }
        // So that something is ready and something is held when all is compared.
        self.submit().await;
        self.hold_one().await;
        self.clock.advance(std::time::Duration::from_secs(1));
    }

    /// The same store under a new server: `reopened` gives it once the old one is closed.
    pub(super) async fn restart(self, reopened: impl FnOnce() -> Arc<dyn Repository>) -> Self {
        let Self { server, store, clock, agents, taken, minute, .. } = self;
        drop(store);
        server.stop().await;
        let store = reopened();
        let started = clock.now();
        let before = Truth::of(&*store, &*clock, started).await;
        let server = Setup::store(Arc::clone(&store)).clock(Arc::clone(&clock)).start().await;
        let agents = agents.into_iter().map(|worker| {
            let agent = Agent { api: server.api.clone(), ..worker.agent };
            Worker { agent, ..worker }
        });
        let agents = agents.collect();
        Self { server, store, clock, started, before, told: Told::default(), agents, taken, minute }
    }

    async fn submit(&mut self) {
        let minute = self.minute;
        let mut wanted = vec![
            json!({"task_type": "translate", "priority": minute % 5}),
            json!({"task_type": "translate", "max_attempts": 1 + minute % 3}),
            json!({"task_type": "sum", "timeout_seconds": if minute % 3 == 0 { 20 } else { 3600 }}),
            json!({"task_type": "render", "required_capabilities": ["render", "gpu"]}),
        ];
        let now = self.clock.now();
        let later = |seconds| (now + std::time::Duration::from_secs(seconds)).to_string();
        if minute % 5 == 0 {
            wanted.push(json!({"task_type": "sum", "run_at": later(360)}));
        }
        if minute % 4 == 0 {
            wanted.push(json!({"task_type": "nobody", "expires_at": later(45)}));
            wanted.push(json!({"task_type": "nobody", "labels": {"zone": "x"}}));
        }
        for members in wanted {
            let answer = self.server.operator().try_submit(&work(members)).await;
            self.count_submit(answer.status);
        }
        for _ in 0..2 {
            let key = format!("key {minute}");
            let answer = self.server.operator().submit_with_key(&key, &work(json!({"task_type": "sum"}))).await;
            self.count_submit(answer.status);
        }
        if minute % 6 == 0 {
            let refused = self.server.operator().try_submit(&work(json!({"priority": 9}))).await;
            self.count_submit(refused.status);
            let list = self.server.operator().list("status=queued&task_type=nobody").await;
            if let Some(task) = list["tasks"].as_array().and_then(|tasks| tasks.last()) {
                self.server.operator().cancel(&id_of(task), None).await.expect(200);
            }
        }
    }

    fn count_submit(&mut self, status: u16) {
        add(&mut self.told.submits, format!("{{call=\"submit_task\",status=\"{}xx\"}}", status / 100), 1);
    }

    /// Each agent takes what there is, and does with it this or that.
    async fn work(&mut self) {
        for index in 0..self.agents.len() {
            let agent = self.agents[index].agent.clone();
            for turn in 0..3 {
                let request = format!("{}-{}-{turn}", self.minute, agent.id);
                let body = json!({"request_id": request, "max_tasks": 2, "wait_seconds": 0});
                let answer = agent.lease(body.clone()).await;
                let word = if answer.status == 200 { "granted" } else { "empty" };
                for values in [&mut self.told.claims, &mut self.told.polls] {
                    add(values, format!("{{answer=\"{word}\"}}"), 1);
                }
                let Value::Array(tasks) = answer.body["tasks"].clone() else { break };
                if self.minute % 4 == 1 {
                    let again = agent.lease(body).await.expect(200);
                    assert_eq!(again["tasks"].as_array().map(Vec::len), Some(tasks.len()));
                    add(&mut self.told.claims, "{answer=\"repeated\"}".to_owned(), 1);
                    add(&mut self.told.polls, "{answer=\"granted\"}".to_owned(), 1);
                }
                for task in tasks {
                    self.do_something_with(index, task).await;
                }
            }
        }
    }

    async fn hold_one(&mut self) {
        let agent = self.agents[0].agent.clone();
        let request = format!("{}-held", self.minute);
        let taken = agent.lease(json!({"request_id": request, "wait_seconds": 0})).await.expect(200);
        for values in [&mut self.told.claims, &mut self.told.polls] {
            add(values, "{answer=\"granted\"}".to_owned(), 1);
        }
        let task = taken["tasks"][0].clone();
        self.agents[0].held.insert(id_of(&task), task);
    }

    async fn do_something_with(&mut self, index: usize, task: Value) {
        let agent = self.agents[index].agent.clone();
        let id = id_of(&task);
        self.taken += 1;
        match self.taken % 13 {
            0 => {
                agent.complete(&task).await.expect(200);
                assert_eq!(agent.complete(&task).await.expect(200)["duplicate"], true);
                self.result("completed", "");
                self.result("duplicate", "");
            }
            1 => {
                agent.fail(&task, json!({})).await.expect(200);
                self.result("failed", "HANDLER_ERROR");
                agent.complete(&task).await.problem(409, "RESULT_CONFLICT");
                self.result("conflict", "");
            }
            2 => {
                agent.fail(&task, json!({"error_code": "INVALID_INPUT"})).await.expect(200);
                self.result("failed", "INVALID_INPUT");
            }
            3 => {
                agent.fail(&task, json!({"error_code": "REJECTED"})).await.expect(200);
                self.result("failed", "REJECTED");
            }
            4 => drop(agent.release(&id, Some(&json!({"reason": "not now"}))).await.expect(200)),
            5 | 6 => self.agents[index].forgotten.push(task),
            7 => {
                self.server.operator().cancel(&id, Some(&json!({"reason": "enough"}))).await.expect(200);
                agent.complete(&task).await.problem(409, "TASK_FINAL");
                self.result("late", "");
            }
            8 => {
                agent.progress(&id, json!({"seq": 1, "progress": 0.5})).await.expect(200);
                let mut other = task.clone();
                other["lease_id"] = json!("0198c0de-0003-7c00-8000-0000000000c1");
                other["attempt"] = Value::Null;
                // Nobody has this lease: no report of this task's.
                agent.complete(&other).await.problem(409, "LEASE_LOST");
                self.result("late", "");
                self.agents[index].held.insert(id, task);
            }
            9 => {
                self.agents[index].held.insert(id, task);
            }
            _ => {
                agent.complete(&task).await.expect(200);
                self.result("completed", "");
            }
        }
    }

    fn result(&mut self, outcome: &str, code: &str) {
        add(&mut self.told.results, format!("{{outcome=\"{outcome}\",error_code=\"{code}\"}}"), 1);
    }

    /// Those who vanished with a task come back with a result, when others may have it or nobody; who held on to one
    /// for a while is done.
    async fn late_news(&mut self) {
        for index in 0..self.agents.len() {
            let agent = self.agents[index].agent.clone();
            if self.minute % 2 == 0 {
                for task in std::mem::take(&mut self.agents[index].forgotten) {
                    let answer = agent.complete(&task).await;
                    match answer.status {
                        200 => self.result("completed", ""),
                        409 => self.result("late", ""),
                        other => panic!("{other}: {}", answer.body),
                    }
                }
            }
            if self.minute % 3 == 2 {
                for (_, task) in std::mem::take(&mut self.agents[index].held) {
                    let answer = agent.complete(&task).await;
                    let outcome = if answer.status == 200 { "completed" } else { "late" };
                    self.result(outcome, "");
                }
            }
        }
    }

    async fn beat(&mut self) {
        for worker in &mut self.agents {
            worker.seq += 1;
            let lease = |task: &Value| json!({"task_id": task["task_id"], "lease_id": task["lease_id"]});
            let tasks: Vec<Value> = worker.held.values().map(lease).collect();
            let body = json!({"status": "healthy", "seq": worker.seq, "tasks": tasks});
            worker.agent.beat(body.clone()).await.expect(200);
            add(&mut self.told.beats, "{answer=\"accepted\"}".to_owned(), 1);
            if worker.seq % 6 == 0 {
                worker.agent.beat(body).await.expect(200);
                add(&mut self.told.beats, "{answer=\"accepted\"}".to_owned(), 1);
                self.told.overtaken += 1;
            }
            if worker.seq % 8 == 0 {
                worker.agent.beat(json!({"status": "splendid"})).await.fields();
                add(&mut self.told.beats, "{answer=\"refused\"}".to_owned(), 1);
            }
        }
    }

    async fn agents_come_and_go(&mut self) {
        match self.minute % 30 {
            10 => {
                // It leaves with what it holds, and comes back as a new process.
                let worker = &mut self.agents[2];
                worker.agent.deregister().await.expect(200);
                worker.held.clear();
                worker.forgotten.clear();
                let members = json!({"capabilities": ["gpu", "render"], "max_concurrent_tasks": 20});
                worker.agent = self.server.agent_with("AGENT-C", members).await;
                worker.seq = 0;
            }
            15 => {
                let worker = &mut self.agents[1];
                for draining in [true, false] {
                    worker.seq += 1;
                    let body = json!({"status": "healthy", "seq": worker.seq, "draining": draining});
                    worker.agent.beat(body).await.expect(200);
                    add(&mut self.told.beats, "{answer=\"accepted\"}".to_owned(), 1);
                }
            }
            20 => {
                // With features, so that nothing is pushed there: whoever asks on an agent's behalf is counted as well.
                let older = json!({"name": "AGENT-OLD", "capabilities": ["old"], "endpoint_url": "http://old.example", "features": []});
                self.server.register(&older).await.expect(201);
                self.server.register(&older).await.expect(201);
                // One that comes, leaves and stays away.
                self.server.agent("AGENT-GONE").await.deregister().await.expect(200);
            }
            _ => {}
        }
    }

    /// Waits until the sweeper has done what the clock brought.
    async fn settle(&self) {
        let now = self.clock.now();
        eventually("nothing is due", async || self.store.due(now, 1).await.ok()?.is_empty().then_some(())).await;
    }

    /// Every number of the page is what the store holds and what was said.
    pub(super) async fn compare(&self) {
        self.settle().await;
        // What is not due any more is committed, and counted a moment later.
        let sweeps = Page::of(&self.server).await.get("eap_sweeps_total{outcome=\"done\"}");
        eventually("the sweeper has been round", async || {
            let page = Page::of(&self.server).await;
            (page.get("eap_sweeps_total{outcome=\"done\"}") >= sweeps + 2.0).then_some(())
        })
        .await;
        let page = Page::of(&self.server).await;
        let truth = Truth::of(&*self.store, &*self.clock, self.started).await.since(&self.before);
        assert_eq!(page.all("eap_events_total"), truth.events);
        assert_eq!(page.all("eap_tasks_ready"), truth.ready);
        assert_eq!(page.all("eap_tasks_oldest_ready_seconds"), truth.oldest);
        assert_eq!(page.all("eap_tasks_delayed"), truth.delayed);
        assert_eq!(page.all("eap_tasks_leased"), truth.leased);
        assert_eq!(page.all("eap_agents"), truth.agents);
        assert_eq!(page.get("eap_attempts_timed_out_total"), truth.timeouts as f64);

        // What the store keeps of results, and what their reporters were told beside.
        let results = page.all("eap_results_total");
        assert_eq!(results, self.told.results);
        let recorded = |labels: &str| labels.contains("completed") || labels.contains("failed");
        let kept: Values = results.into_iter().filter(|(labels, _)| recorded(labels)).collect();
        assert_eq!(kept, truth.results);
        assert_eq!(page.all("eap_claims_total"), self.told.claims);
        assert_eq!(page.all("eap_polls_total"), self.told.polls);
        assert_eq!(page.all("eap_heartbeats_total"), self.told.beats);
        assert_eq!(page.get("eap_heartbeats_overtaken_total"), self.told.overtaken as f64);
        for (labels, count) in &self.told.submits {
            assert_eq!(page.get(&format!("eap_http_requests_total{labels}")), *count as f64, "{labels}");
        }

        // Leases are taken in claims alone, and what is leased was not ready any more.
        let leased = truth.events["{kind=\"task.leased\"}"];
        let claimed = self.store.stats().claimed;
        assert!(claimed.is_none_or(|claimed| claimed.sum == leased), "{leased}");
        assert_eq!(page.get("eap_store_up"), 1.0);
        assert_eq!(page.get("eap_sweeper_overdue_seconds"), 0.0);
        assert_eq!(page.get("eap_polls_waiting"), 0.0);
        self.assert_rich(&page);
    }

    /// A comparison of nothing with nothing shows nothing.
    fn assert_rich(&self, page: &Page) {
        let events = page.all("eap_events_total");
        for kind in [
            "task.submitted",
            "task.ready",
            "task.leased",
            "task.progress",
            "task.attempt_failed",
            "task.released",
            "task.expired",
            "task.completed",
            "task.failed",
            "task.cancelled",
            "task.dead",
            "task.late_result",
            "agent.registered",
            "agent.draining",
            "agent.resumed",
            "agent.superseded",
            "agent.deregistered",
        ] {
            assert!(events.contains_key(&format!("{{kind=\"{kind}\"}}")), "no {kind} in {events:?}");
        }
        for metric in ["eap_tasks_ready", "eap_tasks_leased", "eap_tasks_delayed", "eap_tasks_oldest_ready_seconds"] {
            assert!(!page.all(metric).is_empty(), "no {metric}");
        }
        assert!(page.get("eap_attempts_timed_out_total") > 0.0);
        assert_eq!(page.all("eap_results_total").len(), 7, "{:?}", page.all("eap_results_total"));
        assert_eq!(page.all("eap_agents").len(), 4, "{:?}", page.all("eap_agents"));
    }
}
