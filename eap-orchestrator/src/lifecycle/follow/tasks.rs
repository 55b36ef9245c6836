//! What the others did with tasks, by their events.

use std::collections::{BTreeSet, HashSet};

use eap_core::{Attempt, Conclusion, Task};
use eap_types::{AttemptOutcome, SessionId, TaskId, Timestamp};

use super::super::Lifecycle;
use crate::announce::Awaited;
use crate::error::Error;
use crate::store::{Event, Stored};

/// How many tasks are read at once; each may be a large one.
const TASKS_AT_ONCE: usize = 32;

/// What events say of attempts that the tasks' records alone do not.
#[derive(Debug, Default)]
struct Told {
    expired: HashSet<(TaskId, u32)>,
    leased: HashSet<(TaskId, u32)>,
}

impl Lifecycle {
    /// Takes in what events say; of attempts, what ended `since` then.
    pub(super) async fn take_in(&self, events: &[Event], since: Timestamp) -> Result<(), Error> {
        // What ended before was taken in with its own event; how, may be forgotten by now.
        let since = events.iter().map(|event| event.at).min().map_or(since, |first| first.max(since));
        let (mut tasks, mut agents) = (BTreeSet::new(), BTreeSet::new());
        let mut told = Told::default();
        let (mut credentials, mut sessions) = (false, Vec::new());
        for event in events {
            let (subject, what) = event.kind.split_once('.').unwrap_or((&event.kind, ""));
            match (subject, event.task, &event.agent) {
                ("task", Some(task), _)
                    if !matches!(what, "output_delta" | "late_result" | "requeued" | "discarded") =>
                {
                    tasks.insert(task);
                    match (what, event.attempt) {
                        ("expired", Some(attempt)) => drop(told.expired.insert((task, attempt))),
                        ("leased", Some(attempt)) => drop(told.leased.insert((task, attempt))),
                        _ => {}
                    }
                }
                ("agent", _, Some(agent)) => {
                    agents.insert(agent.clone());
                    if what == "connected" {
                        self.announcements.connected_elsewhere(agent, event.seq);
                    }
                }
                ("key" | "registration_secret", ..) => credentials = true,
                ("workflow", ..) => sessions.extend(session_of(event).map(|session| (session, what))),
                _ => {}
            }
        }
        if !agents.is_empty() {
            self.follow_agents(&agents.into_iter().collect::<Vec<_>>()).await?;
        }
        if credentials {
            self.follow_credentials().await?;
        }
        if !tasks.is_empty() {
            let ids: Vec<TaskId> = tasks.into_iter().collect();
            for ids in ids.chunks(TASKS_AT_ONCE) {
                for Stored { record, .. } in self.store.tasks_of(ids).await? {
                    self.follow_task(&record, &told, since);
                }
            }
        }
        for (session, what) in sessions {
            match what {
                "started" => self.follow_beginning(session).await?,
                "completed" | "failed" | "cancelled" => {
                    self.forget_beginning(session);
                    self.announcements.ended(Awaited::Session(session));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes over how a task stands, and what became of its attempts.
    fn follow_task(&self, task: &Task, told: &Told, since: Timestamp) {
        for (was, attempt) in self.leases.follow(task) {
            if let Some(ended_at) = attempt.ended_at.filter(|ended_at| *ended_at >= since) {
                // Between two looks it may have expired, and then been reported after all: both count.
                let has_expired = was == AttemptOutcome::Open
                    && attempt.outcome != AttemptOutcome::Expired
                    && told.expired.contains(&(task.id(), attempt.number));
                if has_expired {
                    let lapsed = Attempt { outcome: AttemptOutcome::Expired, ..attempt.clone() };
                    self.conclude_also(AttemptOutcome::Open, &lapsed, ended_at);
                }
                let was = if has_expired { AttemptOutcome::Expired } else { was };
                self.conclude_also(was, attempt, ended_at);
            }
            self.announcements.agent_freed(&attempt.agent);
        }
        if let Some((lease, attempt)) = task.lease().zip(task.newest_attempt()) {
            self.directory.serve_also(&lease.agent, lease.lease_id, attempt.started_at);
            self.beginnings.taken(task);
            if let Some(request_id) = &lease.request_id
                && told.leased.contains(&(task.id(), lease.attempt))
            {
                self.announcements.answered_elsewhere(&lease.agent, request_id);
            }
        }
        self.announcements.task_changed(task);
        if task.status().is_final() && task.spec.callback_url.is_some() {
            self.announcements.callback_became_due();
        }
    }

    fn conclude_also(&self, was: AttemptOutcome, attempt: &Attempt, at: Timestamp) {
        if let Some(ended) = Conclusion::since(was, attempt) {
            self.directory.conclude_also(&ended, at, &self.config.breaker);
        }
    }
}

/// The session that an event is about.
fn session_of(event: &Event) -> Option<SessionId> {
    #[derive(serde::Deserialize)]
    struct Detail {
        session_id: SessionId,
    }
    event.detail.decode::<Detail>().ok().map(|detail| detail.session_id)
}
