//! One process and everything it starts, from its input to its end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, thread};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::capture::{Capture, Keep, TooLong};

/// The longest output that is kept, in bytes; more ends the process.
pub(super) const MAX_STDOUT_BYTES: usize = 8 * 1024 * 1024;
/// How much of the end of standard error is kept, in bytes (docs/protocol.md section 5a).
const STDERR_TAIL_BYTES: usize = 8 * 1024;
/// How long a process has between SIGTERM and SIGKILL, unless a job says otherwise.
pub(super) const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long pipes are read once nobody of the process group can write to them any more: what has left the group may
/// hold them open for ever.
const LAST_READ: Duration = Duration::from_secs(1);
/// How often a group that has to end is asked whether it has.
const LOOK: Duration = Duration::from_millis(10);
/// How long what was killed has to stop writing before its directory is removed once more.
pub(super) const LAST_WRITES: Duration = Duration::from_millis(100);
/// A time nobody waits for, in place of none.
const FAR: Duration = Duration::from_secs(30 * 24 * 3600);

/// A command to be run once.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// Variables that are set for it, beside those it inherits.
    pub(super) set: Vec<(OsString, OsString)>,
    /// Variables that it does not inherit.
    pub(super) unset: Vec<OsString>,
    /// What it finds on its standard input.
    pub(super) input: Vec<u8>,
    /// How long it may take.
    pub(super) timeout: Option<Duration>,
    /// How long it has between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
    /// Its directory: the caller's to remove, unless the agent ends at once.
    pub(super) directory: PathBuf,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, or by a signal that is not ours.
    Exited(ExitStatus),
    /// It was told to stop.
    Cancelled,
    /// Its time was up.
    TimedOut,
    /// It printed more than is kept.
    TooLong,
}

/// A process that is no more.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) end: End,
    pub(super) stdout: Vec<u8>,
    /// Why `stdout` is not all that was printed, if it may not be.
    pub(super) unread: Option<Unread>,
    /// The last bytes of standard error.
    pub(super) stderr_tail: Vec<u8>,
}

/// Why standard output was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Something that left the process group holds it open.
    HeldOpen,
    /// It did not end in time.
    Slow,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = LAST_READ.as_secs();
        match self {
            Self::HeldOpen => f.write_str(
                "the command exited, and something that it started outside its process group holds its output open: \
                 redirect the output of what is to go on running",
            ),
            Self::Slow => {
                write!(f, "the command exited, and its output could not be read to the end within {seconds} s")
            }
        }
    }
}

impl Job {
    /// Runs the command in a process group of its own. Dropping the future kills the group.
    ///
    /// # Errors
    ///
    /// The command could not be started.
    pub(super) async fn run(self, groups: &Arc<Groups>, stop: &CancellationToken) -> io::Result<Finished> {
        let started = Instant::now();
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.set).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in &self.unset {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        let group = Group::of(&child, self.directory, groups);
        let mut stdout = Capture::new(child.stdout.take(), MAX_STDOUT_BYTES, Keep::AllOrStop);
        let mut stderr = Capture::new(child.stderr.take(), STDERR_TAIL_BYTES, Keep::Tail);
        let deadline = started + self.timeout.unwrap_or(FAR);
        let end = {
            // Together: a process may print before it has read everything, and the other way round.
            let feeding = feed(child.stdin.take(), &self.input);
            let pipes = async {
                tokio::try_join!(
                    async {
                        feeding.await;
                        Ok(())
                    },
                    stdout.read(),
                    stderr.read()
                )
                .map(drop)
            };
            tokio::pin!(pipes);
            let mut are_open = true;
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break End::Cancelled,
                    () = sleep_until(deadline) => break End::TimedOut,
                    status = child.wait() => break End::Exited(status?),
                    ended = &mut pipes, if are_open => match ended {
                        Ok(()) => are_open = false,
                        Err(TooLong) => break End::TooLong,
                    },
                }
            }
        };
        if !matches!(end, End::Exited(_)) {
            let grace_ends = Instant::now() + self.grace;
            group.signal(Signal::SIGTERM);
            let ending = async {
                let _ = child.wait().await;
                group.ended().await;
            };
            if timeout_at(grace_ends, ending).await.is_err() {
                debug!("a command does not end on SIGTERM");
            }
        }
        let id = group.id;
        // Also after an end in order: what the command left running is not part of any task. The system gives out an id
        // again only after all the others, so the group is still this one.
        drop(group);
        let _ = child.wait().await?;
        let rest = async { tokio::join!(stdout.read(), stderr.read()) };
        let _ = timeout(LAST_READ, rest).await;
        let end = match end {
            End::Exited(_) if stdout.is_too_long() => End::TooLong,
            end => end,
        };
        let unread = match stdout.has_ended() {
            true => None,
            false if id.is_some_and(is_there) => Some(Unread::Slow),
            false => Some(Unread::HeldOpen),
        };
        Ok(Finished { end, stdout: stdout.into_bytes(), unread, stderr_tail: stderr.into_bytes() })
    }
}

/// Writes the input and closes the pipe; a command that does not read it all is no error.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut stdin) = stdin
        && let Err(error) = stdin.write_all(input).await
    {
        debug!(%error, "a command did not read all of its input");
    }
}

/// The process groups that run, with their directories, so that nothing of them is left when there is no time for
/// anything else.
#[derive(Debug, Default)]
pub(crate) struct Groups(Mutex<BTreeMap<i32, PathBuf>>);

impl Groups {
    /// Kills all of them at once and removes their directories.
    pub(crate) fn kill(&self) {
        let groups = self.lock();
        for id in groups.keys() {
            // It may have ended in this moment.
            let _ = killpg(Pid::from_raw(*id), Signal::SIGKILL);
        }
        let left: Vec<_> = groups.values().filter(|directory| !is_removed(directory)).collect();
        if !left.is_empty() {
            thread::sleep(LAST_WRITES);
        }
        for directory in left {
            let _ = fs::remove_dir_all(directory);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, PathBuf>> {
        // No panic leaves the map half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a directory with all that is in it, and says whether it is gone; files may be added meanwhile.
pub(super) fn is_removed(directory: &Path) -> bool {
    match fs::remove_dir_all(directory) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Whether any process of a group is left that can be signalled.
fn is_there(group: i32) -> bool {
    killpg(Pid::from_raw(group), None).is_ok()
}

/// A process group of ours; killed when this is dropped.
#[derive(Debug)]
struct Group {
    /// `None` for a process that ended before it could be asked for its id.
    id: Option<i32>,
    groups: Arc<Groups>,
}

impl Group {
    /// The group that `child` leads.
    fn of(child: &Child, directory: PathBuf, groups: &Arc<Groups>) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        groups.lock().extend(id.map(|id| (id, directory)));
        Self { id, groups: Arc::clone(groups) }
    }

    /// Waits until none of it is left.
    async fn ended(&self) {
        while self.id.is_some_and(is_there) {
            sleep(LOOK).await;
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // None of it may be left.
            let _ = killpg(Pid::from_raw(id), signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(id) = self.id {
            self.groups.lock().remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Job {
        Job {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            set: Vec::new(),
            unset: Vec::new(),
            input: Vec::new(),
            timeout: Some(Duration::from_secs(60)),
            grace: Duration::from_millis(200),
            directory: PathBuf::new(),
        }
    }

    async fn run(job: Job) -> Finished {
        job.run(&Arc::default(), &CancellationToken::new()).await.unwrap()
    }

    fn is_success(finished: &Finished) -> bool {
        matches!(finished.end, End::Exited(status) if status.success())
    }

    #[tokio::test]
    async fn more_than_a_pipe_holds_goes_through_both_ways() {
        let input: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let finished = run(Job { input: input.clone(), ..shell("cat; echo done >&2") }).await;
        assert!(is_success(&finished));
        assert!(finished.stdout == input, "{} of {} bytes came back", finished.stdout.len(), input.len());
        assert_eq!(finished.stderr_tail, b"done\n");
    }

    #[tokio::test]
    async fn input_that_nobody_reads_is_no_error() {
        let finished = run(Job { input: vec![b'x'; 1_000_000], ..shell("exec <&-; echo hello") }).await;
        assert!(is_success(&finished));
        assert_eq!(finished.stdout, b"hello\n");
    }

    #[tokio::test]
    async fn output_without_end_ends_the_process() {
        let finished = run(shell("exec yes")).await;
        assert_eq!(finished.end, End::TooLong);
    }

    #[tokio::test]
    async fn of_standard_error_the_last_8_kib_stay() {
        let finished = run(shell("yes 1234567 | head -c 100000 >&2; echo end >&2; exit 3")).await;
        assert!(matches!(finished.end, End::Exited(status) if status.code() == Some(3)));
        assert_eq!(finished.stderr_tail.len(), 8192);
        assert!(finished.stderr_tail.ends_with(b"end\n"));
    }

    #[tokio::test]
    async fn what_a_command_leaves_running_is_killed_and_holds_nothing_up() {
        let started = Instant::now();
        let finished = run(shell("sleep 600 & echo $!")).await;
        assert!(is_success(&finished));
        assert!(started.elapsed() < Duration::from_secs(30));
        let left = String::from_utf8(finished.stdout).unwrap();
        assert_gone(left.trim().parse().unwrap()).await;
    }

    #[tokio::test]
    async fn what_leaves_the_group_and_holds_the_output_open_is_told_apart() {
        // The shell ends when the child says that it has left.
        let script = "trap 'exit 0' USR1; setsid sh -c 'kill -USR1 $0; echo $$; exec sleep 600' $$ & wait; wait";
        let finished = run(shell(script)).await;
        assert!(is_success(&finished), "{finished:?}");
        assert_eq!(finished.unread, Some(Unread::HeldOpen));
        let outside: i32 = String::from_utf8(finished.stdout).unwrap().trim().parse().unwrap();
        killpg(Pid::from_raw(outside), Signal::SIGKILL).unwrap();
        assert_eq!(run(shell("echo all")).await.unread, None);
    }

    #[tokio::test]
    async fn the_whole_group_has_its_time_after_sigterm() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cleaned");
        // The shell ends at once; what it started takes a moment more.
        let script = "(trap 'sleep 0.1; echo done > \"$DIR/cleaned\"; exit' TERM; : > \"$DIR/ready\";
            while :; do sleep 0.05; done) & trap 'exit 1' TERM; wait";
        let set = vec![("DIR".into(), dir.path().into())];
        let job = Job { set, grace: Duration::from_millis(1200), ..shell(script) };
        let (groups, stop) = (Arc::default(), CancellationToken::new());
        let stopping = async {
            while !dir.path().join("ready").exists() {
                sleep(LOOK).await;
            }
            stop.cancel();
        };
        let (finished, ()) = tokio::join!(job.run(&groups, &stop), stopping);
        assert_eq!(finished.unwrap().end, End::Cancelled);
        assert_eq!(fs::read(file).unwrap(), b"done\n");
    }

    #[tokio::test]
    async fn a_group_that_ignores_sigterm_is_killed() {
        let job = shell("trap '' TERM; sleep 600 & echo $!; wait; wait");
        let job = Job { timeout: Some(Duration::from_millis(200)), ..job };
        let finished = run(job).await;
        assert_eq!(finished.end, End::TimedOut);
        let child = String::from_utf8(finished.stdout).unwrap();
        assert_gone(child.trim().parse().unwrap()).await;
    }

    #[tokio::test]
    async fn dropping_the_run_kills_the_group() {
        let groups = Arc::<Groups>::default();
        let stop = CancellationToken::new();
        let run = shell("sleep 600 & wait").run(&groups, &stop);
        let outcome = timeout(Duration::from_millis(100), run).await;
        assert!(outcome.is_err() && groups.lock().is_empty());
    }

    /// Waits until a process is gone or is a zombie that nobody has collected.
    async fn assert_gone(pid: i32) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = state.rsplit(')').next().unwrap_or_default().trim().chars().next();
            if state.is_none_or(|state| state == 'Z') {
                return;
            }
            assert!(Instant::now() < deadline, "process {pid} still runs: {state:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}
