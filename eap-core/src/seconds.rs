//! Durations as people write them into a configuration: a number of seconds.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer, de};

/// Writes a duration as seconds, with a fraction where there is one.
///
/// # Errors
///
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    if duration.subsec_nanos() == 0 {
        serializer.serialize_u64(duration.as_secs())
    } else {
        serializer.serialize_f64(duration.as_secs_f64())
    }
}

/// Reads a number of seconds, 0 or more.
///
/// # Errors
///
/// If it is no number, negative, or more than a duration holds.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| de::Error::custom("a duration is a number of seconds, 0 or more"))
}
