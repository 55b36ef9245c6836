//! One call of the API: how it is reached, who may make it, what it takes and gives.

use std::future::Future;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use eap_types::agentkit::DetailBody;
use eap_types::{ErrorCode, Payload, PayloadInfo, Scope, header};
use http::{HeaderValue, Method, StatusCode};
use tracing::{Instrument as _, debug_span, field};

use super::call::OperatorCall;
use super::error::{self, ApiError};
use super::request_id;
use crate::agentkit::{self, Refused};
use crate::orchestrator::Orchestrator;
use crate::trace;

/// A row of the table: served by the router and told by `/openapi.json`, both from here.
pub(crate) struct Route {
    pub(crate) words: Words,
    pub(crate) method: Method,
    /// Relative to the base of the agents' calls where `caller` is an agent, whole otherwise.
    pub(crate) path: &'static str,
    pub(crate) caller: Caller,
    pub(crate) takes: Option<PayloadInfo>,
    pub(crate) body_may_be_absent: bool,
    /// The body is bytes, not JSON.
    pub(crate) takes_bytes: bool,
    pub(crate) asks: Option<PayloadInfo>,
    pub(crate) headers: Vec<RequestHeader>,
    pub(crate) answers: Vec<Answer>,
    refusals: Vec<(u16, ErrorCode)>,
    pub(crate) handler: MethodRouter<Orchestrator>,
}

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Everybody.
    Open,
    /// Whoever has a registration secret, or the live token of the agent.
    Registration,
    /// The agent in the path, by its token.
    Agent,
    /// An operator whose key has the scope.
    Operator(Scope),
    /// The agent platform, by its signature.
    Platform,
    /// Whoever has an operator key with the scope, on the face of the agent platform.
    Reporter(Scope),
}

/// What the document says of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    /// Names the call in generated clients.
    pub(crate) id: &'static str,
    pub(crate) tag: Tag,
    /// One sentence.
    pub(crate) summary: &'static str,
}

/// The chapter of the document that a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// What agents call.
    AgentSide,
    Tasks,
    /// Chains of tasks, and the sessions that run them.
    Workflows,
    Agents,
    /// What an agent platform calls, in the shapes of Ops-Core.
    AgentKit,
    /// Operator keys and registration secrets.
    Keys,
    /// Health and the description of all this.
    Service,
}

impl Tag {
    /// Every chapter, in order.
    pub(crate) const ALL: [Self; 7] =
        [Self::AgentSide, Self::Tasks, Self::Workflows, Self::Agents, Self::AgentKit, Self::Keys, Self::Service];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AgentSide => "agent side",
            Self::Tasks => "tasks",
            Self::Workflows => "workflows",
            Self::Agents => "agents",
            Self::AgentKit => "agentkit",
            Self::Keys => "keys",
            Self::Service => "service",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::AgentSide => "What agents call: join, live, get work, report, leave.",
            Self::Tasks => "What operators and hosts do with tasks.",
            Self::Workflows => "Chains of tasks, and the sessions that run them.",
            Self::Agents => "What operators see of agents.",
            Self::AgentKit => "What an agent platform calls, in the shapes of Ops-Core and AgentKit.",
            Self::Keys => "Operator keys and registration secrets.",
            Self::Service => "Whether the server works, and what it serves.",
        }
    }
}

/// A header that a call understands beyond those that all of its kind do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestHeader {
    IdempotencyKey,
    LastEventId,
    Traceparent,
    ReprDigest,
    ContentDigest,
    ContentRange,
    Range,
    IfRange,
    IfNoneMatch,
    AgentKitTimestamp,
}

/// One way in which a call is answered when all is well.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: AnswerBody,
}

#[derive(Clone, Debug)]
pub(crate) enum AnswerBody {
    Nothing,
    Json(PayloadInfo),
    /// Text of this media type.
    Text(&'static str),
    /// What is no payload of the protocol.
    Other {
        media_type: &'static str,
        schema: fn() -> serde_json::Value,
    },
}

/// Begins a row: the name of the call in generated clients, its chapter, and what it does in one sentence.
pub(crate) fn describe(id: &'static str, tag: Tag, summary: &'static str) -> Words {
    Words { id, tag, summary }
}

impl Words {
    /// A call everybody may make.
    pub(crate) fn open<F, A>(self, method: Method, path: &'static str, handler: F) -> Route
    where
        F: FnOnce(Orchestrator, Request) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Response, ApiError>> + Send + 'static,
    {
        Route::new(self, method, path, Caller::Open, handler)
    }

    /// A call everybody may make and that waits for nothing.
    pub(crate) fn open_at_once<F>(self, method: Method, path: &'static str, handler: F) -> Route
    where
        F: FnOnce(&Orchestrator, &Request) -> Result<Response, ApiError> + Clone + Send + Sync + 'static,
    {
        self.open(method, path, async move |orchestrator: Orchestrator, request: Request| {
            handler(&orchestrator, &request)
        })
    }

    /// The call by which agents join; the path is relative to the agents' base.
    pub(crate) fn registration<F, A>(self, method: Method, path: &'static str, handler: F) -> Route
    where
        F: FnOnce(Orchestrator, Request) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Response, ApiError>> + Send + 'static,
    {
        Route::new(self, method, path, Caller::Registration, handler)
    }

    /// A call by the agent in the path, which is relative to the agents' base. The handler reads an
    /// [`AgentCall`](super::call::AgentCall).
    pub(crate) fn agent<F, A>(self, method: Method, path: &'static str, handler: F) -> Route
    where
        F: FnOnce(Orchestrator, Request) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Response, ApiError>> + Send + 'static,
    {
        Route::new(self, method, path, Caller::Agent, handler)
    }

    /// A call by an operator whose key has the scope. The handler gets the call only once that is so.
    pub(crate) fn operator<F, A>(self, method: Method, path: &'static str, scope: Scope, handler: F) -> Route
    where
        F: FnOnce(Orchestrator, OperatorCall) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Response, ApiError>> + Send + 'static,
    {
        let checked = async move |orchestrator: Orchestrator, request: Request| {
            let call = OperatorCall::read(&orchestrator, request, scope).await?;
            handler(orchestrator, call).await
        };
        Route::new(self, method, path, Caller::Operator(scope), checked)
    }
}

impl Words {
    /// A call of the agent platform's face, whose handler sees to everything. Its refusals are among the answers.
    pub(crate) fn agentkit<F, A>(self, method: Method, path: &'static str, caller: Caller, handler: F) -> Route
    where
        F: FnOnce(Orchestrator, Request) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Response, Refused>> + Send + 'static,
    {
        Route::new(self, method, path, caller, async move |orchestrator: Orchestrator, request: Request| {
            agentkit::answered(handler, orchestrator, request).await
        })
    }
}

impl Route {
    fn new<F, A>(words: Words, method: Method, path: &'static str, caller: Caller, handler: F) -> Self
    where
        F: FnOnce(Orchestrator, Request) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<Response, ApiError>> + Send + 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("the table has methods of HTTP alone");
        Self {
            words,
            method,
            path,
            caller,
            takes: None,
            body_may_be_absent: false,
            takes_bytes: false,
            asks: None,
            headers: Vec::new(),
            answers: Vec::new(),
            refusals: Vec::new(),
            handler: on(filter, async move |State(orchestrator): State<Orchestrator>, request: Request| {
                answer(words.id, handler, orchestrator, request).await
            }),
        }
    }

    /// The body is a `T`.
    pub(crate) fn takes<T: Payload>(self) -> Self {
        Self { takes: Some(T::INFO), ..self }
    }

    /// The body is a `T`, or empty.
    pub(crate) fn may_take<T: Payload>(self) -> Self {
        Self { takes: Some(T::INFO), body_may_be_absent: true, ..self }
    }

    /// The body is bytes.
    pub(crate) fn takes_bytes(self) -> Self {
        Self { takes_bytes: true, ..self }
    }

    /// The query is a `T`.
    pub(crate) fn asks<T: Payload>(self) -> Self {
        Self { asks: Some(T::INFO), ..self }
    }

    /// The call understands the header.
    pub(crate) fn hears(mut self, header: RequestHeader) -> Self {
        self.headers.push(header);
        self
    }

    /// One answer is this status with a `T`.
    pub(crate) fn gives<T: Payload>(mut self, status: StatusCode) -> Self {
        self.answers.push(Answer { status, body: AnswerBody::Json(T::INFO) });
        self
    }

    /// One answer is this status with a text of this media type.
    pub(crate) fn gives_text(mut self, status: StatusCode, media_type: &'static str) -> Self {
        self.answers.push(Answer { status, body: AnswerBody::Text(media_type) });
        self
    }

    /// One answer is this status without a body.
    pub(crate) fn gives_nothing(mut self, status: StatusCode) -> Self {
        self.answers.push(Answer { status, body: AnswerBody::Nothing });
        self
    }

    /// One answer is this status with a body that is no payload of the protocol.
    pub(crate) fn gives_other(
        mut self,
        status: StatusCode,
        media_type: &'static str,
        schema: fn() -> serde_json::Value,
    ) -> Self {
        self.answers.push(Answer { status, body: AnswerBody::Other { media_type, schema } });
        self
    }

    /// The call may also fail in these ways; what every call of its kind refuses goes without saying.
    pub(crate) fn refuses(mut self, codes: &[ErrorCode]) -> Self {
        self.refusals.extend(codes.iter().map(|code| (code.status(), *code)));
        self
    }

    /// The call, on the face of the agent platform, may be refused with these statuses.
    pub(crate) fn refuses_in_detail(self, statuses: &[u16]) -> Self {
        let refusals = statuses.iter().filter_map(|status| StatusCode::from_u16(*status).ok());
        refusals.fold(self, Self::gives::<DetailBody>)
    }

    /// A code comes with a status that is not its own.
    pub(crate) fn refuses_as(mut self, status: StatusCode, code: ErrorCode) -> Self {
        self.refusals.push((status.as_u16(), code));
        self
    }

    /// Every way in which the call may be refused, as status and code: its own, and those of its kind.
    pub(crate) fn refusals(&self) -> Vec<(u16, ErrorCode)> {
        use ErrorCode as Code;
        let mut codes = match self.caller {
            // That face has a body of its own for them, told as an answer.
            Caller::Platform | Caller::Reporter(_) => return self.refusals.clone(),
            Caller::Open => vec![],
            Caller::Registration => vec![Code::RegistrationDenied, Code::Forbidden],
            Caller::Agent => vec![Code::InvalidToken, Code::AgentNotFound],
            Caller::Operator(_) => vec![Code::InvalidToken, Code::Forbidden],
        };
        if self.caller != Caller::Open {
            codes.extend([Code::InternalError, Code::Unavailable, Code::Draining]);
        }
        // An agent's call reads a body, if it comes with one, even where it takes none.
        if self.takes.is_some() || self.caller == Caller::Agent {
            codes.extend([
                Code::MalformedJson,
                Code::RequestTimeout,
                Code::PayloadTooLarge,
                Code::UnsupportedMediaType,
                Code::ValidationError,
            ]);
        }
        if self.asks.is_some() {
            codes.push(Code::ValidationError);
        }
        let of_its_kind = codes.into_iter().map(|code| (code.status(), code));
        self.refusals.iter().copied().chain(of_its_kind).collect()
    }
}

/// Carries a call out; its errors become problem bodies, every answer carries the request's id and is counted.
pub(super) async fn answer<F, A>(
    call: &'static str,
    handler: F,
    orchestrator: Orchestrator,
    request: Request,
) -> Response
where
    F: FnOnce(Orchestrator, Request) -> A,
    A: Future<Output = Result<Response, ApiError>>,
{
    let (began, counting) = (Instant::now(), orchestrator.clone());
    let id = request_id(&orchestrator, request.headers());
    let (trace_id, parent_id) = (field::Empty, field::Empty);
    let span = debug_span!("request", call, request_id = id, trace_id, parent_id);
    if !span.is_disabled()
        && let Some(traceparent) = trace::traceparent(request.headers())
    {
        trace::join(&span, &traceparent);
    }
    let answer = handler(orchestrator, request).instrument(span).await;
    let mut response = answer.unwrap_or_else(|refusal| error::response(&refusal, &id));
    if let Ok(id) = HeaderValue::from_str(&id) {
        // A batch has named itself already: its answers carry the same id.
        response.headers_mut().entry(header::REQUEST_ID).or_insert(id);
    }
    counting.lifecycle().metrics.http.answered(call, response.status(), began);
    response
}
