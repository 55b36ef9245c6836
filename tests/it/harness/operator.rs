//! The side that has work to be done.

use serde_json::{Value, json};

use super::{Answer, Api, Call, OPERATOR_KEY, eventually};

const TASKS: &str = "/api/v1/tasks";

/// An operator with its key.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) api: Api,
}

/// The body of a plain task; `members` replaces and adds.
pub(crate) fn work(members: Value) -> Value {
    let mut body = json!({"task_type": "work", "input": "input"});
    let (Value::Object(body_members), Value::Object(members)) = (&mut body, members) else {
        panic!("members are an object")
    };
    body_members.extend(members);
    body
}

/// The id of a task that is shown or assigned.
#[track_caller]
pub(crate) fn id_of(task: &Value) -> String {
    task["task_id"].as_str().expect("a task has an id").to_owned()
}

impl Operator {
    pub(crate) fn new(api: Api) -> Self {
        Self { api }
    }

    pub(crate) fn get(&self, path: &str) -> Call {
        self.api.get(path).bearer(OPERATOR_KEY)
    }

    pub(crate) fn post(&self, path: &str) -> Call {
        self.api.post(path).bearer(OPERATOR_KEY)
    }

    pub(crate) async fn try_submit(&self, body: &Value) -> Answer {
        self.post(TASKS).json(body).send().await
    }

    pub(crate) async fn submit_with_key(&self, key: &str, body: &Value) -> Answer {
        self.post(TASKS).header("idempotency-key", key).json(body).send().await
    }

    /// Submits a task and gives its id.
    pub(crate) async fn submit(&self, members: Value) -> String {
        id_of(&self.try_submit(&work(members)).await.expect(201))
    }

    pub(crate) async fn task(&self, id: &str) -> Value {
        self.get(&format!("{TASKS}/{id}")).send().await.expect(200)
    }

    pub(crate) async fn status(&self, id: &str) -> String {
        self.task(id).await["status"].as_str().expect("a task has a status").to_owned()
    }

    /// Waits until the task has this status.
    pub(crate) async fn until(&self, id: &str, status: &str) -> Value {
        eventually(&format!("the task is {status}"), async || {
            let task = self.task(id).await;
            (task["status"] == status).then_some(task)
        })
        .await
    }

    pub(crate) async fn history(&self, id: &str) -> Value {
        self.get(&format!("{TASKS}/{id}/history")).send().await.expect(200)
    }

    /// The outcomes of a task's attempts, in order.
    pub(crate) async fn outcomes(&self, id: &str) -> Vec<String> {
        let history = self.history(id).await;
        let attempts = history["attempts"].as_array().expect("attempts are a list");
        attempts.iter().map(|attempt| attempt["outcome"].as_str().expect("it has an outcome").to_owned()).collect()
    }

    pub(crate) async fn cancel(&self, id: &str, body: Option<&Value>) -> Answer {
        self.post(&format!("{TASKS}/{id}/cancel")).maybe_json(body).send().await
    }

    /// A page of tasks, by query.
    pub(crate) async fn list(&self, query: &str) -> Value {
        self.get(&format!("{TASKS}?{query}")).send().await.expect(200)
    }

    pub(crate) async fn agent(&self, id: &str) -> Answer {
        self.get(&format!("/api/v1/agents/{id}")).send().await
    }

    pub(crate) async fn agents(&self) -> Vec<Value> {
        let page = self.get("/api/v1/agents").send().await.expect(200);
        page["agents"].as_array().expect("agents are a list").clone()
    }
}
