//! A command as a handler: what a task becomes on the way into a process, and what its end becomes on the way out.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use eap_agent_sdk::{Handler, HandlerError, Output, TaskContext};
use eap_types::{Assignment, FailureCode};
use nix::unistd::{AccessFlags, access};
use serde_json::json;
use tempfile::TempDir;
use tracing::warn;

use super::artifacts;
use super::process::{End, Finished, Groups, Job, LAST_WRITES, MAX_STDOUT_BYTES, TERM_GRACE, is_removed};
use super::progress::ProgressFile;
use crate::exit::Failure;
use crate::secrets;

/// Does each task by running a command once.
#[derive(Debug)]
pub(crate) struct Exec {
    program: PathBuf,
    arguments: Vec<OsString>,
    timeout: Option<Duration>,
    groups: Arc<Groups>,
}

impl Exec {
    /// Looks the command up; `timeout` bounds each task beside its own time.
    pub(crate) fn new(command: &[OsString], timeout: Option<Duration>) -> Result<Self, Failure> {
        let Some((name, arguments)) = command.split_first() else {
            return Err(Failure::usage("no command is given: add -- COMMAND [ARGUMENTS]"));
        };
        let Some(program) = find(Path::new(name)) else {
            let name = name.to_string_lossy();
            return Err(Failure::usage(format!("the command `{name}` is not found or cannot be executed; check PATH")));
        };
        Ok(Self { program, arguments: arguments.to_vec(), timeout, groups: Arc::default() })
    }

    /// The processes that run, to be killed when there is no time for anything else.
    pub(crate) fn groups(&self) -> Arc<Groups> {
        Arc::clone(&self.groups)
    }

    fn job(&self, task: &Assignment, ctx: &TaskContext, scratch: &Scratch) -> Job {
        let mut variables = vec![
            ("EAP_TASK_ID", task.task_id.to_string().into()),
            ("EAP_ATTEMPT", ctx.attempt().to_string().into()),
            ("EAP_TASK_TYPE", task.task_type.to_string().into()),
            ("EAP_ARTIFACTS_DIR", scratch.artifacts().into()),
            ("EAP_PROGRESS_FILE", scratch.progress().into()),
        ];
        // Under the name that tracing libraries look for.
        variables.extend(ctx.traceparent().map(|trace| ("TRACEPARENT", trace.to_string().into())));
        Job {
            program: self.program.clone(),
            arguments: self.arguments.clone(),
            set: variables.into_iter().map(|(name, value)| (OsString::from(name), value)).collect(),
            // A command has no business with the agent's own credentials.
            unset: vec![secrets::OPERATOR_KEY.into(), secrets::REGISTRATION_SECRET.into()],
            input: task.input_data.clone().into_bytes(),
            timeout: self.timeout,
            grace: TERM_GRACE,
            directory: scratch.path().to_owned(),
        }
    }
}

#[async_trait]
impl Handler for Exec {
    async fn run(&self, task: Assignment, ctx: TaskContext) -> Result<Output, HandlerError> {
        let scratch = Scratch::new()?;
        let outcome = self.attempt(&task, &ctx, &scratch).await;
        scratch.remove().await;
        outcome
    }
}

impl Exec {
    /// Runs the command with `scratch` for what it writes beside its output.
    async fn attempt(&self, task: &Assignment, ctx: &TaskContext, scratch: &Scratch) -> Result<Output, HandlerError> {
        let job = self.job(task, ctx, scratch);
        let progress = ProgressFile::create(scratch.progress())?;
        let stop = ctx.cancellation();
        let ran = tokio::select! {
            ran = job.run(&self.groups, &stop) => ran,
            never = progress.follow(ctx) => match never {},
        };
        let finished = match ran {
            Ok(finished) => finished,
            Err(error) => return Err(not_started(&self.program, &error)),
        };
        match finished.end {
            End::Exited(status) if status.success() => {
                if let Some(unread) = finished.unread {
                    return Err(HandlerError::retry(unread.to_string()).with_output(output_of(&finished, status)));
                }
                let data = output_of(&finished, status);
                let artifacts = artifacts::collect(&scratch.artifacts(), ctx).await?;
                let mut output = Output::of(&data)?;
                output.artifacts = artifacts;
                Ok(output)
            }
            End::Exited(status) => {
                Err(HandlerError::retry(reason(&finished, status)).with_output(output_of(&finished, status)))
            }
            End::TimedOut => {
                let seconds = self.timeout.unwrap_or_default().as_secs();
                Err(HandlerError::retry(format!("the command took longer than this agent's {seconds} s"))
                    .with_code(FailureCode::Timeout))
            }
            End::TooLong => Err(HandlerError::fatal(format!(
                "the command printed more than {MAX_STDOUT_BYTES} bytes; write large output to $EAP_ARTIFACTS_DIR"
            ))
            .with_code(FailureCode::ResourceExhausted)),
            End::Cancelled => Err(HandlerError::retry("the command was stopped").with_code(FailureCode::Cancelled)),
        }
    }
}

/// A directory for one run, with one for artifacts in it; removed with all that is in it.
#[derive(Debug)]
struct Scratch(TempDir);

impl Scratch {
    fn new() -> io::Result<Self> {
        let scratch = tempfile::Builder::new().prefix("eap-task-").tempdir().map(Self)?;
        fs::create_dir(scratch.artifacts())?;
        Ok(scratch)
    }

    /// Where the command leaves files that become artifacts.
    fn artifacts(&self) -> PathBuf {
        self.path().join("artifacts")
    }

    /// Where it says how far it is.
    fn progress(&self) -> PathBuf {
        self.path().join("progress")
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Removes it, and once more if what was just killed was still writing. Dropping does the same but for the second
    /// time.
    async fn remove(self) {
        let removing = tokio::task::spawn_blocking(move || {
            if !is_removed(self.path()) {
                thread::sleep(LAST_WRITES);
                if !is_removed(self.path()) {
                    warn!(directory = %self.path().display(), "a command's files cannot be removed");
                }
            }
        });
        // The runtime ends: dropping what waits there removes the directory.
        let _ = removing.await;
    }
}

fn output_of(finished: &Finished, status: ExitStatus) -> serde_json::Value {
    json!({ "output": String::from_utf8_lossy(&finished.stdout), "exit_code": exit_code(status) })
}

/// The exit code, or what a shell makes of a signal.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

fn reason(finished: &Finished, status: ExitStatus) -> String {
    let stderr = String::from_utf8_lossy(&finished.stderr_tail);
    match (stderr.trim(), status.signal()) {
        ("", Some(signal)) => format!("the command was ended by signal {signal}"),
        ("", None) => format!("the command exited with code {}", exit_code(status)),
        (words, _) => words.to_owned(),
    }
}

/// Another agent may have the command; a system that is short of something may recover.
fn not_started(program: &Path, error: &io::Error) -> HandlerError {
    let message = format!("cannot run {}: {error}", program.display());
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => HandlerError::reject(message),
        _ => HandlerError::retry(message),
    }
}

/// The file behind a command, as a shell finds it.
fn find(name: &Path) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    if name.components().count() > 1 {
        return Some(name.to_owned()).filter(is_program);
    }
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(is_program)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_command_is_found_as_a_shell_finds_it_or_named_as_missing() {
        assert!(find(Path::new("sh")).is_some_and(|path| path.is_absolute()));
        assert!(find(Path::new("/bin/sh")).is_some());
        assert!(find(Path::new("/etc/passwd")).is_none(), "a file that cannot be executed is no command");
        let failure = Exec::new(&["no-such-command-anywhere".into()], None).unwrap_err();
        assert!(failure.to_string().contains("`no-such-command-anywhere`"), "{failure}");
        assert!(Exec::new(&[], None).is_err());
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_directory_that_is_still_written_to() {
        let scratch = Scratch::new().unwrap();
        let dir = scratch.path().to_owned();
        let writer = {
            let dir = dir.clone();
            let end = Instant::now() + LAST_WRITES / 2;
            let write = move |n: &u32| Instant::now() < end && fs::write(dir.join(n.to_string()), "x").is_ok();
            thread::spawn(move || (0..).take_while(write).count())
        };
        scratch.remove().await;
        writer.join().unwrap();
        assert!(!dir.exists());
    }

    #[test]
    fn a_command_that_is_gone_is_for_another_agent() {
        let error = not_started(Path::new("/x"), &io::ErrorKind::NotFound.into());
        assert_eq!(error.code(), FailureCode::Rejected);
        let error = not_started(Path::new("/x"), &io::ErrorKind::OutOfMemory.into());
        assert_eq!(error.code(), FailureCode::HandlerError);
    }
}
