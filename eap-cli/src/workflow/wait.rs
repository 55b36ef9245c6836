//! Waiting for the end of a session.

use eap_client::OperatorClient;
use eap_types::{SessionId, SessionState, SessionView};

use crate::exit::{Exit, Failure};
use crate::server::ServerArgs;
use crate::wait::{Goal, Question, Wait};

/// What is told about a session whose step no agent that takes work can do.
const NOBODY_CAN: &str = "eap: no agent that takes work can do the step whose turn it is; it waits for one\n";

/// What the end of a session means for the exit code; `None` if it has not ended.
pub(super) fn finished(session: &SessionView) -> Option<Exit> {
    match session.status {
        SessionState::Completed => Some(Exit::Done),
        status if status.is_final() => Some(Exit::Failed),
        _ => None,
    }
}

impl Goal for SessionView {
    const NAME: &'static str = "session";

    fn finished(&self) -> Option<Exit> {
        finished(self)
    }

    fn remark(&self) -> Option<&'static str> {
        self.steps.iter().any(|step| step.no_capable_agent).then_some(NOBODY_CAN)
    }

    fn line(&self) -> String {
        let begun = self.steps.iter().filter(|step| step.eap_task_id.is_some()).count();
        format!("{}, step {begun} of {}", self.status, self.steps.len())
    }
}

/// Follows a session until it is over or the wait is, and gives it as it was last seen, if a server answered.
pub(super) async fn follow(
    wait: &Wait,
    client: &OperatorClient,
    server: &ServerArgs,
    id: SessionId,
) -> Result<Option<SessionView>, Failure> {
    let question = Question { id, again: "eap workflow get", ask: async |wait| client.session(id, wait).await };
    wait.follow(server, None, question).await
}
