//! Finished results on disk, so that they outlive the process (RELIABILITY.md G20).
//!
//! One JSON line for each result, on disk before it is sent, and one for each that is done with. A
//! file with nothing left to send is emptied. A line that cannot be read, as one that a crash left half
//! written, is moved to a file beside it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eap_types::{LeaseId, TaskId, TaskResult};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::identity::{Replaced, private, replace};
use crate::leases::LeaseKey;

const OUTBOX: &str = "outbox.jsonl";
/// Lines that cannot be read, and results that no orchestrator takes.
const ASIDE: &str = "outbox.bad";
/// A file that is longer by this than twice what is left to send is written anew; nothing more is set
/// aside than fits into this.
const LARGE: u64 = 16 * 1024 * 1024;

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Result(&'a TaskResult),
    Done(Done),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReadLine {
    Result(TaskResult),
    Done(Done),
}

#[derive(Serialize, Deserialize)]
struct Done {
    task_id: TaskId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease_id: Option<LeaseId>,
}

/// The file behind an outbox.
#[derive(Debug)]
pub(crate) struct OutboxFile {
    path: PathBuf,
    file: Arc<File>,
    length: u64,
    /// Whether the last line may be half written.
    is_torn: bool,
}

impl OutboxFile {
    /// Opens the file and reads what an earlier process did not get rid of.
    pub(crate) fn open(dir: &Path) -> io::Result<(Self, Vec<TaskResult>)> {
        let path = dir.join(OUTBOX);
        let (left, unreadable) = match std::fs::read(&path) {
            Ok(content) => replay(&content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), Vec::new()),
            Err(error) => return Err(error),
        };
        if !unreadable.is_empty() {
            set_aside(&path.with_file_name(ASIDE), &unreadable)?;
        }
        // Also rids the file of what was just moved.
        let (Replaced { file, on_disk }, length) = rewrite(&path, &left)?;
        on_disk?;
        Ok((Self { path, file: Arc::new(file), length, is_torn: false }, left))
    }

    /// Puts a result on disk; a later one for the same lease takes its place.
    pub(crate) async fn add(&mut self, result: &TaskResult) -> io::Result<()> {
        self.append(to_line(&Line::Result(result))?, true).await
    }

    /// Whether the file is to be written anew once a result is done with and `live` bytes are left to
    /// send: not for ever again while much is left.
    pub(crate) fn is_large(&self, live: u64) -> bool {
        self.length > LARGE.saturating_add(live.saturating_mul(2))
    }

    /// Notes that a result is done with; with `left`, what is still to be sent, the file starts anew.
    ///
    /// Not forced to disk: after a crash the result is sent once more, and is a duplicate.
    pub(crate) async fn remove(&mut self, key: LeaseKey, left: Option<Vec<TaskResult>>) -> io::Result<()> {
        if let Some(left) = left {
            let path = self.path.clone();
            let (Replaced { file, on_disk }, length) = blocking(move || rewrite(&path, &left)).await?;
            self.file = Arc::new(file);
            self.length = length;
            self.is_torn = false;
            return on_disk;
        }
        let line = to_line(&Line::Done(Done { task_id: key.task, lease_id: key.lease }))?;
        self.append(line, false).await
    }

    /// Keeps a result that no orchestrator takes, for people to look at.
    pub(crate) async fn set_aside(&self, result: &TaskResult) -> io::Result<()> {
        let path = self.path.with_file_name(ASIDE);
        let line = to_line(&Line::Result(result))?;
        blocking(move || set_aside(&path, &line)).await
    }

    async fn append(&mut self, mut line: Vec<u8>, sync: bool) -> io::Result<()> {
        if self.is_torn {
            // Or else this line would go on where a failed one stopped, and neither could be read.
            line.insert(0, b'\n');
        }
        self.length += line.len() as u64;
        self.is_torn = true;
        let file = self.file.clone();
        blocking(move || {
            (&*file).write_all(&line)?;
            if sync { file.sync_data() } else { Ok(()) }
        })
        .await?;
        self.is_torn = false;
        Ok(())
    }
}

fn rewrite(path: &Path, results: &[TaskResult]) -> io::Result<(Replaced, u64)> {
    let mut content = Vec::new();
    for result in results {
        content.extend(to_line(&Line::Result(result))?);
    }
    Ok((replace(path, &content)?, content.len() as u64))
}

/// Appends whole lines to the file of what is set aside, if there is room.
fn set_aside(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut file = private().create(true).append(true).open(path)?;
    if file.metadata()?.len() > LARGE {
        warn!(path = %path.display(), "the file is full; nothing more is set aside");
        return Ok(());
    }
    file.write_all(lines)?;
    file.sync_all()
}

fn to_line(line: &Line<'_>) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}

/// What is left to send, and the lines that cannot be read.
fn replay(content: &[u8]) -> (Vec<TaskResult>, Vec<u8>) {
    let mut left: Vec<TaskResult> = Vec::new();
    let mut unreadable = Vec::new();
    for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(ReadLine::Result(result)) => {
                left.retain(|older| key_of(older) != key_of(&result));
                left.push(result);
            }
            Ok(ReadLine::Done(done)) => {
                let key = LeaseKey { task: done.task_id, lease: done.lease_id };
                left.retain(|result| key_of(result) != key);
            }
            Err(_) => {
                warn!(bytes = line.len(), "a line of the outbox file cannot be read and is set aside");
                unreadable.extend_from_slice(line);
                unreadable.push(b'\n');
            }
        }
    }
    (left, unreadable)
}

pub(crate) fn key_of(result: &TaskResult) -> LeaseKey {
    LeaseKey { task: result.task_id, lease: result.lease_id }
}

/// Runs file work where it blocks no handler.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use eap_types::JsonObject;

    use super::*;

    fn result(task: u8) -> TaskResult {
        let output = JsonObject::parse("{\"pages\":[1,2]}").unwrap();
        TaskResult::completed(TaskId::from_bytes([task; 16]), output).with_lease(LeaseId::from_bytes([task; 16]), 1)
    }

    #[tokio::test]
    async fn what_was_not_done_with_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, left) = OutboxFile::open(dir.path()).unwrap();
        assert!(left.is_empty());
        for task in 1..=3 {
            file.add(&result(task)).await.unwrap();
        }
        file.remove(key_of(&result(2)), None).await.unwrap();
        drop(file);
        let (mut file, left) = OutboxFile::open(dir.path()).unwrap();
        assert_eq!(left, [result(1), result(3)]);
        file.remove(key_of(&result(1)), None).await.unwrap();
        file.remove(key_of(&result(3)), Some(Vec::new())).await.unwrap();
        assert_eq!(std::fs::metadata(dir.path().join(OUTBOX)).unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_half_written_line_is_set_aside_and_the_rest_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = OutboxFile::open(dir.path()).unwrap();
        file.add(&result(1)).await.unwrap();
        let fragment = b"{\"result\":{\"task_id\":\"0";
        (&*file.file).write_all(fragment).unwrap();
        drop(file);
        let (mut file, left) = OutboxFile::open(dir.path()).unwrap();
        assert_eq!(left, [result(1)]);
        file.add(&result(2)).await.unwrap();
        drop(file);
        assert_eq!(OutboxFile::open(dir.path()).unwrap().1, [result(1), result(2)]);
        assert_eq!(std::fs::read(dir.path().join(ASIDE)).unwrap(), [&fragment[..], b"\n"].concat());
    }

    #[tokio::test]
    async fn a_line_after_a_failed_one_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = OutboxFile::open(dir.path()).unwrap();
        let whole = std::mem::replace(&mut file.file, Arc::new(File::open(dir.path().join(OUTBOX)).unwrap()));
        file.add(&result(1)).await.unwrap_err();
        // What a full disk leaves of a line.
        (&*whole).write_all(b"{\"result\":").unwrap();
        file.file = whole;
        file.add(&result(2)).await.unwrap();
        drop(file);
        assert_eq!(OutboxFile::open(dir.path()).unwrap().1, [result(2)]);
    }

    #[tokio::test]
    async fn a_file_that_was_written_anew_is_the_one_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = OutboxFile::open(dir.path()).unwrap();
        for task in 1..=2 {
            file.add(&result(task)).await.unwrap();
        }
        file.remove(key_of(&result(1)), Some(vec![result(2)])).await.unwrap();
        file.add(&result(3)).await.unwrap();
        drop(file);
        assert_eq!(OutboxFile::open(dir.path()).unwrap().1, [result(2), result(3)]);
    }

    #[tokio::test]
    async fn a_file_full_of_live_results_is_not_written_anew_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = OutboxFile::open(dir.path()).unwrap();
        file.length = 3 * LARGE;
        assert!(file.is_large(LARGE / 2));
        assert!(!file.is_large(LARGE));
    }
}
