//! What the server says about itself: `/openapi.json` and `/.well-known/eap`.

use std::sync::OnceLock;

use axum::extract::{OriginalUri, Request};
use axum::response::{IntoResponse as _, Response};
use eap_types::{KnownCall, WellKnown, header, path};
use http::{HeaderValue, StatusCode};

use super::call::json;
use super::conditional::is_known;
use super::error::ApiError;
use super::routes;
use crate::auth::{hex, sha256};
use crate::error::Error;
use crate::orchestrator::Orchestrator;

/// The document, around the address that calls begin with.
struct Document {
    before: String,
    after: String,
}

const ROOT: &str = r#""servers":[{"url":"/"}]"#;

/// The same for every orchestrator: it describes the version.
fn written() -> Option<&'static Document> {
    static DOCUMENT: OnceLock<Option<Document>> = OnceLock::new();
    let write = || {
        let text = super::openapi_document().to_string();
        let (before, after) = text.split_once(ROOT)?;
        Some(Document { before: before.to_owned(), after: after.to_owned() })
    };
    DOCUMENT.get_or_init(write).as_ref()
}

/// The description of all calls.
pub(super) fn openapi(orchestrator: &Orchestrator, request: &Request) -> Result<Response, ApiError> {
    let Document { before, after } = written().ok_or(Error::Broken)?;
    let server = match &orchestrator.config().public_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => prefix(request, path::OPENAPI),
    };
    let server = if server.is_empty() { "/" } else { &server };
    let body = format!(r#"{before}"servers":[{{"url":{}}}]{after}"#, serde_json::Value::from(server));
    let tag = format!("\"{}\"", &hex(&sha256(&body))[..32]);
    let mut response = if is_known(request.headers(), &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(http::header::CONTENT_TYPE, header::JSON)], body).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(http::header::ETAG, tag);
    }
    Ok(response)
}

/// Where everything is.
pub(super) fn well_known(orchestrator: &Orchestrator, request: &Request) -> Result<Response, ApiError> {
    let prefix = public_prefix(orchestrator).unwrap_or_else(|| prefix(request, path::WELL_KNOWN));
    json(StatusCode::OK, &whereabouts(orchestrator, &prefix))
}

/// The same for a host that serves it at its own root and the API behind `prefix`.
pub(crate) fn well_known_router(orchestrator: Orchestrator, prefix: &str) -> axum::Router {
    let prefix = public_prefix(&orchestrator).unwrap_or_else(|| prefix.trim_end_matches('/').to_owned());
    let about = whereabouts(&orchestrator, &prefix);
    let route = super::route::describe("well_known", super::route::Tag::Service, "Where everything is.").open_at_once(
        http::Method::GET,
        path::WELL_KNOWN,
        move |_, _| json(StatusCode::OK, &about),
    );
    axum::Router::new().route(route.path, route.handler).with_state(orchestrator)
}

fn whereabouts(orchestrator: &Orchestrator, prefix: &str) -> WellKnown {
    let calls = routes::routes()
        .into_iter()
        .map(|route| (route.words.id.to_owned(), KnownCall::new(route.method.as_str(), route.whole_path())));
    WellKnown::new(prefix, orchestrator.lifecycle().served_features(), calls)
}

/// The path of `public_url`, if there is one.
fn public_prefix(orchestrator: &Orchestrator) -> Option<String> {
    let url = url::Url::parse(orchestrator.config().public_url.as_deref()?).ok()?;
    Some(url.path().trim_end_matches('/').to_owned())
}

/// What stands before `path` in the URI that was called: where a host nested the router.
fn prefix(request: &Request, path: &str) -> String {
    let called = request.extensions().get::<OriginalUri>().map_or(request.uri(), |original| &original.0);
    called.path().strip_suffix(path).unwrap_or_default().to_owned()
}
