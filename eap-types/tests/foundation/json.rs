//! Opaque JSON passes unchanged and compares by value.

use eap_types::{JsonObject, RawJson, json_depth};
use proptest::prelude::*;
use serde_json::{Value, json};

fn raw(text: &str) -> RawJson {
    RawJson::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn the_text_passes_unchanged() {
    let text = r#"{"b": 1.0,  "a": [1, "\u00e9"]}"#;
    let read: RawJson = serde_json::from_str(text).unwrap();
    assert_eq!(read.as_str(), text);
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    assert_eq!(serde_json::to_string(&[read]).unwrap(), format!("[{text}]"));
}

#[test]
fn equal_values_are_equal_whatever_their_text() {
    for (a, b) in [
        (r#"{"a": 1, "b": 2}"#, r#"{"b":2,"a":1}"#),
        (r#""\u00e9""#, r#""é""#),
        ("[1.0, 1e0, 10e-1]", "[1,1,1]"),
        ("-0.0", "0"),
        ("1e17", "100000000000000000"),
        ("-9223372036854775808", "-9223372036854775808.0"),
        (r#"{"a": 1, "a": 2}"#, r#"{"a": 2}"#),
    ] {
        assert_eq!(raw(a), raw(b));
        assert_eq!(raw(a).canonical(), raw(b).canonical());
    }
}

#[test]
fn a_whole_number_beyond_64_bits_stays_a_float() {
    assert_eq!(raw("18446744073709551615").canonical(), "18446744073709551615");
    assert_eq!(raw("18446744073709551616").canonical(), "1.8446744073709552e+19");
    assert_eq!(raw("-9223372036854775808.0").canonical(), "-9223372036854775808");
}

#[test]
fn different_values_differ() {
    for (a, b) in [
        ("1", "2"),
        ("1", "\"1\""),
        ("[1,2]", "[2,1]"),
        ("null", "{}"),
        ("9007199254740993", "9007199254740992"),
        ("0.1", "0.2"),
        ("18446744073709551615", "18446744073709551616"),
    ] {
        assert_ne!(raw(a), raw(b));
    }
}

#[test]
fn canonical_text_has_sorted_keys_and_no_white_space() {
    let read = raw(r#" {"b": [1, {"z": null, "y": true}], "a\n": "x y", "": 2.5} "#);
    assert_eq!(read.canonical(), r#"{"":2.5,"a\n":"x y","b":[1,{"y":true,"z":null}]}"#);
}

#[test]
fn a_number_is_not_rounded_on_its_way_through() {
    // One step beside what serde_json reads without its feature `float_roundtrip`.
    assert_eq!(raw("2.4605014468153893e-166").canonical(), "2.4605014468153893e-166");
}

#[test]
fn what_could_not_be_read_later_is_refused_at_once() {
    for text in ["", "{", "{} {}", "nul", "1e999", "[-1.5E400]", r#""\ud800""#, r#"{"\uDC00": 1}"#, &"9".repeat(400)] {
        let error = RawJson::parse(text).unwrap_err();
        assert_eq!(error.to_string(), "text is not JSON", "{text}");
        assert!(std::error::Error::source(&error).is_some(), "{text}");
        assert!(serde_json::from_str::<RawJson>(text).is_err(), "{text}");
    }
    for text in ["1e300", r#""\ud83d\ude00""#, r#""1e999 \\ud800""#, "1e-999"] {
        assert_eq!(raw(text).to_value(), serde_json::from_str::<Value>(text).unwrap());
    }
}

#[test]
fn json_that_is_too_deep_is_refused() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(RawJson::parse(&nested(32)).is_ok());
    assert_eq!(RawJson::parse(&nested(33)).unwrap_err().to_string(), "JSON is nested too deeply");
    assert!(RawJson::parse(&nested(100_000)).is_err());
}

#[test]
fn values_go_in_and_come_out() {
    let json = RawJson::from_serialize(&("a", 1)).unwrap();
    assert_eq!(json.as_str(), r#"["a",1]"#);
    assert_eq!(json.decode::<(String, u8)>().unwrap(), ("a".to_owned(), 1));
    assert_eq!(json.to_value(), json!(["a", 1]));
    assert!(json.decode::<u8>().is_err());
    assert_eq!(serde_json::from_value::<RawJson>(json!({"a": 1})).unwrap(), raw(r#"{"a":1}"#));
}

#[test]
fn an_object_is_an_object() {
    assert_eq!(JsonObject::default().as_str(), "{}");
    assert!(JsonObject::parse(" { \n } ").unwrap().is_empty());
    assert!(!JsonObject::parse(r#"{"a": {}}"#).unwrap().is_empty());
    for text in ["[]", "1", "\"{}\"", "null"] {
        assert!(JsonObject::parse(text).is_err(), "{text}");
        let error = serde_json::from_str::<JsonObject>(text).unwrap_err().to_string();
        assert!(error.contains("expected an object"), "{error}");
    }
    assert!(JsonObject::from_serialize(&[1]).is_err());
    assert_eq!(RawJson::from(JsonObject::from_serialize(&json!({"a": 1})).unwrap()), raw(r#"{"a":1}"#));
}

#[test]
fn depth_counts_brackets_outside_strings() {
    for (text, depth) in [
        ("1", 0),
        ("[]", 1),
        (r#"{"a": [1, {"b": 2}], "c": [[]]}"#, 3),
        (r#"["[[[[", "\"[[", "\\"]"#, 1),
        (r#"["\\[", ["\\\""]]"#, 2),
        ("[[], [], [[]]]", 3),
        ("[[[]], []]", 3),
    ] {
        assert_eq!(json_depth(text.as_bytes()), depth, "{text}");
    }
    assert_eq!(json_depth(b"]]]][\"\\"), 1);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6).prop_map(Value::from_iter),
        ]
    })
}

proptest! {
    #[test]
    fn canonical_text_is_json_of_the_same_value(value in any_json()) {
        let json = RawJson::from_serialize(&value).unwrap();
        let again = raw(&json.canonical());
        prop_assert_eq!(&again, &json);
        prop_assert_eq!(again.canonical(), json.canonical());
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(raw(&pretty), json);
    }

    #[test]
    fn whatever_is_taken_can_be_read_again(text in r#"[\[\]{}",:\\ud8eE0-9.+ -]{0,40}"#) {
        prop_assert!(json_depth(text.as_bytes()) <= text.len());
        if let Ok(json) = RawJson::parse(&text) {
            prop_assert_eq!(raw(&json.canonical()), json);
        }
    }
}
