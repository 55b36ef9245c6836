//! What is sent to an agent: the assignment, the probe, the cancel; signed, or with its token for an older peer.

use bytes::Bytes;
use eap_core::{Agent, Push, Task};
use eap_types::webhook::{self, SigningSecret};
use eap_types::{CancelTask, Feature, PushStop, TaskId, header};
use http::{HeaderValue, Method, Request};

use super::Shared;
use crate::guard::Endpoint;
use crate::lifecycle::has_agreed;
use crate::outbound::below;

/// A task on its way.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) request: Request<Bytes>,
    /// Whether the agent may answer before its result.
    pub(super) may_be_async: bool,
    /// Whether it answers a repeat without a second run.
    pub(super) deduplicates: bool,
    /// Whether the result comes by another way, whatever is answered.
    pub(super) reports_elsewhere: bool,
}

impl Shared {
    /// The push of an attempt.
    pub(super) fn assignment(&self, agent: &Agent, task: &Task) -> Result<Message, PushStop> {
        if agent.platform.is_some() {
            return self.run(agent, task);
        }
        let (push, lease) = (agent.push.as_ref().ok_or(PushStop::Gone)?, task.lease().ok_or(PushStop::Gone)?);
        let mut assignments = self.lifecycle.assignments(std::slice::from_ref(task));
        let mut assignment = assignments.pop().ok_or(PushStop::Gone)?;
        let body = if agent.is_older_peer() {
            // Nothing that ADR 001 does not name.
            assignment.lease_id = None;
            assignment.lease_expires_in_ms = None;
            assignment.lease_expires_at = None;
            assignment.attempt = None;
            assignment.max_attempts = None;
            assignment.priority = None;
            assignment.traceparent = None;
            serde_json::to_vec(&assignment.for_older_peer())
        } else {
            serde_json::to_vec(&assignment)
        };
        let body = Bytes::from(body.map_err(|_| PushStop::Sealed)?);
        let id = format!("{}.{}", task.id(), lease.attempt);
        let mut request = self.signed(agent, push, Method::POST, "/task", &id, body)?;
        let may_be_async = has_agreed(agent, Feature::PushAsyncV1);
        if may_be_async {
            request.headers_mut().insert(header::PREFER, HeaderValue::from_static(header::RESPOND_ASYNC));
        }
        Ok(Message { request, may_be_async, deduplicates: !agent.is_older_peer(), reports_elsewhere: false })
    }

    /// Asks whether the agent is there.
    pub(super) fn health(&self, agent: &Agent) -> Result<Request<Bytes>, PushStop> {
        let push = agent.push.as_ref().ok_or(PushStop::Gone)?;
        let id = format!("health.{}", self.lifecycle.clock.now().as_micros());
        self.signed(agent, push, Method::GET, "/health", &id, Bytes::new())
    }

    /// Says that a task is cancelled, and why.
    pub(super) fn cancel(
        &self,
        agent: &Agent,
        task: TaskId,
        attempt: u32,
        cancel: &CancelTask,
    ) -> Result<Request<Bytes>, PushStop> {
        let push = agent.push.as_ref().ok_or(PushStop::Gone)?;
        let path = format!("/task/{task}");
        let body = serde_json::to_vec(cancel).map_err(|_| PushStop::Policy)?;
        self.signed(agent, push, Method::DELETE, &path, &format!("cancel.{task}.{attempt}"), body.into())
    }

    fn signed(
        &self,
        agent: &Agent,
        push: &Push,
        method: Method,
        path: &str,
        id: &str,
        body: Bytes,
    ) -> Result<Request<Bytes>, PushStop> {
        let url = below(agent.endpoint_url.as_deref().unwrap_or_default(), path).ok_or(PushStop::Policy)?;
        let endpoint = Endpoint::parse(&url).map_err(|_| PushStop::Policy)?;
        let credential = self.lifecycle.push_credential(agent).ok_or(PushStop::Sealed)?;
        let mut request = Request::builder().method(method).uri(&url).header(http::header::CONTENT_TYPE, header::JSON);
        let sensitive = |text: &str| {
            let mut value = HeaderValue::from_str(text).map_err(|_| PushStop::Sealed)?;
            value.set_sensitive(true);
            Ok::<_, PushStop>(value)
        };
        if !push.with_token {
            let secret: SigningSecret = credential.expose().parse().map_err(|_| PushStop::Sealed)?;
            for (name, text) in webhook::sign(&[secret], id, self.lifecycle.clock.now(), &body).headers() {
                request = request.header(name, sensitive(text)?);
            }
        } else if self.lifecycle.guard.rules().may_carry_token(&endpoint) {
            request = request.header(header::AGENT_TOKEN, sensitive(credential.expose())?);
        }
        request.body(body).map_err(|_| PushStop::Policy)
    }
}

#[cfg(test)]
mod tests {
    use crate::outbound::below;

    #[test]
    fn the_path_stands_behind_that_of_the_endpoint() {
        for (endpoint, url) in [
            ("http://a", "http://a/task"),
            ("http://a:81/", "http://a:81/task"),
            ("https://a/x/y//", "https://a/x/y/task"),
            ("https://a/x?key=1", "https://a/x/task?key=1"),
        ] {
            assert_eq!(below(endpoint, "/task").as_deref(), Some(url));
        }
        assert_eq!(below("", "/task"), None);
    }
}
