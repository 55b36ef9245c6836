//! The numbers that are counted where things happen: one relaxed addition each, no lock, no memory taken.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::Distribution;

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many values fell into each of a few ranges. Values are whole numbers: microseconds, bytes, requests.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [u64],
    /// One more than there are bounds: the last is for what is above them all.
    counts: Box<[Counter]>,
    sum: Counter,
}

impl Histogram {
    /// `bounds` rise; each is the largest value of its range.
    pub(crate) fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| Counter::default()).collect();
        Self { bounds, counts, sum: Counter::default() }
    }

    pub(crate) fn observe(&self, value: u64) {
        // The bounds are few: a walk is as quick as any search.
        let range = self.bounds.iter().take_while(|bound| value > **bound).count();
        self.counts[range].add(1);
        self.sum.add(value);
    }

    /// What was observed so far.
    pub(crate) fn distribution(&self) -> Distribution {
        Distribution {
            bounds: self.bounds,
            counts: self.counts.iter().map(Counter::get).collect(),
            sum: self.sum.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_range_it_ends() {
        let histogram = Histogram::new(&[1, 10]);
        for value in [0, 1, 2, 10, 11, 500] {
            histogram.observe(value);
        }
        let distribution = histogram.distribution();
        assert_eq!(distribution.counts, [2, 2, 2]);
        assert_eq!((distribution.sum, distribution.count()), (524, 6));
    }
}
