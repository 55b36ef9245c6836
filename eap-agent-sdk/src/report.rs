//! What an agent did, for whoever stopped it.

use std::fmt;

use eap_types::{AgentId, ProblemBody, TaskResult};

/// What an agent did between its start and its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The id that the orchestrator gave the agent last, if it registered at all.
    pub agent_id: Option<AgentId>,
    /// Completed tasks whose result is recorded.
    pub completed: u64,
    /// Failed tasks whose result is recorded.
    pub failed: u64,
    /// Tasks handed back unfinished.
    pub released: u64,
    /// Tasks that stopped because they were cancelled or their lease was lost.
    pub cancelled: u64,
    /// Results that the orchestrator refused for good.
    pub refused: u64,
    /// Results that got no definitive answer; with `data_dir` the next start sends them.
    pub unsent: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} completed, {} failed, {} released", self.completed, self.failed, self.released)?;
        for (count, what) in [(self.cancelled, "cancelled"), (self.refused, "refused"), (self.unsent, "unsent")] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// A result that the orchestrator refused for good.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refused {
    /// The result as it was sent.
    pub result: TaskResult,
    /// The HTTP status of the refusal.
    pub status: u16,
    /// The refusal, if it came as a problem body.
    pub problem: Option<ProblemBody>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_what_went_wrong_only_if_something_did() {
        let mut report = Report { completed: 3, failed: 1, ..Report::default() };
        assert_eq!(report.to_string(), "3 completed, 1 failed, 0 released");
        report.unsent = 2;
        assert_eq!(report.to_string(), "3 completed, 1 failed, 0 released, 2 unsent");
    }
}
