//! Tasks by long-poll.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use eap_client::{AgentSession, CallError, ClientError};
use eap_types::{Assignment, LeaseRequest, limits};
use futures_util::future::BoxFuture;
use tokio::time::sleep_until;
use tracing::debug;

use crate::session::{Backoff, Verdict, came_back_early, judge, repeat_pause};
use crate::shared::{Access, Shared};
use crate::transport::{Received, Transport};

/// How often an answer that cannot be read is asked for again in the same form.
const MOST_REPEATS: u32 = 3;

/// Asks for as many tasks as there is room for, one request at a time.
///
/// A request keeps its id until it has an answer, so that a lost answer strands no task
/// (RELIABILITY.md G17, A16).
pub(crate) struct Pull {
    shared: Arc<Shared>,
    wanted_wait: Duration,
    link: Option<(Arc<Access>, AgentSession)>,
    /// What was asked and not answered yet.
    open: Option<LeaseRequest>,
    /// Whether what the agent was given and never got is to be brought again.
    misses: bool,
    /// How many tasks to ask for at most: few after an answer that was too long to be read.
    most: u32,
    /// How often the open request got an answer that cannot be read.
    unread: u32,
    on_its_way: Option<Poll>,
    backoff: Backoff,
    not_before: Instant,
}

struct Poll {
    asked: Instant,
    wait: Duration,
    answer: BoxFuture<'static, Result<Vec<Assignment>, ClientError>>,
}

impl Pull {
    pub(crate) fn new(shared: Arc<Shared>, wait: Duration) -> Self {
        let backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
        let not_before = Instant::now();
        Self {
            shared,
            wanted_wait: wait,
            link: None,
            open: None,
            misses: false,
            most: limits::MAX_LEASE_TASKS,
            unread: 0,
            on_its_way: None,
            backoff,
            not_before,
        }
    }

    fn ask(&mut self, free: usize) -> Poll {
        let (access, session) = self.link.as_ref().expect("the caller saw that there is a session");
        let wait = self.shared.leases.rules().poll_wait(self.wanted_wait, access.lease);
        let wait = Duration::from_secs(wait.as_secs());
        let (shared, most, misses) = (&self.shared, self.most, self.misses);
        let request = self.open.get_or_insert_with(|| {
            let most = u32::try_from(free).unwrap_or(u32::MAX).min(most);
            let request = LeaseRequest::new(shared.request_id()).with_max_tasks(most).with_wait_seconds(wait.as_secs());
            if misses { request.with_held(shared.leases.ids()) } else { request }
        });
        shared.note_poll("polling", true);
        let (session, request) = (session.clone(), request.clone());
        let answer = Box::pin(async move { session.lease(&request).await });
        Poll { asked: Instant::now(), wait, answer }
    }

    /// Whether a request has no answer yet.
    #[cfg(feature = "push")]
    pub(crate) fn is_out(&self) -> bool {
        self.on_its_way.is_some()
    }

    /// Whether a request is to be repeated, since its answer may be lost.
    #[cfg(feature = "websocket")]
    pub(crate) fn is_unanswered(&self) -> bool {
        self.open.is_some()
    }

    /// Forgets a request that is not out: what it may have got is brought on another way.
    #[cfg(feature = "websocket")]
    pub(crate) fn let_go(&mut self) {
        self.open.take_if(|_| self.on_its_way.is_none());
    }

    /// Repeats the request that has no answer until it has one, and asks for nothing more. Safe to drop.
    #[cfg(feature = "websocket")]
    pub(crate) async fn complete(&mut self) -> Option<Received> {
        if self.on_its_way.is_none() {
            self.open.as_ref()?;
            sleep_until(self.not_before.into()).await;
            self.on_its_way = Some(self.ask(1));
        }
        self.finish().await
    }

    /// Tasks may have been lost on another way: the next request has them brought again.
    #[cfg(feature = "websocket")]
    pub(crate) fn has_missed(&mut self) {
        self.misses = true;
        // What an older request may have got is among them; one that is out is heard to its end, as it may yet get some.
        self.let_go();
    }

    /// Waits for the answer to the request that is out; `None` if there is none, or it has nothing to tell.
    ///
    /// Safe to drop, as [`Transport::next`].
    pub(crate) async fn finish(&mut self) -> Option<Received> {
        let answer = self.on_its_way.as_mut()?.answer.as_mut().await;
        let poll = self.on_its_way.take()?;
        self.settle(&poll, answer)
    }

    /// What an answer comes to; `None` if there is nothing to tell.
    fn settle(&mut self, poll: &Poll, answer: Result<Vec<Assignment>, ClientError>) -> Option<Received> {
        let now = Instant::now();
        match answer {
            Ok(assignments) => {
                // One that was sent before anything was missed did not say what is held.
                let was_brought = self.open.take().is_some_and(|request| request.held.is_some());
                self.misses &= !was_brought;
                self.unread = 0;
                self.most = self.most.saturating_mul(2).min(limits::MAX_LEASE_TASKS);
                if assignments.is_empty() && came_back_early(now - poll.asked, poll.wait) {
                    // A server that stops answers so, and one that errs must not be asked in a tight loop.
                    self.not_before = now + self.backoff.fail(self.shared.chance(), None);
                    return None;
                }
                self.backoff.succeed();
                (!assignments.is_empty()).then_some(Received::Tasks { assignments, asked: poll.asked })
            }
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, "a poll failed");
                let verdict = judge(&error);
                if verdict == Verdict::Register {
                    let (access, _) = self.link.take()?;
                    return Some(Received::Unknown { epoch: access.epoch });
                }
                let mut asked = None;
                match verdict {
                    _ if self.is_hopeless(&error) => {
                        // What it leased comes again when its lease is over, and then one by one.
                        self.open = None;
                        self.unread = 0;
                        self.most = 1;
                    }
                    Verdict::Later(pause) => asked = pause,
                    // The same question would get the same answer.
                    _ => self.open = None,
                }
                let pause = self.backoff.fail(self.shared.chance(), asked);
                let lease = self.link.as_ref().filter(|_| self.open.is_some() && asked.is_none());
                self.not_before = now + lease.map_or(pause, |(access, _)| repeat_pause(pause, access.lease));
                self.shared.note_poll("failing", false);
                None
            }
        }
    }

    /// Whether the open request would get an answer of no use for ever.
    fn is_hopeless(&mut self, error: &ClientError) -> bool {
        match error {
            ClientError::Call(CallError::TooLarge { .. }) => true,
            ClientError::Unreadable { status: 200..=299, .. } => {
                self.unread += 1;
                self.unread > MOST_REPEATS
            }
            _ => false,
        }
    }
}

#[async_trait]
impl Transport for Pull {
    fn connect(&mut self, access: &Arc<Access>, session: AgentSession) {
        self.link = Some((access.clone(), session));
        self.on_its_way = None;
        self.not_before = Instant::now();
        self.backoff.succeed();
    }

    fn disconnect(&mut self) {
        self.link = None;
        self.on_its_way = None;
    }

    async fn next(&mut self, free: usize) -> Received {
        loop {
            if self.on_its_way.is_none() {
                if self.link.is_none() || free == 0 {
                    self.shared.note_poll(if free == 0 { "full" } else { "connecting" }, false);
                    return pending().await;
                }
                sleep_until(self.not_before.into()).await;
                self.on_its_way = Some(self.ask(free));
            }
            if let Some(received) = self.finish().await {
                return received;
            }
        }
    }
}

impl fmt::Debug for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pull").field("open", &self.open).field("backoff", &self.backoff).finish_non_exhaustive()
    }
}
