//! A task for an agent of a platform, as the platform's `run` takes it (docs/protocol.md, section 6).

use bytes::Bytes;
use eap_core::{Agent, Task};
use eap_types::agentkit::{RunMessage, SessionContext};
use eap_types::{JsonObject, PushStop, RawJson, StepContext, header, path};
use http::{Method, Request};

use super::Shared;
use super::message::Message;
use crate::outbound::{Configured, below};

impl Shared {
    /// The call that gives an attempt to the platform of its agent, or to the agent itself where that is configured.
    pub(super) fn run(&self, agent: &Agent, task: &Task) -> Result<Message, PushStop> {
        let face = self.lifecycle.config.agentkit.as_ref().ok_or(PushStop::Gone)?;
        let url = match (&face.url, face.direct) {
            (_, true) => agent.endpoint_url.clone().ok_or(PushStop::Policy)?,
            (Some(base), false) => below(base, &path::platform_run(&agent.id)).ok_or(PushStop::Policy)?,
            (None, false) => return Err(PushStop::Gone),
        };
        let body = serde_json::to_vec(&message(task)).map_err(|_| PushStop::Policy)?;
        let request = Request::builder().method(Method::POST).uri(url).header(http::header::CONTENT_TYPE, header::JSON);
        let mut request = request.body(Bytes::from(body)).map_err(|_| PushStop::Policy)?;
        if !face.direct {
            request.extensions_mut().insert(Configured);
        }
        Ok(Message { request, may_be_async: true, deduplicates: false, reports_elsewhere: true })
    }
}

/// The message with a task, which names it in every way that platforms look for.
fn message(task: &Task) -> RunMessage {
    let id = task.id().to_string();
    let session = task.spec.session_id.to_string();
    match task.spec.context.decode::<StepContext>() {
        Ok(step) => RunMessage::new(id, step.task_name, payload(&task.spec.input)).with_session(SessionContext::new(
            step.workflow_id.as_str(),
            session,
            step.task_id.as_str(),
        )),
        Err(_) => {
            let mut context = SessionContext::default();
            context.session_id = Some(session);
            context.task_id = Some(id.clone());
            RunMessage::new(id, task.spec.routing.task_type.as_str(), payload(&task.spec.input)).with_session(context)
        }
    }
}

/// What a task has as its input: an object as it is, anything else under one name.
fn payload(input: &str) -> JsonObject {
    let object = RawJson::parse(input).ok().and_then(|json| JsonObject::try_from(json).ok());
    object.unwrap_or_else(|| {
        let named = std::collections::BTreeMap::from([("input", input)]);
        JsonObject::from_serialize(&named).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_the_payload_and_anything_else_is_named() {
        for (input, expected) in [
            (r#"{"b": 1.50, "a": [null]}"#, r#"{"b": 1.50, "a": [null]}"#),
            ("plain", r#"{"input":"plain"}"#),
            ("[1]", r#"{"input":"[1]"}"#),
            ("", r#"{"input":""}"#),
        ] {
            assert_eq!(payload(input).as_str(), expected);
        }
    }
}
