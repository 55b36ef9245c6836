//! Members of replies that are `null` where others leave them out: those of docs/protocol.md, section 6.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// A member that is always there and may be `null`.
///
/// Written as a list of one value: `"type": "null"` would be taken out with that of members that are left out.
pub(crate) fn or_null<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [generator.subschema_for::<T>(), { "enum": [null] }] })
}
