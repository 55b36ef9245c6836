//! Numbers as people write them: a whole number leaves without `.0`, and what is no number at all
//! does not leave.

use serde::Serializer;

/// Whole numbers up to here are exact in an `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;

pub(crate) fn write<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.fract() == 0.0 && number.abs() <= EXACT {
        serializer.serialize_i64(*number as i64)
    } else {
        serializer.serialize_f64(*number)
    }
}

pub(crate) fn write_optional<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => write(number, serializer),
        None => serializer.serialize_none(),
    }
}

/// JSON has no NaN and no infinity: such a number is left out rather than sent as `null`.
pub(crate) fn is_not_finite(number: &f64) -> bool {
    !number.is_finite()
}

pub(crate) fn is_absent(number: &Option<f64>) -> bool {
    !number.is_some_and(f64::is_finite)
}

/// A number on its own.
pub(crate) struct Figure(pub(crate) f64);

impl serde::Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(&self.0, serializer)
    }
}
