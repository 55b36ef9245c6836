//! Every step as it happens, from the orchestrator's own events.

use std::collections::HashMap;
use std::time::Duration;

use eap_orchestrator::store::{Event, EventSeq};
use eap_orchestrator::{Operator, Orchestrator};
use eap_types::{AgentId, TaskId, Timestamp};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::exit::Failure;
use crate::output::{print, tell};

/// Tasks whose steps are shown; the others are counted.
const SHOWN_TASKS: usize = 8;
/// How long an agent that an event names may take to be known: the event is there a moment earlier.
const NAME_COMES: Duration = Duration::from_secs(5);
/// How often it is asked for meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// Says something about the way; in JSON mode standard output is for the results alone.
pub(super) fn say(json: bool, text: &str) -> Result<(), Failure> {
    if json {
        tell(text);
        return Ok(());
    }
    print(text)
}

/// Shows events until `stop`, and counts in `ended` the tasks whose end was seen.
pub(super) async fn show(orchestrator: Orchestrator, json: bool, stop: CancellationToken, ended: watch::Sender<usize>) {
    let mut events = orchestrator.events(&Operator::host(), EventSeq(0));
    let mut steps = Steps { orchestrator, json, start: None, names: HashMap::new(), tasks: HashMap::new() };
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Ok(event) => {
                steps.step(&event).await;
                if matches!(event.kind.as_str(), "task.completed" | "task.failed" | "task.cancelled" | "task.dead") {
                    ended.send_modify(|count| *count += 1);
                }
            }
            Err(error) => return warn!(%error, "the events cannot be shown any more"),
        }
    }
}

struct Steps {
    orchestrator: Orchestrator,
    json: bool,
    start: Option<Timestamp>,
    names: HashMap<AgentId, String>,
    /// The tasks in order of submission, with the words they are shown by.
    tasks: HashMap<TaskId, (usize, String)>,
}

impl Steps {
    async fn step(&mut self, event: &Event) {
        let (index, task) = match event.task {
            Some(id) => self.task(id).await,
            None => (0, String::new()),
        };
        let agent = match &event.agent {
            Some(id) => self.agent(id).await,
            None => String::new(),
        };
        let text = match event.kind.as_str() {
            "agent.registered" => ("registered", agent),
            "agent.deregistered" => ("left", agent),
            "task.submitted" if index == SHOWN_TASKS => ("submitted", "more paragraphs, in the same way".to_owned()),
            _ if index >= SHOWN_TASKS => return,
            "task.submitted" => ("submitted", task),
            "task.leased" => ("leased", format!("{task} to {agent}, attempt {}", event.attempt.unwrap_or(1))),
            "task.completed" => ("completed", format!("{task} by {agent}")),
            "task.ready" | "task.progress" => return,
            other => (other.trim_start_matches("task."), format!("{task} {agent}")),
        };
        let (step, what) = text;
        let start = *self.start.get_or_insert(event.at);
        let seconds = event.at.saturating_since(start).as_secs_f64();
        // The results are printed in any case, and say if nobody reads them.
        let _ = say(self.json, &format!("  {seconds:6.3} s  {step:<12}{what}\n"));
    }

    /// Where a task stands in the order of submission, and its words.
    async fn task(&mut self, id: TaskId) -> (usize, String) {
        if let Some(known) = self.tasks.get(&id) {
            return known.clone();
        }
        let index = self.tasks.len();
        let task_type = match self.orchestrator.get(&Operator::host(), id).await {
            Ok(view) => view.task_type.to_string(),
            Err(_) => "task".to_owned(),
        };
        let what = if index == 0 { "the whole text".to_owned() } else { format!("paragraph {index}") };
        let known = (index, format!("{task_type} ({what})"));
        self.tasks.insert(id, known.clone());
        known
    }

    /// The name of an agent, also after it has left.
    async fn agent(&mut self, id: &AgentId) -> String {
        if let Some(name) = self.names.get(id) {
            return name.clone();
        }
        let known = async {
            loop {
                if let Ok(detail) = self.orchestrator.agent(&Operator::host(), id) {
                    break detail.agent.name.to_string();
                }
                sleep(LOOK).await;
            }
        };
        let name = timeout(NAME_COMES, known).await.unwrap_or_else(|_| id.to_string());
        self.names.insert(id.clone(), name.clone());
        name
    }
}
