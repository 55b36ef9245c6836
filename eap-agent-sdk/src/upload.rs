//! Artifacts that are too large for a result: sent ahead of it, in parts, while their handler runs.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eap_client::{AgentClient, ClientError, Upload};
use eap_types::{Artifact, ArtifactPath, ContentDigest, ContentHasher, ErrorCode, FailureCode, LeaseId};
use tracing::{debug, warn};

use crate::context::TaskContext;
use crate::failure::HandlerError;
use crate::handler::Output;
use crate::session::{Backoff, Verdict, judge};
use crate::shared::Access;

/// What is larger is sent ahead, where the orchestrator takes that.
const LARGEST_INLINE: u64 = 32 * 1024;
/// How much of a result its artifacts may be before the largest of them are sent ahead.
const MOST_INLINE: usize = 1024 * 1024;
/// The sizes of parts: as large as the line carries in time.
const PARTS: (usize, usize) = (64 * 1024, 4 * 1024 * 1024);
/// How long a part may take; a server may be less patient.
const DEADLINE: Duration = Duration::from_secs(60);
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
/// How often what arrived may be something else than what was sent.
const MISMATCHES: u32 = 5;
/// What is read of a file at once to learn its digest.
const PIECE: usize = 256 * 1024;

impl TaskContext {
    /// Makes an artifact of bytes, for [`Output::artifact`].
    ///
    /// What is larger than 32 KiB is sent to the orchestrator now, in parts, however often the connection breaks
    /// meanwhile; the artifact then names what was sent. An orchestrator that takes none gets it with the result, whose
    /// size is limited. While it is sent, the handler says nothing: a task with a short `inactivity_seconds` may want
    /// [`TaskContext::progress`] beside it.
    ///
    /// # Errors
    ///
    /// It is larger than the orchestrator takes, or the handler was told to stop: `?` passes both on.
    pub async fn artifact(&self, path: ArtifactPath, content: impl Into<Vec<u8>>) -> Result<Artifact, HandlerError> {
        let content = Bytes::from(content.into());
        let is_large = content.len() as u64 > LARGEST_INLINE;
        match self.sender().await.filter(|_| is_large) {
            Some(sender) => sender.send(path, Source::Bytes(content)).await,
            None => Ok(Artifact::from_bytes(path, &content)),
        }
    }

    /// The same of a file, of which no more than a part is in memory at a time.
    ///
    /// # Errors
    ///
    /// As above, and the file cannot be read, or changes meanwhile.
    pub async fn artifact_file(&self, path: ArtifactPath, file: impl Into<PathBuf>) -> Result<Artifact, HandlerError> {
        let file = file.into();
        let known = file.clone();
        let size = blocking(move || Ok(std::fs::metadata(known)?.len())).await?;
        match self.sender().await {
            Some(sender) if size > LARGEST_INLINE => sender.send(path, Source::File(file)).await,
            _ => {
                let limit =
                    self.shared.access.borrow().as_ref().map_or(u64::MAX, |access| access.max_result_bytes as u64);
                if size > limit {
                    return Err(exhausted(format!("the artifact {path} is too large for a result")));
                }
                Ok(Artifact::from_bytes(path, &blocking(move || std::fs::read(file)).await?))
            }
        }
    }

    /// Sends the largest artifacts of an output ahead, until its result is one of an ordinary size. What cannot be sent
    /// stays where it is.
    pub(crate) async fn lighten(&self, mut output: Output) -> Output {
        let size = |artifact: &Artifact| artifact.content.len();
        let mut inline: usize = output.artifacts.iter().map(size).sum();
        while inline > MOST_INLINE {
            let Some(largest) = output.artifacts.iter_mut().max_by_key(|artifact| size(artifact)) else { break };
            let (Ok(bytes), Some(sender)) = (largest.bytes(), self.sender().await) else { break };
            match sender.send(largest.path.clone(), Source::Bytes(bytes.into())).await {
                Ok(sent) => {
                    inline -= size(largest);
                    *largest = sent.with_mime_type(std::mem::take(&mut largest.mime_type));
                }
                Err(error) => {
                    warn!(task.id = %self.task_id(), ?error, "an artifact stays in its result");
                    break;
                }
            }
        }
        output
    }

    /// How artifacts are sent ahead, if the orchestrator takes them so.
    async fn sender(&self) -> Option<Sender<'_>> {
        let sender = Sender { ctx: self, client: self.shared.client.get()?, lease_id: self.state.key.lease? };
        let access = tokio::select! {
            biased;
            () = self.cancelled() => self.shared.access.borrow().clone(),
            access = sender.access(0) => access,
        };
        access?.max_artifact_bytes.is_some().then_some(sender)
    }
}

/// Sends the artifacts of one attempt.
struct Sender<'a> {
    ctx: &'a TaskContext,
    client: &'a AgentClient,
    lease_id: LeaseId,
}

impl Sender<'_> {
    async fn send(&self, path: ArtifactPath, source: Source) -> Result<Artifact, HandlerError> {
        let sending = async {
            let (digest, size) = source.measure().await?;
            let upload = Upload::new(self.ctx.task_id(), self.lease_id, path.clone(), digest, size);
            self.parts(&upload, &source).await?;
            Ok(Artifact::stored(path, digest, size))
        };
        tokio::select! {
            biased;
            () = self.ctx.cancelled() => Err(HandlerError::retry("the handler was told to stop while it sent an artifact")),
            sent = sending => sent,
        }
    }

    /// Sends what is missing until all of it is there.
    async fn parts(&self, upload: &Upload, source: &Source) -> Result<(), HandlerError> {
        // Where the upload stands; `None` has to be asked.
        let mut from = Some(0);
        let (mut part, mut backoff, mut mismatches, mut refused) = (PARTS.1, BACKOFF, 0, 0);
        loop {
            let Some(access) = self.access(refused).await else { return Err(HandlerError::retry("the agent ends")) };
            let session = access.session(self.client).with_deadline(DEADLINE);
            let kept = match from {
                None => session.upload_offset(upload).await,
                Some(from) => {
                    let bytes = source.read(from, part).await?;
                    session.upload_part(upload, from, bytes).await.map(|stored| stored.size)
                }
            };
            let error = match kept {
                Ok(kept) if kept >= upload.size => return Ok(()),
                Ok(kept) => {
                    if from.is_some() {
                        backoff.succeed();
                        part = (part * 2).min(PARTS.1);
                    }
                    from = Some(kept);
                    continue;
                }
                Err(error) => error,
            };
            debug!(task.id = %upload.task, error = &error as &dyn std::error::Error, "a part of an artifact was not taken");
            if error.code() == Some(ErrorCode::DigestMismatch) {
                mismatches += 1;
                if mismatches > MISMATCHES {
                    return Err(HandlerError::retry(format!("the artifact {} changed while it was sent", upload.path)));
                }
            }
            let asked = worth_repeating(&error)?;
            if judge(&error) == Verdict::Register {
                refused = access.epoch;
                self.ctx.shared.refuse(refused);
            } else if error.status().is_none_or(|status| status == 408) {
                // A line that does not carry so much in time.
                part = (part / 2).max(PARTS.0);
            }
            from = None;
            tokio::time::sleep(backoff.fail(self.ctx.shared.chance(), asked)).await;
        }
    }

    /// The newest access that is not refused.
    async fn access(&self, refused: u64) -> Option<Arc<Access>> {
        let mut access = self.ctx.shared.access.subscribe();
        let newer = access.wait_for(|access| access.as_ref().is_some_and(|access| access.epoch > refused)).await;
        newer.ok().and_then(|access| access.clone())
    }
}

/// How long the server asks to wait before another try, or that none will succeed.
fn worth_repeating(error: &ClientError) -> Result<Option<Duration>, HandlerError> {
    match error.code() {
        Some(ErrorCode::UploadOffset | ErrorCode::DigestMismatch) => return Ok(None),
        Some(ErrorCode::LeaseLost | ErrorCode::TaskFinal | ErrorCode::TaskNotFound) => {
            return Err(HandlerError::retry("the task is not this agent's any more"));
        }
        _ => {}
    }
    let why = || error.problem().map_or_else(|| error.to_string(), |problem| problem.detail.clone());
    match judge(error) {
        Verdict::Register => Ok(None),
        Verdict::Later(asked) => Ok(asked),
        Verdict::TooLarge => Err(exhausted(format!("the orchestrator takes no artifact this large: {}", why()))),
        Verdict::Malformed | Verdict::Refused => {
            Err(HandlerError::fatal(format!("the orchestrator does not take the artifact: {}", why())))
        }
    }
}

fn exhausted(message: String) -> HandlerError {
    HandlerError::fatal(message).with_code(FailureCode::ResourceExhausted)
}

/// Where the content is.
enum Source {
    Bytes(Bytes),
    File(PathBuf),
}

impl Source {
    /// The digest and the size of the whole.
    async fn measure(&self) -> io::Result<(ContentDigest, u64)> {
        match self {
            Self::Bytes(bytes) => Ok((ContentDigest::of(bytes), bytes.len() as u64)),
            Self::File(path) => {
                let path = path.clone();
                blocking(move || {
                    let (mut file, mut hasher, mut size) = (File::open(path)?, ContentHasher::new(), 0);
                    let mut piece = vec![0; PIECE];
                    loop {
                        let read = file.read(&mut piece)?;
                        if read == 0 {
                            return Ok((hasher.finish(), size));
                        }
                        hasher.update(&piece[..read]);
                        size += read as u64;
                    }
                })
                .await
            }
        }
    }

    /// Up to `most` bytes from here on.
    async fn read(&self, from: u64, most: usize) -> io::Result<Bytes> {
        match self {
            Self::Bytes(bytes) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(from..bytes.len().min(from + most)))
            }
            Self::File(path) => {
                let path = path.clone();
                blocking(move || {
                    let mut file = File::open(path)?;
                    file.seek(SeekFrom::Start(from))?;
                    let mut bytes = Vec::new();
                    file.take(most as u64).read_to_end(&mut bytes)?;
                    if bytes.is_empty() {
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"));
                    }
                    Ok(bytes.into())
                })
                .await
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|broken| Err(io::Error::other(broken)))
}
