//! Sends what handlers say about their progress, the newest word only and at most five a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eap_client::{AgentClient, AgentSession};
use eap_types::{ErrorCode, ProgressReport};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep_until;
use tracing::debug;

use crate::context::TaskState;
use crate::session::{Verdict, judge};
use crate::shared::Shared;

/// Reports of one task that follow each other closer than this become one.
const SHORTEST_GAP: Duration = Duration::from_millis(200);
/// A report that has no answer by then is not worth waiting for.
const DEADLINE: Duration = Duration::from_secs(5);
const FAR: Duration = Duration::from_secs(3600);
/// Reports that are on their way at once.
const MOST_AT_ONCE: usize = 16;

/// Runs until it is dropped.
pub(crate) async fn send_reports(shared: Arc<Shared>, client: AgentClient) {
    let client = client.with_deadline(DEADLINE);
    let mut changes = shared.access.subscribe();
    let mut on_their_way = FuturesUnordered::new();
    loop {
        let now = Instant::now();
        let mut next = now + FAR;
        let access = changes.borrow_and_update().clone();
        for state in shared.leases.states() {
            let Some(due) = due(&state, now) else { continue };
            match &access {
                Some(access) if due <= now && on_their_way.len() < MOST_AT_ONCE => {
                    let report = take_report(&state, now);
                    on_their_way.push(send(shared.clone(), access.session(&client), access.epoch, state, report));
                }
                // What waits for a free place is looked at again when a report has its answer.
                _ if due > now => next = next.min(due),
                _ => {}
            }
        }
        tokio::select! {
            () = shared.progress.notified() => {}
            // What was said without a connection is sent with the next one.
            Ok(()) = changes.changed() => {}
            Some(()) = on_their_way.next() => {}
            () = sleep_until(next.into()) => {}
        }
    }
}

fn due(state: &TaskState, now: Instant) -> Option<Instant> {
    let note = state.progress();
    let is_of_use = note.is_news && !state.token.is_cancelled();
    is_of_use.then(|| note.last_sent.map_or(now, |last| last + SHORTEST_GAP))
}

fn take_report(state: &TaskState, now: Instant) -> ProgressReport {
    let mut note = state.progress();
    note.is_news = false;
    note.last_sent = Some(now);
    note.seq += 1;
    let mut report = ProgressReport::new(note.seq);
    report.progress = note.fraction;
    report.message = note.message.clone();
    report.lease_id = state.key.lease;
    report.attempt = state.attempt;
    report
}

async fn send(shared: Arc<Shared>, session: AgentSession, epoch: u64, state: Arc<TaskState>, report: ProgressReport) {
    let sent = Instant::now();
    match session.progress(state.key.task, &report).await {
        Ok(reply) => {
            shared.leases.renew(state.key, sent, Some(Duration::from_millis(reply.lease_expires_in_ms)));
            for directive in &reply.directives {
                shared.obey(directive);
            }
        }
        Err(error) => {
            debug!(task.id = %state.key.task, error = &error as &dyn std::error::Error, "progress was not reported");
            let is_over =
                matches!(error.code(), Some(ErrorCode::LeaseLost | ErrorCode::TaskFinal | ErrorCode::TaskNotFound));
            if judge(&error) == Verdict::Register {
                shared.refuse(epoch);
            } else if is_over {
                shared.leases.lose(state.key);
            }
        }
    }
}
