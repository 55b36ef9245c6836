//! An agent that speaks raw JSON.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use serde_json::{Value, json};

use super::{Answer, Api, Call};

/// The features that our agents announce.
pub(crate) const FEATURES: [&str; 4] = ["pull.v1", "progress.v1", "directives.v1", "cancel.v1"];

/// A registration of our own time, its name as its instance; `members` replaces and adds, null leaves out.
pub(crate) fn registration(name: &str, members: Value) -> Value {
    let mut body = json!({"name": name, "capabilities": ["work"], "features": FEATURES, "instance_id": name});
    let (Value::Object(body_members), Value::Object(members)) = (&mut body, members) else {
        panic!("members are an object")
    };
    body_members.extend(members);
    body_members.retain(|_, value| !value.is_null());
    body
}

/// A registered agent.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) api: Api,
    pub(crate) id: String,
    pub(crate) token: String,
    /// The whole answer to its registration.
    pub(crate) reply: Value,
}

impl Agent {
    pub(crate) fn of(api: Api, reply: Value) -> Self {
        let text = |name: &str| reply[name].as_str().expect("a registration has it").to_owned();
        Self { api, id: text("agent_id"), token: text("auth_token"), reply }
    }

    /// A path of this agent's, as in `/heartbeat`.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/agents/external/{}{rest}", self.id)
    }

    /// Begins a call with this agent's token.
    pub(crate) fn call(&self, rest: &str) -> Call {
        self.api.post(&self.path(rest)).header("x-agent-token", &self.token)
    }

    pub(crate) async fn beat(&self, body: Value) -> Answer {
        self.call("/heartbeat").json(&body).send().await
    }

    pub(crate) async fn lease(&self, body: Value) -> Answer {
        self.call("/tasks/lease").json(&body).send().await
    }

    pub(crate) async fn next(&self, body: Value) -> Answer {
        self.call("/tasks/next").json(&body).send().await
    }

    /// The tasks there are now, at most `max`; does not wait.
    pub(crate) async fn take_up_to(&self, max: u32) -> Vec<Value> {
        let body = json!({"request_id": fresh_id(), "max_tasks": max, "wait_seconds": 0});
        let answer = self.lease(body).await;
        if answer.status == 204 {
            return Vec::new();
        }
        answer.expect(200)["tasks"].as_array().expect("tasks are a list").clone()
    }

    /// The one task that has to be there now.
    #[track_caller]
    pub(crate) fn take(&self) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let mut tasks = self.take_up_to(1).await;
            tasks.pop().unwrap_or_else(|| panic!("no task at {caller}"))
        }
    }

    /// Waits until a task is offered.
    pub(crate) async fn wait_for_task(&self) -> Value {
        super::eventually("a task is offered", async || self.take_up_to(1).await.pop()).await
    }

    pub(crate) async fn report(&self, task: &str, body: Value) -> Answer {
        self.call(&format!("/tasks/{task}/result")).json(&body).send().await
    }

    /// Reports the body for the task and attempt of an assignment.
    pub(crate) async fn report_for(&self, assignment: &Value, mut body: Value) -> Answer {
        for name in ["task_id", "lease_id", "attempt"] {
            body[name] = assignment[name].clone();
        }
        self.report(&super::id_of(assignment), body).await
    }

    pub(crate) async fn complete(&self, assignment: &Value) -> Answer {
        self.report_for(assignment, json!({"status": "completed", "output_data": {"done": true}})).await
    }

    pub(crate) async fn fail(&self, assignment: &Value, members: Value) -> Answer {
        let mut body = json!({"status": "failed", "error_code": "HANDLER_ERROR", "error_message": "broken"});
        let (Value::Object(into), Value::Object(members)) = (&mut body, members) else {
            panic!("members are an object")
        };
        into.extend(members);
        self.report_for(assignment, body).await
    }

    pub(crate) async fn progress(&self, task: &str, body: Value) -> Answer {
        self.call(&format!("/tasks/{task}/progress")).json(&body).send().await
    }

    pub(crate) async fn release(&self, task: &str, body: Option<&Value>) -> Answer {
        self.call(&format!("/tasks/{task}/release")).maybe_json(body).send().await
    }

    pub(crate) async fn deregister(&self) -> Answer {
        self.call("/deregister").send().await
    }

    pub(crate) async fn delete(&self) -> Answer {
        self.api.call(Method::DELETE, &self.path("")).header("x-agent-token", &self.token).send().await
    }
}

/// A request id nobody used.
fn fresh_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("request-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
