//! Requests by the name of their call, the class of their answer and how long it took.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::StatusCode;

use super::{Counter, Histogram};
use crate::store::Distribution;

/// From what a call in memory takes to the longest wait.
const MICROS: &[u64] = &[
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
    30_000_000, 60_000_000,
];

/// The name of what reached no call.
const NONE: &str = "none";

/// The classes of status that an answer can have.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// One entry for each call of the API, made at the start: the paths that callers think up make no more of them.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    calls: HashMap<&'static str, CallMetrics>,
    none: CallMetrics,
}

/// How many answers there were of each class.
type Classes = [(&'static str, u64); CLASSES.len()];

#[derive(Debug)]
struct CallMetrics {
    classes: [Counter; CLASSES.len()],
    micros: Histogram,
}

impl CallMetrics {
    fn new() -> Self {
        Self { classes: std::array::from_fn(|_| Counter::default()), micros: Histogram::new(MICROS) }
    }
}

impl HttpMetrics {
    pub(super) fn new(calls: impl IntoIterator<Item = &'static str>) -> Self {
        Self { calls: calls.into_iter().map(|call| (call, CallMetrics::new())).collect(), none: CallMetrics::new() }
    }

    /// A request to `call` that came at `began` has its answer.
    pub(crate) fn answered(&self, call: &str, status: StatusCode, began: Instant) {
        let metrics = self.calls.get(call).unwrap_or(&self.none);
        let class = usize::from(status.as_u16() / 100).saturating_sub(2).min(CLASSES.len() - 1);
        metrics.classes[class].add(1);
        metrics.micros.observe(micros(began.elapsed()));
    }

    /// The same for one that reached no call.
    pub(crate) fn went_astray(&self, status: StatusCode, began: Instant) {
        self.answered(NONE, status, began);
    }

    /// Every call, its answers by class, and how long they took; in order of the names.
    pub(super) fn all(&self) -> Vec<(&'static str, Classes, Distribution)> {
        let mut calls: Vec<_> = self.calls.iter().map(|(call, metrics)| (*call, metrics)).collect();
        calls.push((NONE, &self.none));
        calls.sort_unstable_by_key(|(call, _)| *call);
        let told = |(call, metrics): (&'static str, &CallMetrics)| {
            let classes = std::array::from_fn(|class| (CLASSES[class], metrics.classes[class].get()));
            (call, classes, metrics.micros.distribution())
        };
        calls.into_iter().map(told).collect()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
