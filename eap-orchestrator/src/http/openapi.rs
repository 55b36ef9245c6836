//! `/openapi.json`: the table of calls as an OpenAPI 3.1 document.

use std::collections::{BTreeMap, BTreeSet};

use eap_types::{
    AgentId, ArtifactPath, Components, CredentialId, ErrorCode, Payload, PayloadInfo, ProblemBody, TaskId, TenantId,
    header, path,
};
use serde_json::{Map, Value, json};

use super::route::{AnswerBody, Caller, RequestHeader, Route, Tag};

/// The document for a server whose paths stand behind `/`.
pub(crate) fn document(routes: &[Route]) -> Value {
    let mut components = Components::default();
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(route.whole_path()).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route, &mut components);
    }
    let problem = components.read(&ProblemBody::INFO);
    components.join(json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": "EAP orchestrator",
            "version": eap_types::PROTOCOL_VERSION,
            "summary": "Hands tasks to agents that run elsewhere, and keeps what they report.",
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": Tag::ALL.map(|tag| json!({ "name": tag.name(), "description": tag.about() })),
        "paths": paths,
        "components": {
            "securitySchemes": security_schemes(),
            "headers": headers(),
            "responses": problems(routes, &problem),
        },
    }))
}

/// How a digest is written in a header, if it stands there alone.
const DIGEST: &str = "^sha-256=:[A-Za-z0-9+/]{43}=:$";

const ABOUT: &str = "The HTTP side of the External Agent Protocol 1.0. Unknown members of a request are ignored, `null` \
                     in an optional member means absent. Every 4xx and 5xx has one kind of body, whose `code` is the \
                     word to act on. The schemas here are what a client should send and can expect; everything that is \
                     taken, older spellings included, is in the JSON Schemas beside this document.";

fn operation(route: &Route, components: &mut Components) -> Value {
    let mut operation = json!({
        "operationId": route.words.id,
        "tags": [route.words.tag.name()],
        "summary": route.words.summary,
        "security": security(route.caller),
        "responses": responses(route, components),
    });
    let parameters = parameters(route, components);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = &route.takes {
        let media = json!({ "schema": components.sent(body), "examples": examples(body) });
        operation["requestBody"] = json!({
            "required": !route.body_may_be_absent,
            "content": { header::JSON: media },
        });
    }
    if route.takes_bytes {
        // OpenAPI 3.1 needs no schema for bytes; generators do.
        let bytes = json!({ "schema": { "type": "string", "format": "binary" } });
        operation["requestBody"] = json!({ "required": true, "content": { header::OCTET_STREAM: bytes } });
    }
    operation
}

/// Which of the schemes opens a call: one of them is enough.
fn security(caller: Caller) -> Value {
    match caller {
        Caller::Open => json!([]),
        Caller::Registration => {
            json!([{ "registrationSecret": [] }, { "registrationHeader": [] }, { "agentToken": [] }])
        }
        Caller::Agent => json!([{ "agentToken": [] }, { "agentBearer": [] }]),
        Caller::Operator(scope) | Caller::Reporter(scope) => json!([{ "operatorKey": [scope] }]),
        Caller::Platform => json!([{ "webhookSignature": [] }]),
    }
}

fn security_schemes() -> Value {
    json!({
        "operatorKey": {
            "type": "http",
            "scheme": "bearer",
            "description": "An operator key; each call names the scope that the key must have.",
        },
        "registrationSecret": { "type": "http", "scheme": "bearer", "description": "A registration secret." },
        "registrationHeader": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Registration-Token",
            "description": "A registration secret, in a header of its own.",
        },
        "agentToken": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Agent-Token",
            "description": "The `auth_token` that registering gave.",
        },
        "webhookSignature": {
            "type": "apiKey",
            "in": "header",
            "name": "X-AgentKit-Signature",
            "description": "HMAC-SHA256 of `X-AgentKit-Timestamp`, a dot and the raw body, in hexadecimal digits.",
        },
        "agentBearer": { "type": "http", "scheme": "bearer", "description": "The `auth_token` that registering gave." },
    })
}

fn parameters(route: &Route, components: &mut Components) -> Vec<Value> {
    let mut parameters = Vec::new();
    let whole = route.whole_path();
    for name in whole.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        let schema = match name {
            "agent_id" => components.value::<AgentId>(),
            "task_id" => components.value::<TaskId>(),
            "path" => components.value::<ArtifactPath>(),
            "key_id" | "secret_id" => components.value::<CredentialId>(),
            _ => json!({ "type": "string" }),
        };
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    for field in route.asks.iter().flat_map(|query| components.query(query)) {
        parameters.push(json!({
            "name": field.name,
            "in": "query",
            "required": field.required,
            "description": field.description,
            "schema": field.schema,
        }));
    }
    let mut header = |name: &str, about: &str, schema: Value| {
        let required =
            [RequestHeader::ReprDigest, RequestHeader::ContentDigest].iter().any(|one| one.words().0 == name);
        parameters.push(json!({
            "name": name, "in": "header", "required": required, "description": about, "schema": schema,
        }));
    };
    for named in &route.headers {
        let (name, about, schema) = named.words();
        header(name, about, schema);
    }
    if matches!(route.caller, Caller::Operator(_) | Caller::Registration) {
        let about = "The tenant, which must be the one that the key or secret belongs to.";
        header("X-Tenant-ID", about, components.value::<TenantId>());
    }
    parameters
}

impl RequestHeader {
    /// Its name, what it is for and what it may be.
    fn words(self) -> (&'static str, &'static str, Value) {
        match self {
            Self::IdempotencyKey => (
                "Idempotency-Key",
                "The same key with the same body again has the effect of one call; with another body it is refused.",
                json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" }),
            ),
            Self::LastEventId => (
                "Last-Event-ID",
                "The number of the last event seen; wins over `after`.",
                json!({ "type": "string", "pattern": "^[0-9]*$" }),
            ),
            Self::ReprDigest => (
                "Repr-Digest",
                "The SHA-256 of the whole artifact (RFC 9530): which upload this is about.",
                json!({ "type": "string", "pattern": DIGEST }),
            ),
            Self::ContentDigest => (
                "Content-Digest",
                "The SHA-256 of this body (RFC 9530).",
                json!({ "type": "string", "pattern": DIGEST }),
            ),
            Self::ContentRange => (
                "Content-Range",
                "Which bytes of the artifact this body has; without it, all.",
                json!({ "type": "string", "pattern": "^bytes [0-9]+-[0-9]+/[0-9]+$" }),
            ),
            Self::Range => (
                "Range",
                "Which bytes of the file are wanted, as in `bytes=0-99`; several ranges at once get the whole.",
                json!({ "type": "string" }),
            ),
            Self::IfRange => (
                "If-Range",
                "The `ETag` of what a part is there of: the range counts for that alone.",
                json!({ "type": "string" }),
            ),
            Self::IfNoneMatch => (
                "If-None-Match",
                "The `ETag` of what the caller has: then nothing is sent.",
                json!({ "type": "string" }),
            ),
            Self::AgentKitTimestamp => (
                "X-AgentKit-Timestamp",
                "When the webhook was sent, in seconds since 1970 or as RFC 3339 with an offset; signed with the body.",
                json!({ "type": "string" }),
            ),
            Self::Traceparent => (
                "traceparent",
                "W3C Trace Context; what is no such thing is left behind.",
                json!({ "type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$" }),
            ),
        }
    }
}

fn responses(route: &Route, components: &mut Components) -> Value {
    let mut responses = Map::new();
    for answer in &route.answers {
        let mut response = json!({
            "description": answer.status.canonical_reason().unwrap_or_default(),
            "headers": { "X-Request-ID": { "$ref": "#/components/headers/X-Request-ID" } },
        });
        if answer.status == http::StatusCode::CREATED {
            response["headers"]["Location"] = json!({ "$ref": "#/components/headers/Location" });
        }
        match &answer.body {
            AnswerBody::Nothing => {}
            AnswerBody::Json(payload) => {
                let media = json!({ "schema": components.read(payload), "examples": examples(payload) });
                response["content"] = json!({ header::JSON: media });
            }
            AnswerBody::Text(media_type) => {
                response["content"] = json!({ *media_type: { "schema": { "type": "string" } } });
            }
            AnswerBody::Other { media_type, schema } => {
                response["content"] = json!({ *media_type: { "schema": schema() } });
            }
        }
        responses.insert(answer.status.as_u16().to_string(), response);
    }
    for (status, codes) in by_status(route) {
        let reference = json!({ "$ref": format!("#/components/responses/{}", problem_name(&codes)) });
        responses.entry(status.to_string()).or_insert(reference);
    }
    responses.into()
}

fn by_status(route: &Route) -> BTreeMap<u16, BTreeSet<ErrorCode>> {
    let mut by_status = BTreeMap::<_, BTreeSet<ErrorCode>>::new();
    for (status, code) in route.refusals() {
        by_status.entry(status).or_default().insert(code);
    }
    by_status
}

/// As in `LEASE_LOST.TASK_FINAL`.
fn problem_name(codes: &BTreeSet<ErrorCode>) -> String {
    codes.iter().map(|code| code.as_str()).collect::<Vec<_>>().join(".")
}

/// One response for each set of codes that some call has under one status.
fn problems(routes: &[Route], problem: &Value) -> Value {
    let mut problems = Map::new();
    for (status, codes) in routes.iter().flat_map(by_status) {
        let words: Vec<String> =
            codes.iter().map(|code| format!("`{code}`: {}.", code.title().trim_end_matches('.'))).collect();
        let mut headers = json!({ "X-Request-ID": { "$ref": "#/components/headers/X-Request-ID" } });
        if status == 401 {
            headers["WWW-Authenticate"] = json!({ "$ref": "#/components/headers/WWW-Authenticate" });
        }
        if matches!(status, 429 | 503) {
            headers["Retry-After"] = json!({ "$ref": "#/components/headers/Retry-After" });
        }
        let response = json!({
            "description": words.join(" "),
            "headers": headers,
            "content": { header::PROBLEM_JSON: { "schema": problem } },
        });
        problems.insert(problem_name(&codes), response);
    }
    problems.into()
}

fn headers() -> Value {
    json!({
        "X-Request-ID": {
            "description": "Finds the request in the server's log; the caller's own, if it sent one.",
            "schema": { "type": "string" },
        },
        "Location": { "description": "Where the new thing can be read.", "schema": { "type": "string" } },
        "Retry-After": { "description": "After how many seconds to come back.", "schema": { "type": "integer" } },
        "WWW-Authenticate": { "description": "Always `Bearer`.", "schema": { "type": "string" } },
    })
}

fn examples(payload: &PayloadInfo) -> Value {
    let example = |(name, text): &(&str, &str)| {
        let value = serde_json::from_str(text).expect("every fixture is JSON");
        ((*name).to_owned(), json!({ "value": Value::clone(&value) }))
    };
    Value::Object(payload.examples.iter().map(example).collect())
}

impl Route {
    /// The path behind which prefix ever.
    pub(crate) fn whole_path(&self) -> String {
        match self.caller {
            Caller::Agent | Caller::Registration => format!("{}{}", path::AGENTS_BASE, self.path),
            Caller::Open | Caller::Operator(_) | Caller::Platform | Caller::Reporter(_) => self.path.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::routes::routes;

    #[test]
    fn every_row_of_the_table_is_in_the_document() {
        let routes = routes();
        let document = document(&routes);
        let mut told = 0;
        for (_, operations) in document["paths"].as_object().unwrap() {
            told += operations.as_object().unwrap().len();
        }
        assert_eq!(told, routes.len(), "two rows would stand in one place");
        for route in &routes {
            let operation = &document["paths"][route.whole_path()][route.method.as_str().to_ascii_lowercase()];
            assert_eq!(operation["operationId"], route.words.id);
            assert!(Tag::ALL.contains(&route.words.tag), "the chapter of {} is not told", route.words.id);
        }
    }

    #[test]
    fn the_codes_are_those_of_the_protocol() {
        let document = document(&routes());
        let schema = &document["components"]["schemas"]["ErrorCode"];
        let listed: BTreeSet<&str> = schema["enum"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(listed, ErrorCode::ALL.iter().map(|code| code.as_str()).collect());
        let problem = &document["components"]["schemas"]["ProblemBody"];
        assert_eq!(problem["properties"]["code"]["$ref"], "#/components/schemas/ErrorCode");
        for member in ["type", "title", "status", "code", "request_id"] {
            assert!(problem["required"].as_array().unwrap().contains(&json!(member)), "{member}");
        }
    }

    #[test]
    fn every_refusal_has_the_one_body() {
        let document = document(&routes());
        let mut refusals = 0;
        for operation in
            document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values())
        {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let Some(reference) = response["$ref"].as_str() else { continue };
                let response = document.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference} leads nowhere"));
                let schema = &response["content"][header::PROBLEM_JSON]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/ProblemBody", "{status}");
                refusals += 1;
            }
        }
        assert!(refusals > 50, "{refusals}");
    }
}
