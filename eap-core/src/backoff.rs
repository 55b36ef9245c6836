//! Growing delays with full jitter.

use std::time::Duration;

/// A number in `[0, 1)` drawn by the caller; the core draws none itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance(f64);

impl Chance {
    /// Takes any number; what lies outside `[0, 1)` is brought to its nearest end, NaN to 0.
    #[must_use]
    pub fn new(value: f64) -> Self {
        if value.is_nan() { Self(0.0) } else { Self(value.clamp(0.0, 1.0 - f64::EPSILON)) }
    }

    /// Maps 64 random bits to a chance.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        // The upper 53 bits fill a double's mantissa exactly.
        Self((bits >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// The number itself.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

/// The delay before try number `failures + 1`: a random part of `base × 2^(failures - 1)`, at most `cap`.
///
/// Full jitter: peers that failed together do not come back together. Zero failures give no delay.
///
/// ```
/// use std::time::Duration;
/// use eap_core::{Chance, full_jitter};
///
/// let (base, cap) = (Duration::from_secs(1), Duration::from_secs(300));
/// assert_eq!(full_jitter(base, cap, 3, Chance::new(0.5)), Duration::from_secs(2));
/// assert!(full_jitter(base, cap, 60, Chance::new(0.999)) < cap);
/// ```
#[must_use]
pub fn full_jitter(base: Duration, cap: Duration, failures: u32, chance: Chance) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let doubled = 2_u32.checked_pow(failures - 1).and_then(|factor| base.checked_mul(factor));
    doubled.map_or(cap, |delay| delay.min(cap)).mul_f64(chance.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_until_the_cap_and_stays_within_it() {
        let (base, cap) = (Duration::from_secs(1), Duration::from_secs(300));
        let longest = |failures| full_jitter(base, cap, failures, Chance::new(1.0)).as_secs_f64().round();
        let seen: Vec<f64> = (0..12).map(longest).collect();
        assert_eq!(seen, [0., 1., 2., 4., 8., 16., 32., 64., 128., 256., 300., 300.]);
        assert!(full_jitter(base, cap, u32::MAX, Chance::new(1.0)) <= cap);
    }

    #[test]
    fn a_chance_never_reaches_one_and_takes_nonsense() {
        assert!(Chance::from_bits(u64::MAX).get() < 1.0);
        assert_eq!(Chance::from_bits(0).get(), 0.0);
        assert_eq!(Chance::new(f64::NAN).get(), 0.0);
        assert_eq!(Chance::new(-3.0).get(), 0.0);
    }
}
