//! The requests that are sent, built once and then only patched where they differ.

use std::net::SocketAddr;
use std::time::Instant;

use eap_types::socket::SUBPROTOCOL;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::BoxError;
use crate::connection::Connection;
use crate::host::{OPERATOR_KEY, REGISTRATION_SECRET};

/// The text that a task carries, about as long as a line; its first part is when it was submitted.
const INPUT: &str = "quick brown fox jumps over the lazy dog and goes on through the forest until evening";
/// In front of the time in a task's input, so that it is found again without parsing.
const MARK: &[u8] = b"at=";
/// Digits of the time, in microseconds.
const DIGITS: usize = 12;

/// A time that travels through the server in a task's input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamps {
    began: Instant,
}

impl Stamps {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now() }
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The times in the assignments of a reply, in microseconds since the beginning.
    pub(crate) fn find_all(text: &[u8]) -> impl Iterator<Item = u64> {
        let places = text.windows(MARK.len()).enumerate().filter(|(_, part)| *part == MARK);
        places.filter_map(|(at, _)| {
            let digits = text.get(at + MARK.len()..at + MARK.len() + DIGITS)?;
            std::str::from_utf8(digits).ok()?.parse().ok()
        })
    }
}

/// A whole request with places that are overwritten for each call; its length never changes.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    places: Vec<usize>,
}

impl Template {
    /// A POST of `body`, in which every `at=` is followed by a place for a time.
    fn new(path: &str, header: &str, body: &str) -> Self {
        let bytes = post(path, header, body);
        let places = bytes.windows(MARK.len()).enumerate().filter(|(_, part)| *part == MARK);
        let places = places.map(|(at, _)| at + MARK.len()).collect();
        Self { bytes, places }
    }

    /// The request with `number` in every place.
    pub(crate) fn with(&mut self, number: u64) -> &[u8] {
        let digits = format!("{number:0DIGITS$}");
        for &place in &self.places {
            self.bytes[place..place + DIGITS].copy_from_slice(&digits.as_bytes()[digits.len() - DIGITS..]);
        }
        &self.bytes
    }
}

/// A POST with its head.
pub(crate) fn post(path: &str, header: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{header}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A GET, which has a head alone.
pub(crate) fn get(path: &str, header: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{header}\r\n").into_bytes()
}

fn task() -> String {
    format!(r#"{{"task_type":"bench","input":"at={:0DIGITS$} {INPUT}","context":{{"source":"bench","line":7}}}}"#, 0)
}

fn operator_header() -> String {
    format!("authorization: Bearer {OPERATOR_KEY}\r\n")
}

/// A submit of one task.
pub(crate) fn submit() -> Template {
    Template::new("/api/v1/tasks", &operator_header(), &task())
}

/// A submit of `tasks` tasks at once.
pub(crate) fn submit_batch(tasks: usize) -> Template {
    let tasks = vec![task(); tasks].join(",");
    Template::new("/api/v1/tasks/batch", &operator_header(), &format!(r#"{{"tasks":[{tasks}]}}"#))
}

/// An agent that is known to the server.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    base: String,
    header: String,
    number: usize,
}

impl Agent {
    /// Registers with the orchestrator.
    pub(crate) async fn register(connection: &mut Connection, number: usize) -> std::io::Result<Self> {
        let header = format!("authorization: Bearer {REGISTRATION_SECRET}\r\n");
        let card = format!(
            r#"{{"name":"AGENT-BENCH-{number:05}","capabilities":["bench"],"features":["pull.v1","directives.v1"],"max_concurrent_tasks":1000}}"#
        );
        let reply = connection.call(&post("/api/v1/agents/external/register", &header, &card)).await?;
        let reply: serde_json::Value = serde_json::from_slice(reply.expect(201)?)?;
        let text = |field: &str| {
            reply[field].as_str().map(str::to_owned).ok_or_else(|| std::io::Error::other("a registration has no ids"))
        };
        Ok(Self {
            base: format!("/api/v1/agents/external/{}", text("agent_id")?),
            header: format!("x-agent-token: {}\r\n", text("auth_token")?),
            number,
        })
    }

    /// One that the bare program takes at its word. Its header is as long as a real one, so that both servers read as much.
    pub(crate) fn unregistered(number: usize) -> Self {
        let base = format!("/api/v1/agents/external/0198c0de-0001-7a00-8000-{number:012}");
        let header = format!("x-agent-token: eap_{:032}_{:043}\r\n", number, 0);
        Self { base, header, number }
    }

    /// A request for up to `tasks` tasks, waiting 25 seconds. Request ids rise with time, as the SDK's do.
    pub(crate) fn lease(&self, tasks: usize, wait_seconds: u64) -> Template {
        let number = self.number;
        let body = format!(
            r#"{{"request_id":"at={:0DIGITS$}-{number:05}","max_tasks":{tasks},"wait_seconds":{wait_seconds}}}"#,
            0
        );
        Template::new(&format!("{}/tasks/lease", self.base), &self.header, &body)
    }

    /// A heartbeat with nothing to renew, as the protocol shows it.
    pub(crate) fn heartbeat(&self) -> Vec<u8> {
        post(&format!("{}/heartbeat", self.base), &self.header, HEARTBEAT)
    }

    /// What opens the agent's WebSocket.
    pub(crate) fn socket_request(&self, server: SocketAddr) -> Result<http::Request<()>, BoxError> {
        let mut request = format!("ws://{server}{}/ws", self.base).into_client_request()?;
        let (name, value) = self.header.trim_end().split_once(": ").ok_or("the header has no value")?;
        request.headers_mut().insert(http::HeaderName::from_bytes(name.as_bytes())?, value.parse()?);
        request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse()?);
        Ok(request)
    }

    /// The report that one task is done.
    pub(crate) fn result(&self, task: &Held<'_>) -> Vec<u8> {
        let path = format!("{}/tasks/{}/result", self.base, task.task_id);
        post(&path, &self.header, &task.report())
    }

    /// The report that several tasks are done.
    pub(crate) fn results(&self, tasks: &[Held<'_>]) -> Vec<u8> {
        post(&format!("{}/results", self.base), &self.header, &results_of(tasks))
    }
}

/// The body of a report that several tasks are done.
pub(crate) fn results_of(tasks: &[Held<'_>]) -> String {
    let reports: Vec<_> = tasks.iter().map(Held::report).collect();
    format!(r#"{{"results":[{}]}}"#, reports.join(","))
}

/// About 200 bytes, the same for a heartbeat and for the echo it is compared with.
const HEARTBEAT: &str = r#"{"status":"healthy","current_load":0.25,"tasks_in_progress":1,"seq":17,"tasks":[],"ack":[],"metrics":{"memory_usage":128,"uptime_seconds":3600,"tasks_completed":4711,"queue":"default","mean_ms":12.5}}"#;

/// The same body to the echo.
pub(crate) fn echo() -> Vec<u8> {
    post("/echo", &Agent::unregistered(0).header, HEARTBEAT)
}

/// What a report has to quote of an assignment.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Held<'a> {
    task_id: &'a str,
    lease_id: &'a str,
    attempt: u32,
}

#[derive(Debug, serde::Deserialize)]
pub(crate) struct Assignments<'a> {
    #[serde(borrow)]
    pub(crate) tasks: Vec<Held<'a>>,
}

impl Held<'_> {
    fn report(&self) -> String {
        let Self { task_id, lease_id, attempt } = self;
        format!(
            r#"{{"task_id":"{task_id}","status":"completed","output_data":{{"output":"3","exit_code":0}},"lease_id":"{lease_id}","attempt":{attempt}}}"#
        )
    }
}

/// Makes one connection for each of `count` agents and, with the orchestrator, registers them.
pub(crate) async fn agents(
    servers: &[SocketAddr],
    count: usize,
    known: bool,
) -> std::io::Result<Vec<(Agent, Connection)>> {
    let mut agents = Vec::with_capacity(count);
    for (number, server) in servers.iter().cycle().enumerate().take(count) {
        let mut connection = Connection::open(*server).await?;
        let agent = if known { Agent::register(&mut connection, number).await? } else { Agent::unregistered(number) };
        agents.push((agent, connection));
    }
    Ok(agents)
}
