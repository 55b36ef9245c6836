//! The heartbeat thread: it registers, says that the agent lives, and renews leases.
//!
//! It has an OS thread, a runtime and a connection of its own, and takes all it needs from what is
//! shared, so that handlers which block every other thread cost no lease (RELIABILITY.md A10). It
//! alone registers: whoever meets a dead token says so and waits for the next access.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use eap_client::{AgentClient, AgentSession, ClientError, HttpCall, ReqwestCall};
#[cfg(feature = "push")]
use eap_types::DirectiveKind;
use eap_types::{DirectiveId, HealthStatus, Heartbeat, HeartbeatReply, Registered, RotatedToken};
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::agent::Status;
use crate::error::Error;
use crate::leases::LeaseKey;
use crate::registrar::{Papers, Registrar, sane_interval};
use crate::session::{Backoff, Verdict, beat_pause, judge, retry_pause};
use crate::shared::{Access, Shared};

/// The longest a heartbeat may take.
const LONGEST_BEAT: Duration = Duration::from_secs(10);
/// Events that come faster than this share a heartbeat.
const SHORTEST_GAP: Duration = Duration::from_millis(500);
/// How long the loop sleeps when nothing is due.
const FAR: Duration = Duration::from_secs(3600);

/// What the heartbeat thread is started with.
#[derive(Debug)]
pub(crate) struct HeartParts {
    pub(crate) url: String,
    /// Given by the user, or else one is made on the thread's own runtime.
    pub(crate) http: Option<Arc<dyn HttpCall>>,
    pub(crate) papers: Papers,
    pub(crate) shared: Arc<Shared>,
    pub(crate) stop: CancellationToken,
}

/// Starts the thread; the receiver gets how it ended.
pub(crate) fn spawn(parts: HeartParts) -> io::Result<oneshot::Receiver<Result<(), Error>>> {
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new().name("eap-heartbeat".to_owned()).spawn(move || {
        // A driver that is gone has no use for the reason.
        let _ = ended.send(live(parts));
    })?;
    Ok(end)
}

fn live(parts: HeartParts) -> Result<(), Error> {
    let fail = |source| Error::Heartbeat { source };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| fail(error.into()))?;
    let outcome = runtime.block_on(async {
        let http = match parts.http {
            Some(http) => http,
            None => Arc::new(ReqwestCall::new().map_err(|error| fail(error.into()))?),
        };
        let client = AgentClient::new(&parts.url, http).map_err(|error| fail(error.into()))?;
        let registrar = Registrar::new(client, parts.papers, parts.shared.clone());
        Heart::new(parts.shared, registrar, parts.stop).run().await
    });
    // A name that is being looked up must not hold up the end.
    runtime.shutdown_background();
    outcome
}

#[derive(Debug)]
struct Heart {
    shared: Arc<Shared>,
    registrar: Registrar,
    stop: CancellationToken,
    link: Option<Link>,
    backoff: Backoff,
    next_call: Instant,
    /// When a new token may be asked for, once one is wanted, and the pauses between tries.
    next_rotation: Instant,
    rotation_backoff: Backoff,
}

/// What there is while the agent is registered.
#[derive(Debug)]
struct Link {
    access: Arc<Access>,
    session: AgentSession,
    /// What there was before the token was rotated, until the new one was seen to work.
    before: Option<Arc<Access>>,
    interval: Duration,
    seq: u64,
    last_beat: Option<Instant>,
    /// Whether the last beat was refused for what it said, and the next says the least.
    is_minimal: bool,
    /// Whether something happened that the beat on its way does not tell.
    is_behind: bool,
}

enum Outcome {
    Registered(Box<Result<Registered, ClientError>>),
    Rotated(Box<Result<RotatedToken, ClientError>>),
    Beat { sent: Sent, result: Result<Option<HeartbeatReply>, ClientError> },
}

struct Sent {
    at: Instant,
    /// Which token it carried.
    epoch: u64,
    keys: Vec<LeaseKey>,
    acks: Vec<DirectiveId>,
    is_draining: bool,
}

enum Wake {
    Stop,
    Nudge,
    Timer,
    Outcome(Outcome),
}

impl Heart {
    fn new(shared: Arc<Shared>, registrar: Registrar, stop: CancellationToken) -> Self {
        // Spreads a crowd that lost its server, and still renews well within a lease.
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        let now = Instant::now();
        Self {
            shared,
            registrar,
            stop,
            link: None,
            backoff,
            next_call: now,
            next_rotation: now,
            rotation_backoff: backoff,
        }
    }

    async fn run(mut self) -> Result<(), Error> {
        let mut call: Option<BoxFuture<'static, Outcome>> = None;
        loop {
            let now = Instant::now();
            let expiry = self.shared.leases.tick(now);
            if call.is_none() && self.next_call <= now {
                call = Some(self.call(now));
            }
            let next_call = if call.is_some() { now + FAR } else { self.next_call };
            let timer = expiry.map_or(next_call, |expiry| expiry.min(next_call));
            let wake = tokio::select! {
                biased;
                () = self.stop.cancelled() => Wake::Stop,
                outcome = answer(&mut call) => Wake::Outcome(outcome),
                () = self.shared.nudge.notified() => Wake::Nudge,
                () = sleep_until(timer.into()) => Wake::Timer,
            };
            match wake {
                Wake::Stop => return Ok(()),
                Wake::Timer => {}
                Wake::Nudge => {
                    if self.is_refused() {
                        // Whatever is on its way carries the dead token.
                        call = None;
                        self.lose_access()?;
                    } else {
                        self.bring_forward(Instant::now());
                    }
                }
                Wake::Outcome(outcome) => {
                    call = None;
                    self.settle(outcome)?;
                }
            }
        }
    }

    fn call(&mut self, now: Instant) -> BoxFuture<'static, Outcome> {
        let Some(link) = &mut self.link else {
            let attempt = self.registrar.attempt();
            return Box::pin(async { Outcome::Registered(Box::new(attempt.await)) });
        };
        if self.next_rotation <= now && self.shared.rotation_wanted.load(Ordering::Relaxed) {
            let session = link.session.clone().with_deadline(LONGEST_BEAT);
            return Box::pin(async move { Outcome::Rotated(Box::new(session.rotate_token().await)) });
        }
        let (beat, sent) = beat(&self.shared, link, now);
        let share = self.shared.leases.shortest().map_or(LONGEST_BEAT, |lease| lease / 3);
        let session = link.session.clone().with_deadline(share.clamp(Duration::from_secs(1), LONGEST_BEAT));
        Box::pin(async move { Outcome::Beat { result: session.heartbeat(&beat).await, sent } })
    }

    fn settle(&mut self, outcome: Outcome) -> Result<(), Error> {
        let now = Instant::now();
        match outcome {
            Outcome::Registered(outcome) => match self.registrar.settle(*outcome, now)? {
                Ok(access) => self.gain_access(access, now),
                Err(pause) => self.next_call = now + pause,
            },
            Outcome::Rotated(outcome) => self.rotated(*outcome, now)?,
            Outcome::Beat { sent, result: Ok(reply) } => self.heard(&sent, reply),
            Outcome::Beat { result: Err(error), .. } => self.not_heard(&error, now)?,
        }
        Ok(())
    }

    /// Goes on with the new token, and beats at once: its first use tells the orchestrator that the answer came.
    ///
    /// What runs, runs on: calls on their way carry the old token, which works for a while yet.
    fn rotated(&mut self, outcome: Result<RotatedToken, ClientError>, now: Instant) -> Result<(), Error> {
        let Some(link) = &mut self.link else { return Ok(()) };
        self.next_call = now;
        match outcome {
            Ok(rotated) => {
                self.shared.rotation_wanted.store(false, Ordering::Relaxed);
                self.rotation_backoff.succeed();
                let access = self.registrar.rotated(&link.access, rotated.auth_token);
                link.before = Some(std::mem::replace(&mut link.access, access.clone()));
                link.session = access.session(self.registrar.client());
                self.shared.access.send_replace(Some(access));
            }
            Err(error) => match judge(&error) {
                Verdict::Register => return self.lose_access(),
                // The answer may be lost: the old token works, and asking again brings another new one.
                Verdict::Later(asked) => {
                    let pause = self.rotation_backoff.fail(self.shared.chance(), asked);
                    self.next_rotation = now + pause;
                    debug!(error = &error as &dyn std::error::Error, ?pause, "no new token yet");
                }
                _ => {
                    self.shared.rotation_wanted.store(false, Ordering::Relaxed);
                    warn!(error = &error as &dyn std::error::Error, "the orchestrator gives no new token");
                }
            },
        }
        Ok(())
    }

    fn gain_access(&mut self, access: Arc<Access>, now: Instant) {
        // Whether the agent is to drain is told anew with every registration.
        self.shared.pause(false);
        self.link = Some(Link {
            session: access.session(self.registrar.client()),
            before: None,
            interval: access.interval,
            access: access.clone(),
            seq: 0,
            last_beat: None,
            is_minimal: false,
            is_behind: false,
        });
        self.backoff.succeed();
        self.next_call = now;
        self.shared.access.send_replace(Some(access));
        self.shared.show(Status::Online);
    }

    fn is_refused(&self) -> bool {
        self.link.as_ref().is_some_and(|link| self.shared.is_refused(link.access.epoch))
    }

    fn lose_access(&mut self) -> Result<(), Error> {
        if let Some((link, before)) =
            self.link.as_mut().and_then(|link| link.before.take().map(|before| (link, before)))
        {
            // A rotation that came late took the place of this token before it was used; the one before still works.
            let access = self.registrar.next_access(&before, before.token.clone());
            link.session = access.session(self.registrar.client());
            link.access = access.clone();
            self.shared.rotation_wanted.store(true, Ordering::Relaxed);
            self.shared.access.send_replace(Some(access));
            self.next_call = Instant::now();
            return Ok(());
        }
        self.shared.rotation_wanted.store(false, Ordering::Relaxed);
        self.link = None;
        self.shared.access.send_replace(None);
        self.shared.show(Status::Connecting);
        let now = Instant::now();
        self.next_call = now + self.registrar.refused(now)?;
        Ok(())
    }

    /// Something happened that the orchestrator is to know, or a lease that is to be renewed at once.
    fn bring_forward(&mut self, now: Instant) {
        let Some(link) = &mut self.link else { return };
        link.is_behind = true;
        // While nothing answers, the pauses between tries count.
        if self.backoff.failures() == 0 {
            self.next_call = self.next_call.min(earliest(&self.shared, link, now));
        }
    }

    fn heard(&mut self, sent: &Sent, reply: Option<HeartbeatReply>) {
        let Some(link) = &mut self.link else { return };
        match reply {
            Some(reply) => {
                link.interval = sane_interval(Duration::from_secs(reply.heartbeat_interval_seconds));
                // Before the leases: one that was cancelled is lost as well, and the first reason stays.
                for directive in &reply.directives {
                    if let Some(interval) = self.shared.obey(directive) {
                        link.interval = sane_interval(interval);
                    }
                }
                self.shared.leases.learn(&reply.leases, sent.at);
                #[cfg(feature = "push")]
                learn_of_pushes(&self.shared, &reply);
            }
            None => {
                for key in &sent.keys {
                    self.shared.leases.renew(*key, sent.at, None);
                }
            }
        }
        self.shared.forget_acks(&sent.acks);
        link.is_minimal = false;
        if sent.epoch == link.access.epoch {
            link.before = None;
        }
        if sent.is_draining {
            self.shared.drain_told.send_replace(true);
        }
        if self.backoff.failures() > 0 {
            self.shared.recovered.notify_one();
        }
        self.backoff.succeed();
        self.registrar.confirmed();
        self.next_call = sent.at + beat_pause(link.interval, self.shared.leases.shortest());
        if link.is_behind {
            self.next_call = self.next_call.min(earliest(&self.shared, link, Instant::now()));
        }
        if self.shared.rotation_wanted.load(Ordering::Relaxed) {
            self.next_call = self.next_call.min(self.next_rotation);
        }
        self.shared.show(Status::Online);
    }

    fn not_heard(&mut self, error: &ClientError, now: Instant) -> Result<(), Error> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let verdict = judge(error);
        if verdict == Verdict::Register {
            return self.lose_access();
        }
        let is_about_body = matches!(error.status(), Some(400 | 413 | 422));
        if is_about_body && !link.is_minimal {
            warn!(error = error as &dyn std::error::Error, "a heartbeat was refused; sending the least");
            link.is_minimal = true;
            self.next_call = now;
            return Ok(());
        }
        link.is_minimal = false;
        let asked = if let Verdict::Later(asked) = verdict { asked } else { None };
        let longest = beat_pause(link.interval, self.shared.leases.shortest());
        let pause = retry_pause(self.backoff.fail(self.shared.chance(), asked), longest);
        self.next_call = now + pause;
        debug!(error = error as &dyn std::error::Error, ?pause, "a heartbeat got no answer");
        self.shared.show(Status::Uncertain);
        Ok(())
    }
}

/// Told with every beat as long as it lasts: the agent asks for its tasks meanwhile.
#[cfg(feature = "push")]
fn learn_of_pushes(shared: &Shared, reply: &HeartbeatReply) {
    let is_it = |kind: &DirectiveKind| matches!(kind, DirectiveKind::PushSuspended { .. });
    let is_suspended = reply.directives.iter().any(|directive| is_it(&directive.kind));
    let changed =
        shared.push_suspended.send_if_modified(|known| std::mem::replace(known, is_suspended) != is_suspended);
    if changed {
        warn!(is_suspended, "the orchestrator pushes nothing, or pushes again");
    }
}

/// When the next beat may go out early: at once, unless the last one just did.
fn earliest(shared: &Shared, link: &Link, now: Instant) -> Instant {
    let gap = shared.leases.shortest().map_or(SHORTEST_GAP, |lease| SHORTEST_GAP.min(lease / 6));
    link.last_beat.map_or(now, |last| now.max(last + gap))
}

fn beat(shared: &Shared, link: &mut Link, now: Instant) -> (Heartbeat, Sent) {
    let listed = shared.leases.listed();
    link.seq += 1;
    link.last_beat = Some(now);
    link.is_behind = false;
    let mut beat = Heartbeat::new(HealthStatus::Healthy).with_seq(link.seq);
    beat.tasks = listed.tasks;
    let mut sent = Sent { at: now, epoch: link.access.epoch, keys: listed.keys, acks: Vec::new(), is_draining: false };
    if !link.is_minimal {
        let running = shared.running.load(Ordering::Relaxed);
        sent.acks = shared.acks();
        sent.is_draining = shared.draining.load(Ordering::Relaxed);
        beat = beat
            .with_current_load((running as f64 / f64::from(shared.max_tasks)).min(1.0))
            .with_tasks_in_progress(running as u64)
            .with_timestamp(shared.clock.now())
            .with_ack(sent.acks.clone())
            .with_work_loop(shared.work_loop())
            .with_draining(sent.is_draining);
    }
    (beat, sent)
}

/// Waits for the call that is on its way, if there is one; safe to drop, the call goes on.
async fn answer(call: &mut Option<BoxFuture<'static, Outcome>>) -> Outcome {
    match call {
        Some(call) => call.await,
        None => pending().await,
    }
}
