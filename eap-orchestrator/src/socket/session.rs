//! One connection, from its hello to its end.

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use eap_core::{Standing, Task};
use eap_types::socket::{
    CLOSE_FAULT, CLOSE_GONE, CLOSE_NORMAL, CLOSE_REPLACED, CLOSE_RESTART, CLOSE_SILENT, CLOSE_UNAUTHORIZED,
    CLOSE_UNREADABLE, CLOSE_VERSION, CancelNotice, Credit, Established, Frame, FrameKind, Hello,
};
use eap_types::{
    AgentId, Directive, DirectiveId, DirectiveKind, ErrorCode, LeaseId, LeaseReply, Secret, TaskId, Timestamp,
};
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, OptionFuture};
use futures_util::stream::{FuturesUnordered, SplitStream};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::calls::{Answered, Caller, call_of};
use super::line::{End, Line};
use super::order::{Calls, tasks_of};
use super::{Entered, Greeting};
use crate::auth::{AgentToken, Origin};
use crate::clock::draw;
use crate::directory::Entry;
use crate::error::Error;
use crate::matchmaker::{Handover, Wish};
use crate::orchestrator::Orchestrator;

/// How long one request for tasks waits.
const WAIT: Duration = Duration::from_secs(25);
/// How many tasks one request asks for at most.
const TASKS_AT_ONCE: u32 = 100;
/// The most that an agent may have said it takes and not got yet.
const MAX_CREDIT: u32 = 1000;
/// Calls of one connection under way; more wait unread.
const MAX_CALLS: usize = 16;
/// How long the hello may take.
const HELLO: Duration = Duration::from_secs(10);
/// How often a ping is sent; three without a sign of life end the connection.
const PING: Duration = Duration::from_secs(20);
const IDLE: Duration = Duration::from_secs(60);
/// How often it is looked whether the agent and its token still are, and what there is to tell.
const LOOK: Duration = Duration::from_secs(1);

/// So many directives are remembered as told.
const MOST_TOLD: usize = 1024;

const UNREADABLE: &str = "the frame is not a JSON object with `type` and `id`";

type Asked = BoxFuture<'static, Result<Handover, Error>>;

pub(super) struct Session {
    caller: Arc<Caller>,
    epoch: u64,
    max_frame_bytes: usize,
    credit: u32,
    /// When tasks are asked for again after the store had none to give for a fault of its own.
    ask_after: Instant,
    /// What was told on this connection.
    told: HashSet<DirectiveId>,
}

/// What the session waited for.
enum Woke {
    Came(Option<Result<Message, axum::Error>>),
    Answered(Answered),
    Asked(Result<Handover, Error>),
    Ended,
    Look,
    Ping,
    Silent,
    Stop,
    Replaced,
}

impl Session {
    pub(super) fn new(
        orchestrator: Orchestrator,
        entry: &Entry,
        token: Secret,
        origin: Origin,
        max_frame_bytes: usize,
    ) -> Self {
        let caller = Caller { orchestrator, agent: entry.agent.id.clone(), token, origin };
        Self {
            caller: Arc::new(caller),
            epoch: entry.agent.epoch,
            max_frame_bytes,
            credit: 0,
            ask_after: Instant::now(),
            told: HashSet::new(),
        }
    }

    fn orchestrator(&self) -> &Orchestrator {
        &self.caller.orchestrator
    }

    fn agent(&self) -> &AgentId {
        &self.caller.agent
    }

    fn now(&self) -> Timestamp {
        self.orchestrator().lifecycle().clock.now()
    }

    pub(super) async fn run(mut self, socket: WebSocket, greeting: Greeting) {
        let has_protocol = socket.protocol().is_some();
        let (sink, mut stream) = socket.split();
        let mut line = Line::new(sink);
        let end = if has_protocol {
            self.serve(&mut line, &mut stream, greeting).await.unwrap_or_else(|end| end)
        } else {
            End { code: CLOSE_VERSION, why: "the subprotocol is eap.v1+json" }
        };
        info!(agent.id = %self.agent(), end.code, end.why, "a WebSocket ends");
        line.close(end).await;
    }

    /// Ends with a word for the other side, either way.
    async fn serve(
        &mut self,
        line: &mut Line,
        stream: &mut SplitStream<WebSocket>,
        greeting: Greeting,
    ) -> Result<End, End> {
        line.tell(FrameKind::Established, self.now(), &self.established()).await?;
        let mut ends = FuturesUnordered::<BoxFuture<'static, ()>>::new();
        let entered = self.hello(line, stream, &mut ends).await?;
        drop(greeting);
        let stop = self.orchestrator().stopping().clone();
        let mut calls = Calls::default();
        let mut asking: Option<Asked> = None;
        let (mut look, mut ping) = (Instant::now(), Instant::now() + PING);
        let mut silent = Instant::now() + IDLE;
        loop {
            let may_ask = asking.is_none() && !stop.is_cancelled();
            if may_ask && self.credit > 0 && self.ask_after <= Instant::now() {
                asking = self.ask();
            }
            let woke = tokio::select! {
                biased;
                () = stop.cancelled() => Woke::Stop,
                () = entered.replaced.cancelled() => Woke::Replaced,
                Some(answered) = calls.next() => Woke::Answered(answered),
                Some(()) = ends.next() => Woke::Ended,
                asked = answer(&mut asking) => Woke::Asked(asked),
                came = stream.next(), if calls.len() < MAX_CALLS => Woke::Came(came),
                () = sleep_until(look) => Woke::Look,
                () = sleep_until(ping) => Woke::Ping,
                () = sleep_until(silent) => Woke::Silent,
            };
            match woke {
                Woke::Stop => {
                    // What is under way is answered, and what is being leased is brought; nothing new is read or asked for.
                    while let Some(answered) = calls.next().await {
                        self.answer(line, answered).await?;
                    }
                    if let Some(Ok(handover)) = OptionFuture::from(asking).await {
                        self.assign(line, &handover.accept(), &mut ends).await?;
                    }
                    return Ok(End { code: CLOSE_RESTART, why: "the server stops" });
                }
                Woke::Replaced => return Ok(End { code: CLOSE_REPLACED, why: "a newer connection took its place" }),
                Woke::Silent => return Ok(End { code: CLOSE_SILENT, why: "nothing came for too long" }),
                Woke::Ping => {
                    ping = Instant::now() + PING;
                    line.ping().await?;
                }
                Woke::Look | Woke::Ended => {
                    look = Instant::now() + LOOK;
                    self.look(line).await?;
                }
                Woke::Answered(answered) => self.answer(line, answered).await?,
                Woke::Asked(asked) => {
                    asking = None;
                    match asked {
                        Ok(handover) => {
                            let tasks = handover.accept();
                            self.credit = self.credit.saturating_sub(u32::try_from(tasks.len()).unwrap_or(u32::MAX));
                            self.assign(line, &tasks, &mut ends).await?;
                        }
                        Err(error) => {
                            debug!(%error, agent.id = %self.agent(), "no work for a socket");
                            self.ask_after = Instant::now() + LOOK;
                        }
                    }
                }
                Woke::Came(came) => {
                    silent = Instant::now() + IDLE;
                    match self.read(came)? {
                        Read::Nothing => {}
                        Read::Unreadable => {
                            calls.answer(Answered::refusal(None, ErrorCode::MalformedJson, UNREADABLE));
                        }
                        Read::Frame(frame) => self.take(*frame, &mut calls),
                    }
                }
            }
        }
    }

    fn established(&self) -> Established {
        let timing = &self.orchestrator().config().timing;
        let mut established = Established::new(self.agent().clone(), self.now());
        let entry = self.orchestrator().lifecycle().directory.get(self.agent());
        let interval = timing.heartbeat_interval;
        let interval = entry.map_or(interval, |entry| entry.agent.orders.interval(interval));
        established.heartbeat_interval_seconds = interval.as_secs();
        established.ping_seconds = PING.as_secs();
        established.idle_seconds = IDLE.as_secs();
        established.max_frame_bytes = self.max_frame_bytes as u64;
        established
    }

    /// Takes the first frame; from then on the connection is the agent's one.
    async fn hello(
        &self,
        line: &mut Line,
        stream: &mut SplitStream<WebSocket>,
        ends: &mut FuturesUnordered<BoxFuture<'static, ()>>,
    ) -> Result<Entered, End> {
        let silent = End { code: CLOSE_SILENT, why: "the first frame is agent.hello, within 10 s" };
        let deadline = Instant::now() + HELLO;
        let frame = loop {
            let came = tokio::time::timeout_at(deadline, stream.next()).await.map_err(|_| silent)?;
            match self.read(came)? {
                Read::Nothing => {}
                Read::Frame(frame) if frame.kind() == Some(FrameKind::Hello) => break frame,
                Read::Frame(_) | Read::Unreadable => return Err(silent),
            }
        };
        let hello: Hello = match payload(&frame) {
            Ok(hello) => hello,
            Err(Malformed) => {
                let refusal = malformed(frame.id);
                line.answer(refusal.kind, refusal.reference, self.now(), refusal.payload).await?;
                return Err(silent);
            }
        };
        let entered = self.orchestrator().sockets().enter(self.agent());
        match self.orchestrator().lifecycle().connected(self.agent()).await {
            Ok(told) => entered.told(told),
            Err(_) => return Err(End { code: CLOSE_FAULT, why: "the store does not answer" }),
        }
        let listed: HashSet<LeaseId> = hello.tasks.iter().map(|held| held.lease_id).collect();
        let missing = self.orchestrator().lifecycle().unlisted(self.agent(), self.epoch, &listed).await;
        let Ok(missing) = missing else {
            return Err(End { code: CLOSE_FAULT, why: "the store does not answer" });
        };
        self.assign(line, &missing, ends).await?;
        line.answer(FrameKind::Ack, Some(frame.id), self.now(), None).await?;
        Ok(entered)
    }

    fn read(&self, came: Option<Result<Message, axum::Error>>) -> Result<Read, End> {
        if let Some(entry) = self.orchestrator().lifecycle().directory.get(self.agent()) {
            self.orchestrator().lifecycle().heard(&entry);
        }
        match came {
            None | Some(Ok(Message::Close(_))) => Err(End { code: CLOSE_NORMAL, why: "the other side closed" }),
            Some(Err(error)) => {
                debug!(%error, agent.id = %self.agent(), "a WebSocket cannot be read");
                Err(End { code: CLOSE_UNREADABLE, why: "what came is too large or no message" })
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(Read::Nothing),
            Some(Ok(Message::Binary(_))) => Ok(Read::Unreadable),
            Some(Ok(Message::Text(text))) => Ok(match serde_json::from_str::<Frame>(&text) {
                Ok(frame) => Read::Frame(Box::new(frame)),
                Err(_) => Read::Unreadable,
            }),
        }
    }

    /// Takes a frame in: a call begins, anything else is done with at once.
    fn take(&mut self, frame: Frame, calls: &mut Calls) {
        let refused = |detail| Answered::refusal(Some(frame.id), ErrorCode::ValidationError, detail);
        let Some(kind) = frame.kind() else { return calls.answer(refused("no frame of this type is known")) };
        match kind {
            FrameKind::Credit => match payload::<Credit>(&frame) {
                Ok(credit) if (1..=MAX_CREDIT).contains(&credit.tasks) => {
                    self.credit = (self.credit + credit.tasks).min(MAX_CREDIT);
                }
                Ok(_) => calls.answer(refused("credit is 1 to 1000 tasks")),
                Err(Malformed) => calls.answer(malformed(frame.id)),
            },
            // Words that change nothing here: what counts is the lease, which the claim has begun.
            FrameKind::TaskAccepted | FrameKind::Ack | FrameKind::Pong => {}
            _ => match call_of(kind) {
                Some(called) => {
                    let caller = Arc::clone(&self.caller);
                    calls.begin(tasks_of(&frame), async move { caller.call(called, frame).await });
                }
                None => calls.answer(refused("an agent does not send this frame now")),
            },
        }
    }

    async fn answer(&self, line: &mut Line, answered: Answered) -> Result<(), End> {
        let Answered { status, kind, reference, payload } = answered;
        line.answer(kind, reference, self.now(), payload).await?;
        if status == http::StatusCode::UNAUTHORIZED {
            return Err(End { code: CLOSE_UNAUTHORIZED, why: "the token is dead" });
        }
        Ok(())
    }

    /// Asks for tasks as a poll of the agent's own would.
    fn ask(&self) -> Option<Asked> {
        let orchestrator = self.caller.orchestrator.clone();
        // Tasks of a newer registration are not for this connection.
        let entry = orchestrator.lifecycle().directory.get(&self.caller.agent);
        let entry = entry.filter(|entry| entry.agent.epoch == self.epoch)?;
        // Leased under an id, what is on its way when the connection breaks stays the agent's, and is brought again.
        let id = format!("ws:{:032x}", u128::from_le_bytes(draw(&*orchestrator.lifecycle().entropy)));
        let wish = Wish {
            max_tasks: self.credit.min(TASKS_AT_ONCE),
            wait: WAIT,
            task_types: None,
            request_id: Some(id.parse().expect("hex digits behind a word are a request id")),
        };
        Some(Box::pin(async move { orchestrator.matchmaker().ask_for_push(&entry, wish).await }))
    }

    /// Brings tasks, and from then on hears when they end.
    async fn assign(
        &self,
        line: &mut Line,
        tasks: &[Task],
        ends: &mut FuturesUnordered<BoxFuture<'static, ()>>,
    ) -> Result<(), End> {
        if tasks.is_empty() {
            return Ok(());
        }
        let assigned = LeaseReply::new(self.orchestrator().lifecycle().assignments(tasks));
        for task in tasks {
            ends.push(end_of(self.orchestrator().clone(), task.id()));
        }
        line.tell(FrameKind::TaskAssigned, self.now(), &assigned).await
    }

    /// Sees whether the agent and its token still are, and tells what is to be told.
    async fn look(&mut self, line: &mut Line) -> Result<(), End> {
        if self.told.len() > MOST_TOLD {
            // What still stands is told once more.
            self.told.clear();
        }
        let lifecycle = self.orchestrator().lifecycle();
        let is_there = |entry: &Entry| !matches!(entry.agent.standing, Standing::Deregistered { .. });
        let Some(entry) = lifecycle.directory.get(self.agent()).filter(|entry| is_there(entry)) else {
            return Err(End { code: CLOSE_GONE, why: "the agent is not there any more" });
        };
        let token = AgentToken::read(&self.caller.token);
        let is_live = token.is_some_and(|token| lifecycle.directory.bearer(&token, || lifecycle.clock.now()).is_some());
        if !is_live || entry.agent.epoch != self.epoch {
            return Err(End { code: CLOSE_UNAUTHORIZED, why: "the token is dead" });
        }
        let Ok(directives) = lifecycle.directives(&entry.agent, &self.told).await else { return Ok(()) };
        for directive in directives {
            if self.told.insert(directive.id.clone()) {
                self.direct(line, directive).await?;
            }
        }
        Ok(())
    }

    async fn direct(&self, line: &mut Line, directive: Directive) -> Result<(), End> {
        let Directive { id, kind, .. } = directive;
        match kind {
            DirectiveKind::Cancel { task_id, lease_id, reason, cause } => {
                let mut notice = CancelNotice::new(id, task_id, lease_id);
                (notice.reason, notice.cause) = (reason, cause);
                line.tell(FrameKind::TaskCancel, self.now(), &notice).await
            }
            kind => line.tell(FrameKind::Directive, self.now(), &Directive::new(id, kind)).await,
        }
    }
}

enum Read {
    /// A sign of life.
    Nothing,
    Unreadable,
    Frame(Box<Frame>),
}

/// A payload is not what a frame of its type carries.
struct Malformed;

fn payload<T: DeserializeOwned>(frame: &Frame) -> Result<T, Malformed> {
    let text = frame.payload.as_ref().map_or("{}", |payload| payload.get());
    serde_json::from_str(text).map_err(|_| Malformed)
}

fn malformed(number: u64) -> Answered {
    let detail = "the payload is not what a frame of this type carries";
    Answered::refusal(Some(number), ErrorCode::ValidationError, detail)
}

/// A future that ends with a task.
fn end_of(orchestrator: Orchestrator, task: TaskId) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let reader = orchestrator.lifecycle().announcements.reader(task);
        reader.ended().await;
    })
}

async fn answer(asking: &mut Option<Asked>) -> Result<Handover, Error> {
    match asking {
        Some(asked) => asked.await,
        None => pending().await,
    }
}
