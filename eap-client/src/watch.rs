//! One task, watched until it is over: its progress, and its output in parts.

use std::fmt;

use eap_types::{EventQuery, EventView, JsonObject, ProgressView, TaskId};
use serde::Deserialize;

use crate::error::ClientError;
use crate::events::{EventStream, Told};
use crate::operator::OperatorClient;

/// What a watched task tells.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TaskNews {
    /// Its handler emitted this; it stands behind what the same attempt emitted before.
    Output {
        /// The event as it came.
        event: EventView,
        /// The part of the output.
        delta: String,
    },
    /// Its handler said how far it is.
    Progress {
        /// The event as it came.
        event: EventView,
        /// How far, and what is being done.
        progress: ProgressView,
    },
    /// Anything else that happened to it.
    Event(EventView),
    /// Events that were not told yet are gone; some of the output may be among them.
    Reset,
}

impl TaskNews {
    /// The event behind it.
    pub fn event(&self) -> Option<&EventView> {
        match self {
            Self::Output { event, .. } | Self::Progress { event, .. } | Self::Event(event) => Some(event),
            Self::Reset => None,
        }
    }

    /// Whether nothing can come after it: the task is over.
    pub fn is_end(&self) -> bool {
        const ENDS: [&str; 4] = ["task.completed", "task.failed", "task.cancelled", "task.dead"];
        self.event().is_some_and(|event| ENDS.contains(&event.kind.as_str()))
    }
}

/// By the kind of the event; one whose detail is not what its kind has is an event like any other.
impl From<EventView> for TaskNews {
    fn from(event: EventView) -> Self {
        match event.kind.as_str() {
            "task.output_delta" => match read::<Delta>(&event.detail) {
                Some(Delta { output_delta: delta }) => Self::Output { event, delta },
                None => Self::Event(event),
            },
            "task.progress" => match read(&event.detail) {
                Some(progress) => Self::Progress { event, progress },
                None => Self::Event(event),
            },
            _ => Self::Event(event),
        }
    }
}

#[derive(Deserialize)]
struct Delta {
    output_delta: String,
}

fn read<'a, T: Deserialize<'a>>(detail: &'a JsonObject) -> Option<T> {
    serde_json::from_str(detail.as_str()).ok()
}

/// What a task tells, as [`OperatorClient::watch_task`] opened it: first what is kept of what it told, then what it tells
/// until it is over. Closed when dropped.
pub struct TaskWatch {
    client: OperatorClient,
    task: TaskId,
    events: EventStream,
    /// Where the task stands has to be looked up before anything is waited for.
    is_unsure: bool,
    /// The task is over: there is nothing beyond this event.
    until: Option<u64>,
    has_told: bool,
    is_over: bool,
}

impl TaskWatch {
    /// What comes next, once there is anything; `None` when the task is over. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// As those of [`EventStream::next`], and 404 TASK_NOT_FOUND for a task that is not kept any more.
    pub async fn next(&mut self) -> Result<Option<TaskNews>, ClientError> {
        loop {
            if self.is_over {
                return Ok(None);
            }
            if self.is_unsure {
                self.until = last_event(&self.client, self.task).await?;
                self.is_unsure = false;
            }
            let told = match self.until {
                Some(number) => self.events.next_until(number).await?,
                None => Some(self.events.next().await?),
            };
            match told {
                None => self.is_over = true,
                Some(Told::Event(event)) => {
                    let news = TaskNews::from(event);
                    self.has_told = true;
                    self.is_over = news.is_end();
                    return Ok(Some(news));
                }
                Some(Told::Reset(_)) => {
                    // The end may be among what is gone.
                    self.is_unsure = true;
                    // What went before anything was told is only old.
                    if self.has_told {
                        return Ok(Some(TaskNews::Reset));
                    }
                }
            }
        }
    }

    /// Has `on_outage` called as [`EventStream::with_on_outage`] has it.
    #[must_use]
    pub fn with_on_outage(mut self, on_outage: impl FnMut(Option<&ClientError>) + Send + 'static) -> Self {
        self.events = self.events.with_on_outage(on_outage);
        self
    }
}

impl fmt::Debug for TaskWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, events, is_over, .. } = self;
        f.debug_struct("TaskWatch").field("task", task).field("events", events).field("is_over", is_over).finish()
    }
}

impl OperatorClient {
    /// Watches one task: what is kept of what it told, then what it tells, until it is over.
    ///
    /// ```no_run
    /// # async fn watch(client: eap_client::OperatorClient, task: eap_types::TaskId) -> Result<(), eap_client::ClientError> {
    /// use eap_client::TaskNews;
    ///
    /// let mut task = client.watch_task(task).await?;
    /// while let Some(news) = task.next().await? {
    ///     if let TaskNews::Output { delta, .. } = news {
    ///         print!("{delta}");
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// 404 TASK_NOT_FOUND, and as those of [`OperatorClient::events`]. What comes later is for [`TaskWatch::next`].
    pub async fn watch_task(&self, task: TaskId) -> Result<TaskWatch, ClientError> {
        let until = last_event(self, task).await?;
        let events = self.events(EventQuery::new().with_task_id(task).with_after(0)).await?;
        let client = self.clone();
        Ok(TaskWatch { client, task, events, is_unsure: false, until, has_told: false, is_over: false })
    }
}

/// The number of the newest event of all, if the task is over: then none of it can come after that.
async fn last_event(client: &OperatorClient, task: TaskId) -> Result<Option<u64>, ClientError> {
    if !client.task(task, None).await?.status.is_final() {
        return Ok(None);
    }
    Ok(client.events(EventQuery::new()).await?.last_id())
}

#[cfg(test)]
mod tests {
    use eap_types::Timestamp;

    use super::*;

    fn event(kind: &str, detail: &str) -> EventView {
        let mut event = EventView::new(1, Timestamp::UNIX_EPOCH, kind);
        event.detail = JsonObject::parse(detail).unwrap();
        event
    }

    #[test]
    fn news_are_told_apart_by_their_kind_and_what_is_odd_stays_an_event() {
        let output = TaskNews::from(event("task.output_delta", r#"{"output_delta": "half a w"}"#));
        assert!(matches!(&output, TaskNews::Output { delta, .. } if delta == "half a w") && !output.is_end());
        let progress = TaskNews::from(event("task.progress", r#"{"progress": 0.5}"#));
        let TaskNews::Progress { progress, .. } = progress else { panic!("{progress:?}") };
        assert_eq!((progress.progress, progress.message), (Some(0.5), None));
        for (kind, detail) in [("task.output_delta", "{}"), ("task.progress", r#"{"progress": "half"}"#)] {
            assert!(matches!(TaskNews::from(event(kind, detail)), TaskNews::Event(_)), "{kind}");
        }
        assert!(TaskNews::from(event("task.dead", "{}")).is_end());
        assert!(!TaskNews::from(event("task.attempt_failed", "{}")).is_end() && !TaskNews::Reset.is_end());
    }
}
