//! What was measured: one JSON line for each run, and at the end a table with medians, spread and floors.

use std::ops::RangeInclusive;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::BoxError;
use crate::load::rounded;

/// Collects what the measurements say.
#[derive(Debug)]
pub(crate) struct Report {
    runs: usize,
    quick: bool,
    commit: String,
    lines: Vec<Map<String, Value>>,
    floors: Vec<Floor>,
}

/// The middle of several runs, with the least and the most of them; NaN where nothing was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        match (values.first(), values.last()) {
            (Some(&least), Some(&most)) => {
                let middle = values.len() / 2;
                let median =
                    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
                Self { median, least, most }
            }
            _ => Self { median: f64::NAN, least: f64::NAN, most: f64::NAN },
        }
    }

    /// This over the median of `other`.
    pub(crate) fn over(self, other: Self) -> Self {
        let over = |value: f64| value / other.median;
        Self { median: over(self.median), least: over(self.least), most: over(self.most) }
    }

    /// The one with the greater median.
    pub(crate) fn max(self, other: Self) -> Self {
        if other.median.is_nan() || self.median >= other.median { self } else { other }
    }
}

/// A bound of docs/performance.md beside what was measured.
#[derive(Clone, Debug)]
pub(crate) struct Floor {
    measure: &'static str,
    what: &'static str,
    bound: f64,
    at_least: bool,
    shown: Spread,
}

impl Floor {
    pub(crate) fn at_least(measure: &'static str, what: &'static str, bound: f64, shown: Spread) -> Self {
        Self { measure, what, bound, at_least: true, shown }
    }

    pub(crate) fn at_most(measure: &'static str, what: &'static str, bound: f64, shown: Spread) -> Self {
        Self { measure, what, bound, at_least: false, shown }
    }

    fn holds(&self) -> bool {
        if self.at_least { self.shown.median >= self.bound } else { self.shown.median <= self.bound }
    }
}

impl Report {
    pub(crate) fn new(runs: usize, quick: bool) -> Self {
        Self { runs, quick, commit: commit(), lines: Vec::new(), floors: Vec::new() }
    }

    pub(crate) fn runs(&self) -> RangeInclusive<usize> {
        1..=self.runs
    }

    pub(crate) fn is_quick(&self) -> bool {
        self.quick
    }

    /// Prints one run's line and keeps it for the summary.
    pub(crate) fn add(
        &mut self,
        measure: &str,
        side: &str,
        run: usize,
        setting: &impl Serialize,
        shown: &impl Serialize,
    ) -> Result<(), BoxError> {
        let mut line = Map::new();
        line.insert("measure".into(), measure.into());
        line.insert("side".into(), side.into());
        line.insert("run".into(), run.into());
        #[allow(clippy::disallowed_methods, reason = "says when it was measured; decides nothing")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        line.insert("unix_time".into(), now.into());
        line.insert("commit".into(), self.commit.clone().into());
        if self.quick {
            line.insert("quick".into(), true.into());
        }
        for part in [serde_json::to_value(setting)?, serde_json::to_value(shown)?] {
            if let Value::Object(members) = part {
                line.extend(members);
            }
        }
        println!("{}", serde_json::to_string(&line)?);
        self.lines.push(line);
        Ok(())
    }

    /// The middle of a member over all runs of one side.
    pub(crate) fn spread(&self, measure: &str, side: &str, member: &str) -> Spread {
        spread_of(&self.lines, measure, side, member)
    }

    pub(crate) fn floor(&mut self, floor: Floor) {
        self.floors.push(floor);
    }

    /// Prints the floors and how far they are met.
    pub(crate) fn summary(&self) {
        eprintln!("\n{:8} {:36} {:>12} {:>12}   {:28}", "measure", "what", "bound", "median", "least .. most");
        for floor in &self.floors {
            let sign = if floor.at_least { ">=" } else { "<=" };
            let Spread { median, least, most } = floor.shown;
            let verdict = match (median.is_nan(), floor.holds()) {
                (true, _) => "not measured",
                (false, true) => "ok",
                (false, false) => "MISSED",
            };
            eprintln!(
                "{:8} {:36} {sign}{:>10} {:>12}   {:28} {verdict}",
                floor.measure,
                floor.what,
                floor.bound,
                rounded(median),
                format!("{} .. {}", rounded(least), rounded(most)),
            );
        }
    }
}

/// The middle of a member over all runs of one side.
pub(crate) fn spread_of(lines: &[Map<String, Value>], measure: &str, side: &str, member: &str) -> Spread {
    let lines = lines.iter().filter(|line| {
        line.get("measure").is_some_and(|own| own == measure) && line.get("side").is_some_and(|own| own == side)
    });
    Spread::of(lines.filter_map(|line| find(line, member)).collect())
}

/// A number in a line, by its path with dots.
pub(crate) fn find(line: &Map<String, Value>, member: &str) -> Option<f64> {
    let mut parts = member.split('.');
    let first = line.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))?.as_f64()
}

/// The commit that is measured, as far as git can say.
fn commit() -> String {
    let output = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let text =
        output.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    text.map(|text| text.trim().to_owned()).unwrap_or_default()
}
