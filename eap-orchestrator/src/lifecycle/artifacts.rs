//! The files that a result has: uploaded by its agent, fetched by those who watch its task, kept as long as it.

use std::sync::Arc;
use std::time::Duration;

use eap_core::{Agent, Phase, Quote, Task};
use eap_types::{Artifact, ArtifactPath, ContentDigest, FieldProblem, TaskId, TaskResult};
use futures_util::future::join_all;
use tracing::{debug, warn};

use super::{Lifecycle, Share};
use crate::artifacts::{ArtifactKey, Begun, Kept, Received, Receiving, Shelf, Span};
use crate::auth::Operator;
use crate::error::Error;

impl Lifecycle {
    /// An artifact of the recorded result of a task, and what its upload is known by if it is one.
    pub(crate) async fn artifact(
        &self,
        operator: &Operator,
        id: TaskId,
        path: Option<&ArtifactPath>,
    ) -> Result<(Artifact, Option<(ArtifactKey, u64)>), Error> {
        self.owned(operator, id).await?;
        let row = self.store.result(id).await?.ok_or(Error::UnknownArtifact)?;
        let named = row.result.artifacts.into_iter().find(|artifact| Some(&artifact.path) == path);
        let artifact = named.ok_or(Error::UnknownArtifact)?;
        let Some(digest) = artifact.sha256 else { return Ok((artifact, None)) };
        let key = ArtifactKey::new(id, row.attempt, digest);
        match self.shelf()?.kept(key).await? {
            Some(Kept::Whole(size)) => Ok((artifact, Some((key, size)))),
            _ => Err(Error::UnknownArtifact),
        }
    }

    /// Where uploads are kept, if this server takes any.
    pub(crate) fn shelf(&self) -> Result<&Arc<Shelf>, Error> {
        self.artifacts.as_ref().ok_or(Error::NoUploads)
    }

    /// Which content an agent means that uploads for an attempt of its own; its result can still come.
    pub(crate) async fn upload_key(
        &self,
        agent: &Agent,
        task: TaskId,
        quote: Quote,
        digest: ContentDigest,
    ) -> Result<ArtifactKey, Error> {
        let stored = self.store.task(task).await?.ok_or(Error::UnknownTask)?;
        let attempt = stored.record.awaited_attempt(&agent.id, quote)?;
        Ok(ArtifactKey::new(task, attempt, digest))
    }

    /// Begins to receive a part of an upload.
    pub(crate) async fn begin_upload(&self, agent: &Agent, key: ArtifactKey, span: Span) -> Result<Begun, Error> {
        self.shelf()?.begin(&agent.id, key, span, &self.config.capacity).await
    }

    /// Keeps a part, whether or not its sender stays.
    pub(crate) async fn finish_upload(
        self: &Arc<Self>,
        receiving: Receiving,
        announced: ContentDigest,
    ) -> Result<Received, Error> {
        self.detached(Share::Running, receiving.finish(announced)).await
    }

    /// Refuses a result that names what was not uploaded whole for its attempt, the one that runs.
    pub(super) async fn check_uploads(&self, task: &Task, result: &TaskResult) -> Result<(), Error> {
        let attempt = task.newest_attempt().map_or(0, |attempt| attempt.number);
        let checked = result.artifacts.iter().enumerate().filter_map(|(place, artifact)| {
            Some((place, artifact.size, ArtifactKey::new(task.id(), attempt, artifact.sha256?)))
        });
        let checked = join_all(checked.map(async |(place, size, key)| {
            let kept = match &self.artifacts {
                Some(shelf) => shelf.kept(key).await?,
                None => None,
            };
            let problem = |field, message| {
                Ok::<_, Error>(Some(FieldProblem::new(
                    format!("body.artifacts[{place}].{field}"),
                    "value_error",
                    message,
                )))
            };
            match kept {
                Some(Kept::Whole(there)) if size.is_none_or(|size| size == there) => Ok(None),
                Some(Kept::Whole(_)) => problem("size", "The upload has another size."),
                _ => problem("sha256", "No upload of this attempt with this digest is whole."),
            }
        }));
        let checked = checked.await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let problems: Vec<_> = checked.into_iter().flatten().collect();
        if problems.is_empty() { Ok(()) } else { Err(Error::Invalid { problems }) }
    }

    /// Looks through one shard of what is uploaded: what belongs to no task, to an attempt that is over, or is not named by
    /// the recorded result, goes.
    pub(crate) async fn sweep_uploads(&self, shard: u8) -> Result<(), Error> {
        let Some(shelf) = &self.artifacts else { return Ok(()) };
        let mut bytes = 0;
        for (id, attempts) in shelf.shard(shard).await? {
            let task = self.store.task(id).await?.map(|stored| stored.record);
            for attempt in attempts {
                match &task {
                    Some(task) if recorded(task) == Some(attempt) => {
                        if !shelf.is_settled(id, attempt) {
                            let result = self.store.result(id).await?;
                            let named = result.iter().flat_map(|row| &row.result.artifacts);
                            let named: Vec<_> = named.filter_map(|artifact| artifact.sha256).collect();
                            shelf.settle(id, attempt, &named).await?;
                        }
                    }
                    Some(task) if task.awaits_result(attempt) => {}
                    _ => {
                        debug!(task.id = %id, attempt, "the uploads of an attempt that is over go");
                        shelf.remove_attempt(id, attempt).await?;
                    }
                }
                bytes += shelf.bytes_of(id, attempt).await?;
            }
        }
        shelf.counted(shard, bytes);
        Ok(())
    }

    /// The same within a time; a shard that cannot be looked through now is for the next time.
    pub(crate) async fn sweep_shard(&self, shard: u8, within: Duration) {
        match tokio::time::timeout(within, self.sweep_uploads(shard)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(shard, causes = crate::error::causes(&error), "uploads could not be looked through");
            }
            Err(_) => warn!(shard, seconds = within.as_secs(), "uploads could not be looked through in time"),
        }
    }
}

/// The attempt whose result is recorded.
fn recorded(task: &Task) -> Option<u32> {
    match task.state.phase {
        Phase::Completed { attempt } | Phase::Failed { attempt, .. } => Some(attempt),
        _ => None,
    }
}
