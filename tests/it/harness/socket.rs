//! The agent's end of a WebSocket, frame by frame.

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{Agent, Server, in_time};

/// An open socket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
    newest: u64,
    /// What was brought again before the hello was acknowledged.
    again: Vec<Value>,
}

impl Socket {
    /// Opens an agent's socket and reads the server's first frame.
    pub(crate) async fn open(server: &Server, agent: &Agent) -> Self {
        let mut socket = Self::try_open(server, agent, &[("sec-websocket-protocol", "eap.v1+json")])
            .await
            .expect("the server takes the socket");
        let established = socket.frame().await;
        assert_eq!((&established["type"], &established["id"]), (&json!("connection.established"), &json!(1)));
        assert_eq!(established["payload"]["agent_id"], json!(agent.id));
        socket
    }

    /// The same, and says hello with what it holds, which is acknowledged.
    pub(crate) async fn greet(server: &Server, agent: &Agent, held: &[&Value]) -> Self {
        let mut socket = Self::open(server, agent).await;
        let held: Vec<Value> =
            held.iter().map(|task| json!({"task_id": task["task_id"], "lease_id": task["lease_id"]})).collect();
        let hello = socket.send("agent.hello", json!({"tasks": held})).await;
        let mut answer = socket.frame().await;
        if answer["type"] == json!("task.assigned") {
            socket.again = answer["payload"]["tasks"].as_array().expect("tasks are a list").clone();
            answer = socket.frame().await;
        }
        assert_eq!((&answer["type"], &answer["ref"]), (&json!("ack"), &json!(hello)));
        socket
    }

    /// Tries the handshake; gives the status and headers of a refusal.
    pub(crate) async fn try_open(
        server: &Server,
        agent: &Agent,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, (StatusCode, HeaderMap)> {
        let url = format!("ws://{}/api/v1/agents/external/{}/ws", server.address, agent.id);
        let mut request: Request<()> = url.into_client_request().expect("it is a URL");
        let token = agent.token.parse().expect("a token is ASCII");
        request.headers_mut().insert("x-agent-token", token);
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("it is ASCII"));
        }
        let stream = TcpStream::connect(server.address).await.expect("the server listens");
        match client_async(request, stream).await {
            Ok((stream, _)) => Ok(Self { stream, newest: 0, again: Vec::new() }),
            Err(Error::Http(response)) => Err((response.status(), response.headers().clone())),
            Err(error) => panic!("the handshake broke: {error}"),
        }
    }

    /// Sends a frame and gives its number.
    pub(crate) async fn send(&mut self, kind: &str, payload: Value) -> u64 {
        self.newest += 1;
        self.send_text(json!({"type": kind, "id": self.newest, "payload": payload}).to_string()).await;
        self.newest
    }

    pub(crate) async fn send_text(&mut self, text: String) {
        self.stream.send(Message::text(text)).await.expect("the server reads");
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Value {
        loop {
            match in_time("a frame comes", self.stream.next()).await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).expect("a frame is JSON"),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("not a frame: {other:?}"),
            }
        }
    }

    /// The next frame, which is of this type; gives its payload.
    pub(crate) async fn payload(&mut self, kind: &str) -> Value {
        let mut frame = self.frame().await;
        assert_eq!(frame["type"], json!(kind), "{frame}");
        frame["payload"].take()
    }

    /// What was brought again.
    pub(crate) fn again(&self) -> &[Value] {
        &self.again
    }

    /// The tasks of the next frame, which assigns some.
    pub(crate) async fn assigned(&mut self) -> Vec<Value> {
        self.payload("task.assigned").await["tasks"].as_array().expect("tasks are a list").clone()
    }

    /// Reports that a task is done, and gives the answer.
    pub(crate) async fn complete(&mut self, task: &Value) -> Value {
        let result = json!({
            "task_id": task["task_id"], "lease_id": task["lease_id"], "attempt": task["attempt"],
            "status": "completed", "output_data": {"done": true},
        });
        let sent = self.send("task.result", json!({"results": [result]})).await;
        let frame = self.frame().await;
        assert_eq!((&frame["type"], &frame["ref"]), (&json!("ack"), &json!(sent)), "{frame}");
        frame["payload"]["results"][0].clone()
    }

    /// How the server ends the connection, after whatever else it says.
    pub(crate) async fn close_code(mut self) -> u16 {
        loop {
            match in_time("the server closes", self.stream.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(Message::Text(_) | Message::Ping(_))) => {}
                other => panic!("not a close with a code: {other:?}"),
            }
        }
    }
}
