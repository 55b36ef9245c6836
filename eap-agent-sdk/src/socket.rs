//! Tasks over a WebSocket, behind the seam of all transports; by long-poll while there is none.
//!
//! One way at a time asks: credit is given once no poll is out any more, and a poll goes out only while no socket is
//! open. What was on its way when a socket broke is brought again, with the next poll or after the next hello.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use eap_client::{AgentSession, AgentSocket, ClientError, SocketEnd, SocketEvent};
use eap_types::socket::{CLOSE_GONE, CLOSE_RESTART, CLOSE_UNAUTHORIZED, CancelNotice};
use eap_types::{Directive, DirectiveKind, limits};
use futures_util::future::BoxFuture;
use tokio::time::sleep_until;
use tracing::{debug, info};

use crate::pull::Pull;
use crate::session::{Backoff, Verdict, judge};
use crate::shared::{Access, Shared};
use crate::transport::{Received, Transport};

/// How long opening a socket may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a new registration waits for its socket before it asks for tasks.
const FIRST: Duration = Duration::from_secs(1);
/// A socket that was open for so long was a good one: the next try comes soon.
const GOOD: Duration = Duration::from_secs(60);
/// How long the first try waits at most after a server that stopped; it says that it comes back.
const RESTART: Duration = Duration::from_secs(1);

pub(crate) struct Socketed {
    shared: Arc<Shared>,
    pull: Pull,
    link: Option<(Arc<Access>, AgentSession)>,
    state: State,
    backoff: Backoff,
    /// When the next socket is tried.
    not_before: Instant,
    /// When tasks are asked for at the earliest: the first socket gets a moment, lest a poll be out that nobody needs.
    poll_from: Instant,
}

enum State {
    Closed,
    Opening(BoxFuture<'static, Result<AgentSocket, ClientError>>),
    Open(Open),
}

struct Open {
    socket: AgentSocket,
    since: Instant,
    /// How many tasks more the server may bring.
    granted: usize,
}

/// What there was to wait for.
enum Woke {
    Due,
    Opened(Result<AgentSocket, ClientError>),
    Event(Result<SocketEvent, SocketEnd>),
    Received(Option<Received>),
}

impl Socketed {
    pub(crate) fn new(shared: Arc<Shared>, pull: Pull) -> Self {
        let backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(60));
        let now = Instant::now();
        Self { shared, pull, link: None, state: State::Closed, backoff, not_before: now, poll_from: now }
    }

    /// Whether the server of the newest registration serves sockets.
    fn may_open(&self) -> bool {
        self.link.as_ref().is_some_and(|(access, _)| access.serves_sockets)
    }

    fn open(&self) -> State {
        let Some((_, session)) = &self.link else { return State::Closed };
        let session = session.clone().with_deadline(DEADLINE);
        // Without numbers of leases nothing can be listed; what is held is then brought again, and known again.
        let held = self.shared.leases.listed().tasks.unwrap_or_default();
        State::Opening(Box::pin(async move { session.open_socket(held).await }))
    }

    /// Waits for the next thing to happen; safe to drop.
    async fn wait(&mut self, free: usize) -> Woke {
        let may_open = self.may_open();
        let (pull, poll_from) = (&mut self.pull, self.poll_from);
        match &mut self.state {
            State::Closed => tokio::select! {
                biased;
                () = sleep_until(self.not_before.into()), if may_open => Woke::Due,
                received = poll(pull, poll_from, free) => Woke::Received(Some(received)),
            },
            State::Opening(opening) => tokio::select! {
                biased;
                opened = opening => Woke::Opened(opened),
                received = poll(pull, poll_from, free) => Woke::Received(Some(received)),
            },
            State::Open(open) => tokio::select! {
                biased;
                event = open.socket.next() => Woke::Event(event),
                received = pull.complete(), if pull.is_unanswered() => Woke::Received(received),
            },
        }
    }

    fn opened(&mut self, opened: Result<AgentSocket, ClientError>) -> Option<Received> {
        match opened {
            Ok(socket) => {
                info!("tasks come over a WebSocket");
                // What an earlier poll got was brought with the hello.
                self.pull.let_go();
                self.state = State::Open(Open { socket, since: Instant::now(), granted: 0 });
                None
            }
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, "no WebSocket");
                self.state = State::Closed;
                if judge(&error) == Verdict::Register {
                    return self.unknown();
                }
                self.not_before = Instant::now() + self.backoff.fail(self.shared.chance(), error.retry_after());
                None
            }
        }
    }

    /// Takes in the end of a socket.
    fn ended(&mut self, end: &SocketEnd) -> Option<Received> {
        let State::Open(open) = std::mem::replace(&mut self.state, State::Closed) else { return None };
        info!(error = end as &dyn std::error::Error, "the WebSocket is over; tasks are asked for until the next one");
        // What was on its way may be lost.
        self.pull.has_missed();
        if open.since.elapsed() >= GOOD {
            self.backoff.succeed();
        }
        let pause = self.backoff.fail(self.shared.chance(), None);
        self.not_before = Instant::now() + pause;
        match end {
            SocketEnd::Closed { code: CLOSE_UNAUTHORIZED | CLOSE_GONE } => return self.unknown(),
            SocketEnd::Closed { code: CLOSE_RESTART } => self.not_before = Instant::now() + pause.min(RESTART),
            _ => {}
        }
        None
    }

    fn unknown(&mut self) -> Option<Received> {
        let (access, _) = self.link.take()?;
        self.pull.disconnect();
        Some(Received::Unknown { epoch: access.epoch })
    }

    /// Takes in what the server brought.
    fn take(&mut self, event: SocketEvent) -> Option<Received> {
        match event {
            SocketEvent::Again(assignments) => return Some(Received::Tasks { assignments, asked: Instant::now() }),
            SocketEvent::Assigned(assignments) => {
                if let State::Open(open) = &mut self.state {
                    open.granted = open.granted.saturating_sub(assignments.len());
                }
                return Some(Received::Tasks { assignments, asked: Instant::now() });
            }
            SocketEvent::Cancel(notice) => {
                let CancelNotice { id, task_id, lease_id, reason, cause, .. } = notice;
                let kind = DirectiveKind::Cancel { task_id, lease_id, reason, cause };
                self.shared.obey(&Directive::new(id, kind));
            }
            // The answer to a heartbeat says what there is to do, and takes the acknowledgement along.
            SocketEvent::Directive(_) => self.shared.nudge.notify_one(),
            // A word of a newer client.
            _ => {}
        }
        None
    }
}

async fn poll(pull: &mut Pull, from: Instant, free: usize) -> Received {
    sleep_until(from.into()).await;
    pull.next(free).await
}

impl Open {
    /// Has the server bring what there is room for.
    fn grant(&mut self, free: usize) {
        let most = limits::MAX_CONCURRENT_TASKS as usize;
        let more = free.saturating_sub(self.granted).min(most);
        if let (Ok(tasks), 1..) = (u32::try_from(more), more) {
            self.socket.credit(tasks);
            self.granted += more;
        }
    }
}

#[async_trait]
impl Transport for Socketed {
    fn connect(&mut self, access: &Arc<Access>, session: AgentSession) {
        self.pull.connect(access, session.clone());
        if matches!(self.state, State::Open(_)) {
            // What it brought and nobody read is brought again.
            self.pull.has_missed();
        }
        self.link = Some((access.clone(), session));
        // Another token wants another socket.
        self.state = State::Closed;
        self.not_before = Instant::now();
        let patience = if access.serves_sockets { FIRST } else { Duration::ZERO };
        self.poll_from = self.not_before + patience;
    }

    fn disconnect(&mut self) {
        self.pull.disconnect();
        self.link = None;
        self.state = State::Closed;
    }

    async fn next(&mut self, free: usize) -> Received {
        loop {
            if self.link.is_none() {
                return self.pull.next(free).await;
            }
            if let State::Open(open) = &mut self.state
                && !self.pull.is_unanswered()
            {
                open.grant(free);
                self.shared.note_poll(if free == 0 { "full" } else { "connected" }, false);
            }
            let received = match self.wait(free).await {
                Woke::Due => {
                    self.state = self.open();
                    None
                }
                Woke::Opened(opened) => self.opened(opened),
                Woke::Event(Ok(event)) => self.take(event),
                Woke::Event(Err(end)) => self.ended(&end),
                Woke::Received(received) => {
                    if matches!(received, Some(Received::Unknown { .. })) {
                        self.disconnect();
                    }
                    received
                }
            };
            if let Some(received) = received {
                return received;
            }
        }
    }
}

impl fmt::Debug for Socketed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Closed => "closed",
            State::Opening(_) => "opening",
            State::Open(_) => "open",
        };
        f.debug_struct("Socketed").field("state", &state).field("pull", &self.pull).finish_non_exhaustive()
    }
}
