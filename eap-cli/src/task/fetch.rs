//! `eap task fetch`: what a task produced, as files in a folder.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use eap_client::{ArtifactDir, ArtifactDirError, ClientError, OperatorClient};
use eap_types::{Artifact, TaskId};
use serde::Serialize;

use super::wait::{finished, follow};
use crate::exit::{Exit, Failure, chain};
use crate::output::{Table, print, print_json, tell};
use crate::server::ServerArgs;
use crate::wait::Wait;

/// Write the artifacts of a task into a folder.
///
/// Nothing is written outside the folder whatever the agent named its files, and no file is written over. A file has its
/// name once it is whole; until then it is hidden (`.eap-….part`), which stays if this is killed. Exit code 5
/// says that the task is not over yet, 1 that it failed, died or was cancelled and left no artifacts, or that a file could not be
/// written.
#[derive(Args, Debug)]
pub(crate) struct FetchArgs {
    /// The task.
    task_id: TaskId,

    /// The folder, which is made if it is not there.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,

    #[command(flatten)]
    wait: Wait,

    #[command(flatten)]
    server: ServerArgs,

    /// Print what was written as one JSON document.
    #[arg(long)]
    json: bool,
}

/// One file that was written.
#[derive(Debug, Serialize)]
struct Fetched {
    path: String,
    file: PathBuf,
    bytes: u64,
    mime_type: String,
}

/// Writes the artifacts of a task into a folder.
pub(super) async fn fetch(args: FetchArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let mut task = client.task(args.task_id, None).await.map_err(|error| args.server.failed(&error))?;
    if args.wait.is_wanted() {
        task = follow(&args.wait, &client, &args.server, task).await?;
    }
    let Some(result) = task.result.as_ref() else {
        if finished(&task).is_some() {
            return Err(Failure::new(Exit::Failed, format!("the task is {} and has no result", task.status)));
        }
        if !args.wait.is_wanted() {
            tell("eap: the task is not over yet; `--wait` waits for its artifacts\n");
        }
        return Ok(Exit::WaitOver);
    };
    let artifacts = &result.artifacts;
    ArtifactDir::check(artifacts.iter().map(|artifact| &artifact.path)).map_err(|error| failed(&error))?;
    let dir = ArtifactDir::create(&args.into).map_err(|error| failed(&error))?;
    let mut fetched = Vec::new();
    for artifact in artifacts {
        let file = match artifact.is_stored() {
            true => download(&client, &args, &dir, artifact).await?,
            false => dir.write(artifact).map_err(|error| failed(&error))?,
        };
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        fetched.push(Fetched { path: artifact.path.to_string(), file, bytes, mime_type: artifact.mime_type.clone() });
    }
    if args.json { print_json(&fetched) } else { print(&shown(&fetched)) }?;
    // What a failed attempt left is what was asked for; with nothing of it, a script must not go on as if there were.
    let exit = finished(&task).filter(|_| fetched.is_empty()).unwrap_or(Exit::Done);
    if exit != Exit::Done {
        tell(&format!("eap: the task is {} and left no artifacts\n", task.status));
    }
    Ok(exit)
}

/// Fetches what was uploaded, and keeps it once it is whole and what the result says.
async fn download(
    client: &OperatorClient,
    args: &FetchArgs,
    dir: &ArtifactDir,
    artifact: &Artifact,
) -> Result<PathBuf, Failure> {
    let broken = |error: &ClientError| args.server.failed(error);
    let mut stream = client.artifact(args.task_id, &artifact.path).await.map_err(|error| broken(&error))?;
    if stream.digest() != artifact.sha256 {
        return Err(broken(&ClientError::Altered));
    }
    let mut file = dir.begin(&artifact.path).map_err(|error| failed(&error))?;
    while let Some(piece) = stream.piece().await.map_err(|error| broken(&error))? {
        let cannot = |error| Failure::new(Exit::Failed, format!("{} cannot be written: {error}", artifact.path));
        file.write_all(&piece).map_err(cannot)?;
    }
    file.keep().map_err(|error| failed(&error))
}

fn shown(fetched: &[Fetched]) -> String {
    if fetched.is_empty() {
        return "no artifacts\n".to_owned();
    }
    let mut table = Table::with_header(&["FILE", "BYTES", "TYPE"]);
    for one in fetched {
        table.row([one.file.display().to_string(), one.bytes.to_string(), one.mime_type.clone()]);
    }
    table.render()
}

fn failed(error: &ArtifactDirError) -> Failure {
    let exit = if matches!(error, ArtifactDirError::Root { .. }) { Exit::Usage } else { Exit::Failed };
    Failure::new(exit, chain(error))
}
