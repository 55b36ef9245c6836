//! Says in plain words what `serde_json` found wrong with one field.

use serde_json::error::Category;
use serde_json::value::RawValue;

const OUT_OF_RANGE: &str = "is out of range";

/// Gives the kind and the message for a field whose value is well-formed JSON.
///
/// The message never quotes the value, which may be a secret or a megabyte. The kinds of error are
/// told apart by their text, because `serde_json` has no other way; the tests below hold it to that.
pub(crate) fn of(error: &serde_json::Error, raw: &RawValue) -> (&'static str, String) {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    if let Some(rest) = text.strip_prefix("invalid type: ") {
        let (given, expected) = rest.rsplit_once(", expected ").unwrap_or((rest, "another type"));
        let (given, expected) = (given_type(given), wanted(expected));
        if given == "a fraction" && !raw.get().contains(['.', 'e', 'E']) {
            // More digits than 64 bits hold: serde_json has made a float of a whole number.
            return ("value_error", OUT_OF_RANGE.to_owned());
        }
        return ("type_error", format!("expected {expected}, got {given}"));
    }
    if text == "expected value" {
        // What an enum of words says to a number, a list or a truth value.
        return ("type_error", format!("expected a word, got {}", type_of(raw)));
    }
    if let Some(rest) = text.strip_prefix("invalid value: ") {
        let (_, expected) = rest.rsplit_once(", expected ").unwrap_or((rest, "another value"));
        return match wanted(expected) {
            "a whole number" => ("value_error", OUT_OF_RANGE.to_owned()),
            expected => ("value_error", format!("expected {expected}")),
        };
    }
    if text.starts_with("unknown variant ") {
        let known = text.rsplit_once(", expected ").map_or("another word", |(_, known)| known);
        return ("value_error", format!("must be {}", known.replace('`', "")));
    }
    if let Some(rest) = text.strip_prefix("missing field ") {
        return ("missing", format!("{} is required inside", rest.replace('`', "")));
    }
    match error.classify() {
        Category::Data => ("value_error", text.to_owned()),
        // Allowed by the grammar and without a meaning: a huge number, half a surrogate pair.
        Category::Syntax | Category::Eof | Category::Io => ("value_error", format!("is not valid: {text}")),
    }
}

fn wanted(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" | "u128" | "i128" => {
            "a whole number"
        }
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        "a borrowed string" => "a string",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

fn given_type(given: &str) -> &'static str {
    let starts = |word| given.starts_with(word);
    match () {
        () if starts("string") || starts("character") => "a string",
        () if starts("boolean") => "a truth value",
        () if starts("floating point") => "a fraction",
        () if starts("integer") => "a number",
        () if starts("null") || starts("unit") => "null",
        () if starts("sequence") => "a list",
        () if starts("map") => "an object",
        () => "something else",
    }
}

fn type_of(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a truth value",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde::de::DeserializeOwned;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        Busy,
        Healthy,
    }

    #[derive(Debug, Deserialize)]
    struct Point {
        #[serde(rename = "x")]
        _x: u8,
    }

    fn refusal<T: DeserializeOwned + std::fmt::Debug>(json: &str) -> (&'static str, String) {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        of(&serde_json::from_str::<T>(json).unwrap_err(), raw)
    }

    #[track_caller]
    fn says<T: DeserializeOwned + std::fmt::Debug>(json: &str, kind: &str, message: &str) {
        assert_eq!(refusal::<T>(json), (kind, message.to_owned()), "{json}");
    }

    #[test]
    fn wrong_types_are_told_apart() {
        says::<u64>(r#""3""#, "type_error", "expected a whole number, got a string");
        says::<u64>("3.5", "type_error", "expected a whole number, got a fraction");
        says::<u64>("true", "type_error", "expected a whole number, got a truth value");
        says::<f64>(r#""NaN""#, "type_error", "expected a number, got a string");
        says::<bool>("1", "type_error", "expected true or false, got a number");
        says::<String>("{}", "type_error", "expected a string, got an object");
        says::<String>("[]", "type_error", "expected a string, got a list");
        says::<Vec<String>>(r#"["a", null]"#, "type_error", "expected a string, got null");
        says::<Vec<String>>(r#""a""#, "type_error", "expected a list, got a string");
        says::<Point>("3", "type_error", "expected an object, got a number");
        says::<Word>("3", "type_error", "expected a word, got a number");
        says::<Word>("[]", "type_error", "expected a word, got a list");
    }

    #[test]
    fn values_out_of_range_are_no_type_errors() {
        says::<u32>("-1", "value_error", "is out of range");
        says::<u8>("300", "value_error", "is out of range");
        says::<u64>("99999999999999999999", "value_error", "is out of range");
        says::<f64>("1e999", "value_error", "is not valid: number out of range");
        says::<Word>(r#""lazy""#, "value_error", "must be busy or healthy");
        says::<Point>("{}", "missing", "x is required inside");
    }

    #[test]
    fn no_message_quotes_the_value() {
        let value = r#""s3cret, expected u64 at line 1""#;
        for (_, message) in [refusal::<u64>(value), refusal::<Word>(value), refusal::<crate::TaskId>(value)] {
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
