//! How a socket is opened: the upgrade, the server's first frame, the hello and its answer.

use std::sync::Arc;
use std::time::Duration;

use eap_types::socket::{Established, FrameKind, Hello, SUBPROTOCOL};
use eap_types::{AgentId, Assignment, LeaseReply, header};
use http::{HeaderMap, StatusCode};
use serde_json::value::to_raw_value;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::conversation::{FrameSink, FrameSource, broken, converse, payload, split};
use super::line::{Line, Open, Outgoing};
use super::{AgentSocket, SocketEnd, SocketEvent};
use crate::call::{CallError, Connection};
use crate::error::ClientError;
use crate::reqwest_call::MAX_ANSWER_BYTES;
use crate::wire::{Answer, Request};

/// What is read at once from the connection.
const READ_BUFFER: usize = 16 * 1024;
/// What the server brings and nobody has taken up; then the connection is not read.
const EVENTS: usize = 64;
/// What is to be sent and does not get on; then calls take another way.
const OUTGOING: usize = 1024;
/// So many pings may be missed.
const MISSED_PINGS: u32 = 3;
/// Whatever a server says about its pings.
const SILENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// Opens the socket that `request` asks for and says hello; from then on the line leads over it.
pub(crate) async fn open(
    request: Request<'_>,
    deadline: Duration,
    agent: &AgentId,
    hello: Hello,
    line: &Line,
) -> Result<AgentSocket, ClientError> {
    let opening = async {
        let connection = upgrade(request).await?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_ANSWER_BYTES))
            .max_frame_size(Some(MAX_ANSWER_BYTES));
        let stream = WebSocketStream::from_raw_socket(connection, Role::Client, Some(config)).await;
        let (mut sink, mut source) = split(stream, SILENCE.0);
        let greeted = greet(&mut sink, &mut source, hello).await;
        let greeted = greeted.map_err(|end| CallError::Broken { source: Box::new(end) })?;
        Ok::<_, ClientError>((sink, source, greeted))
    };
    let opened = tokio::time::timeout(deadline, opening).await;
    let (sink, mut source, (established, again)) = opened.unwrap_or(Err(CallError::Timeout { deadline }.into()))?;
    source.silence =
        (Duration::from_secs(established.ping_seconds).saturating_mul(MISSED_PINGS)).clamp(SILENCE.0, SILENCE.1);
    let (outgoing, to_send) = mpsc::channel(OUTGOING);
    let (event, events) = mpsc::channel(EVENTS);
    if !again.is_empty() {
        let _ = event.try_send(Ok(SocketEvent::Again(again)));
    }
    let (under_way, calls) = watch::channel(0);
    line.set(Open {
        agent: agent.clone(),
        outgoing: outgoing.clone(),
        max_frame_bytes: established.max_frame_bytes,
        under_way: Arc::new(under_way),
    });
    tokio::spawn(converse(sink, source, to_send, event, calls));
    Ok(AgentSocket { established, line: line.clone(), outgoing, events })
}

/// The opening handshake (RFC 6455, section 4.1).
async fn upgrade(request: Request<'_>) -> Result<Box<dyn Connection>, ClientError> {
    let key = generate_key();
    let request = request
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::WEBSOCKET_VERSION, "13")
        .header(header::WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .header(header::WEBSOCKET_KEY, &key);
    let (headers, connection) = request.upgrade().await?;
    let said = |headers: &HeaderMap, name, expected: &str| headers.get(name).is_some_and(|value| value == expected);
    let is_ours = said(&headers, header::WEBSOCKET_ACCEPT, &derive_accept_key(key.as_bytes()))
        && said(&headers, header::WEBSOCKET_PROTOCOL, SUBPROTOCOL);
    if is_ours {
        Ok(connection)
    } else {
        let answer = Answer::of_frame(StatusCode::SWITCHING_PROTOCOLS, String::new());
        Err(answer.unreadable(Some("the handshake is not that of the subprotocol".into())))
    }
}

/// Reads the server's first frame, and has the hello acknowledged; before that, tasks may be brought again.
async fn greet(
    sink: &mut FrameSink,
    source: &mut FrameSource,
    hello: Hello,
) -> Result<(Established, Vec<Assignment>), SocketEnd> {
    let first = source.next().await?;
    let established = match first.kind() {
        Some(FrameKind::Established) => payload(&first),
        _ => None,
    };
    let Some(established) = established else { return Err(broken("the first frame does not say the limits")) };
    let number = sink.next_number();
    let said = to_raw_value(&hello).map_err(broken)?;
    sink.send(Outgoing { kind: FrameKind::Hello, payload: said, answer: None }).await?;
    let mut again = Vec::new();
    loop {
        let frame = source.next().await?;
        match frame.kind() {
            Some(FrameKind::Ack) if frame.reference == Some(number) => return Ok((established, again)),
            Some(FrameKind::Error) if frame.reference == Some(number) => return Err(broken("the hello was refused")),
            Some(FrameKind::TaskAssigned) => {
                again.extend(payload::<LeaseReply>(&frame).into_iter().flat_map(|brought| brought.tasks));
            }
            _ => {}
        }
    }
}
