//! Where a call stands in a trace, as W3C Trace Context has it.

use std::fmt;
use std::str::FromStr;

use crate::IdError;

/// The parts of a `traceparent` that are read, in characters: version, trace, parent, flags.
const PARTS: [usize; 4] = [2, 32, 16, 2];
/// All of it: the parts and what stands between them.
const LENGTH: usize = 55;

/// Where a call stands in a trace: the value of the header `traceparent` (W3C Trace Context).
///
/// Of a version later than `00` the parts that `00` knows are kept, as that document demands.
///
/// ```
/// use eap_types::Traceparent;
///
/// let given: Traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// assert_eq!(given.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert!("00-00000000000000000000000000000000-00f067aa0ba902b7-01".parse::<Traceparent>().is_err());
/// # Ok::<(), eap_types::IdError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Traceparent(String);

impl Traceparent {
    /// The whole value, as it goes into the header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trace: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.0[3..35]
    }

    /// The span of the caller: 16 hexadecimal digits.
    #[must_use]
    pub fn parent_id(&self) -> &str {
        &self.0[36..52]
    }
}

impl FromStr for Traceparent {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = IdError::new("traceparent", "must be 00-<32 hex digits>-<16 hex digits>-<2 hex digits>");
        // Cut here, it may be what a later version wrote: more follows there after another hyphen.
        let (known, more) = text.split_at_checked(LENGTH).ok_or(invalid.clone())?;
        let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
        let parts: Vec<&str> = known.split('-').collect();
        let has_form = parts.iter().map(|part| part.len()).eq(PARTS) && parts.iter().all(|part| is_hex(part));
        if !has_form || parts[0] == "ff" || is_zero(parts[1]) || is_zero(parts[2]) {
            return Err(invalid);
        }
        let is_whole = more.is_empty() || parts[0] != "00" && more.starts_with('-');
        if is_whole { Ok(Self(format!("00{}", &known[2..]))) } else { Err(invalid) }
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn its_parts_are_read() {
        let read: Traceparent = GIVEN.parse().unwrap();
        assert_eq!(read.to_string(), GIVEN);
        assert_eq!((read.trace_id(), read.parent_id()), ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"));
    }

    #[test]
    fn of_a_later_version_the_known_parts_are_kept() {
        for more in ["", "-", "-what-the-future-brings"] {
            let given = format!("cc{}{more}", &GIVEN[2..]);
            assert_eq!(given.parse::<Traceparent>().unwrap().as_str(), GIVEN);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let broken = [
            String::new(),
            GIVEN.to_uppercase(),
            GIVEN[..54].to_owned(),
            format!("{GIVEN}-00"),
            format!("{GIVEN}0"),
            format!("cc{}0", &GIVEN[2..]),
            format!("ff{}", &GIVEN[2..]),
            GIVEN.replace('-', "_"),
            GIVEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GIVEN.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GIVEN.replace("00f067aa0ba902b7", "00f067aa0ba902b"),
            format!("{}é", &GIVEN[..54]),
            "é".repeat(40),
        ];
        for given in broken {
            given.parse::<Traceparent>().expect_err(&given);
        }
    }
}
