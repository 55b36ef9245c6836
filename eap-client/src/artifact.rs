//! An artifact as it comes: piece by piece, and checked at its end.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use eap_types::{ArtifactPath, ContentDigest, ContentHasher, TaskId, header, path};
use http::{HeaderMap, Method};

use crate::call::{AnswerBody, CallError};
use crate::error::ClientError;
use crate::operator::OperatorClient;

/// The content of an artifact on its way: [`OperatorClient::artifact`].
pub struct ArtifactStream {
    body: Box<dyn AnswerBody>,
    /// How long the server may be silent.
    silence: Duration,
    size: Option<u64>,
    digest: Option<ContentDigest>,
    received: u64,
    hasher: ContentHasher,
}

impl fmt::Debug for ArtifactStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArtifactStream")
            .field("size", &self.size)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl OperatorClient {
    /// Fetches an artifact of a task's result: `GET /api/v1/tasks/{task_id}/artifacts/{path}`.
    ///
    /// The content comes piece by piece, whatever its size.
    ///
    /// # Errors
    ///
    /// 404 TASK_NOT_FOUND, 404 NOT_FOUND for a task without such an artifact, and what any call can come to.
    pub async fn artifact(&self, task: TaskId, artifact: &ArtifactPath) -> Result<ArtifactStream, ClientError> {
        let request = self.request(Method::GET, &path::task_artifact(&task, artifact));
        let (headers, body) = request.open_any().await?;
        Ok(ArtifactStream::new(&headers, body, self.deadline()))
    }
}

impl ArtifactStream {
    fn new(headers: &HeaderMap, body: Box<dyn AnswerBody>, silence: Duration) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            body,
            silence,
            size: text(header::CONTENT_LENGTH).and_then(|size| size.parse().ok()),
            digest: text(header::REPR_DIGEST).and_then(ContentDigest::from_header),
            received: 0,
            hasher: ContentHasher::new(),
        }
    }

    /// How many bytes it has, if the server says so.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The digest of the whole, if the server says so; the end of the stream holds the content to it.
    pub fn digest(&self) -> Option<ContentDigest> {
        self.digest
    }

    /// The next piece once there is one, `None` at the end of what is then known to be whole. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    ///
    /// The connection broke, the server was silent for longer than a call may take, or the content is not what the server
    /// announced ([`ClientError::Altered`]).
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        let deadline = self.silence;
        let piece = tokio::time::timeout(deadline, self.body.piece()).await;
        if let Some(piece) = piece.unwrap_or(Err(CallError::Timeout { deadline }))? {
            self.received += piece.len() as u64;
            self.hasher.update(&piece);
            return Ok(Some(piece));
        }
        let has_size = self.size.is_none_or(|size| size == self.received);
        if has_size && self.digest.is_none_or(|digest| digest == self.hasher.clone().finish()) {
            Ok(None)
        } else {
            Err(ClientError::Altered)
        }
    }
}
