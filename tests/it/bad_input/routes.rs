//! The table of routes, and the world that no bad input may change.

use eap_types::{limits, path};
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Agent, Call, OPERATOR_KEY, REGISTRATION_SECRET, Server, id_of};

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Registrant,
    Agent,
    Operator,
}

/// One route, with what a call of it needs.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) name: &'static str,
    pub(super) caller: Caller,
    /// Whether an empty body is a valid one.
    pub(super) takes_empty: bool,
    /// Bytes of its body; 0 if it takes none.
    pub(super) limit: usize,
    method: Method,
    path: &'static str,
}

/// The ids in a path.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    agent: String,
    task: String,
}

impl Ids {
    pub(super) fn agent(mut self, id: &str) -> Self {
        id.clone_into(&mut self.agent);
        self
    }

    pub(super) fn task(mut self, id: &str) -> Self {
        id.clone_into(&mut self.task);
        self
    }
}

impl Route {
    /// The table.
    pub(super) fn all() -> Vec<Self> {
        let route =
            |name, caller, method, path, limit, takes_empty| Self { name, caller, takes_empty, limit, method, path };
        let agent = |name, path, limit, takes_empty| route(name, Caller::Agent, Method::POST, path, limit, takes_empty);
        let small = limits::MAX_SMALL_BYTES;
        let beat = limits::max_heartbeat_bytes(limits::DEFAULT_CONCURRENT_TASKS);
        vec![
            route("register", Caller::Registrant, Method::POST, path::REGISTER, limits::MAX_REGISTER_BYTES, false),
            agent("heartbeat", path::HEARTBEAT, beat, false),
            agent("lease", path::LEASE, small, false),
            agent("next", path::NEXT, small, true),
            agent("result", path::RESULT, limits::MAX_RESULT_BYTES, false),
            agent("results", path::RESULTS, limits::MAX_RESULT_BYTES, false),
            agent("progress", path::PROGRESS, limits::MAX_PROGRESS_BYTES, false),
            agent("release", path::RELEASE, small, true),
            route("upload", Caller::Agent, Method::PUT, path::ARTIFACT, 0, true),
            agent("deregister", path::DEREGISTER, small, true),
            agent("rotate", path::TOKEN_ROTATE, 0, true),
            route("remove", Caller::Agent, Method::DELETE, path::AGENT, small, true),
            route("submit", Caller::Operator, Method::POST, path::TASKS, limits::MAX_SUBMIT_BYTES, false),
            route("batch", Caller::Operator, Method::POST, path::TASKS_BATCH, limits::MAX_BATCH_BYTES, false),
            route("cancel", Caller::Operator, Method::POST, path::TASK_CANCEL, small, true),
            route("list", Caller::Operator, Method::GET, path::TASKS, 0, true),
            route("get", Caller::Operator, Method::GET, path::TASK, 0, true),
            route("history", Caller::Operator, Method::GET, path::TASK_HISTORY, 0, true),
            route("letters", Caller::Operator, Method::GET, path::DEAD_LETTERS, 0, true),
            route("requeue", Caller::Operator, Method::POST, path::DEAD_LETTER_REQUEUE, 0, true),
            route("discard", Caller::Operator, Method::POST, path::DEAD_LETTER_DISCARD, 0, true),
            route("create key", Caller::Operator, Method::POST, path::KEYS, small, false),
            route("keys", Caller::Operator, Method::GET, path::KEYS, 0, true),
            route("revoke key", Caller::Operator, Method::DELETE, path::KEY, 0, true),
            route("create secret", Caller::Operator, Method::POST, path::REGISTRATION_SECRETS, small, false),
            route("secrets", Caller::Operator, Method::GET, path::REGISTRATION_SECRETS, 0, true),
            route("revoke secret", Caller::Operator, Method::DELETE, path::REGISTRATION_SECRET, 0, true),
            route("artifact", Caller::Operator, Method::GET, path::TASK_ARTIFACT, 0, true),
            route("explain", Caller::Operator, Method::GET, path::TASK_EXPLAIN, 0, true),
            route("events", Caller::Operator, Method::GET, path::EVENTS, 0, true),
            route("agents", Caller::Operator, Method::GET, path::AGENTS, 0, true),
            route("ask rotation", Caller::Operator, Method::POST, path::AGENT_ROTATE, 0, true),
            route("drain", Caller::Operator, Method::POST, path::AGENT_DRAIN, small, true),
            route("resume", Caller::Operator, Method::POST, path::AGENT_RESUME, 0, true),
            route("interval", Caller::Operator, Method::PUT, path::AGENT_INTERVAL, small, false),
            route("agent", Caller::Operator, Method::GET, path::AGENT_DETAIL, 0, true),
            route("keep workflow", Caller::Operator, Method::POST, path::WORKFLOWS, limits::MAX_WORKFLOW_BYTES, false),
            route("workflows", Caller::Operator, Method::GET, path::WORKFLOWS, 0, true),
            route("workflow", Caller::Operator, Method::GET, path::WORKFLOW, 0, true),
            route("run", Caller::Operator, Method::POST, path::WORKFLOW_RUNS, limits::MAX_SUBMIT_BYTES, true),
            route("sessions", Caller::Operator, Method::GET, path::SESSIONS, 0, true),
            route("session", Caller::Operator, Method::GET, path::SESSION, 0, true),
            route("pause", Caller::Operator, Method::POST, path::SESSION_PAUSE, 0, true),
            route("resume session", Caller::Operator, Method::POST, path::SESSION_RESUME, 0, true),
            route("cancel session", Caller::Operator, Method::POST, path::SESSION_CANCEL, small, true),
            route("reconcile", Caller::Operator, Method::POST, path::AGENTKIT_RECONCILE, 0, true),
        ]
    }

    pub(super) fn template(&self) -> String {
        let base = if self.caller == Caller::Operator { "" } else { path::AGENTS_BASE };
        format!("{} {base}{}", self.method, self.path)
    }

    pub(super) fn takes_body(&self) -> bool {
        self.limit > 0
    }

    pub(super) fn has_task(&self) -> bool {
        self.path.contains("{task_id}")
    }

    /// Whether the id of an agent or a task stands in its path.
    pub(super) fn has_agent(&self) -> bool {
        self.path.contains("{agent_id}") || self.has_task()
    }

    /// Whether the id of a key or secret stands in its path; tests put the agent's there.
    pub(super) fn has_credential(&self) -> bool {
        self.path.contains("{key_id}") || self.path.contains("{secret_id}")
    }

    /// A body that would be taken.
    pub(super) fn valid_body(&self, world: &World) -> Value {
        match self.name {
            "register" => json!({"name": "AGENT-NEW", "capabilities": ["work"]}),
            "heartbeat" => json!({"status": "healthy"}),
            "lease" => json!({"request_id": "r", "wait_seconds": 0}),
            "next" => json!({"wait_seconds": 0}),
            "result" => json!({"task_id": world.task, "status": "completed"}),
            "results" => json!({"results": []}),
            "progress" => json!({"seq": 1}),
            "create key" => json!({"name": "ci", "scopes": ["tasks:read"]}),
            "create secret" => json!({"name": "fleet"}),
            "batch" => json!({"tasks": [{"task_type": "work", "input": "input"}]}),
            "submit" => json!({"task_type": "work", "input": "input"}),
            "interval" => json!({"heartbeat_interval_seconds": 30}),
            "keep workflow" => workflow("wf-2"),
            _ => json!({}),
        }
    }

    /// A body with something wrong in it.
    pub(super) fn wrong_body(&self) -> Value {
        match self.name {
            "release" | "deregister" | "remove" | "cancel" | "drain" | "cancel session" => json!({"reason": 5}),
            "run" => json!({"initial_payload": 5}),
            "next" => json!({"wait_seconds": "soon"}),
            _ => json!({}),
        }
    }

    /// What its caller proves itself with.
    pub(super) fn secret<'a>(&self, world: &'a World) -> Option<&'a str> {
        match self.caller {
            Caller::Registrant => Some(REGISTRATION_SECRET),
            Caller::Agent => Some(&world.agent.token),
            Caller::Operator => Some(OPERATOR_KEY),
        }
    }

    /// A call without a body by whoever has this secret.
    pub(super) fn call_with(&self, world: &World, ids: &Ids, secret: Option<&str>) -> Call {
        let base = if self.caller == Caller::Operator { "" } else { path::AGENTS_BASE };
        let path = format!("{base}{}", self.path).replace("{task_id}", &ids.task);
        let path = path.replace("{workflow_id}", "wf-1").replace("{session_id}", &world.session);
        let path = ["{agent_id}", "{key_id}", "{secret_id}"].iter().fold(path, |path, id| path.replace(id, &ids.agent));
        let call = world.server.api.call(self.method.clone(), &path);
        match secret {
            Some(secret) => call.bearer(secret),
            None => call,
        }
    }

    /// A call by the right caller with a body.
    pub(super) fn call_with_body(&self, world: &World, ids: &Ids, body: &(impl AsRef<[u8]> + ?Sized)) -> Call {
        self.call_with(world, ids, self.secret(world)).bytes(body.as_ref())
    }

    /// A call by the right caller with the right body.
    pub(super) fn call(&self, world: &World, ids: &Ids) -> Call {
        if self.takes_body() {
            // The task of the path and that of the body have to be the same.
            let mut body = self.valid_body(world);
            if self.name == "result" && ids.task.len() == 36 {
                body["task_id"] = json!(ids.task);
            }
            self.call_with_body(world, ids, &body.to_string())
        } else {
            self.call_with(world, ids, self.secret(world))
        }
    }

    /// The same call by nobody.
    pub(super) fn call_as_nobody(&self, world: &World, ids: &Ids) -> Call {
        let call = self.call_with(world, ids, None);
        if self.takes_body() { call.json(&self.valid_body(world)) } else { call }
    }
}

fn workflow(id: &str) -> Value {
    let step = json!({"taskId": "t1", "name": "first", "agentCapability": "work"});
    json!({"id": id, "name": "A chain", "version": "1.0", "tasks": [step]})
}

/// A server with something of everything in it, whose time stands.
#[derive(Debug)]
pub(super) struct World {
    pub(super) server: Server,
    pub(super) agent: Agent,
    pub(super) other: Agent,
    /// Held by `agent`.
    pub(super) task: String,
    /// Held by `other`.
    pub(super) foreign: String,
    /// Of the workflow `wf-1`.
    session: String,
    before: Vec<Value>,
}

impl World {
    pub(super) async fn new() -> Self {
        let server = Server::start_with_clock().await;
        let (agent, other) = (server.agent("AGENT-A").await, server.agent("AGENT-B").await);
        let operator = server.operator();
        let done = operator.submit(json!({})).await;
        let assignment = agent.take().await;
        assert_eq!(id_of(&assignment), done);
        agent.complete(&assignment).await.expect(200);
        let task = operator.submit(json!({})).await;
        agent.take().await;
        let foreign = operator.submit(json!({})).await;
        other.take().await;
        operator.submit(json!({})).await;
        operator.post(path::WORKFLOWS).json(&workflow("wf-1")).send().await.expect(201);
        let started = operator.post("/api/v1/workflows/wf-1/runs").send().await.expect(202);
        let session = started["sessionId"].as_str().expect("it has an id").to_owned();
        let mut world = Self { server, agent, other, task, foreign, session, before: Vec::new() };
        world.before = world.snapshot().await;
        world
    }

    pub(super) fn ids(&self) -> Ids {
        Ids { agent: self.agent.id.clone(), task: self.task.clone() }
    }

    /// Everything that operators can see.
    async fn snapshot(&self) -> Vec<Value> {
        let operator = self.server.operator();
        let page = operator.list("limit=500").await;
        let mut all = vec![page.clone()];
        for task in page["tasks"].as_array().expect("tasks are a list") {
            all.push(operator.task(&id_of(task)).await);
            all.push(operator.history(&id_of(task)).await);
        }
        let session = format!("{}/{}", path::SESSIONS, self.session);
        for path in [path::KEYS, path::REGISTRATION_SECRETS, path::WORKFLOWS, path::SESSIONS, &session] {
            all.push(operator.get(path).send().await.expect(200));
        }
        for agent in operator.agents().await {
            all.push(operator.agent(agent["agent_id"].as_str().expect("it has an id")).await.expect(200));
        }
        all
    }

    pub(super) async fn assert_unchanged(&self, what: &str) {
        let after = self.snapshot().await;
        assert_eq!(self.before.len(), after.len(), "{what} changed the number of tasks or agents");
        for (before, after) in self.before.iter().zip(&after) {
            assert_eq!(before, after, "{what} changed something");
        }
    }
}
