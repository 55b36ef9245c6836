//! What derived JSON Schemas cannot say by themselves: fields that two older systems spell differently.

use schemars::Schema;
use serde_json::{Value, json};

/// Adds `other` as a second spelling of the required field `name`: one of the two must be there.
pub(crate) fn add_spelling(schema: &mut Schema, name: &str, other: &str) {
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|field| field != name);
    }
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    let mut spelling = properties.get(name).cloned().unwrap_or_else(|| json!({}));
    if let Value::Object(spelling) = &mut spelling {
        spelling.insert("description".to_owned(), json!(format!("Another spelling of `{name}`.")));
    }
    properties.insert(other.to_owned(), spelling);
    schema.insert("anyOf".to_owned(), json!([{ "required": [name] }, { "required": [other] }]));
}

/// Adds the object `name`, which repeats the given fields.
pub(crate) fn add_nested(schema: &mut Schema, name: &str, fields: &[&str]) {
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    let repeated: serde_json::Map<String, Value> =
        fields.iter().filter_map(|field| Some(((*field).to_owned(), properties.get(*field)?.clone()))).collect();
    let description = "The same figures once more, as ADR 001 spells them; a field beside it wins.";
    let nested = json!({ "description": description, "type": "object", "properties": repeated });
    properties.insert(name.to_owned(), nested);
}
