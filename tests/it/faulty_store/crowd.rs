//! Everybody at work: submitters that repeat until they are answered, agents of the SDK, and one agent that does
//! everything a good one does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use eap_agent_sdk::{Agent, AgentHandle, Task, TaskContext};
use eap_client::{AgentClient, AgentSession, ClientError, Credentials, OperatorClient};
use eap_tests::witness::Witness;
use eap_types::{
    Assignment, Capabilities, FailureCode, Feature, JsonObject, LeaseRequest, Registration, ReleaseRequest, Secret,
    SubmitTask, TaskQuery, TaskResult, TaskStatus,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::harness::{OPERATOR_KEY, REGISTRATION_SECRET, Server};

const SUBMITTERS: u64 = 4;
const AGENTS: u64 = 2;
/// How long after the trouble everything may take to end (I8): leases of 1 s, back-offs of the SDK.
const QUIET: Duration = Duration::from_secs(25);
/// How long one waits who was not answered.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) struct Crowd {
    operator: OperatorClient,
    enough: Arc<AtomicBool>,
    submitters: Vec<JoinHandle<()>>,
    careless: JoinHandle<()>,
    agents: Vec<AgentHandle>,
}

impl Crowd {
    pub(crate) fn start(server: &Server, witness: &Arc<Witness>, seed: u64) -> Self {
        let url = format!("http://{}", server.address);
        let http = || Arc::clone(witness) as Arc<dyn eap_client::HttpCall>;
        let operator = OperatorClient::new(&url, http()).expect("a URL");
        let operator = operator.with_key(Secret::new(OPERATOR_KEY)).with_deadline(Duration::from_secs(5));
        let enough = Arc::new(AtomicBool::new(false));
        let submitters = (0..SUBMITTERS)
            .map(|number| tokio::spawn(submit(operator.clone(), format!("{seed}-{number}"), Arc::clone(&enough))))
            .collect();
        let runs = Arc::new(AtomicU64::new(seed));
        let agents = (0..AGENTS).map(|number| {
            let runs = Arc::clone(&runs);
            let echo = move |task: Task<String>, _: TaskContext| {
                let run = runs.fetch_add(1, Ordering::Relaxed);
                async move {
                    sleep(Duration::from_millis(run * 7 % 40)).await;
                    Ok(serde_json::json!({ "input": task.input, "run": run }))
                }
            };
            let agent = Agent::builder(&url, format!("AGENT-GOOD-{number:02}"))
                .registration_secret(REGISTRATION_SECRET)
                .handle("work", echo)
                .max_concurrent_tasks(4)
                .poll_wait(Duration::from_secs(1))
                .http(http())
                .build();
            agent.expect("an agent").start()
        });
        let agents = agents.collect();
        let client = AgentClient::new(&url, http()).expect("a URL").with_deadline(Duration::from_secs(5));
        let careless = tokio::spawn(careless(client, Arc::clone(&enough)));
        Self { operator, submitters, agents, careless, enough }
    }

    /// Submits no more, and waits until every task has ended and everybody stopped.
    pub(crate) async fn finish(self, place: &str) {
        self.enough.store(true, Ordering::Relaxed);
        for submitter in self.submitters {
            submitter.await.expect("a submitter gets its answer in the end");
        }
        self.careless.await.expect("the careless agent does not panic");
        let deadline = Instant::now() + QUIET;
        for status in [TaskStatus::Queued, TaskStatus::Leased, TaskStatus::Queued] {
            loop {
                let open = self.operator.tasks(&TaskQuery::new().with_status(status).with_limit(1)).await;
                let open = open.map(|page| page.tasks.into_iter().next());
                if let Ok(None) = open {
                    break;
                }
                if Instant::now() >= deadline {
                    let history = match &open {
                        Ok(Some(task)) => self.operator.history(task.task_id).await.ok(),
                        _ => None,
                    };
                    panic!("{place}: I8: a task does not end once all is well: {open:?} {history:#?}");
                }
                sleep(PAUSE).await;
            }
        }
        for agent in &self.agents {
            agent.drain();
        }
        for agent in self.agents {
            let report = agent.wait().await.expect("an agent stops in order");
            assert_eq!(report.unsent, 0, "{place}: every result was told");
        }
    }

    /// Leaves everything as it stands: there is no server any more.
    pub(crate) async fn abandon(self) {
        self.enough.store(true, Ordering::Relaxed);
        for task in self.submitters.iter().chain([&self.careless]) {
            task.abort();
        }
        for task in self.submitters.into_iter().chain([self.careless]) {
            let ended = task.await;
            assert!(ended.is_ok() || ended.is_err_and(|error| error.is_cancelled()), "nobody panicked");
        }
    }
}

/// Submits one task after the other, each under its key until it is answered; reads some of them back.
async fn submit(client: OperatorClient, name: String, enough: Arc<AtomicBool>) {
    for count in 0.. {
        if enough.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("key-{name}-{count}").parse().expect("a key");
        let task = SubmitTask::text("work".parse().expect("a task type"), &format!("task {name}-{count}"));
        let task = task.with_max_attempts(10);
        let view = loop {
            match client.submit(&task, Some(&key)).await {
                Ok(view) => break view,
                Err(error) => assert!(!error.is_definitive(), "a submit was refused: {error}"),
            }
            sleep(PAUSE).await;
        };
        if count % 3 == 0 {
            let read = client.task(view.task_id, None).await;
            assert!(!read.is_err_and(|error| error.is_definitive()), "I7: an acknowledged task is not there");
        }
        sleep(PAUSE).await;
    }
}

/// An agent that asks twice, reports twice, contradicts itself, comes too late, hands back, fails and forgets.
async fn careless(client: AgentClient, enough: Arc<AtomicBool>) {
    let name = "AGENT-CARELESS".parse().expect("a name");
    let registration = Registration::new(name, Capabilities::new(["work"]).expect("a capability"))
        .with_features([Feature::PullV1])
        .with_max_concurrent_tasks(20);
    let session = loop {
        let secret = Some(Secret::new(REGISTRATION_SECRET));
        let credentials = Credentials { registration_secret: secret, ..Credentials::default() };
        match client.register(&registration, credentials).await {
            Ok(welcome) => break client.session(welcome.agent_id, welcome.auth_token, None),
            Err(error) => assert!(!error.is_definitive(), "the agent was refused: {error}"),
        }
        sleep(PAUSE).await;
    };
    for count in 0.. {
        if enough.load(Ordering::Relaxed) {
            return;
        }
        let request = LeaseRequest::new(format!("request-{count}").parse().expect("a request id"));
        let request = request.with_wait_seconds(0);
        let first = session.lease(&request).await;
        // Whoever asks again because an answer was lost gets the same.
        let again = session.lease(&request).await;
        let Some(task) = again.or(first).unwrap_or_default().pop() else {
            sleep(PAUSE).await;
            continue;
        };
        treat(&session, &task, count).await;
    }
}

async fn treat(session: &AgentSession, task: &Assignment, count: u64) {
    let done = |said: &str| {
        let output = JsonObject::parse(&format!(r#"{{"said": "{said}"}}"#)).expect("an object");
        quoting(task, TaskResult::completed(task.task_id, output))
    };
    match count % 6 {
        0 | 1 => {
            told(session.result(&done("one")).await);
            told(session.result(&done("one")).await);
            told(session.result(&done("another")).await);
        }
        2 => {
            // The lease lapses; somebody else may have the task by now, or nobody.
            sleep(Duration::from_millis(1_300)).await;
            told(session.result(&done("late")).await);
        }
        3 => {
            let release = ReleaseRequest::new().with_reason("not today");
            told(session.release(task.task_id, &release).await);
        }
        4 => {
            let failed = TaskResult::failed(task.task_id, FailureCode::HandlerError, "broken").with_retryable(true);
            told(session.result(&quoting(task, failed)).await);
        }
        _ => {}
    }
}

fn quoting(task: &Assignment, result: TaskResult) -> TaskResult {
    match (task.lease_id, task.attempt) {
        (Some(lease), Some(attempt)) => result.with_lease(lease, attempt),
        _ => result,
    }
}

/// The witness has heard the answer; whatever it was is one the agent deserves.
fn told<T>(_: Result<T, ClientError>) {}
