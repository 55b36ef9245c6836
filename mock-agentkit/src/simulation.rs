//! Agents at work: reports that they are busy, a pause, and a report how it went.

use std::sync::Arc;

use eap_types::agentkit::{RunMessage, StateReport, StateWord};
use eap_types::{AgentId, JsonObject, Timestamp, path};
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::chance::now;
use crate::delivery::Letter;
use crate::faults::{ReportFaults, WorkFaults};
use crate::journal::{Ending, SentKind};
use crate::shared::Shared;
use crate::work::{Outcome, Work};

/// Has an agent work on a task, by itself. What it gives is cancelled once it is over, or once the agent is dead.
pub(crate) fn take_on(
    shared: &Arc<Shared>,
    agent_id: AgentId,
    message: &RunMessage,
    room: OwnedSemaphorePermit,
) -> CancellationToken {
    let (over, task) = (CancellationToken::new(), message.task().map(str::to_owned));
    let (faults, reports) = shared.work_faults();
    let agent = SimulatedAgent { shared: Arc::clone(shared), agent_id, task, reports };
    let over_too = over.clone();
    shared.tasks.spawn(async move {
        let (_over, _room) = (over_too.drop_guard(), room);
        agent.work(&agent.shared.work(), &faults).await;
    });
    over
}

struct SimulatedAgent {
    shared: Arc<Shared>,
    agent_id: AgentId,
    /// The id of the task, if it has one.
    task: Option<String>,
    reports: ReportFaults,
}

impl SimulatedAgent {
    async fn work(&self, work: &Work, faults: &WorkFaults) {
        let begun = self.report(now(), StateWord::BUSY, &self.naming("current_task"));
        if !self.reports.reorder {
            self.send(begun.as_ref()).await;
        }
        let is_crashed = faults.crash || self.shared.unless_stopped(tokio::time::sleep(work.duration)).await.is_none();
        if !is_crashed {
            let outcome = if faults.fail { Outcome::Failure } else { work.outcome };
            let (state, result) = match outcome {
                Outcome::Success => (StateWord::IDLE, json!({ "last_task_result": "simulated_success" })),
                Outcome::Failure => (
                    StateWord::ERROR,
                    json!({ "last_task_result": "simulated_failure", "error": "the simulated work failed" }),
                ),
            };
            let mut details = if work.names_tasks { self.naming("task_id") } else { Map::new() };
            details.extend(result.as_object().cloned().unwrap_or_default());
            self.send(self.report(now(), state, &details).as_ref()).await;
        }
        if self.reports.reorder {
            self.send(begun.as_ref()).await;
        }
    }

    fn naming(&self, name: &str) -> Map<String, Value> {
        self.task.iter().map(|task| (name.to_owned(), json!(task))).collect()
    }

    /// A report, if there is anybody to report to.
    fn report(&self, at: Timestamp, state: &str, details: &Map<String, Value>) -> Option<Letter> {
        let base = self.shared.settings.api_url.as_ref()?;
        let details = JsonObject::from_serialize(details).expect("a map of texts is an object");
        let report = StateReport::new(self.agent_id.clone(), at, state).with_details(details);
        Some(Letter {
            kind: SentKind::State,
            agent_id: self.agent_id.clone(),
            at,
            url: below(base, &path::agentkit_state(&self.agent_id)),
            headers: Vec::new(),
            body: serde_json::to_string(&report).expect("reports can be written"),
            bearer: self.shared.settings.api_key.clone(),
        })
    }

    async fn send(&self, report: Option<&Letter>) {
        let Some(report) = report else { return };
        let shared = &*self.shared;
        let number = report.announce(shared);
        let ending = self.carry_out(report, number).await;
        shared.journal.ended(number, ending);
    }

    async fn carry_out(&self, report: &Letter, number: u64) -> Ending {
        let shared = &*self.shared;
        if self.reports.drop {
            return Ending::Dropped;
        }
        if let Some(by) = self.reports.late
            && shared.unless_stopped(tokio::time::sleep(by)).await.is_none()
        {
            return Ending::Cut;
        }
        let ending = report.send(shared, number, &CancellationToken::new()).await;
        for _ in 0..self.reports.duplicate {
            if shared.unless_stopped(report.send_once(shared, number)).await.is_none() {
                return Ending::Cut;
            }
        }
        ending
    }
}

/// A path below a base that may have one of its own.
pub(crate) fn below(base: &url::Url, path: &str) -> url::Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}
