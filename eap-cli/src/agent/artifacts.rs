//! Files that a command wrote, as artifacts of its task.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use eap_agent_sdk::HandlerError;
use eap_types::limits::MAX_ARTIFACTS;
use eap_types::{Artifact, ArtifactPath, FailureCode};

/// How much the artifacts of one task may hold together, in bytes: they travel within the result's body, whose limit
/// the server has.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Reads every regular file below `dir`, in order of path. Symbolic links are not followed.
///
/// # Errors
///
/// There are more files or bytes than a result can carry (RESOURCE_EXHAUSTED), a name cannot travel, or a file cannot be
/// read.
pub(super) fn collect(dir: &Path) -> Result<Vec<Artifact>, HandlerError> {
    let mut files = Vec::new();
    list(dir, &mut files)?;
    files.sort();
    let mut artifacts = Vec::new();
    let mut room = MAX_BYTES;
    for file in files {
        let path = path_of(&file, dir)?;
        let mut bytes = Vec::new();
        File::open(&file)
            .and_then(|file| file.take(room + 1).read_to_end(&mut bytes))
            .map_err(|error| failed(&error))?;
        room = room
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| exhausted(format!("the artifacts have more than {MAX_BYTES} bytes")))?;
        artifacts.push(artifact(path, &bytes));
    }
    Ok(artifacts)
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

fn artifact(path: ArtifactPath, bytes: &[u8]) -> Artifact {
    let mime_type = mime_type(path.as_str());
    let artifact = Artifact::from_bytes(path, bytes);
    match mime_type {
        Some(mime_type) => artifact.with_mime_type(mime_type),
        None => artifact,
    }
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
        let artifacts = collect(dir.path()).unwrap();
        let seen: Vec<_> = artifacts.iter().map(|one| (one.path.as_str(), one.mime_type.as_str())).collect();
        assert_eq!(
            seen,
            [("a", "text/plain"), ("b.bin", "application/octet-stream"), ("deep/er/report.md", "text/markdown")]
        );
        assert_eq!(artifacts[1].bytes().unwrap(), [0xff, 0x00]);
    }

    #[test]
    fn too_many_and_too_large_are_for_the_agent_to_say() {
        let dir = tempfile::tempdir().unwrap();
        let large = File::create(dir.path().join("large")).unwrap();
        large.set_len(MAX_BYTES).unwrap();
        assert_eq!(collect(dir.path()).unwrap().len(), 1);
        large.set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(collect(dir.path()).unwrap_err().code(), FailureCode::ResourceExhausted);
        large.set_len(0).unwrap();
        for number in 0..MAX_ARTIFACTS {
            File::create(dir.path().join(number.to_string())).unwrap();
        }
        let error = collect(dir.path()).unwrap_err();
        assert_eq!(error.code(), FailureCode::ResourceExhausted);
        assert!(!error.is_retryable());
    }

    #[test]
    fn a_name_that_cannot_travel_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a\\b"), "").unwrap();
        assert!(collect(dir.path()).unwrap_err().message().contains("a\\b"));
    }
}
