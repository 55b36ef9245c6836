//! Timestamps are read in every spelling of the protocol and written in one.

use std::time::Duration;

use eap_types::Timestamp;
use proptest::prelude::*;

fn micros(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap_or_else(|e| panic!("{text}: {e}")).as_micros()
}

#[test]
fn a_fraction_is_written_only_where_there_is_one() {
    let cases = [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000_000_000, "2023-11-14T22:13:20Z"),
        (1_700_000_000_250_000, "2023-11-14T22:13:20.250Z"),
        (1_700_000_000_250_001, "2023-11-14T22:13:20.250001Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
    ];
    for (micros, text) in cases {
        assert_eq!(Timestamp::from_micros(micros).to_string(), text);
    }
}

#[test]
fn any_offset_or_none_is_read() {
    let noon = micros("2026-01-31T12:00:00Z");
    for text in [
        "2026-01-31T14:00:00+02:00",
        "2026-01-31 12:00:00",
        "2026-01-31T12:00:00",
        "2026-01-31t12:00:00z",
        "2026-01-31T07:00:00.000-05:00",
        "2026-01-31T12:00:00-00:00",
    ] {
        assert_eq!(micros(text), noon, "{text}");
    }
    assert_eq!(micros("2026-01-31T12:00:00.123456789Z"), noon + 123_456);
}

#[test]
fn an_epoch_number_is_seconds_or_above_2e10_milliseconds() {
    let cases = [
        ("1700000000", 1_700_000_000_000_000),
        ("1700000000.25", 1_700_000_000_250_000),
        ("1700000000250", 1_700_000_000_250_000),
        ("1700000000250.5", 1_700_000_000_250_500),
        ("20000000000", 20_000_000_000_000_000),
        ("20000000001", 20_000_000_001_000),
        ("-1", -1_000_000),
        ("0", 0),
    ];
    for (number, expected) in cases {
        assert_eq!(micros(number), expected, "{number} as text");
        let read: Timestamp = serde_json::from_str(number).unwrap();
        assert_eq!(read.as_micros(), expected, "{number} as a number");
    }
}

#[test]
fn what_names_no_point_in_time_is_refused() {
    for text in [
        "",
        "now",
        "NaN",
        "inf",
        "1e300",
        "2026-01-31",
        "12:00:00",
        "2026-02-30T12:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:00:00[Europe/Berlin]",
        "-000001-01-31T12:00:00Z",
        "9999999999999999999999999999999999999999",
    ] {
        assert!(text.parse::<Timestamp>().is_err(), "{text}");
    }
    for json in ["true", "null", "[]", "1e300", "18446744073709551615"] {
        assert!(serde_json::from_str::<Timestamp>(json).is_err(), "{json}");
    }
}

#[test]
fn arithmetic_saturates_at_the_ends() {
    assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
    assert_eq!(Timestamp::MIN - Duration::MAX, Timestamp::MIN);
    assert_eq!(Timestamp::from_micros(i64::MAX), Timestamp::MAX);
    assert_eq!(Timestamp::from_seconds(i64::MIN), Timestamp::MIN);
    assert_eq!(Timestamp::MIN.to_string(), "0000-01-01T00:00:00Z");
    assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T21:59:59.999999Z");
}

#[test]
fn the_time_since_something_later_is_zero() {
    let (early, late) = (Timestamp::from_seconds(1), Timestamp::from_seconds(3));
    assert_eq!(late.saturating_since(early), Duration::from_secs(2));
    assert_eq!(early.saturating_since(late), Duration::ZERO);
    assert_eq!(early + Duration::from_micros(2_000_000), late);
    assert_eq!(late - Duration::from_secs(2), early);
}

proptest! {
    #[test]
    fn every_time_survives_being_written_and_read(number: i64) {
        let at = Timestamp::from_micros(number);
        let json = serde_json::to_string(&at).unwrap();
        prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), at);
    }

    #[test]
    fn later_times_since_1970_are_later_texts_too_when_whole(a in 0_i64..250_000_000_000, b in 0_i64..250_000_000_000) {
        let (a, b) = (Timestamp::from_seconds(a), Timestamp::from_seconds(b));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
    }
}
