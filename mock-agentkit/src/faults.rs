//! What can go wrong on purpose. The same names serve the builder, the command line and `/control/faults`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::millis;

/// Everything that goes wrong on purpose; the default is that nothing does.
///
/// In JSON, as `/control/faults` has it, each fault is a member of its group: `{"webhooks": {"drop": true, "times": 1}}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Faults {
    /// Of the webhooks that tell of agents.
    pub webhooks: WebhookFaults,
    /// Of the answers to `run`.
    pub runs: RunFaults,
    /// Of the simulated work.
    pub work: WorkFaults,
    /// Of the reports that agents send.
    pub reports: ReportFaults,
}

/// What goes wrong with webhooks; `times` counts webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WebhookFaults {
    /// Sent so much later than it was signed; whatever comes meanwhile overtakes it. In JSON `late_ms`.
    #[serde(rename = "late_ms", with = "millis", skip_serializing_if = "Option::is_none")]
    pub late: Option<Duration>,
    /// Never sent.
    pub drop: bool,
    /// Sent so many times more, byte for byte.
    pub duplicate: u32,
    /// Sent after the next one, or after two seconds if none follows.
    pub reorder: bool,
    /// With the signature of another body.
    pub forge: bool,
    /// Signed with a secret that nobody shares.
    pub wrong_secret: bool,
    /// Without a signature.
    pub unsigned: bool,
    /// Signed as of so many seconds later, or earlier if negative: an old timestamp.
    pub clock_offset_seconds: i64,
    /// How many webhooks are concerned; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// What goes wrong with the answers to `run`; `times` counts calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RunFaults {
    /// Answered so much later. In JSON `late_ms`.
    #[serde(rename = "late_ms", with = "millis", skip_serializing_if = "Option::is_none")]
    pub late: Option<Duration>,
    /// Answered with this status, and nothing is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How many calls are concerned; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// What goes wrong with simulated work; `times` counts tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WorkFaults {
    /// The agent dies in the middle of it: no report follows the one that it has begun.
    pub crash: bool,
    /// It ends in an error.
    pub fail: bool,
    /// How many tasks are concerned; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// What goes wrong with an agent's reports; `times` counts tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReportFaults {
    /// Sent so much later than it was so. In JSON `late_ms`.
    #[serde(rename = "late_ms", with = "millis", skip_serializing_if = "Option::is_none")]
    pub late: Option<Duration>,
    /// Never sent.
    pub drop: bool,
    /// Sent so many times more, byte for byte.
    pub duplicate: u32,
    /// The report that a task has begun is sent after the one that it is over, each with its own time.
    pub reorder: bool,
    /// How many tasks are concerned; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

impl Faults {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Sets what goes wrong with webhooks.
    #[must_use]
    pub fn with_webhooks(mut self, webhooks: WebhookFaults) -> Self {
        self.webhooks = webhooks;
        self
    }

    /// Sets what goes wrong with the answers to `run`.
    #[must_use]
    pub fn with_runs(mut self, runs: RunFaults) -> Self {
        self.runs = runs;
        self
    }

    /// Sets what goes wrong with simulated work.
    #[must_use]
    pub fn with_work(mut self, work: WorkFaults) -> Self {
        self.work = work;
        self
    }

    /// Sets what goes wrong with reports.
    #[must_use]
    pub fn with_reports(mut self, reports: ReportFaults) -> Self {
        self.reports = reports;
        self
    }
}

impl WebhookFaults {
    /// Sends them so much later than they were signed.
    #[must_use]
    pub fn late(by: Duration) -> Self {
        Self { late: Some(by), ..Self::default() }
    }

    /// Never sends them.
    #[must_use]
    pub fn dropped() -> Self {
        Self { drop: true, ..Self::default() }
    }

    /// Sends each so many times more.
    #[must_use]
    pub fn duplicated(times_more: u32) -> Self {
        Self { duplicate: times_more, ..Self::default() }
    }

    /// Sends each after the next one.
    #[must_use]
    pub fn reordered() -> Self {
        Self { reorder: true, ..Self::default() }
    }

    /// Gives them the signature of another body.
    #[must_use]
    pub fn forged() -> Self {
        Self { forge: true, ..Self::default() }
    }

    /// Signs them with a secret that nobody shares.
    #[must_use]
    pub fn under_a_wrong_secret() -> Self {
        Self { wrong_secret: true, ..Self::default() }
    }

    /// Does not sign them.
    #[must_use]
    pub fn unsigned() -> Self {
        Self { unsigned: true, ..Self::default() }
    }

    /// Signs them as of so many seconds later, or earlier if negative.
    #[must_use]
    pub fn off_by_seconds(seconds: i64) -> Self {
        Self { clock_offset_seconds: seconds, ..Self::default() }
    }
}

impl RunFaults {
    /// Answers so much later.
    #[must_use]
    pub fn late(by: Duration) -> Self {
        Self { late: Some(by), ..Self::default() }
    }

    /// Answers with a status and does nothing.
    #[must_use]
    pub fn answered_with(status: u16) -> Self {
        Self { status: Some(status), ..Self::default() }
    }
}

impl WorkFaults {
    /// The agent dies in the middle of it.
    #[must_use]
    pub fn crashed() -> Self {
        Self { crash: true, ..Self::default() }
    }

    /// It ends in an error.
    #[must_use]
    pub fn failed() -> Self {
        Self { fail: true, ..Self::default() }
    }
}

impl ReportFaults {
    /// Sends them so much later than it was so.
    #[must_use]
    pub fn late(by: Duration) -> Self {
        Self { late: Some(by), ..Self::default() }
    }

    /// Never sends them.
    #[must_use]
    pub fn dropped() -> Self {
        Self { drop: true, ..Self::default() }
    }

    /// Sends each so many times more.
    #[must_use]
    pub fn duplicated(times_more: u32) -> Self {
        Self { duplicate: times_more, ..Self::default() }
    }

    /// Sends the first one last.
    #[must_use]
    pub fn reordered() -> Self {
        Self { reorder: true, ..Self::default() }
    }
}

/// A group of faults of which only so many cases are concerned.
macro_rules! counted {
    ($($group:ty),+) => {$(
        impl $group {
            /// Concerns the next `count` cases alone.
            #[must_use]
            pub fn times(mut self, count: u32) -> Self {
                self.times = Some(count);
                self
            }

            /// The faults of one case, which is counted.
            pub(crate) fn take(&mut self) -> Self {
                match &mut self.times {
                    Some(0) => *self = Self::default(),
                    Some(left) => *left -= 1,
                    None => {}
                }
                let taken = self.clone();
                if self.times == Some(0) {
                    *self = Self::default();
                }
                taken
            }
        }
    )+};
}

counted!(WebhookFaults, RunFaults, WorkFaults, ReportFaults);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_concerns_as_many_cases_as_it_says() {
        let mut faults = WebhookFaults::dropped().times(2);
        let taken: Vec<bool> = (0..4).map(|_| faults.take().drop).collect();
        assert_eq!((taken, faults), (vec![true, true, false, false], WebhookFaults::default()));
        let mut always = RunFaults::answered_with(503);
        assert!((0..10).all(|_| always.take().status == Some(503)));
        assert!(!WorkFaults::crashed().times(0).take().crash);
    }

    #[test]
    fn the_names_in_json_are_those_of_the_documentation_and_no_others() {
        let json = r#"{
            "webhooks": {"late_ms": 5, "drop": true, "duplicate": 2, "reorder": true, "forge": true, "wrong_secret": true,
                         "unsigned": true, "clock_offset_seconds": -301, "times": 1},
            "runs": {"late_ms": 5, "status": 503, "times": 1},
            "work": {"crash": true, "fail": true, "times": 1},
            "reports": {"late_ms": 5, "drop": true, "duplicate": 2, "reorder": true, "times": 1}
        }"#;
        let faults: Faults = serde_json::from_str(json).unwrap();
        assert_eq!(faults.webhooks.late, Some(Duration::from_millis(5)));
        let written = serde_json::to_value(&faults).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(json).unwrap());
        for typo in [r#"{"webhook": {}}"#, r#"{"runs": {"late": 5}}"#, r#"{"work": {"crash": 1}}"#] {
            assert!(serde_json::from_str::<Faults>(typo).is_err(), "{typo}");
        }
        assert_eq!(serde_json::from_str::<Faults>("{}").unwrap(), Faults::none());
    }
}
