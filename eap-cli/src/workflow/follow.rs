//! Waiting for the end of a session, through restarts of the server.

use std::time::Duration;

use clap::Args;
use eap_client::OperatorClient;
use eap_types::limits::MAX_WAIT;
use eap_types::{SessionId, SessionState, SessionView};
use tokio::time::{Instant, sleep};

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

    /// Follows a session until it is over or the wait is, by its length or by a signal, and gives it as it then is.
    pub(super) async fn follow(
        &self,
        client: &OperatorClient,
        server: &ServerArgs,
        id: SessionId,
    ) -> Result<SessionView, Failure> {
        let stop = stop::on_signals(|| {})?;
        let started = Instant::now();
        let (mut failures, mut answered) = (0, started);
        let mut session = server.repeat(|| client.session(id, None)).await?;
        while finished(&session).is_none() && !stop.is_cancelled() {
            let left =
                self.wait.flatten().map(|seconds| Duration::from_secs(seconds).saturating_sub(started.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            // Whole seconds, the last of which may be cut short.
            let step = Duration::from_secs(left.unwrap_or(MAX_WAIT).min(MAX_WAIT).as_secs().max(1));
            let asked = stop.run_until_cancelled(tokio::time::timeout(
                left.unwrap_or(Duration::from_secs(u64::MAX / 4)),
                client.session(id, Some(step)),
            ));
            match asked.await {
                None | Some(Err(_)) => break,
                Some(Ok(Ok(view))) => (session, failures, answered) = (view, 0, Instant::now()),
                Some(Ok(Err(error))) if may_pass(&error) && answered.elapsed() < LONGEST_OUTAGE => {
                    failures += 1;
                    let pause = pause(failures, &error).min(left.unwrap_or(Duration::MAX));
                    stop.run_until_cancelled(sleep(pause)).await;
                }
                Some(Ok(Err(error))) => {
                    return Err(server.failed(&error).and(&format!("`eap workflow get {id} --wait` goes on")));
                }
            }
        }
        if finished(&session).is_none() {
            tell(&format!("eap: the wait is over and the session is not; `eap workflow get {id} --wait` goes on\n"));
        }
        Ok(session)
    }
}
