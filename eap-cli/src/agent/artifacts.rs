//! Files that a command wrote, as artifacts of its task.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use eap_agent_sdk::{HandlerError, TaskContext};
use eap_types::limits::{self, MAX_ARTIFACTS};
use eap_types::{Artifact, ArtifactPath, FailureCode};

/// How much of the artifacts of one task may travel within its result, in bytes; the server has the limit.
const MAX_BYTES: usize = limits::MAX_RESULT_BYTES;

/// Makes an artifact of every regular file below `dir`, in order of path. Symbolic links are not followed. Large files are
/// sent ahead of the result, where the server takes that.
///
/// # Errors
///
/// There are more files or bytes than a result can carry (RESOURCE_EXHAUSTED), a name cannot travel, or a file cannot be
/// read or sent.
pub(super) async fn collect(dir: &Path, ctx: &TaskContext) -> Result<Vec<Artifact>, HandlerError> {
    let found = dir.to_owned();
    let found = tokio::task::spawn_blocking(move || files(&found)).await;
    let mut artifacts = Vec::new();
    let mut room = MAX_BYTES;
    for (path, file) in found.map_err(|_| HandlerError::retry("reading the artifacts was cut off"))?? {
        let mime_type = mime_type(path.as_str());
        let artifact = ctx.artifact_file(path, file).await?;
        room = room
            .checked_sub(artifact.content.len())
            .ok_or_else(|| exhausted(format!("the artifacts have more than {MAX_BYTES} bytes")))?;
        artifacts.push(match mime_type {
            Some(mime_type) => artifact.with_mime_type(mime_type),
            None => artifact,
        });
    }
    Ok(artifacts)
}

/// The regular files below `dir`, in order of path, with their names as they travel.
fn files(dir: &Path) -> Result<Vec<(ArtifactPath, PathBuf)>, HandlerError> {
    let mut files = Vec::new();
    list(dir, &mut files)?;
    files.sort();
    files.into_iter().map(|file| Ok((path_of(&file, dir)?, file))).collect()
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), HandlerError> {
    for entry in fs::read_dir(dir).map_err(|error| failed(&error))? {
        let entry = entry.map_err(|error| failed(&error))?;
        let kind = entry.file_type().map_err(|error| failed(&error))?;
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
            if files.len() > MAX_ARTIFACTS {
                return Err(exhausted(format!("the command wrote more than {MAX_ARTIFACTS} artifacts")));
            }
        }
    }
    Ok(())
}

/// The name below `dir`, as it travels.
fn path_of(file: &Path, dir: &Path) -> Result<ArtifactPath, HandlerError> {
    let name = file.strip_prefix(dir).unwrap_or(file);
    let Some(text) = name.to_str() else {
        return Err(HandlerError::fatal(format!("the artifact {} has a name that is not UTF-8", name.display())));
    };
    text.parse().map_err(|error| HandlerError::fatal(format!("the artifact {text} cannot be sent: {error}")))
}

/// The kinds that commands write most; others are text or bytes.
fn mime_type(path: &str) -> Option<&'static str> {
    let (_, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "json" => "application/json",
        "html" | "htm" => "text/html",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        _ => return None,
    })
}

fn failed(error: &io::Error) -> HandlerError {
    HandlerError::retry(format!("the artifacts cannot be read: {error}"))
}

fn exhausted(message: String) -> HandlerError {
    HandlerError::fatal(message).with_code(FailureCode::ResourceExhausted)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use eap_agent_sdk::Task;
    use eap_agent_sdk::testing::TestTask;

    use super::*;

    #[test]
    fn files_become_artifacts_by_their_path_and_links_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("deep/er")).unwrap();
        fs::write(at("deep/er/report.md"), "# yes").unwrap();
        fs::write(at("b.bin"), [0xff, 0x00]).unwrap();
        fs::write(at("a"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
        std::os::unix::fs::symlink("/etc", at("dir-link")).unwrap();
        let artifacts = collected(dir.path()).unwrap();
        let seen: Vec<_> = artifacts.iter().map(|one| (one.path.as_str(), one.mime_type.as_str())).collect();
        assert_eq!(
            seen,
            [("a", "text/plain"), ("b.bin", "application/octet-stream"), ("deep/er/report.md", "text/markdown")]
        );
        assert_eq!(artifacts[1].bytes().unwrap(), [0xff, 0x00]);
    }

    /// Where nothing can be sent ahead.
    #[test]
    fn too_many_and_too_large_are_for_the_agent_to_say() {
        let dir = tempfile::tempdir().unwrap();
        let large = File::create(dir.path().join("large")).unwrap();
        large.set_len(MAX_BYTES as u64).unwrap();
        assert_eq!(collected(dir.path()).unwrap().len(), 1);
        large.set_len(MAX_BYTES as u64 + 1).unwrap();
        assert_eq!(collected(dir.path()).unwrap_err().code(), FailureCode::ResourceExhausted);
        large.set_len(0).unwrap();
        for number in 0..MAX_ARTIFACTS {
            File::create(dir.path().join(number.to_string())).unwrap();
        }
        let error = collected(dir.path()).unwrap_err();
        assert_eq!(error.code(), FailureCode::ResourceExhausted);
        assert!(!error.is_retryable());
    }

    #[test]
    fn a_name_that_cannot_travel_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a\\b"), "").unwrap();
        assert!(collected(dir.path()).unwrap_err().message().contains("a\\b"));
    }

    /// What a handler makes of this folder.
    fn collected(dir: &Path) -> Result<Vec<Artifact>, HandlerError> {
        let (dir, (made, found)) = (dir.to_owned(), std::sync::mpsc::channel());
        TestTask::new("work").input("x").run_blocking(move |_: Task<String>, ctx: TaskContext| {
            let (dir, made) = (dir.clone(), made.clone());
            async move {
                made.send(collect(&dir, &ctx).await).unwrap();
                Ok(())
            }
        });
        found.recv().unwrap()
    }
}
