//! The calls of one connection: many at once, those about one task one after the other, and answers in the order of the
//! frames.

use std::collections::HashMap;
use std::future::{pending, ready};
use std::panic::resume_unwind;

use eap_types::TaskId;
use eap_types::socket::Frame;
use futures_util::future::{BoxFuture, Shared, join_all};
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::calls::Answered;

/// Ends with a call.
type Done = Shared<BoxFuture<'static, ()>>;

/// Calls under way, and what is answered after them.
#[derive(Default)]
pub(super) struct Calls {
    under_way: FuturesOrdered<BoxFuture<'static, Answered>>,
    /// The newest call about each task.
    newest: HashMap<TaskId, Done>,
}

impl Calls {
    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Begins a call about these tasks, once those about any of them are through that came before.
    pub(super) fn begin(&mut self, tasks: Vec<TaskId>, call: impl Future<Output = Answered> + Send + 'static) {
        if self.under_way.is_empty() {
            self.newest.clear();
        }
        let (done, is_done) = oneshot::channel::<()>();
        let is_done: Done = is_done.map(drop).boxed().shared();
        let before: Vec<Done> =
            tasks.into_iter().filter_map(|task| self.newest.insert(task, is_done.clone())).collect();
        // A task of its own: a line that takes nothing for a while must not keep a write from being told.
        let call = AbortOnDropHandle::new(tokio::spawn(async move {
            join_all(before).await;
            let answered = call.await;
            drop(done);
            answered
        }));
        self.under_way.push_back(Box::pin(async move {
            match call.await.map_err(JoinError::try_into_panic) {
                Ok(answered) => answered,
                Err(Ok(panic)) => resume_unwind(panic),
                // The runtime ends, and this with it.
                Err(Err(_)) => pending().await,
            }
        }));
    }

    /// Answers without a call, after those that came before.
    pub(super) fn answer(&mut self, answered: Answered) {
        self.under_way.push_back(Box::pin(ready(answered)));
    }

    /// The next answer; `None` at once while there is no call. Safe to drop.
    pub(super) async fn next(&mut self) -> Option<Answered> {
        self.under_way.next().await
    }
}

/// The tasks that a call is about.
pub(super) fn tasks_of(frame: &Frame) -> Vec<TaskId> {
    #[derive(Deserialize)]
    struct Named {
        task_id: Option<TaskId>,
    }
    #[derive(Deserialize)]
    struct Batch {
        results: Vec<Named>,
    }
    let text = frame.payload.as_ref().map_or("{}", |payload| payload.get());
    // A heartbeat lists tasks that it is not about; what cannot be read is refused by its call.
    let one = serde_json::from_str::<Named>(text).ok().and_then(|named| named.task_id);
    let many = serde_json::from_str::<Batch>(text).map(|batch| batch.results).unwrap_or_default();
    one.into_iter().chain(many.into_iter().filter_map(|named| named.task_id)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use eap_types::socket::FrameKind;
    use http::StatusCode;
    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::*;
    use crate::announce::lock;

    fn frame(number: u64, payload: &serde_json::Value) -> Frame {
        let mut frame = Frame::new(FrameKind::TaskProgress, number);
        frame.payload = to_raw_value(payload).ok();
        frame
    }

    fn answered(number: u64) -> Answered {
        Answered { status: StatusCode::OK, kind: FrameKind::Ack, reference: Some(number), payload: None }
    }

    #[tokio::test]
    async fn calls_about_one_task_wait_for_each_other_and_others_do_not() {
        let [one, other] = [1, 2].map(|byte| TaskId::from_bytes([byte; 16]));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (open, gate) = oneshot::channel::<()>();
        let mut calls = Calls::default();
        let told = Arc::clone(&log);
        calls.begin(tasks_of(&frame(1, &json!({ "task_id": one }))), async move {
            lock(&told).push(1);
            gate.await.unwrap();
            answered(1)
        });
        for (number, payload) in [
            (2, json!({"results": [{ "task_id": other }, { "task_id": one }]})),
            (3, json!({"tasks": [{ "task_id": one }]})),
            (4, json!({ "task_id": other })),
        ] {
            let told = Arc::clone(&log);
            calls.begin(tasks_of(&frame(number, &payload)), async move {
                lock(&told).push(number);
                answered(number)
            });
        }
        calls.answer(answered(5));
        assert!(calls.next().now_or_never().is_none(), "the first answer comes first");
        for _ in 0..9 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*lock(&log), [1, 3]);
        open.send(()).unwrap();
        for number in 1..=5 {
            assert_eq!(calls.next().await.unwrap().reference, Some(number));
        }
        assert_eq!(*lock(&log), [1, 3, 2, 4]);
        assert!(calls.next().await.is_none() && calls.len() == 0);
    }
}
