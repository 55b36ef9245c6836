//! Callbacks: taken in with a task, due with its end, and what their tries come to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eap_core::{CallbackStep, DueCallback, Receipt, Task};
use eap_types::{Callback, FieldProblem, JsonObject, TaskId, TaskStatus, TenantId, Timestamp, header, webhook};
use http::{HeaderValue, Request};
use tracing::{debug, info, warn};

use super::{Lifecycle, MAX_CONFLICTS, Share, stand_aside};
use crate::error::Error;
use crate::guard::Endpoint;
use crate::store::{CallbackWrite, Change, EventKind, NewEvent, Revision, StoreError, Stored};

/// How much longer than a try may take other replicas are kept from it.
const RESERVED: Duration = Duration::from_secs(30);

/// A callback that is ready to be sent.
#[derive(Debug)]
pub(crate) struct SignedCallback {
    tenant: TenantId,
    pub(crate) request: Request<Bytes>,
}

impl Lifecycle {
    /// Says why a task with this `callback_url` is not taken in; `at` is where in the body the task stands.
    pub(super) fn check_callback(&self, url: &str, at: &str) -> Result<(), Error> {
        let refused = |kind: &str, message: String| {
            let problems = vec![FieldProblem::new(format!("{at}.callback_url"), kind, message)];
            Err(Error::Invalid { problems })
        };
        if self.outbound.is_none() {
            return refused("not_supported", "is not served: this server makes no calls of its own".to_owned());
        }
        if self.config.callbacks.secrets.is_empty() {
            let message = "needs a signing secret, and this server has none: its operator sets callbacks.secrets \
                (eap serve: EAP_CALLBACK_SECRET or --callback-secret-file)";
            return refused("not_supported", message.to_owned());
        }
        let admitted = Endpoint::parse(url).and_then(|endpoint| self.guard.rules().admit(&endpoint));
        admitted.or_else(|why| refused("value_error", why.to_string()))
    }

    /// What the receiver of a callback is sent; `None` if its task is gone.
    pub(crate) async fn signed_callback(&self, callback: &DueCallback) -> Result<Option<SignedCallback>, Error> {
        let Some(Stored { record: task, .. }) = self.store.task(callback.task).await? else { return Ok(None) };
        let result = match task.status() {
            TaskStatus::Completed | TaskStatus::Failed => self.store.result(callback.task).await?,
            _ => None,
        };
        let tenant = task.spec.routing.tenant;
        let told = Callback::of(callback.ended_at, self.view(&task, result));
        let (Some(told), Some(url)) = (told, &task.spec.callback_url) else { return Ok(None) };
        let body = serde_json::to_vec(&told).map_err(|_| Error::Broken)?;
        let signed = webhook::sign(&self.config.callbacks.secrets, &message_id(callback.task), self.clock.now(), &body);
        let mut request = Request::post(url.as_str()).header(http::header::CONTENT_TYPE, header::JSON);
        for (name, text) in signed.headers() {
            let mut value = HeaderValue::from_str(text).map_err(|_| Error::Broken)?;
            value.set_sensitive(name == header::WEBHOOK_SIGNATURE);
            request = request.header(name, value);
        }
        match request.body(Bytes::from(body)) {
            Ok(request) => Ok(Some(SignedCallback { tenant, request })),
            // It was a URL when the task was taken in.
            Err(error) => {
                warn!(task.id = %callback.task, %error, "a callback cannot be sent");
                Ok(None)
            }
        }
    }

    /// Keeps other replicas from a callback while this one tries it; `None` if another one does. If this one is gone before it
    /// has written what came of it, the callback becomes due by itself.
    pub(crate) async fn reserve_callback(
        self: &Arc<Self>,
        stored: Stored<DueCallback>,
    ) -> Result<Option<Stored<DueCallback>>, Error> {
        if !self.is_followed() {
            return Ok(Some(stored));
        }
        let due_at = self.clock.now() + self.config.callbacks.timeout + RESERVED;
        let reserved = DueCallback { due_at, ..stored.record };
        let write = CallbackWrite::Update { callback: reserved.clone(), revision: stored.revision };
        let (this, change) = (Arc::clone(self), Change { callbacks: vec![write], ..Change::default() });
        self.detached(Share::Running, async move {
            match this.commit(change).await {
                Ok(()) => Ok(Some(Stored { record: reserved, revision: Revision(stored.revision.0 + 1), ..stored })),
                Err(StoreError::Conflict { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Writes down what a try came to, in the task's history as well.
    pub(crate) async fn settle_callback(
        self: &Arc<Self>,
        stored: Stored<DueCallback>,
        tenant: TenantId,
        receipt: Receipt,
    ) -> Result<(), Error> {
        let this = Arc::clone(self);
        let now = self.clock.now();
        let Stored { record: callback, revision, .. } = stored;
        let step = callback.after(receipt, now, self.chance(), &self.config.callbacks.policy());
        let event = event_of(&callback, &step, tenant, now);
        let (task, receiver, tries) = (callback.task, callback.receiver, callback.tries + 1);
        match &step {
            CallbackStep::Delivered => debug!(task.id = %task, receiver, tries, "callback delivered"),
            CallbackStep::GivenUp { failure } => {
                warn!(task.id = %task, receiver, tries, %failure, "callback given up: its receiver is not told");
            }
            CallbackStep::Retry { failure, .. } => {
                info!(task.id = %task, receiver, tries, %failure, "callback not taken, it is tried again");
            }
            _ => {}
        }
        let write = match step {
            CallbackStep::Retry { callback, .. } => CallbackWrite::Update { callback, revision },
            _ => CallbackWrite::Remove { task, revision },
        };
        let change = Change { callbacks: vec![write], events: vec![event], ..Change::default() };
        self.detached(Share::Running, async move { this.commit_settled(change).await }).await
    }

    /// Forgets a callback that has nobody to go to.
    pub(crate) async fn drop_callback(self: &Arc<Self>, stored: Stored<DueCallback>) -> Result<(), Error> {
        let this = Arc::clone(self);
        let write = CallbackWrite::Remove { task: stored.record.task, revision: stored.revision };
        let change = Change { callbacks: vec![write], ..Change::default() };
        self.detached(Share::Running, async move { this.commit_settled(change).await }).await
    }

    /// A try whose outcome is not written is made again: a short trouble of the store is waited for.
    async fn commit_settled(&self, change: Change) -> Result<(), Error> {
        let mut outcome = Ok(());
        for turn in 0..MAX_CONFLICTS {
            stand_aside(turn).await;
            outcome = self.commit(change.clone()).await;
            match &outcome {
                // Somebody else settled it.
                Ok(()) | Err(StoreError::Conflict { .. }) => return Ok(()),
                Err(StoreError::Unavailable { .. } | StoreError::Full { .. }) => {}
                Err(_) => break,
            }
        }
        outcome.map_err(Error::from)
    }
}

/// Names the message: the same at every try, so that its receiver can tell a repeat.
fn message_id(task: TaskId) -> String {
    format!("callback-{task}")
}

/// The callback that becomes due by a change of a task, if that ends it and somebody is to be told.
pub(super) fn callback_due(before: &Task, after: &Task, now: Timestamp) -> Option<CallbackWrite> {
    let url = after.spec.callback_url.as_deref()?;
    if before.status().is_final() || !after.status().is_final() {
        return None;
    }
    let receiver = Endpoint::parse(url).map(|endpoint| endpoint.origin()).unwrap_or_default();
    Some(CallbackWrite::Insert(DueCallback::new(after.id(), receiver, now)))
}

/// One line of the task's history. Of a failure it tells the class alone: more would let whoever named the URL look
/// around where only the server can.
fn event_of(callback: &DueCallback, step: &CallbackStep, tenant: TenantId, now: Timestamp) -> NewEvent {
    let tried = callback.tries + 1;
    let (kind, detail) = match step {
        CallbackStep::Retry { callback, failure } => (
            EventKind::CallbackFailed,
            serde_json::json!({ "try": tried, "error": failure, "next_at": callback.due_at }),
        ),
        CallbackStep::GivenUp { failure } => {
            (EventKind::CallbackGivenUp, serde_json::json!({ "try": tried, "error": failure }))
        }
        _ => (EventKind::CallbackDelivered, serde_json::json!({ "try": tried })),
    };
    let detail = JsonObject::from_serialize(&detail).expect("the detail is an object");
    NewEvent { tenant, at: now, kind, task: Some(callback.task), agent: None, attempt: None, detail }
}

impl SignedCallback {
    pub(crate) fn bytes(&self) -> usize {
        self.request.body().len()
    }

    pub(crate) fn into_parts(self) -> (TenantId, Request<Bytes>) {
        (self.tenant, self.request)
    }
}
