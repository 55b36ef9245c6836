//! Points in time: whole microseconds since 1970, RFC 3339 on the wire.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;
use std::time::Duration;

use jiff::civil;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::Offset;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// An epoch number above this counts milliseconds (PROTOCOL.md, the rule that decides every
/// doubt): as seconds it would lie in the year 2603.
const LAST_EPOCH_SECOND: f64 = 2e10;

/// A point in time, in whole microseconds since 1970 in UTC.
///
/// It is written in RFC 3339 with `Z`, and with three or six digits of a second where they are not
/// zero. It is read from RFC 3339 with any offset or none (UTC), with `T` or a space, and from an
/// epoch number, as a JSON number or as text; above 2e10 the number counts milliseconds.
///
/// The years 0 to 9999 can be held, because RFC 3339 has words for no others; arithmetic saturates
/// at [`MIN`](Self::MIN) and [`MAX`](Self::MAX).
///
/// ```
/// use eap_types::Timestamp;
///
/// let at: Timestamp = "2026-01-31 12:00:00.25+02:00".parse()?;
/// assert_eq!(at.to_string(), "2026-01-31T10:00:00.250Z");
/// # Ok::<(), eap_types::TimestampError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that names no point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a timestamp must be RFC 3339 or an epoch number, in the years 0 to 9999")]
pub struct TimestampError(());

impl Timestamp {
    /// The start of 1970 in UTC.
    pub const UNIX_EPOCH: Self = Self(0);
    /// The earliest time, `0000-01-01T00:00:00Z`.
    pub const MIN: Self = Self(-62_167_219_200 * MICROS_PER_SECOND);
    /// The latest time, `9999-12-30T21:59:59.999999Z`.
    pub const MAX: Self = Self(253_402_207_200 * MICROS_PER_SECOND - 1);

    /// Takes microseconds since 1970; what is out of range becomes [`MIN`](Self::MIN) or
    /// [`MAX`](Self::MAX).
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        if micros < Self::MIN.0 {
            Self::MIN
        } else if micros > Self::MAX.0 {
            Self::MAX
        } else {
            Self(micros)
        }
    }

    /// Takes seconds since 1970; what is out of range becomes [`MIN`](Self::MIN) or
    /// [`MAX`](Self::MAX).
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self::from_micros(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    /// Gives the microseconds since 1970, negative before it.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Gives the time that passed since `earlier`, or zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        if self.0 <= earlier.0 { Duration::ZERO } else { Duration::from_micros(self.0.abs_diff(earlier.0)) }
    }

    fn from_epoch_integer(number: i128) -> Result<Self, TimestampError> {
        let micros = if number.unsigned_abs() > LAST_EPOCH_SECOND as u128 {
            number.saturating_mul(1000)
        } else {
            number * i128::from(MICROS_PER_SECOND)
        };
        i64::try_from(micros).map_or(Err(TimestampError(())), Self::in_range)
    }

    fn from_epoch_float(number: f64) -> Result<Self, TimestampError> {
        let scale = if number.abs() > LAST_EPOCH_SECOND { 1e3 } else { 1e6 };
        let micros = (number * scale).round();
        // Also false for NaN; within the range an f64 holds every whole microsecond's neighbour.
        if (Self::MIN.0 as f64..=Self::MAX.0 as f64).contains(&micros) {
            Self::in_range(micros as i64)
        } else {
            Err(TimestampError(()))
        }
    }

    fn in_range(micros: i64) -> Result<Self, TimestampError> {
        if (Self::MIN.0..=Self::MAX.0).contains(&micros) { Ok(Self(micros)) } else { Err(TimestampError(())) }
    }

    fn from_rfc3339(text: &str) -> Option<Self> {
        static PARSER: DateTimeParser = DateTimeParser::new();

        let pieces = PARSER.parse_pieces(text).ok()?;
        if pieces.time_zone_annotation().is_some() {
            return None;
        }
        let at = civil::DateTime::from_parts(pieces.date(), pieces.time()?);
        let offset = pieces.to_numeric_offset().unwrap_or(Offset::UTC);
        let micros = offset.to_timestamp(at).ok()?.as_microsecond();
        Self::in_range(micros).ok()
    }
}

fn saturating_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(saturating_micros(duration)))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self::from_micros(self.0.saturating_sub(saturating_micros(duration)))
    }
}

impl SubAssign<Duration> for Timestamp {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Timestamp {
    /// A record holds a dozen of them, and is written at each step of its task: no formatter is asked.
    fn with_text<T>(self, take: impl FnOnce(&str) -> T) -> T {
        let at = jiff::Timestamp::from_microsecond(self.0).expect("MIN and MAX lie within what jiff can hold");
        let at = Offset::UTC.to_datetime(at);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let number = |number: i8| i32::from(number);
        for (place, value) in [
            (0..4, i32::from(at.year())),
            (5..7, number(at.month())),
            (8..10, number(at.day())),
            (11..13, number(at.hour())),
            (14..16, number(at.minute())),
            (17..19, number(at.second())),
            (20..26, at.subsec_nanosecond() / 1000),
        ] {
            write_digits(&mut text[place], value);
        }
        let end = match at.subsec_nanosecond() {
            0 => 19,
            nanos if nanos % 1_000_000 == 0 => 23,
            _ => 26,
        };
        text[end] = b'Z';
        take(str::from_utf8(&text[..=end]).expect("digits are ASCII"))
    }
}

/// Fills a place with a number that is not negative, with zeros before it.
fn write_digits(place: &mut [u8], mut number: i32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(number) = text.parse::<i128>() {
            return Self::from_epoch_integer(number);
        }
        if let Some(at) = Self::from_rfc3339(text) {
            return Ok(at);
        }
        text.parse().map_or(Err(TimestampError(())), Self::from_epoch_float)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimestampVisitor)
    }
}

struct TimestampVisitor;

impl de::Visitor<'_> for TimestampVisitor {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an RFC 3339 timestamp or an epoch number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Timestamp, E> {
        Timestamp::from_epoch_integer(number.into()).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Timestamp, E> {
        Timestamp::from_epoch_integer(number.into()).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Timestamp, E> {
        Timestamp::from_epoch_float(number).map_err(E::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        if generator.contract().is_deserialize() {
            // Without an offset, and as an epoch number too: no format says that.
            return json_schema!({ "type": ["string", "number"] });
        }
        json_schema!({ "type": "string", "format": "date-time" })
    }
}
