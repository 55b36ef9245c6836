//! Waiting for the end of a session, through restarts of the server.

use std::time::Duration;

use clap::Args;
use eap_client::OperatorClient;
use eap_types::limits::MAX_WAIT;
use eap_types::{SessionId, SessionState, SessionView};
use tokio::time::{Instant, sleep_until};

use crate::exit::{Exit, Failure};
use crate::output::tell;
use crate::server::{ServerArgs, may_pass, pause};
use crate::stop;

/// How long a wait without an end goes on while no server answers.
const LONGEST_OUTAGE: Duration = Duration::from_secs(120);

/// Whether to wait for a session, and for how long.
#[derive(Args, Clone, Debug)]
pub(super) struct Wait {
    /// Wait for the end of the session; with a number, for at most so many seconds. Exit code 5 when they are over or a
    /// signal ends the wait: the session goes on.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true,
        value_parser = clap::value_parser!(u64).range(..=31_536_000))]
    wait: Option<Option<u64>>,
}

/// What the end of a session means for the exit code; `None` if it has not ended.
pub(super) fn finished(session: &SessionView) -> Option<Exit> {
    match session.status {
        SessionState::Completed => Some(Exit::Done),
        status if status.is_final() => Some(Exit::Failed),
        _ => None,
    }
}

impl Wait {
    /// Whether to wait at all.
    pub(super) fn is_wanted(&self) -> bool {
        self.wait.is_some()
    }

    /// Follows a session until it is over or the wait is, by its length or by a signal, and gives it as it was last seen;
    /// `None` if no server answered meanwhile.
    pub(super) async fn follow(
        &self,
        client: &OperatorClient,
        server: &ServerArgs,
        id: SessionId,
    ) -> Result<Option<SessionView>, Failure> {
        let stop = stop::on_signals(|| {})?;
        let started = Instant::now();
        let deadline = self.wait.flatten().map(|seconds| started + Duration::from_secs(seconds));
        let (mut seen, mut failures, mut answered) = (None, 0, started);
        while seen.as_ref().and_then(finished).is_none() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if seen.is_some() && left.is_some_and(|left| left.is_zero()) {
                break;
            }
            // Whole seconds, the last of which may be cut short by the deadline below; the first look waits for nothing.
            let step = Duration::from_secs(left.unwrap_or(MAX_WAIT).min(MAX_WAIT).as_secs().max(1));
            let answer = tokio::select! {
                answer = client.session(id, seen.is_some().then_some(step)) => answer,
                () = until(deadline), if seen.is_some() || failures > 0 => break,
                () = stop.cancelled() => break,
            };
            match answer {
                Ok(view) => (seen, failures, answered) = (Some(view), 0, Instant::now()),
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
                    return Err(server.failed(&error).and(&format!("`eap workflow get {id} --wait` goes on")));
                }
                Err(error) => return Err(server.failed(&error)),
            }
        }
        if seen.as_ref().and_then(finished).is_none() {
            let outage = if failures == 0 { "" } else { " as far as is known: the server does not answer now" };
            tell(&format!(
                "eap: the wait is over and the session is not{outage}; `eap workflow get {id} --wait` goes on\n"
            ));
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
