//! What the face of a platform refused, in the log: one line for each reason in ten seconds, however much comes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use eap_types::{DecodeError, Timestamp};
use tracing::warn;

use super::{Distrust, Refused};
use crate::announce::lock;
use crate::http::detail_status;

/// After a line, refusals of the same kind are only counted for so long.
const QUIET: Duration = Duration::from_secs(10);
/// How much is told of where a body is wrong.
const FIELD_CHARS: usize = 100;

/// The calls whose refusals are told: nobody looks at the answers that a platform gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    Webhook,
    StateReport,
}

/// What was told lately; as large as there are reasons.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog {
    lately: Mutex<BTreeMap<(Call, &'static str), Lately>>,
}

#[derive(Debug)]
struct Lately {
    told_at: Timestamp,
    passed_over: u64,
}

impl RefusalLog {
    /// Tells of a refusal, unless one like it was told a moment ago.
    pub(super) fn note(&self, call: Call, refused: &Refused, now: Timestamp) {
        let Some(reason) = reason(refused) else { return };
        let Some(passed_over) = self.admit(call, reason, now) else { return };
        let (status, detail) = (detail_status(refused).as_u16(), detail(refused));
        match call {
            Call::Webhook => {
                warn!(reason, status, detail, passed_over, "a webhook of the agent platform was refused");
            }
            Call::StateReport => {
                warn!(reason, status, detail, passed_over, "a report of an agent's state was refused");
            }
        }
    }

    /// How many like it were passed over since the last one that was told; `None` if this one is passed over too.
    fn admit(&self, call: Call, reason: &'static str, now: Timestamp) -> Option<u64> {
        let mut lately = lock(&self.lately);
        let passed_over = match lately.get_mut(&(call, reason)) {
            Some(before) if now.saturating_since(before.told_at) < QUIET => {
                before.passed_over += 1;
                return None;
            }
            Some(before) => before.passed_over,
            None => 0,
        };
        lately.insert((call, reason), Lately { told_at: now, passed_over: 0 });
        Some(passed_over)
    }
}

/// The reason in a word, the one that the metrics have; `None` for what is told elsewhere, or is no matter of the platform's.
fn reason(refused: &Refused) -> Option<&'static str> {
    Some(match refused {
        Refused::Api(_) if detail_status(refused).is_server_error() => return None,
        Refused::Api(error) => error.code().as_str(),
        // Anybody may ask what is not there.
        Refused::NotServed | Refused::NoState { .. } | Refused::NoWorkflow { .. } | Refused::NoSession { .. } => {
            return None;
        }
        Refused::Distrusted(Distrust::Unsigned | Distrust::Headers) => "unsigned",
        Refused::Distrusted(Distrust::Timestamp) => "bad_timestamp",
        Refused::Distrusted(Distrust::Window) => "outside_window",
        Refused::Distrusted(Distrust::Signature) => "bad_signature",
        Refused::NoKey => "no_key",
        Refused::WrongKey => "wrong_key",
        Refused::UnknownEvent { .. } => "unknown_event",
        Refused::MissingId { .. } => "missing_agent_id",
        Refused::OtherAgent => "other_agent",
        Refused::NoAgent { .. } => "unknown_agent",
        Refused::Unreadable(_) => "unreadable",
    })
}

/// What helps to find the cause: sentences of ours, an id, the place of a problem; nothing else of what was sent.
fn detail(refused: &Refused) -> String {
    match refused {
        Refused::UnknownEvent { .. } => "the event is neither REGISTER nor DEREGISTER".to_owned(),
        Refused::Unreadable(DecodeError::Invalid { problems }) => {
            let first = problems.first().map(|problem| format!("{} {}", problem.kind, problem.field));
            // A name in it may be the sender's.
            let shown = first.unwrap_or_default().chars().take(FIELD_CHARS).collect::<String>();
            shown.replace(char::is_control, "\u{fffd}")
        }
        Refused::Unreadable(DecodeError::UnsupportedVersion { .. }) => {
            "the protocol version is not supported".to_owned()
        }
        refused => refused.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_one_line_in_ten_seconds_is_told_and_the_rest_is_counted() {
        let (log, start) = (RefusalLog::default(), Timestamp::from_seconds(1_000));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(log.admit(Call::Webhook, "bad_signature", at(0)), Some(0));
        for _ in 0..5_000 {
            assert_eq!(log.admit(Call::Webhook, "bad_signature", at(9)), None);
        }
        // Each reason and each call for itself.
        assert_eq!(log.admit(Call::Webhook, "outside_window", at(9)), Some(0));
        assert_eq!(log.admit(Call::StateReport, "bad_signature", at(9)), Some(0));
        assert_eq!(log.admit(Call::Webhook, "bad_signature", at(10)), Some(5_000));
        assert_eq!(log.admit(Call::Webhook, "bad_signature", at(30)), Some(0));
    }

    #[test]
    fn what_was_sent_is_not_told() {
        let told = detail(&Refused::UnknownEvent { event_type: "a payload".to_owned() });
        assert!(!told.contains("a payload"), "{told}");
        let problems =
            vec![eap_types::FieldProblem::new(format!("body.{}", "x\n".repeat(500)), "missing", "is missing")];
        let told = detail(&Refused::Unreadable(DecodeError::Invalid { problems }));
        assert!(told.starts_with("missing body.x") && told.chars().count() == 100 && !told.contains('\n'), "{told}");
    }
}
