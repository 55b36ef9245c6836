//! The agents in other languages work against the real server: they do tasks, come back to an orchestrator that
//! forgot them, and leave in good order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eap_client::{AgentQuery, OperatorClient, ReqwestCall};
use eap_orchestrator::store::{SqliteOptions, SqliteStore};
use eap_orchestrator::{Access, Orchestrator, ShutdownReport, StartError, SystemClock};
use eap_types::{SubmitTask, TaskStatus};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// An orchestrator over a new SQLite file, serving.
struct Server {
    orchestrator: Orchestrator,
    address: SocketAddr,
    serving: JoinHandle<Result<ShutdownReport, StartError>>,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(listener: TcpListener) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock = Arc::new(SystemClock::new());
        let store = SqliteStore::open(folder.path().join("eap.db"), clock.clone(), SqliteOptions::default())
            .expect("a new database");
        let orchestrator = Orchestrator::builder(Arc::new(store))
            .clock(clock)
            .access(Access::Loopback)
            .build()
            .expect("a valid configuration");
        let address = listener.local_addr().expect("a bound listener");
        let serving = orchestrator.clone();
        let serving = tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
        Self { orchestrator, address, serving, _folder: folder }
    }

    fn client(&self) -> OperatorClient {
        let http = Arc::new(ReqwestCall::new().expect("an HTTP client"));
        OperatorClient::new(&format!("http://{}", self.address), http).expect("a usable address")
    }

    async fn stop(self) {
        self.orchestrator.shutdown().await;
        self.serving.await.expect("no panic").expect("an ordinary end");
    }
}

/// Starts an agent's program, or says what is missing.
fn start(interpreter: &str, program: &str, url: &str) -> Child {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(program);
    Command::new(interpreter)
        .arg(program)
        .env("EAP_URL", url)
        .env_remove("EAP_REGISTRATION_SECRET")
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs `{interpreter}` on the PATH: {error}"))
}

async fn count(client: &OperatorClient, text: &str) -> serde_json::Value {
    let task = SubmitTask::text("word_count".parse().expect("a task type"), text);
    let mut task = client.submit(&task, None).await.expect("accepted");
    let ended = async {
        while !task.status.is_final() {
            task = client.task(task.task_id, Some(Duration::from_secs(10))).await.expect("an answer");
        }
    };
    timeout(PATIENCE, ended).await.expect("the agent does the task in time");
    assert_eq!(task.status, TaskStatus::Completed);
    task.result.expect("a completed task has a result").output_data.to_value()
}

async fn works(interpreter: &str, program: &str, language: &str) {
    let server = Server::start(TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
    let address = server.address;
    let mut agent = start(interpreter, program, &format!("http://{address}"));
    let client = server.client();
    for (text, words) in [("to be or not to be", 6), ("", 0), ("Zürich – 東京\n\tРига", 4)] {
        assert_eq!(count(&client, text).await, serde_json::json!({ "words": words, "language": language }));
    }

    // Another orchestrator in the same place, with an empty store: the agent's token is worth nothing there.
    server.stop().await;
    let server = Server::start(TcpListener::bind(address).await.expect("the same port"));
    let client = server.client();
    assert_eq!(count(&client, "still here").await["words"], 2);
    let agents = client.agents(AgentQuery::new()).await.expect("an answer").agents;
    assert_eq!(agents.len(), 1);

    let pid = agent.id().and_then(|pid| i32::try_from(pid).ok()).expect("the agent still runs");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("the agent can be told to stop");
    let status = timeout(PATIENCE, agent.wait()).await.expect("the agent stops in time").expect("its end is seen");
    assert!(status.success(), "{status}");
    let agents = client.agents(AgentQuery::new()).await.expect("an answer").agents;
    assert!(agents.is_empty(), "the agent did not deregister");
    server.stop().await;
}

#[tokio::test]
#[ignore = "needs python3, which the Rust tests do without; .ci/run runs it"]
async fn the_python_agent_works() {
    works("python3", "python/agent.py", "python").await;
}

#[tokio::test]
#[ignore = "needs node, which the Rust tests do without; .ci/run runs it"]
async fn the_node_agent_works() {
    works("node", "node/agent.mjs", "node").await;
}
