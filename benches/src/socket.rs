//! Agents that work over a WebSocket: tasks by credit, and the results of what came together in one frame.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::BoxError;
use crate::load::Shared;
use crate::requests::{self, Agent, Assignments, Stamps};

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// What an agent that holds nothing says first.
const HELLO: &str = r#"{"type":"agent.hello","id":1,"payload":{"tasks":[]}}"#;

/// A frame of the server's.
#[derive(Debug, Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

/// Opens the socket of an agent and has its hello acknowledged.
pub(crate) async fn greet(agent: &Agent, server: SocketAddr) -> Result<Socket, BoxError> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = client_async(agent.socket_request(server)?, stream).await?;
    // The limits, the hello, its acknowledgement.
    socket.next().await.ok_or("no first frame")??;
    socket.send(Message::text(HELLO)).await?;
    socket.next().await.ok_or("no answer to the hello")??;
    Ok(socket)
}

/// Lets the server bring so many tasks more; `number` is that of the frame.
pub(crate) fn credit(number: u64, tasks: usize) -> Message {
    Message::text(format!(r#"{{"type":"agent.credit","id":{number},"payload":{{"tasks":{tasks}}}}}"#))
}

/// Takes up to `most` tasks at once and reports them done, until it is cut off.
pub(crate) async fn work(shared: Rc<Shared>, agent: Agent, server: SocketAddr, most: usize) -> Result<(), BoxError> {
    let mut socket = greet(&agent, server).await?;
    let mut number = 2;
    socket.send(credit(number, most)).await?;
    // When the tasks of each frame that has no answer yet were submitted; answers come in order.
    let mut reported = VecDeque::<Vec<u64>>::new();
    loop {
        let Message::Text(text) = socket.next().await.ok_or("the socket ended")?? else { continue };
        let frame: Frame<'_> = serde_json::from_str(&text)?;
        match (frame.kind, frame.payload) {
            ("task.assigned", Some(payload)) => {
                let held: Assignments<'_> = serde_json::from_str(payload.get())?;
                let stamps: Vec<u64> = Stamps::find_all(payload.get().as_bytes()).collect();
                shared.started(&stamps);
                reported.push_back(stamps);
                number += 1;
                let results = requests::results_of(&held.tasks);
                let report = format!(r#"{{"type":"task.result","id":{number},"payload":{results}}}"#);
                socket.send(Message::text(report)).await?;
            }
            ("ack", _) => {
                let stamps = reported.pop_front().ok_or("nothing was reported")?;
                shared.finished(&stamps);
                number += 1;
                socket.send(credit(number, stamps.len())).await?;
            }
            (kind, _) => return Err(format!("a frame {kind}: {text}").into()),
        }
    }
}
