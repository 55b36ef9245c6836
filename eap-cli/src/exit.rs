//! How the command ends: a code for scripts, and one line for people.

use std::error::Error as StdError;
use std::fmt;
use std::process::ExitCode;

use eap_agent_sdk::Error as AgentError;
use eap_client::{CallError, ClientError};
use eap_types::{ErrorCode, ProblemBody};

/// What the exit code says (docs/protocol.md section 5a).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// The task failed, died or was cancelled; for the other commands: they could not go on.
    Failed = 1,
    /// The command line, the environment or a local file does not allow it.
    Usage = 2,
    /// The server refused.
    Refused = 3,
    /// No server answered.
    Unreachable = 4,
    /// The wait was over before the task was.
    WaitOver = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the command did not do what was asked, in one line that says what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The caller can mend it: the command line, the environment or a local file.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The same with one more thing to do.
    pub(crate) fn and(mut self, advice: &str) -> Self {
        self.message.push_str("; ");
        self.message.push_str(advice);
        self
    }

    /// A call to the server at `url` did not give what was asked for.
    pub(crate) fn of_call(error: &ClientError, url: &str) -> Self {
        let why = chain(error);
        match error {
            ClientError::Call(CallError::Setup { .. }) | ClientError::Header { .. } => Self::usage(why),
            ClientError::BaseUrl { .. } => {
                // Without the URL, which may hold a password.
                Self::usage(format!("{why} (set --url or EAP_URL)"))
            }
            ClientError::Call(CallError::Connect { source }) => {
                let advice = match url.starts_with("https:") {
                    true => "check --url or EAP_URL, and that this machine trusts the certificate",
                    false => "start a server with `eap serve`, or set --url or EAP_URL",
                };
                Self::new(Exit::Unreachable, format!("cannot reach {url}: {}; {advice}", root(source.as_ref())))
            }
            ClientError::Call(_) | ClientError::Unreadable { status: 502..=504, .. } => {
                Self::new(Exit::Unreachable, format!("no usable answer from {url}: {why}; try again"))
            }
            _ => {
                let refused = Self::refused(error);
                match advice(error.code()) {
                    Some(advice) => refused.and(advice),
                    None => refused,
                }
            }
        }
    }

    /// The server refused a call, and what to do about that is still to be said.
    pub(crate) fn refused(error: &ClientError) -> Self {
        Self::new(Exit::Refused, refusal(error))
    }

    /// An agent could not be built, or ended without being asked to.
    pub(crate) fn of_agent(error: &AgentError, url: &str) -> Self {
        match error {
            AgentError::Registration { source } => Self::of_call(source, url),
            AgentError::Invalid { .. }
            | AgentError::DataDir { .. }
            | AgentError::DataDirLocked { .. }
            | AgentError::DataDirOfAnother { .. }
            | AgentError::IdentityExposed { .. } => Self::usage(chain(error)),
            AgentError::IdentityInUse => Self::new(
                Exit::Refused,
                format!("{}; stop the other one, or give this one another --instance-id", chain(error)),
            ),
            AgentError::PullNotServed => Self::new(Exit::Refused, chain(error)),
            _ => Self::new(Exit::Failed, chain(error)),
        }
    }
}

impl fmt::Display for Failure {
    /// Always one line: what a server says may have more.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.message.split_whitespace().collect();
        f.write_str(&words.join(" ").replace(char::is_control, "\u{fffd}"))
    }
}

/// An error with its causes, each said once.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

/// The first cause of all, in its own words.
pub(crate) fn root(mut error: &(dyn StdError + 'static)) -> String {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

fn refusal(error: &ClientError) -> String {
    match error.problem() {
        Some(problem) => format!("the server refused: {}", told(problem)),
        None => format!("{}; is this an EAP server?", chain(error)),
    }
}

/// What the server says about something it refused, with every field it names.
pub(crate) fn told(problem: &ProblemBody) -> String {
    let code = if problem.code.is_empty() { String::new() } else { format!(" {}", problem.code) };
    let said = format!("{} ({}{code})", problem.detail.trim_end_matches('.'), problem.status);
    let listed: Vec<_> =
        problem.details.iter().map(|problem| format!("{} {}", problem.field, problem.message)).collect();
    if listed.is_empty() { said } else { format!("{said}: {}", listed.join("; ")) }
}

fn advice(code: Option<ErrorCode>) -> Option<&'static str> {
    Some(match code? {
        ErrorCode::InvalidToken => "set EAP_OPERATOR_KEY or --operator-key-file to a key that is valid",
        // The server says which of its reasons it is: none, another, one that ended, or one that does not admit this agent.
        ErrorCode::RegistrationDenied => {
            "set EAP_REGISTRATION_SECRET or --registration-secret-file to a secret that admits this agent; \
             `eap registration-secret list` shows what each does"
        }
        ErrorCode::TaskNotFound => "`eap task list` shows the tasks there are",
        ErrorCode::NotADeadLetter => "`eap dead list` shows the dead letters there are",
        ErrorCode::AgentNotFound => "`eap agent list` shows the agents there are",
        ErrorCode::PayloadTooLarge => "send less, or raise capacity.submit_bytes in the --config of `eap serve`",
        ErrorCode::NotFound => "check --url or EAP_URL, and the name",
        ErrorCode::WorkflowExists => "`eap workflow show` prints the one that is kept",
        ErrorCode::IdempotencyConflict => "use another --idempotency-key for another task or run",
        ErrorCode::RateLimited | ErrorCode::Unavailable | ErrorCode::Draining => "try again later",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use eap_types::{FieldProblem, ProblemBody};

    use super::*;

    fn refused(problem: ProblemBody) -> Failure {
        let error = ClientError::Refused { problem: Box::new(problem), retry_after: None };
        Failure::of_call(&error, "http://127.0.0.1:8080")
    }

    #[test]
    fn a_refusal_is_one_line_that_names_every_field_and_what_to_do() {
        let details = vec![
            FieldProblem::new("body.priority", "value_error", "is not between 0 and 4"),
            FieldProblem::new("body.labels", "type_error", "must be\nan object"),
        ];
        let problem =
            ProblemBody::new(ErrorCode::ValidationError, "The request has 2 problems.", "r1").with_details(details);
        let failure = refused(problem);
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(
            failure.to_string(),
            "the server refused: The request has 2 problems (422 VALIDATION_ERROR): body.priority is not between 0 \
             and 4; body.labels must be an object"
        );
        let failure = refused(ProblemBody::new(ErrorCode::InvalidToken, "a valid operator key is needed", "r1"));
        assert!(
            failure.to_string().ends_with("set EAP_OPERATOR_KEY or --operator-key-file to a key that is valid"),
            "{failure}"
        );
    }

    #[test]
    fn what_never_reached_a_server_is_told_apart_from_what_it_refused() {
        let exit = |error: ClientError| Failure::of_call(&error, "x").exit;
        assert_eq!(exit(CallError::Connect { source: "refused".into() }.into()), Exit::Unreachable);
        assert_eq!(exit(CallError::Broken { source: "reset".into() }.into()), Exit::Unreachable);
        assert_eq!(exit(ClientError::BaseUrl { why: "is no URL" }), Exit::Usage);
        let odd = |status| ClientError::Unreadable { status, retry_after: None, source: None };
        assert_eq!(exit(odd(502)), Exit::Unreachable);
        assert_eq!(exit(odd(404)), Exit::Refused);
    }
}
