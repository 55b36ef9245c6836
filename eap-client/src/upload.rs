//! Sending an artifact that is too large for a result, part by part.

use bytes::Bytes;
use eap_types::{ArtifactPath, ContentDigest, LeaseId, StoredArtifact, TaskId, header, path};
use http::Method;

use crate::agent::AgentSession;
use crate::error::ClientError;
use crate::wire::Request;

/// Which upload a call is about: the attempt, what the artifact is called, and what its whole content comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upload {
    /// The task.
    pub task: TaskId,
    /// The lease that the work was done under.
    pub lease_id: LeaseId,
    /// Where the artifact stands within the result.
    pub path: ArtifactPath,
    /// SHA-256 of the whole.
    pub digest: ContentDigest,
    /// Bytes of the whole, at least one.
    pub size: u64,
}

impl Upload {
    /// Names an upload.
    #[must_use]
    pub fn new(task: TaskId, lease_id: LeaseId, path: ArtifactPath, digest: ContentDigest, size: u64) -> Self {
        Self { task, lease_id, path, digest, size }
    }
}

impl AgentSession {
    /// Asks how many bytes of an upload are kept: `HEAD …/tasks/{task_id}/artifacts/{path}`. All of them: it is whole.
    ///
    /// # Errors
    ///
    /// 409 when the task is no longer the agent's and 404 from a server that takes no uploads, both as
    /// [`ClientError::Unreadable`], since the answer has no body; and what any call can come to.
    pub async fn upload_offset(&self, upload: &Upload) -> Result<u64, ClientError> {
        let (headers, _) = self.upload_call(Method::HEAD, upload).open_any().await?;
        let offset = headers.get(header::UPLOAD_OFFSET).and_then(|offset| offset.to_str().ok()?.parse().ok());
        offset.ok_or(ClientError::Unreadable { status: 204, retry_after: None, source: None })
    }

    /// Sends the part of an upload that begins at byte `from`, at most
    /// [`MAX_ARTIFACT_PART_BYTES`](eap_types::limits::MAX_ARTIFACT_PART_BYTES); the answer has how many bytes are kept:
    /// `PUT …/tasks/{task_id}/artifacts/{path}`.
    ///
    /// # Errors
    ///
    /// 409 UPLOAD_OFFSET when the upload stands elsewhere, 422 DIGEST_MISMATCH when something changed on its way, 409
    /// LEASE_LOST or TASK_FINAL when the task is no longer the agent's, 413, 429, and what any call can come to.
    pub async fn upload_part(&self, upload: &Upload, from: u64, part: Bytes) -> Result<StoredArtifact, ClientError> {
        let last = (from + part.len() as u64).saturating_sub(1);
        let range = format!("bytes {from}-{last}/{}", upload.size);
        let digest = ContentDigest::of(&part).header();
        let call = self.upload_call(Method::PUT, upload).header(header::CONTENT_RANGE, &range);
        call.header(header::CONTENT_DIGEST, &digest).bytes(part).send().await?.read()
    }

    fn upload_call(&self, method: Method, upload: &Upload) -> Request<'_> {
        let query = format!("?lease_id={}", upload.lease_id);
        let mut given = self.endpoints().artifact.replace("{path}", &path::artifact_parts(&upload.path));
        if !given.is_empty() {
            given.push_str(&query);
        }
        let own = || path::artifact(self.agent_id(), &upload.task, &upload.path) + &query;
        let call = self.at(method, &given, Some(upload.task), own);
        call.header(header::REPR_DIGEST, &upload.digest.header())
    }
}
