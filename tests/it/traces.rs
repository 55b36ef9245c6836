//! One trace from the submit to the handler and back (issue 3): what a subscriber sees, and what travels.

use std::io;
use std::sync::{Arc, Mutex};

use eap_agent_sdk::{Task, TaskContext};
use serde_json::{Value, json};
use tracing::info;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::harness::{Server, eventually, id_of, work};
use crate::sdk_harness::Site;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

/// What is logged while a test runs, line by line as JSON.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics here").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Listens on this thread, where the whole test runs, until the guard is dropped.
    fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::DEBUG)
            .with_span_events(FmtSpan::CLOSE)
            .with_writer(log.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn lines(&self) -> Vec<Value> {
        let bytes = self.0.lock().expect("nobody panics here").clone();
        let text = String::from_utf8(bytes).expect("the log is text");
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// The spans that ended, by name.
    fn spans(&self, name: &str) -> Vec<Value> {
        let ended = |line: &Value| line["fields"]["message"] == "close" && line["span"]["name"] == name;
        self.lines().into_iter().filter(ended).map(|line| line["span"].clone()).collect()
    }
}

#[tokio::test]
async fn one_trace_leads_from_the_submit_to_the_handler_and_back() {
    let (log, _listening) = Log::listen();
    let site = Site::start().await;
    let work = |_: Task<String>, ctx: TaskContext| async move {
        info!("the handler works");
        Ok(json!({"traceparent": ctx.traceparent().map(ToString::to_string)}))
    };
    let agent = site.agent("AGENT-A").handle("work", work).build().expect("it is complete").start();
    let submit = site.operator().post("/api/v1/tasks").header("traceparent", &traceparent());
    let body = crate::harness::work(json!({"input": "canary-of-the-input"}));
    let submitted = submit.header("x-request-id", "request-1").json(&body).send().await.expect(201);
    let id = id_of(&submitted);
    let task = site.operator().until(&id, "completed").await;
    assert_eq!(task["result"]["output_data"]["traceparent"], json!(traceparent()));
    agent.drain();
    agent.wait().await.expect("it stops well");

    let in_trace = |span: &Value| {
        assert_eq!((&span["trace_id"], &span["parent_id"]), (&json!(TRACE), &json!(PARENT)), "{span}");
    };
    let of_submit = log.spans("request").into_iter().find(|span| span["call"] == "submit_task");
    let of_submit = of_submit.expect("the submit was a request");
    in_trace(&of_submit);
    assert_eq!(of_submit["request_id"], "request-1");
    let [submit] = &log.spans("submit")[..] else { panic!("one submit") };
    in_trace(submit);
    assert_eq!(submit["task.id"], json!(id));
    let [handler] = &log.spans("task")[..] else { panic!("one handler") };
    in_trace(handler);
    assert_eq!((&handler["task.id"], &handler["attempt"]), (&json!(id), &json!(1)));
    let [result] = &log.spans("result")[..] else { panic!("one result") };
    in_trace(result);
    assert_eq!((&result["task.id"], &result["attempt"]), (&json!(id), &json!(1)));
    let agent_id = task["agent_id"].as_str().expect("an agent did it");
    assert_eq!(result["agent.id"], json!(agent_id));
    assert!(log.spans("lease").iter().any(|span| span["agent.id"] == json!(agent_id)));
    assert!(log.spans("heartbeat").iter().all(|span| span["agent.id"] == json!(agent_id)));

    let lines = log.lines();
    let said = |message: &str| {
        let line = lines.iter().find(|line| line["fields"]["message"] == message);
        line.unwrap_or_else(|| panic!("nobody said: {message}")).clone()
    };
    in_trace(&said("task assigned")["fields"]);
    // What a handler logs is in the trace by itself.
    in_trace(&said("the handler works")["span"]);
    // T9.
    assert!(!lines.iter().any(|line| line.to_string().contains("canary-of-the-input")));
}

#[tokio::test]
async fn a_traceparent_that_is_none_is_left_behind() {
    let (log, _listening) = Log::listen();
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let zero = traceparent().replace(TRACE, &"0".repeat(32));
    for given in ["nonsense", &zero, &traceparent().to_uppercase(), &format!("{}-more", traceparent())] {
        let submit = server.operator().post("/api/v1/tasks").header("traceparent", given);
        submit.json(&work(json!({}))).send().await.expect(201);
        assert_eq!(agent.take().await.get("traceparent"), None, "{given}");
    }
    let later = format!("cc{}-of-the-future", &traceparent()[2..]);
    let submit = server.operator().post("/api/v1/tasks").header("traceparent", &later);
    submit.json(&work(json!({}))).send().await.expect(201);
    assert_eq!(agent.take().await["traceparent"], json!(traceparent()), "what is known of it is kept");
    let traced: Vec<_> = log.spans("submit").into_iter().filter(|span| span.get("trace_id").is_some()).collect();
    assert_eq!(traced.len(), 1, "{traced:?}");
}

#[tokio::test]
async fn a_heartbeat_and_a_late_result_have_their_spans() {
    let (log, _listening) = Log::listen();
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    agent.beat(json!({"status": "healthy", "seq": 7})).await.expect(200);
    let id = server.operator().submit(json!({})).await;
    let task = agent.take().await;
    server.operator().cancel(&id, None).await.expect(200);
    agent.complete(&task).await.problem(409, "TASK_FINAL");
    let spans =
        eventually("the spans end", async || Some(log.spans("heartbeat")).filter(|spans| !spans.is_empty())).await;
    assert_eq!((&spans[0]["agent.id"], &spans[0]["seq"]), (&json!(agent.id), &json!(7)));
    let [result] = &log.spans("result")[..] else { panic!("one result") };
    assert_eq!((&result["task.id"], result.get("trace_id")), (&json!(id), None));
    let late = log.lines().into_iter().find(|line| line["fields"]["message"] == "late result").expect("it is told");
    // In the span of the call that brought it, though it is written by a task of its own.
    assert_eq!(late["span"]["name"], "result");
}
