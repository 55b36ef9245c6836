//! The built `eap` command as tests use it.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Nothing takes this long; a test that waits for more fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The `eap` that is tested.
pub(crate) const EAP: &str = env!("CARGO_BIN_EXE_eap");

/// `eap` with these arguments, and nothing of the environment that it reads.
pub(crate) fn eap(arguments: &[&str]) -> Command {
    eap_at(EAP, arguments)
}

/// The same of another build.
pub(crate) fn eap_at(program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    for name in [
        "EAP_URL",
        "EAP_LISTEN",
        "EAP_DATABASE_URL",
        "EAP_DATABASE_SCHEMA",
        "EAP_DATABASE_CONNECTIONS",
        "EAP_DATABASE_PREPARED_STATEMENTS",
        "EAP_DATABASE_LISTEN_URL",
        "EAP_SEALING_KEY",
        "EAP_OPERATOR_KEY",
        "EAP_REGISTRATION_SECRET",
        "EAP_CALLBACK_SECRET",
        "EAP_AGENTKIT_SECRET",
        "EAP_AGENTKIT_URL",
        "EAP_LOG",
    ] {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").args(arguments);
    command
}

/// What a command that has ended left.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Ended {
    /// Standard output as one JSON document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON document ({error}): {self:?}"))
    }

    /// Fails unless the command ended with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ended {
    run_with_input(command, "")
}

/// Runs a command that reads `input`.
#[track_caller]
pub(crate) fn run_with_input(command: &mut Command, input: &str) -> Ended {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("eap starts");
    let pid = pid_of(&child);
    // The input of tests is shorter than what a pipe holds; a command need not read it.
    let _ = child.stdin.take().expect("it was asked for").write_all(input.as_bytes());
    let (done, outcome) = channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let output = outcome.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        let _ = kill(pid, Signal::SIGKILL);
        panic!("a command did not end in time: {command:?}")
    });
    let output = output.expect("its output can be read");
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("ids are small"))
}

/// The lines of a pipe, as they come.
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}

/// A command that runs until it is stopped; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    printed: Option<Receiver<String>>,
}

impl Running {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::spawn(command.stdout(Stdio::null()))
    }

    /// Starts it, and reads what it prints.
    pub(crate) fn start_to_read(command: &mut Command) -> Self {
        let mut running = Self::spawn(command.stdout(Stdio::piped()));
        running.printed = running.child.stdout.take().map(lines_of);
        running
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("eap starts");
        let lines = lines_of(child.stderr.take().expect("it was asked for"));
        Self { child, lines, seen: Vec::new(), printed: None }
    }

    /// The next line on standard output.
    #[track_caller]
    pub(crate) fn printed(&mut self) -> String {
        let printed = self.printed.as_ref().expect("it was started to be read");
        match printed.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(_) => panic!("it prints nothing more: {:#?}", self.log()),
        }
    }

    /// Waits for a line on standard error that starts with `start`, and gives the rest of it.
    #[track_caller]
    pub(crate) fn line(&mut self, start: &str) -> String {
        self.try_line(start).unwrap_or_else(|| panic!("no line `{start}…`, but {:#?}", self.seen))
    }

    /// The same; `None` if the command ended without it.
    pub(crate) fn try_line(&mut self, start: &str) -> Option<String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line);
                    let line = self.seen.last().expect("it was just put there");
                    if let Some(rest) = line.strip_prefix(start) {
                        return Some(rest.to_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Everything on standard error so far.
    pub(crate) fn log(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        self.seen.join("\n")
    }

    /// The same if there is one soon.
    pub(crate) fn try_printed(&mut self) -> Option<String> {
        self.printed.as_ref()?.recv_timeout(Duration::from_millis(200)).ok()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it still runs");
    }

    /// The number of the process.
    pub(crate) fn pid(&self) -> Pid {
        pid_of(&self.child)
    }

    /// The exit code, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let status = self.child.try_wait().expect("it is our child")?;
        Some(status.code().unwrap_or(-1))
    }

    /// Waits for its end and gives the exit code.
    #[track_caller]
    pub(crate) fn code(&mut self) -> i32 {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(code) = self.ended() {
                return code;
            }
            assert!(Instant::now() < deadline, "it does not end: {:#?}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and the exit code.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.code()
    }

    /// `kill -9`, and wait until it is gone.
    pub(crate) fn kill_9(&mut self) {
        self.child.kill().expect("it still runs");
        self.child.wait().expect("it is our child");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server and where it is.
#[derive(Debug)]
pub(crate) struct Server {
    /// The process.
    pub(crate) process: Running,
    /// Its address, as in `http://127.0.0.1:40000`.
    pub(crate) url: String,
}

impl Server {
    /// Starts `eap serve` on a free port, in memory unless `arguments` say otherwise.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let is_named = arguments.contains(&"--database");
        let memory: &[&str] = if is_named { &[] } else { &["--database", "memory:"] };
        Self::start_anywhere(&[arguments, memory].concat(), environment)
    }

    /// Starts `eap serve` on a free port, on the database that `arguments` or `environment` name.
    #[track_caller]
    pub(crate) fn start_anywhere(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = eap(&["serve"]);
        command.env("EAP_LISTEN", "127.0.0.1:0").args(arguments).envs(environment.iter().copied());
        let mut process = Running::start(&mut command);
        let rest = process.line("eap: serving on ");
        let url = rest.split(' ').next().expect("the line goes on").to_owned();
        Self { process, url }
    }

    /// A command that talks to this server.
    pub(crate) fn eap(&self, arguments: &[&str]) -> Command {
        let mut command = eap(arguments);
        command.env("EAP_URL", &self.url);
        command
    }

    /// Starts an agent that runs `script` in a shell for tasks of type `work`.
    #[track_caller]
    pub(crate) fn agent(&self, options: &[&str], environment: &[(&str, &str)], script: &str) -> Running {
        let mut command = self.eap(&["agent", "run", "--name", "AGENT-TEST-01", "--capability", "work"]);
        command.args(options).args(["--", "sh", "-c", script]).envs(environment.iter().copied());
        let mut agent = Running::start(&mut command);
        agent.line("eap: agent AGENT-TEST-01 is online");
        agent
    }
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
