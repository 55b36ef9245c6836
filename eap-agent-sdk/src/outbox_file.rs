//! Finished results on disk, so that they outlive the process (RELIABILITY.md G20).
//!
//! One JSON line for each result, on disk before it is sent, and one for each that is done with. A
//! file with nothing left to send is emptied. What a crash left half written is the last line, and is
//! dropped: its result was not sent either.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eap_types::{LeaseId, TaskId, TaskResult};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::identity::{private, replace};
use crate::leases::LeaseKey;

const OUTBOX: &str = "outbox.jsonl";
/// Above this the file is written anew with what is left to send.
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
}

impl OutboxFile {
    /// Opens the file and reads what an earlier process did not get rid of.
    pub(crate) fn open(dir: &Path) -> io::Result<(Self, Vec<TaskResult>)> {
        let path = dir.join(OUTBOX);
        let left = match std::fs::read(&path) {
            Ok(content) => replay(&content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        // Also rids the file of a half-written line, behind which nothing could be read.
        let (file, length) = rewrite(&path, &left)?;
        Ok((Self { path, file: Arc::new(file), length }, left))
    }

    /// Puts a result on disk; a later one for the same lease takes its place.
    pub(crate) async fn add(&mut self, result: &TaskResult) -> io::Result<()> {
        let line = to_line(&Line::Result(result))?;
        self.length += line.len() as u64;
        let file = self.file.clone();
        blocking(move || {
            (&*file).write_all(&line)?;
            file.sync_data()
        })
        .await
    }

    /// Whether the file is to be written anew once a result is done with.
    pub(crate) fn is_large(&self) -> bool {
        self.length > LARGE
    }

    /// Notes that a result is done with; with `left`, what is still to be sent, the file starts anew.
    ///
    /// Not forced to disk: after a crash the result is sent once more, and is a duplicate.
    pub(crate) async fn remove(&mut self, key: LeaseKey, left: Option<Vec<TaskResult>>) -> io::Result<()> {
        if let Some(left) = left {
            let path = self.path.clone();
            let (file, length) = blocking(move || rewrite(&path, &left)).await?;
            self.file = Arc::new(file);
            self.length = length;
            return Ok(());
        }
        let line = to_line(&Line::Done(Done { task_id: key.task, lease_id: key.lease }))?;
        self.length += line.len() as u64;
        let file = self.file.clone();
        blocking(move || (&*file).write_all(&line)).await
    }
}

fn rewrite(path: &Path, results: &[TaskResult]) -> io::Result<(File, u64)> {
    let mut content = Vec::new();
    for result in results {
        content.extend(to_line(&Line::Result(result))?);
    }
    replace(path, &content)?;
    let file = private().append(true).open(path)?;
    Ok((file, content.len() as u64))
}

fn to_line(line: &Line<'_>) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}

fn replay(content: &[u8]) -> Vec<TaskResult> {
    let mut left: Vec<TaskResult> = Vec::new();
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
            Err(_) => warn!("a line of the outbox file cannot be read and is dropped"),
        }
    }
    left
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
    async fn a_half_written_line_is_dropped_and_the_rest_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = OutboxFile::open(dir.path()).unwrap();
        file.add(&result(1)).await.unwrap();
        (&*file.file).write_all(b"{\"result\":{\"task_id\":\"0").unwrap();
        drop(file);
        let (mut file, left) = OutboxFile::open(dir.path()).unwrap();
        assert_eq!(left, [result(1)]);
        file.add(&result(2)).await.unwrap();
        drop(file);
        assert_eq!(OutboxFile::open(dir.path()).unwrap().1, [result(1), result(2)]);
    }
}
