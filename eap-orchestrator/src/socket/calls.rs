//! Frames that are calls: carried out by the handlers of HTTP, answered by a frame.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use eap_types::socket::{Frame, FrameKind};
use eap_types::{AgentId, ErrorCode, ProblemBody, Secret, TaskId, header};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::auth::Origin;
use crate::http::{Called, PathIds, in_process};
use crate::orchestrator::Orchestrator;

/// Who calls.
pub(super) struct Caller {
    pub(super) orchestrator: Orchestrator,
    pub(super) agent: AgentId,
    pub(super) token: Secret,
    pub(super) origin: Origin,
}

/// What a call came to.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) kind: FrameKind,
    /// The frame; one that could not be read has no number.
    pub(super) reference: Option<u64>,
    pub(super) payload: Option<Box<RawValue>>,
}

impl Answered {
    /// The refusal of a frame that is no call.
    pub(super) fn refusal(reference: Option<u64>, code: ErrorCode, detail: &str) -> Self {
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let payload = to_raw_value(&ProblemBody::new(code, detail, "")).ok();
        Self { status, kind: FrameKind::Error, reference, payload }
    }
}

/// Which call a frame is; `None` if it is none.
pub(super) fn call_of(kind: FrameKind) -> Option<Called> {
    match kind {
        FrameKind::AgentHeartbeat => Some(Called::Heartbeat),
        FrameKind::TaskResult => Some(Called::Results),
        FrameKind::TaskProgress => Some(Called::Progress),
        FrameKind::TaskReleased | FrameKind::TaskRejected => Some(Called::Release),
        _ => None,
    }
}

#[derive(Deserialize)]
struct OfTask {
    task_id: Option<TaskId>,
}

impl Caller {
    /// Carries a call out.
    pub(super) async fn call(&self, called: Called, frame: Frame) -> Answered {
        let body = frame.payload.as_ref().map_or("{}", |payload| payload.get()).to_owned();
        let mut ids = PathIds::of_agent(self.agent.clone());
        if matches!(called, Called::Progress | Called::Release) {
            // One that names no task, or none that there is, is answered as a path that does so.
            ids = ids.with_task(serde_json::from_str::<OfTask>(&body).ok().and_then(|named| named.task_id));
        }
        let request = self.request(ids, body);
        let response = in_process(self.orchestrator.clone(), called, request).await;
        let answers = if called == Called::Heartbeat { FrameKind::Heartbeat } else { FrameKind::Ack };
        answered(response, answers, frame.id).await
    }

    fn request(&self, ids: PathIds, body: String) -> Request {
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = Method::POST;
        if let Ok(mut token) = HeaderValue::from_str(self.token.expose()) {
            token.set_sensitive(true);
            request.headers_mut().insert(header::AGENT_TOKEN, token);
        }
        request.extensions_mut().insert(self.origin);
        request.extensions_mut().insert(ids);
        request
    }
}

async fn answered(response: Response, answers: FrameKind, reference: u64) -> Answered {
    let status = response.status();
    let body = response.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let payload = String::from_utf8(body.into()).ok().and_then(|text| RawValue::from_string(text).ok());
    let kind = if status.is_success() { answers } else { FrameKind::Error };
    Answered { status, kind, reference: Some(reference), payload }
}
