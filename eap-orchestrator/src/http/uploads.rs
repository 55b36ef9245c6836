//! `PUT` and `HEAD …/{agent_id}/tasks/{task_id}/artifacts/{path}`: artifacts too large for a result, in parts.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use eap_core::Quote;
use eap_types::limits::MAX_ARTIFACT_PART_BYTES;
use eap_types::{ContentDigest, FieldProblem, StoredArtifact, header};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;

use super::call::{AgentUpload, json};
use super::error::ApiError;
use super::query::Query;
use crate::artifacts::{ArtifactKey, Begun, Kept, PIECE, Received, Receiving, Span};
use crate::error::Error;
use crate::orchestrator::Orchestrator;

/// Takes a part of an artifact in, or all of it.
pub(super) async fn upload(orchestrator: Orchestrator, request: Request) -> Result<Response, ApiError> {
    let (call, mut body) = AgentUpload::read(&orchestrator, request).await?;
    let outcome = receive(&orchestrator, &call, &mut body).await;
    if outcome.as_ref().is_err_and(|refusal| is_read_first(refusal, &call.headers)) {
        let timeout = orchestrator.config().capacity.body_timeout;
        // Whatever comes of it, the refusal is the answer.
        let _ = tokio::time::timeout(timeout, drain(&mut body)).await;
    }
    let (size, digest, status) = outcome?;
    json(status, &StoredArtifact::new(call.artifact, size, digest))
}

/// Whether a sender may be at its body still, which it has to end before it hears the refusal.
fn is_read_first(refusal: &ApiError, headers: &HeaderMap) -> bool {
    let length: Option<usize> = text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    length.is_some_and(|length| length <= MAX_ARTIFACT_PART_BYTES)
        // Who expects to be told first has not sent it.
        && !headers.contains_key(http::header::EXPECT)
        && !matches!(refusal, ApiError::SlowBody | ApiError::BrokenBody)
}

async fn receive(
    orchestrator: &Orchestrator,
    call: &AgentUpload,
    body: &mut Body,
) -> Result<(u64, ContentDigest, StatusCode), ApiError> {
    let (part, key) = read(orchestrator, call, Part::of).await?;
    let lifecycle = orchestrator.lifecycle();
    let kib = u32::try_from(2 * PIECE / 1024).unwrap_or(u32::MAX);
    let busy = |_| Error::Busy { reason: "too many large bodies are being received" };
    let _room = orchestrator.bodies().try_acquire_many(kib).map_err(busy)?;
    let timeout = orchestrator.config().capacity.body_timeout;
    let received = match lifecycle.begin_upload(&call.entry.agent, key, part.span).await? {
        Begun::Whole => {
            // Read to its end nevertheless, so that its sender hears the answer.
            tokio::time::timeout(timeout, drain(body)).await.unwrap_or(Err(ApiError::SlowBody))?;
            Received::Whole
        }
        Begun::Receiving(mut receiving) => {
            let taken = tokio::time::timeout(timeout, take(&mut receiving, body)).await;
            taken.unwrap_or(Err(ApiError::SlowBody))?;
            lifecycle.finish_upload(*receiving, part.digest).await?
        }
    };
    Ok(match received {
        Received::Part(size) => (size, key.digest, StatusCode::ACCEPTED),
        Received::Whole => (part.span.total, key.digest, StatusCode::CREATED),
    })
}

/// Says how much of an artifact is there.
pub(super) async fn progress(orchestrator: Orchestrator, request: Request) -> Result<Response, ApiError> {
    let (call, _) = AgentUpload::read(&orchestrator, request).await?;
    let ((), key) = read(&orchestrator, &call, |_, _| Some(())).await?;
    let kept = orchestrator.lifecycle().shelf()?.kept(key).await?.unwrap_or(Kept::Part(0));
    let mut response = StatusCode::NO_CONTENT.into_response();
    let is_whole = if matches!(kept, Kept::Whole(_)) { "?1" } else { "?0" };
    for (name, value) in [
        (header::UPLOAD_OFFSET, HeaderValue::from(kept.bytes())),
        (header::UPLOAD_COMPLETE, HeaderValue::from_static(is_whole)),
    ] {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
    Ok(response)
}

/// What the headers and the query say, all that is wrong with them at once, and the attempt that they are about.
async fn read<T>(
    orchestrator: &Orchestrator,
    call: &AgentUpload,
    headers: impl FnOnce(&HeaderMap, &mut Vec<FieldProblem>) -> Option<T>,
) -> Result<(T, ArtifactKey), ApiError> {
    let lifecycle = orchestrator.lifecycle();
    lifecycle.shelf()?;
    let mut problems = Vec::new();
    let digest = digest(&call.headers, header::REPR_DIGEST, &mut problems);
    let said = headers(&call.headers, &mut problems);
    let mut query = Query::of(&call.uri);
    let quote = Quote {
        lease_id: query.get("lease_id", "This is the id of a lease."),
        attempt: query.number("attempt", 1..=u64::from(u32::MAX)).and_then(|number| u32::try_from(number).ok()),
    };
    if let Err(Error::Invalid { problems: found }) = query.finish() {
        problems.extend(found);
    }
    let (Some(digest), Some(said), true) = (digest, said, problems.is_empty()) else {
        // A task that is not the caller's comes before what is wrong with the headers.
        lifecycle.assigned(&call.entry.agent.id, call.task).await?;
        return Err(Error::Invalid { problems }.into());
    };
    Ok((said, lifecycle.upload_key(&call.entry.agent, call.task, quote, digest).await?))
}

/// What the headers say of a part.
struct Part {
    span: Span,
    digest: ContentDigest,
}

impl Part {
    fn of(headers: &HeaderMap, problems: &mut Vec<FieldProblem>) -> Option<Self> {
        let digest = digest(headers, header::CONTENT_DIGEST, problems);
        let length: Option<u64> = text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let span = match (headers.contains_key(header::CONTENT_RANGE), length) {
            (true, length) => {
                let span = text(headers, header::CONTENT_RANGE).and_then(range);
                let fits = span.filter(|span| length.is_none_or(|length| length == span.to - span.from));
                if fits.is_none() {
                    wrong(
                        problems,
                        header::CONTENT_RANGE,
                        "This is `bytes first-last/total`, and as long as the body.",
                    );
                }
                fits
            }
            (false, Some(total)) => Some(Span { from: 0, to: total, total }),
            (false, None) => {
                wrong(problems, header::CONTENT_LENGTH, "Without a Content-Range this header has to be there.");
                None
            }
        };
        Some(Self { span: span?, digest: digest? })
    }
}

/// Reads `bytes first-last/total`.
fn range(value: &str) -> Option<Span> {
    let (ends, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = ends.split_once('-')?;
    let (from, last, total): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (from <= last && last < total).then(|| Span { from, to: last + 1, total })
}

fn digest(headers: &HeaderMap, name: &str, problems: &mut Vec<FieldProblem>) -> Option<ContentDigest> {
    let digest = text(headers, name).and_then(ContentDigest::from_header);
    if digest.is_none() {
        wrong(problems, name, "This is `sha-256=:<base64>:` (RFC 9530).");
    }
    digest
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn wrong(problems: &mut Vec<FieldProblem>, name: &str, message: &str) {
    problems.push(FieldProblem::new(format!("header.{name}"), "value_error", message));
}

async fn take(receiving: &mut Receiving, body: &mut Body) -> Result<(), ApiError> {
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame.map_err(|_| ApiError::BrokenBody)?.into_data() {
            receiving.take(&bytes).await?;
        }
    }
    Ok(())
}

async fn drain(body: &mut Body) -> Result<(), ApiError> {
    let mut left = MAX_ARTIFACT_PART_BYTES;
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame.map_err(|_| ApiError::BrokenBody)?.into_data() {
            left = left.checked_sub(bytes.len()).ok_or(ApiError::TooLarge { limit: MAX_ARTIFACT_PART_BYTES })?;
        }
    }
    Ok(())
}

/// Refuses a part or an artifact that is too large, before anything is looked up.
pub(super) fn within_limits(orchestrator: &Orchestrator, headers: &HeaderMap) -> Result<(), ApiError> {
    let whole = orchestrator.config().capacity.artifact_bytes;
    let length: Option<u64> = text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let span = text(headers, header::CONTENT_RANGE).and_then(range);
    let part = span.map(|span| span.to - span.from).into_iter().chain(length).max();
    if part.is_some_and(|part| part > MAX_ARTIFACT_PART_BYTES as u64) {
        return Err(ApiError::TooLarge { limit: MAX_ARTIFACT_PART_BYTES });
    }
    let total = span.map(|span| span.total).or(length);
    if total.is_some_and(|total| total > whole) {
        return Err(ApiError::TooLarge { limit: usize::try_from(whole).unwrap_or(usize::MAX) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_or_refused() {
        assert_eq!(range("bytes 0-0/1"), Some(Span { from: 0, to: 1, total: 1 }));
        assert_eq!(range("bytes 5-9/20"), Some(Span { from: 5, to: 10, total: 20 }));
        for wrong in
            ["", "bytes 0-1", "bytes 2-1/9", "bytes 0-9/9", "bytes */9", "bytes 0-1/*", "items 0-1/2", "bytes -1-2/9"]
        {
            assert_eq!(range(wrong), None, "{wrong}");
        }
        assert_eq!(range(&format!("bytes 0-{}/{}", u64::MAX, u64::MAX)), None);
    }
}
