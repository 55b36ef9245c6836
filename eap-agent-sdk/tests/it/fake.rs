//! An orchestrator in memory, behind the agent's HTTP seam, that can be told to misbehave.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use eap_agent_sdk::types::{ErrorCode, LeaseId, ProblemBody, TaskId};
use eap_agent_sdk::{Agent, AgentBuilder, CallError, Entropy, HttpCall};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Long enough for a busy machine, and only ever used up by a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Fake {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) seen: Vec<Seen>,
    pub(crate) queue: VecDeque<Value>,
    pub(crate) results: Vec<Value>,
    pub(crate) released: Vec<Value>,
    pub(crate) lost: BTreeSet<String>,
    pub(crate) directives: Vec<Value>,
    pub(crate) lease_ms: u64,
    pub(crate) interval_seconds: u64,
    pub(crate) max_body_bytes: u64,
    /// Whether no call gets through.
    pub(crate) is_down: bool,
    pub(crate) agent_id: String,
    /// Whether every token is refused, as when somebody else registers all the time.
    pub(crate) refuses_tokens: bool,
    /// For how many seconds a 503 asks to be left alone.
    pub(crate) retry_after: u64,
    token: u32,
    rules: HashMap<&'static str, VecDeque<Rule>>,
    answered: HashMap<String, Vec<Value>>,
}

/// How one call to a route is to go wrong.
#[derive(Debug)]
pub(crate) enum Rule {
    Refuse(ErrorCode),
    RefuseWith(Box<ProblemBody>),
    Unreachable,
    /// The call has its effect and the answer gets lost.
    LoseAnswer,
    /// The call has its effect and the answer is longer than is read.
    AnswerTooLong,
    /// The call has its effect and a page of another program comes back.
    AnswerWithPage(u16),
}

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) route: &'static str,
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) at: Instant,
    pub(crate) headers: http::HeaderMap,
}

const ROUTES: [&str; 8] =
    ["/register", "/heartbeat", "/tasks/lease", "/result", "/results", "/progress", "/release", "/deregister"];

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            seen: Vec::new(),
            queue: VecDeque::new(),
            results: Vec::new(),
            released: Vec::new(),
            lost: BTreeSet::new(),
            directives: Vec::new(),
            lease_ms: 60_000,
            interval_seconds: 30,
            max_body_bytes: 8 * 1024 * 1024,
            is_down: false,
            agent_id: "agent-1".to_owned(),
            refuses_tokens: false,
            retry_after: 0,
            token: 0,
            rules: HashMap::new(),
            answered: HashMap::new(),
        };
        Arc::new(Self { state: Mutex::new(state), changes: watch::Sender::new(0) })
    }

    /// Starts to describe an agent of this orchestrator that loses no time by chance.
    pub(crate) fn agent(self: &Arc<Self>) -> AgentBuilder {
        Agent::builder("http://orchestrator.test", "AGENT-TEST-01")
            .http(self.clone())
            .entropy(Dice::showing(0))
            .poll_wait(Duration::from_secs(1))
            .drain_grace(Duration::from_secs(1))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes the orchestrator and wakes whoever waits for something in it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.state());
        self.changes.send_modify(|count| *count += 1);
        outcome
    }

    /// Makes the next calls to a route go wrong, in this order.
    pub(crate) fn rule(&self, route: &'static str, rules: impl IntoIterator<Item = Rule>) {
        assert!(ROUTES.contains(&route));
        self.change(|state| state.rules.entry(route).or_default().extend(rules));
    }

    /// Lets all calls to a route go well from now on.
    pub(crate) fn forgive(&self, route: &'static str) {
        self.change(|state| state.rules.remove(route));
    }

    /// Queues a task whose id and lease are made of `number`; gives its assignment.
    pub(crate) fn submit(&self, number: u8, task_type: &str, input: &str) -> Value {
        let assignment = json!({
            "task_id": task(number), "session_id": task(200), "task_type": task_type, "context": {},
            "input_data": input, "requirements": [], "timeout_seconds": 3600, "lease_id": lease(number),
            "attempt": 1, "max_attempts": 3,
        });
        self.change(|state| state.queue.push_back(assignment.clone()));
        assignment
    }

    /// Waits until the orchestrator is as wanted.
    pub(crate) async fn until<T>(&self, what: &str, mut seek: impl FnMut(&State) -> Option<T>) -> T {
        let mut changes = self.changes.subscribe();
        let search = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = seek(&self.state()) {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!("{what} did not happen; seen: {:#?}", self.state().lines()),
        }
    }

    /// Waits until so many calls to a route were seen.
    pub(crate) async fn until_seen(&self, route: &'static str, count: usize) {
        self.until(&format!("call {count} to {route}"), |state| (state.count(route) >= count).then_some(())).await;
    }

    fn answer(&self, request: &http::Request<Bytes>) -> Result<Option<(u16, Value)>, CallError> {
        let path = request.uri().path().to_owned();
        let route = ROUTES.into_iter().find(|route| path.ends_with(route)).expect("a route of the protocol");
        let body: Value = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        self.change(|state| {
            let is_repeated_wait = state.is_waiting(&body);
            if !is_repeated_wait {
                let headers = request.headers().clone();
                state.seen.push(Seen { route, path: path.clone(), body: body.clone(), at: Instant::now(), headers });
            }
            let rule = state.rules.get_mut(route).and_then(VecDeque::pop_front);
            if state.is_down || matches!(rule, Some(Rule::Unreachable)) {
                return Err(CallError::Connect { source: "unreachable".into() });
            }
            if let Some(Rule::Refuse(code)) = rule {
                return Ok(Some(refusal(code)));
            }
            if let Some(Rule::RefuseWith(problem)) = rule {
                return Ok(Some((problem.status, serde_json::to_value(problem).unwrap())));
            }
            let token = request.headers().get("x-agent-token").and_then(|token| token.to_str().ok());
            let is_known = !state.refuses_tokens && token == Some(&state.token_text());
            if route != "/register" && !is_known {
                return Ok(Some(refusal(ErrorCode::InvalidToken)));
            }
            let answer = state.serve(route, &path, &body);
            if matches!(rule, Some(Rule::LoseAnswer)) {
                return Err(CallError::Broken { source: "the answer got lost".into() });
            }
            if matches!(rule, Some(Rule::AnswerTooLong)) {
                return Err(CallError::TooLarge { limit: 1 });
            }
            if let Some(Rule::AnswerWithPage(status)) = rule {
                return Ok(Some((status, Value::String("not what was asked for".to_owned()))));
            }
            Ok(answer)
        })
    }
}

#[async_trait]
impl HttpCall for Fake {
    async fn call(
        &self,
        request: http::Request<Bytes>,
        deadline: Duration,
    ) -> Result<http::Response<Bytes>, CallError> {
        let mut changes = self.changes.subscribe();
        let asked: Value = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        let wait = Duration::from_secs(asked["wait_seconds"].as_u64().unwrap_or_default());
        let until = tokio::time::Instant::now() + wait.min(deadline);
        loop {
            let before = *changes.borrow_and_update();
            if let Some((status, body)) = self.answer(&request)? {
                let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
                let mut answer = http::Response::builder().status(status);
                if status == 503 {
                    answer = answer.header("retry-after", self.state().retry_after);
                }
                return Ok(answer.body(body).unwrap());
            }
            // One change is the call's own, which is no reason to look again.
            if *changes.borrow_and_update() != before + 1 {
                continue;
            }
            let is_over = tokio::time::timeout_at(until, changes.changed()).await.is_err();
            if is_over {
                return Ok(http::Response::builder().status(204).body(Bytes::new()).unwrap());
            }
        }
    }
}

impl State {
    pub(crate) fn count(&self, route: &str) -> usize {
        self.calls(route).count()
    }

    pub(crate) fn calls(&self, route: &str) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(move |seen| seen.route == route)
    }

    pub(crate) fn result(&self, number: u8) -> Option<&Value> {
        self.results.iter().find(|result| result["task_id"] == json!(task(number)))
    }

    /// Forgets the agent: its token is dead, and its identity gets another id.
    pub(crate) fn wipe(&mut self) {
        self.token += 1;
        self.agent_id = "agent-2".to_owned();
    }

    fn lines(&self) -> Vec<String> {
        self.seen.iter().map(|seen| format!("{} {}", seen.path, seen.body)).collect()
    }

    fn token_text(&self) -> String {
        format!("token-{}", self.token)
    }

    fn is_waiting(&self, body: &Value) -> bool {
        self.seen.last().is_some_and(|seen| seen.route == "/tasks/lease" && seen.body == *body)
            && !self.answered.contains_key(body["request_id"].as_str().unwrap_or_default())
            && body["request_id"].is_string()
            && self.rules.get("/tasks/lease").is_none_or(VecDeque::is_empty)
    }

    fn serve(&mut self, route: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        match route {
            "/register" => {
                self.token += 1;
                Some((
                    201,
                    json!({
                        "agent_id": self.agent_id, "status": "registered", "auth_token": self.token_text(),
                        "heartbeat_interval_seconds": self.interval_seconds, "lease_seconds": self.lease_ms.div_ceil(1000),
                        "features": ["pull.v1", "progress.v1", "directives.v1", "cancel.v1"],
                        "limits": { "max_body_bytes": self.max_body_bytes },
                    }),
                ))
            }
            "/heartbeat" => Some((200, self.heartbeat(body))),
            "/tasks/lease" => self.lease(body),
            "/result" => Some((200, self.record(body.clone()))),
            "/results" => {
                let results = body["results"].as_array().unwrap().clone();
                let outcomes: Vec<Value> = results.into_iter().map(|result| self.record(result)).collect();
                Some((200, json!({ "results": outcomes })))
            }
            "/progress" => Some((200, json!({ "lease_expires_in_ms": self.lease_ms, "directives": [] }))),
            "/release" => {
                let task = path.rsplit('/').nth(1).unwrap();
                self.released.push(json!({ "task_id": task, "body": body }));
                Some((200, json!({ "task_id": task, "status": "released" })))
            }
            "/deregister" => Some((200, json!({ "status": "success", "message": "bye", "released": 0 }))),
            other => panic!("no such route: {other}"),
        }
    }

    fn heartbeat(&mut self, body: &Value) -> Value {
        let acks = body["ack"].as_array().cloned().unwrap_or_default();
        self.directives.retain(|directive| !acks.contains(&directive["id"]));
        let held = body["tasks"].as_array().cloned().unwrap_or_default();
        let notes = held.iter().map(|held| {
            let mut note = json!({ "task_id": held["task_id"], "lease_id": held["lease_id"] });
            if self.lost.contains(held["lease_id"].as_str().unwrap()) {
                note["lost"] = json!(true);
            } else {
                note["expires_in_ms"] = json!(self.lease_ms);
            }
            note
        });
        json!({
            "heartbeat_interval_seconds": self.interval_seconds, "server_time": "2026-01-01T00:00:00Z",
            "leases": notes.collect::<Vec<_>>(), "directives": self.directives,
        })
    }

    fn lease(&mut self, body: &Value) -> Option<(u16, Value)> {
        let id = body["request_id"].as_str().unwrap().to_owned();
        if let Some(tasks) = self.answered.get(&id) {
            return Some((200, json!({ "tasks": tasks })));
        }
        let most = body["max_tasks"].as_u64().unwrap() as usize;
        let count = self.queue.len().min(most);
        let mut tasks: Vec<Value> = self.queue.drain(..count).collect();
        if tasks.is_empty() {
            return None;
        }
        for task in &mut tasks {
            task["lease_expires_in_ms"] = json!(self.lease_ms);
        }
        self.answered.insert(id, tasks.clone());
        Some((200, json!({ "tasks": tasks })))
    }

    fn record(&mut self, result: Value) -> Value {
        let is_known = self.results.contains(&result);
        let task_id = result["task_id"].clone();
        if !is_known {
            self.results.push(result);
        }
        json!({ "task_id": task_id, "status": "accepted", "duplicate": is_known })
    }
}

fn refusal(code: ErrorCode) -> (u16, Value) {
    (code.status(), serde_json::to_value(ProblemBody::new(code, "as the test wants it", "r-1")).unwrap())
}

pub(crate) fn task(number: u8) -> TaskId {
    TaskId::from_bytes([number; 16])
}

pub(crate) fn lease(number: u8) -> LeaseId {
    LeaseId::from_bytes([number; 16])
}

/// Draws the same number each time, with which pauses are the shortest (0) or the longest (255), and
/// still makes every id another one.
#[derive(Debug)]
pub(crate) struct Dice {
    face: u8,
    ids: Mutex<u64>,
}

impl Dice {
    pub(crate) fn showing(face: u8) -> Arc<Self> {
        Arc::new(Self { face, ids: Mutex::new(0) })
    }
}

impl Entropy for Dice {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.face);
        if bytes.len() > 8 {
            let mut ids = self.ids.lock().unwrap();
            *ids += 1;
            bytes[..8].copy_from_slice(&ids.to_le_bytes());
        }
    }
}
