//! Artifacts as downloads: whatever an agent wrote, no browser shows it or runs it (T22).

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use eap_types::{Artifact, ArtifactPath, ContentDigest, header};
use futures_util::stream::{self, Stream};
use http::{HeaderName, HeaderValue, StatusCode};

use super::call::OperatorCall;
use super::conditional::{Asked, asked, is_known};
use super::error::ApiError;
use crate::artifacts::{ArtifactKey, Shelf};
use crate::error::Error;
use crate::orchestrator::Orchestrator;

/// A file of a task's result, or a part of it.
pub(super) async fn download(orchestrator: Orchestrator, mut call: OperatorCall) -> Result<Response, ApiError> {
    let (task, path) = call.artifact().await?;
    let (artifact, uploaded) = orchestrator.lifecycle().artifact(&call.operator, task, path.as_ref()).await?;
    let inline = match uploaded {
        None => Bytes::from(artifact.bytes().map_err(|_| Error::Broken)?),
        Some(_) => Bytes::new(),
    };
    let (digest, size) = match uploaded {
        None => (ContentDigest::of(&inline), inline.len() as u64),
        Some((key, size)) => (key.digest, size),
    };
    let tag = format!("\"{digest}\"");
    if is_known(&call.parts.headers, &tag) {
        return Ok(with_headers(StatusCode::NOT_MODIFIED.into_response(), &artifact, digest, &tag));
    }
    let asked = asked(&call.parts.method, &call.parts.headers, &tag, size);
    let (from, to) = match asked {
        Asked::Whole => (0, size),
        Asked::Part { from, to } => (from, to),
        Asked::Beyond => return Err(ApiError::BeyondEnd { size }),
    };
    let body = match uploaded {
        Some((key, _)) => Body::from_stream(pieces(Arc::clone(orchestrator.lifecycle().shelf()?), key, size, from, to)),
        None => inline.slice(place(from)..place(to)).into(),
    };
    let status = if asked == Asked::Whole { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
    let mut response = with_headers((status, body).into_response(), &artifact, digest, &tag);
    response.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(to - from));
    if asked != Asked::Whole {
        let range = ascii(&format!("bytes {from}-{}/{size}", to - 1));
        response.headers_mut().insert(http::header::CONTENT_RANGE, range);
    }
    Ok(response)
}

/// A place in what is in memory as a whole.
fn place(at: u64) -> usize {
    usize::try_from(at).expect("what is in memory has an end there")
}

/// What was uploaded, from one place to before another, read as fast as it is taken.
fn pieces(shelf: Arc<Shelf>, key: ArtifactKey, size: u64, from: u64, to: u64) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((shelf, from), move |(shelf, at)| async move {
        if at == to {
            return Ok(None);
        }
        let mut piece = shelf.read(key, size, at).await?;
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.truncate(usize::try_from(to - at).unwrap_or(usize::MAX));
        let next = at + piece.len() as u64;
        Ok(Some((piece, (shelf, next))))
    })
}

/// The headers of an artifact, whether or not the answer has all of it.
fn with_headers(mut response: Response, artifact: &Artifact, digest: ContentDigest, tag: &str) -> Response {
    let is_text = artifact.encoding.is_none() && !artifact.is_stored();
    let media_type = if is_text { header::PLAIN_TEXT } else { header::OCTET_STREAM };
    let headers = response.headers_mut();
    for (name, value) in [
        (http::header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (http::header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox")),
        (http::header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
        (http::header::CONTENT_DISPOSITION, disposition(&artifact.path)),
        (HeaderName::from_static(header::REPR_DIGEST), ascii(&digest.header())),
        (http::header::ETAG, ascii(tag)),
        (http::header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
    ] {
        headers.insert(name, value);
    }
    response
}

/// Names the file by the last part of its path (RFC 6266): in letters that need no quoting for old readers, and whole.
fn disposition(path: &ArtifactPath) -> HeaderValue {
    let name = path.as_str().rsplit('/').next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let mut text = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''");
    for byte in name.bytes() {
        if is_plain(char::from(byte)) {
            text.push(char::from(byte));
        } else {
            // A String takes every write.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    ascii(&text)
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("it has visible ASCII characters only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_the_header() {
        let path = "deep/na\"ïve; x=y.html".parse().unwrap();
        assert_eq!(
            disposition(&path),
            "attachment; filename=\"na__ve__x_y.html\"; filename*=UTF-8''na%22%C3%AFve%3B%20x%3Dy.html"
        );
    }
}
