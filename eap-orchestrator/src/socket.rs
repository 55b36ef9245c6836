//! Agents' WebSockets (docs/protocol.md section 3): tasks and news go out, frames that are calls come in.
//!
//! A frame is the call of the same meaning and is carried out by that call's own handler, so nothing of the rules is
//! here. Tasks come from the matchmaker, which is asked as a poll would ask: one queue, one claim for all ways. What was
//! leased for a socket that broke stays leased and is brought again after the next hello, so nothing is kept here that
//! could be lost.

mod asyncapi;
mod calls;
mod line;
mod order;
mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts as _, Request};
use axum::response::Response;
use eap_types::socket::SUBPROTOCOL;
use eap_types::{AgentId, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

pub(crate) use self::asyncapi::document as asyncapi_document;
use self::session::Session;
use crate::announce::lock;
use crate::error::Error;
use crate::http::{ApiError, be_ready, bearer, is_own_path, origin, token_text};
use crate::lifecycle::Lifecycle;
use crate::orchestrator::Orchestrator;
use crate::serve::KeepsOpen;
use crate::store::EventSeq;

/// What one connection keeps for reading while nothing travels, and reads at once; most frames are shorter.
const BUFFER: usize = 1024;
/// The largest payload of a message.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// How many connections of one agent may have said nothing yet.
const MAX_GREETINGS: u32 = 4;

/// The sockets that are open: one for each agent.
#[derive(Debug)]
pub(crate) struct Sockets {
    lifecycle: Arc<Lifecycle>,
    places: Arc<Semaphore>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    numbered: u64,
    of: HashMap<AgentId, OpenSocket>,
    /// Connections that have said nothing yet.
    greetings: HashMap<AgentId, u32>,
}

/// An agent's one connection.
#[derive(Debug)]
struct OpenSocket {
    number: u64,
    replaced: CancellationToken,
    /// The event that tells the others of it, once it is written.
    told: Option<EventSeq>,
    /// The newest that tells of one that was opened elsewhere.
    elsewhere: EventSeq,
}

impl OpenSocket {
    /// Ends if a newer one was opened elsewhere.
    fn give_way(&self) {
        if self.told.is_some_and(|told| told < self.elsewhere) {
            self.replaced.cancel();
        }
    }
}

impl Sockets {
    pub(crate) fn new(lifecycle: Arc<Lifecycle>) -> Self {
        let places = Arc::new(Semaphore::new(lifecycle.config.capacity.sockets));
        Self { lifecycle, places, open: Mutex::default() }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| Error::Busy { reason: "too many WebSockets are open" })
    }

    /// Lets a connection of this agent in that has yet to say hello.
    fn greet(self: &Arc<Self>, agent: &AgentId) -> Result<Greeting, Error> {
        let mut open = lock(&self.open);
        let count = open.greetings.entry(agent.clone()).or_default();
        if *count >= MAX_GREETINGS {
            return Err(Error::TooMany { reason: "connections of this agent wait for their hello" });
        }
        *count += 1;
        Ok(Greeting { sockets: Arc::clone(self), agent: agent.clone() })
    }

    /// Makes this connection the agent's one; the guard says when a newer one takes its place.
    fn enter(self: &Arc<Self>, agent: &AgentId) -> Entered {
        let replaced = CancellationToken::new();
        let mut open = lock(&self.open);
        open.numbered += 1;
        let number = open.numbered;
        let socket = OpenSocket { number, replaced: replaced.clone(), told: None, elsewhere: EventSeq(0) };
        if let Some(older) = open.of.insert(agent.clone(), socket) {
            older.replaced.cancel();
        }
        self.lifecycle.metrics.sockets.set(open.of.len() as u64);
        drop(open);
        Entered { sockets: Arc::clone(self), agent: agent.clone(), number, replaced }
    }

    /// Closes connections whose agents have opened newer ones at other replicas, until the orchestrator stops.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut elsewhere = self.lifecycle.announcements.connections_elsewhere();
        let following = async {
            loop {
                match elsewhere.recv().await {
                    Ok((agent, event)) => {
                        if let Some(socket) = lock(&self.open).of.get_mut(&agent) {
                            socket.elsewhere = socket.elsewhere.max(event);
                            socket.give_way();
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        };
        self.lifecycle.stop.run_until_cancelled(following).await;
    }
}

/// A connection before its hello.
#[derive(Debug)]
struct Greeting {
    sockets: Arc<Sockets>,
    agent: AgentId,
}

impl Drop for Greeting {
    fn drop(&mut self) {
        let mut open = lock(&self.sockets.open);
        if let Some(count) = open.greetings.get_mut(&self.agent) {
            *count -= 1;
            if *count == 0 {
                open.greetings.remove(&self.agent);
            }
        }
    }
}

/// A connection that is its agent's one, until it goes or a newer one comes.
#[derive(Debug)]
struct Entered {
    sockets: Arc<Sockets>,
    agent: AgentId,
    number: u64,
    replaced: CancellationToken,
}

impl Entered {
    /// The others are told of it by this event: those that were told of before are older.
    fn told(&self, event: EventSeq) {
        if let Some(socket) = lock(&self.sockets.open).of.get_mut(&self.agent)
            && socket.number == self.number
        {
            socket.told = Some(event);
            socket.give_way();
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut open = lock(&self.sockets.open);
        if open.of.get(&self.agent).is_some_and(|socket| socket.number == self.number) {
            open.of.remove(&self.agent);
            self.sockets.lifecycle.metrics.sockets.set(open.of.len() as u64);
        }
    }
}

/// `GET …/{id}/ws`: an agent opens its socket.
pub(crate) async fn open(orchestrator: Orchestrator, request: Request) -> Result<Response, ApiError> {
    be_ready(&orchestrator)?;
    let (mut parts, _) = request.into_parts();
    if parts.headers.contains_key(http::header::ORIGIN) {
        return Err(Error::Forbidden { reason: "a page in a browser opens no agent's WebSocket" }.into());
    }
    let (entry, _) = bearer(&orchestrator, &parts.headers).await?;
    orchestrator.lifecycle().heard(&entry);
    if !is_own_path(&mut parts, &entry).await {
        return Err(Error::UnknownAgent.into());
    }
    let token = token_text(&parts.headers).ok_or(Error::InvalidToken)?;
    let (origin, keeps_open) = (origin(&parts), parts.extensions.get::<KeepsOpen>().cloned());
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|_| ApiError::NoUpgrade)?;
    let place = orchestrator.sockets().place()?;
    let greeting = orchestrator.sockets().greet(&entry.agent.id)?;
    // Larger results go by HTTP, whose bodies share a budget.
    let most = orchestrator.config().capacity.result_bytes.min(MAX_MESSAGE_BYTES) + limits::MAX_SMALL_BYTES;
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_message_size(most)
        .max_frame_size(most);
    // A stop waits for sockets as it does for writes: they end with a word.
    let tracked = orchestrator.lifecycle().under_way.token();
    Ok(upgrade.on_upgrade(async move |socket| {
        let busy = keeps_open.map(|keeps_open| keeps_open.hold());
        Session::new(orchestrator, &entry, token, origin, most).run(socket, greeting).await;
        drop((busy, place, tracked));
    }))
}
