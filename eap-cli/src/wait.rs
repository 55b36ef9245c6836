//! Waiting for the end of what goes on at a server, through its restarts, with a line on the terminal meanwhile.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use eap_client::ClientError;
use eap_types::limits::MAX_WAIT;
use tokio::time::{Instant, sleep_until};

use crate::exit::{Exit, Failure};
use crate::output::tell;
use crate::server::{ServerArgs, may_pass, pause};
use crate::stop;

/// How long a wait without an end goes on while no server answers.
const LONGEST_OUTAGE: Duration = Duration::from_secs(120);
/// The longest wait that can be asked for, in seconds: a year.
const LONGEST_WAIT: u64 = 365 * 24 * 3600;
/// How often the line on a terminal is drawn anew.
const REDRAW: Duration = Duration::from_secs(1);

/// Whether to wait for the end, and for how long.
#[derive(Args, Clone, Debug)]
pub(crate) struct Wait {
    /// Wait for the end; with a number, for at most so many seconds. Exit code 5 when they are over or a signal ends the wait:
    /// what was waited for goes on.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true,
        value_parser = clap::value_parser!(u64).range(..=LONGEST_WAIT))]
    wait: Option<Option<u64>>,
}

/// What goes on at a server until it is over.
pub(crate) trait Goal {
    /// What it is called, as in "task".
    const NAME: &'static str;

    /// What its end means for the exit code; `None` if it has not ended.
    fn finished(&self) -> Option<Exit>;

    /// What is told of it once, should it be so.
    fn remark(&self) -> Option<&'static str>;

    /// How far it is, in one line.
    fn line(&self) -> String;
}

/// What is waited for, and how to ask about it.
pub(crate) struct Question<'a, I, A> {
    pub(crate) id: I,
    /// The command that goes on with the wait.
    pub(crate) again: &'a str,
    /// Asks, and lets the server wait so long for the end.
    pub(crate) ask: A,
}

impl Wait {
    /// Whether to wait at all.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wait.is_some()
    }

    /// Follows a goal, as it was last `seen`, until it is over or the wait is, by its length or by a signal, and gives it as
    /// it then is; `None` if it was not seen before and no server answered.
    pub(crate) async fn follow<G: Goal>(
        &self,
        server: &ServerArgs,
        mut seen: Option<G>,
        question: Question<'_, impl Display, impl AsyncFn(Option<Duration>) -> Result<G, ClientError>>,
    ) -> Result<Option<G>, Failure> {
        let Question { id, again, ask } = question;
        let stop = stop::on_signals(|| {})?;
        let started = Instant::now();
        let deadline = self.wait.flatten().map(|seconds| started + Duration::from_secs(seconds));
        let line = Line::new();
        let (mut failures, mut answered, mut is_told) = (0, started, false);
        let ended = |seen: &Option<G>| seen.as_ref().and_then(Goal::finished).is_some();
        while !ended(&seen) {
            if let Some(goal) = &seen {
                if let Some(remark) = goal.remark().filter(|_| !is_told) {
                    line.clear();
                    tell(remark);
                    is_told = true;
                }
                line.show(&format!("{} {}", crate::output::length(started.elapsed()), goal.line()));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if seen.is_some() && left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let step = if line.is_shown { REDRAW } else { MAX_WAIT };
            // Whole seconds, the last of which may be cut short by the deadline below; the first look waits for nothing.
            let step = Duration::from_secs(left.unwrap_or(step).min(step).as_secs().max(1));
            let answer = tokio::select! {
                answer = ask(seen.is_some().then_some(step)) => answer,
                () = until(deadline), if seen.is_some() || failures > 0 => break,
                () = stop.cancelled() => break,
            };
            match answer {
                Ok(goal) => (seen, failures, answered) = (Some(goal), 0, Instant::now()),
                Err(error) if may_pass(&error) && answered.elapsed() < LONGEST_OUTAGE => {
                    failures += 1;
                    let next = Instant::now() + pause(failures, &error);
                    tokio::select! {
                        () = sleep_until(next) => {}
                        () = until(deadline) => break,
                        () = stop.cancelled() => break,
                    }
                }
                Err(error) if may_pass(&error) => {
                    return Err(server.failed(&error).and(&format!("`{again} {id} --wait` goes on")));
                }
                Err(error) => return Err(server.failed(&error)),
            }
        }
        line.clear();
        if !ended(&seen) {
            let outage = if failures == 0 { "" } else { " as far as is known: the server does not answer now" };
            let name = G::NAME;
            tell(&format!("eap: the wait is over and the {name} is not{outage}; `{again} {id} --wait` goes on\n"));
        }
        Ok(seen)
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// One line on standard error that is drawn over itself; nothing unless that is a terminal.
struct Line {
    is_shown: bool,
}

impl Line {
    fn new() -> Self {
        Self { is_shown: io::stderr().is_terminal() }
    }

    fn show(&self, text: &str) {
        if self.is_shown {
            self.draw(text);
        }
    }

    fn clear(&self) {
        if self.is_shown {
            self.draw("");
        }
    }

    fn draw(&self, text: &str) {
        let mut terminal = io::stderr().lock();
        // A terminal that is gone needs no line.
        let _ = write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush());
    }
}

impl Drop for Line {
    /// An error ends the wait as well, and its message stands alone.
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        wait: Wait,
        #[command(flatten)]
        server: ServerArgs,
    }

    /// Something that never ends.
    struct Endless;

    impl Goal for Endless {
        const NAME: &'static str = "thing";

        fn finished(&self) -> Option<Exit> {
            None
        }

        fn remark(&self) -> Option<&'static str> {
            None
        }

        fn line(&self) -> String {
            String::new()
        }
    }

    #[tokio::test]
    async fn a_wait_that_runs_out_in_an_outage_is_over_and_not_a_failure() {
        let command = Command::try_parse_from(["eap", "--wait=1", "--url", "http://x"]).unwrap();
        for seen in [Some(Endless), None] {
            let was_seen = seen.is_some();
            let ask = async |_| Err(ClientError::Call(eap_client::CallError::Connect { source: "refused".into() }));
            let started = Instant::now();
            let question = Question { id: 1, again: "eap thing get", ask };
            let last = command.wait.follow(&command.server, seen, question).await.unwrap();
            assert_eq!(last.is_some(), was_seen);
            assert!(started.elapsed() >= Duration::from_secs(1));
        }
    }

    #[test]
    fn a_wait_without_measure_is_refused() {
        assert!(Command::try_parse_from(["eap", "--wait=31536000"]).is_ok());
        for number in ["31536001", "18446744073709551615", "-1"] {
            assert!(Command::try_parse_from(["eap", &format!("--wait={number}")]).is_err(), "{number}");
        }
    }
}
