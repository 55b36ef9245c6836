//! One HTTP call, and what came back.

use std::sync::Arc;

use eap_types::ErrorCode;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::shape::assert_shape;

/// Where the server is, and the connections to it.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    base: String,
    client: reqwest::Client,
}

impl Api {
    /// Calls go to `base`, as in `http://127.0.0.1:8080`; nothing follows redirects or a proxy.
    pub(crate) fn at(base: impl Into<String>) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .build()
            .expect("the client has nothing that could be wrong");
        Self { base: base.into(), client }
    }

    /// Where it is.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Begins a call.
    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        Call { request: self.client.request(method, format!("{}{path}", self.base)) }
    }

    pub(crate) fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }
}

/// A call that is not sent yet.
#[derive(Debug)]
pub(crate) struct Call {
    request: reqwest::RequestBuilder,
}

impl Call {
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self { request: self.request.header(name, value) }
    }

    pub(crate) fn bearer(self, secret: &str) -> Self {
        self.header("authorization", &format!("Bearer {secret}"))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.bytes(body.to_string())
    }

    pub(crate) fn maybe_json(self, body: Option<&Value>) -> Self {
        match body {
            Some(body) => self.json(body),
            None => self,
        }
    }

    /// A body that is announced as JSON and may be anything.
    pub(crate) fn bytes(self, body: impl Into<Vec<u8>>) -> Self {
        let call = self.header("content-type", "application/json");
        call.body(body)
    }

    pub(crate) fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { request: self.request.body(body.into()) }
    }

    /// The answer's body as it came, for what a parser would change.
    pub(crate) async fn text(self) -> String {
        let response = self.request.send().await.expect("the server answers");
        response.text().await.expect("the answer is whole")
    }

    /// The status, the content type and the text of an answer that is no JSON.
    pub(crate) async fn page(self) -> (u16, String, String) {
        let response = self.request.send().await.expect("the server answers");
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        let (status, content_type) = (response.status().as_u16(), content_type.unwrap_or_default().to_owned());
        (status, content_type, response.text().await.expect("the answer is whole"))
    }

    /// The answer with its body still to be read.
    pub(crate) async fn open(self) -> reqwest::Response {
        self.request.send().await.expect("the server answers")
    }

    pub(crate) async fn send(self) -> Answer {
        let response = self.request.send().await.expect("the server answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.expect("the answer is whole");
        let body = match &bytes[..] {
            [] => Value::Null,
            text => serde_json::from_slice(text).expect("every body is JSON"),
        };
        Answer { status, headers, body }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The JSON; null for an empty body.
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("headers are ASCII"))
    }

    /// The body of an answer with this status, which is no problem.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        if status == 204 {
            assert_eq!(self.body, Value::Null, "204 has no body");
        } else {
            assert_eq!(self.header("content-type"), Some("application/json"));
        }
        self.body
    }

    /// The body of a refusal with this status and code; checks every member of it (A49).
    #[track_caller]
    pub(crate) fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, &self.body["code"]), (status, &json!(code)), "{}", self.body);
        self.assert_is_problem();
        self.body
    }

    /// Checks what all problem bodies have in common.
    #[track_caller]
    pub(crate) fn assert_is_problem(&self) {
        let (body, status) = (&self.body, self.status);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{body}");
        let code: ErrorCode =
            body["code"].as_str().unwrap_or_default().parse().expect("the code is one of the protocol's");
        let mut shape = json!({
            "type": code.urn(), "title": code.title(), "status": status, "detail": "<text>",
            "code": code.as_str(), "error": code.as_str(), "message": body["detail"], "details": "<any>",
            "request_id": self.header("x-request-id").expect("every answer names its request"),
            "retryable": code.is_retryable(),
        });
        // Why the server ended the attempt that the call was about.
        let may_have_a_cause = matches!(code, ErrorCode::LeaseLost | ErrorCode::TaskFinal);
        for name in ["cause", "reason"] {
            if may_have_a_cause && body.get(name).is_some() {
                shape[name] = json!("<text>");
            }
        }
        assert_shape(body, &shape);
        for detail in body["details"].as_array().expect("details are a list") {
            assert_shape(detail, &json!({"field": "<text>", "message": "<text>", "type": "<text>"}));
        }
        if status == 401 {
            assert_eq!(self.header("www-authenticate"), Some("Bearer"));
        }
        if matches!(status, 429 | 503) {
            assert!(self.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()));
        }
    }

    /// The fields that a 422 names.
    #[track_caller]
    pub(crate) fn fields(self) -> Vec<String> {
        let body = self.problem(422, "VALIDATION_ERROR");
        let details = body["details"].as_array().expect("details are a list");
        details.iter().map(|detail| detail["field"].as_str().expect("a field has a name").to_owned()).collect()
    }
}
