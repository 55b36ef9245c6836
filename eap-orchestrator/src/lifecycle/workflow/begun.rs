//! Sessions are told that an agent has begun with them: a moment after the claim, which knows only of tasks.
//!
//! A session gets on without being told. Until then lists show it as started.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use eap_core::{Session, SessionEvent, Task};
use eap_types::{SessionId, SessionState, TaskId};
use futures_util::future::join_all;
use tokio::sync::Notify;
use tracing::{debug, info};

use super::super::{Lifecycle, MAX_CONFLICTS, Share, stand_aside};
use super::onward::output;
use crate::announce::lock;
use crate::error::Error;
use crate::store::{Change, StoreError, Stored};

/// How many sessions are looked at together.
const BATCH: usize = 64;

/// The sessions that no agent has begun with, as far as they know; each is here once.
#[derive(Debug, Default)]
pub(crate) struct Beginnings {
    sessions: Mutex<HashMap<SessionId, Beginning>>,
    news: Notify,
}

/// What is known of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// Its first step waits.
    Waits,
    /// An agent has taken this task of it.
    Taken(TaskId),
}

impl Beginnings {
    /// A session began; its first step waits.
    pub(super) fn add(&self, session: SessionId) {
        lock(&self.sessions).insert(session, Beginning::Waits);
    }

    /// It is over, or did not begin after all.
    pub(super) fn forget(&self, session: SessionId) {
        lock(&self.sessions).remove(&session);
    }

    /// An agent has a task.
    pub(in crate::lifecycle) fn taken(&self, task: &Task) {
        if task.spec.is_step
            && let Some(known) = lock(&self.sessions).get_mut(&task.spec.session_id)
        {
            *known = Beginning::Taken(task.id());
            self.news.notify_one();
        }
    }

    fn take(&self) -> Vec<(SessionId, TaskId)> {
        let mut sessions = lock(&self.sessions);
        let taken = sessions.iter().filter_map(|(session, known)| match known {
            Beginning::Taken(task) => Some((*session, *task)),
            Beginning::Waits => None,
        });
        let taken: Vec<_> = taken.take(BATCH).collect();
        for (session, _) in &taken {
            sessions.remove(session);
        }
        taken
    }
}

impl Lifecycle {
    /// Tells sessions that agents have begun with them, until the orchestrator stops.
    pub(crate) async fn follow_beginnings(self: Arc<Self>) {
        while self.stop.run_until_cancelled(self.beginnings.news.notified()).await.is_some() {
            while !self.stop.is_cancelled() {
                let taken = self.beginnings.take();
                if taken.is_empty() {
                    break;
                }
                let told = taken.into_iter().map(|(session, task)| self.tell_of_beginning(session, task));
                if join_all(told).await.contains(&false) {
                    // What does not work now is tried again, and not at once.
                    let pause = tokio::time::sleep(self.config.timing.sweep_interval);
                    self.stop.run_until_cancelled(pause).await;
                }
            }
        }
    }

    /// Says whether it could be written; if not, it is to be told again.
    async fn tell_of_beginning(self: &Arc<Self>, session: SessionId, task: TaskId) -> bool {
        let this = Arc::clone(self);
        let told = self.detached(Share::Running, async move { this.bring_in_line(session, task).await }).await;
        if let Err(error) = &told {
            debug!(session.id = %session, %error, "that an agent has begun could not be written yet");
            lock(&self.beginnings.sessions).insert(session, Beginning::Taken(task));
        }
        told.is_ok()
    }

    /// A session began at another replica: whichever learns first that an agent has its first step tells it.
    pub(in crate::lifecycle) async fn follow_beginning(&self, id: SessionId) -> Result<(), Error> {
        let Some(stored) = self.store.session(id).await? else { return Ok(()) };
        if stored.record.status() != SessionState::Started {
            return Ok(());
        }
        self.beginnings.add(id);
        if let Some(step) = stored.record.open_step()
            && let Some(task) = self.store.task(step.task).await?
            && task.record.lease().is_some()
        {
            self.beginnings.taken(&task.record);
        }
        Ok(())
    }

    /// It is over.
    pub(in crate::lifecycle) fn forget_beginning(&self, id: SessionId) {
        self.beginnings.forget(id);
    }

    /// Brings the sessions in line with the tasks of their first steps, after a start: what was not told before the end is.
    pub(in crate::lifecycle) async fn load_beginnings(&self) -> Result<(), Error> {
        let (mut after, mut open) = (None, 0);
        loop {
            let page = self.store.open_sessions(after, BATCH).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            open += page.len();
            for (id, state) in page {
                if !matches!(state, SessionState::Started | SessionState::Paused) {
                    continue;
                }
                let session = self.store.session(id).await?;
                let waits =
                    |session: &Session| session.open_step().filter(|step| step.agent.is_none()).map(|step| step.task);
                if let Some(task) = session.and_then(|stored| waits(&stored.record)) {
                    self.beginnings.add(id);
                    self.bring_in_line(id, task).await?;
                }
            }
        }
        if open > 0 {
            info!(sessions = open, "workflows go on");
        }
        Ok(())
    }

    /// Tells a session how the task of its step stands, where it does not know.
    async fn bring_in_line(&self, id: SessionId, task: TaskId) -> Result<(), Error> {
        for turn in 0..MAX_CONFLICTS {
            stand_aside(turn).await;
            let Some(session) = self.store.session(id).await? else { return Ok(()) };
            let Some(Stored { record: task, .. }) = self.store.task(task).await? else { return Ok(()) };
            let result = self.store.result(task.id()).await?;
            let Some(event) = SessionEvent::of(&task, result.and_then(|row| output(&row.result))) else {
                return Ok(());
            };
            let mut change = Change::default();
            let Some(onward) = self.decide_session(session, event, &mut change)? else { return Ok(()) };
            match self.commit(change).await {
                Ok(()) => {
                    self.went_on(onward);
                    return Ok(());
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Busy { reason: "other writers kept changing the session" })
    }
}
