//! One text for every JSON value, so that texts can be compared instead of values.

use serde_json::Value;

const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;

/// Writes a value with sorted keys, no white space, and whole numbers without fraction or exponent.
pub(crate) fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        Value::Object(members) => {
            // Not left to the map: another crate may switch on serde_json's `preserve_order`.
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            text.push('{');
            for (index, (key, item)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(item, text);
            }
            text.push('}');
        }
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            // The bounds are powers of two, so every float between them casts exactly.
            Some(float) if float.fract() == 0.0 && (-TWO_POW_63..2.0 * TWO_POW_63).contains(&float) => {
                text.push_str(&(float as i128).to_string());
            }
            _ => text.push_str(&number.to_string()),
        },
        Value::Null | Value::Bool(_) | Value::String(_) => text.push_str(&value.to_string()),
    }
}
