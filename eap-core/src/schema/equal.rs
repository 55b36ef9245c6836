//! When two JSON values are the same to a schema, and how numbers compare: by value, not by spelling.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::BYTES_A_STEP;

/// How far a quotient of fractions may be from a whole number and still count as one.
const TOLERANCE: f64 = 1e-9;

/// Whether two values are the same; 1 and 1.0 are. What it takes to tell is counted in `steps`.
pub(super) fn is_same(one: &Value, other: &Value, steps: &mut usize) -> bool {
    *steps += 1;
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compare(one, other) == Some(Ordering::Equal),
        (Value::String(one), Value::String(other)) => {
            *steps += one.len().min(other.len()) / BYTES_A_STEP;
            one == other
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other, steps))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| {
                    *steps += name.len() / BYTES_A_STEP;
                    other.get(name).is_some_and(|theirs| is_same(value, theirs, steps))
                })
        }
        _ => one == other,
    }
}

/// How two numbers compare, exactly where both are whole numbers of 64 bits.
pub(super) fn compare(one: &Number, other: &Number) -> Option<Ordering> {
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
    }
}

/// Whether a number is whole, however it is spelled.
pub(super) fn is_whole(number: &Number) -> bool {
    whole(number).is_some() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
}

/// Whether `number` is `unit` so many times, as far as a float can tell; `unit` is above zero.
pub(super) fn is_multiple(number: &Number, unit: &Number) -> bool {
    if let (Some(number), Some(unit)) = (whole(number), whole(unit)) {
        return number % unit == 0;
    }
    let (Some(number), Some(unit)) = (number.as_f64(), unit.as_f64()) else { return false };
    let times = number / unit;
    // Beyond the range of floats, the remainder is exact where the quotient is not.
    if times.is_finite() {
        (times - times.round()).abs() <= TOLERANCE * times.abs().max(1.0)
    } else {
        number % unit == 0.0
    }
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}
