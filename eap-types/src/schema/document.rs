//! One payload's schema as a document of its own.

use serde_json::{Map, Value, json};

use super::form::Form;
use crate::{PayloadInfo, PayloadRole};

/// The JSON Schema dialect of every schema.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

impl PayloadInfo {
    /// Gives the payload's JSON Schema (2020-12) as a document that needs no other.
    ///
    /// A request's schema takes what a server takes, `null` for an absent field and older spellings too; a reply's
    /// says what a server of this version writes.
    #[must_use]
    pub fn json_schema(&self) -> Value {
        let form = match self.role {
            PayloadRole::Request => Form::Taken,
            PayloadRole::Query => Form::Sent,
            PayloadRole::Reply => Form::Written,
        };
        let mut generator = form.settings("/$defs").into_generator();
        (self.schema)(&mut generator);
        let mut definitions = generator.take_definitions(true);
        let mut document = Map::new();
        document.insert("$schema".to_owned(), json!(DIALECT));
        document.insert("$id".to_owned(), json!(self.schema_id()));
        document.insert("title".to_owned(), json!(self.name));
        if let Some(Value::Object(own)) = definitions.remove(self.name) {
            document.extend(own);
        }
        if !definitions.is_empty() {
            document.insert("$defs".to_owned(), definitions.into());
        }
        document.into()
    }

    /// Gives the `$id` of the schema, as in `urn:eap:schema:1.0:SubmitTask`.
    #[must_use]
    pub fn schema_id(&self) -> String {
        format!("urn:eap:schema:{}:{}", crate::PROTOCOL_VERSION, self.name)
    }

    /// Finds a payload by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|payload| payload.name == name)
    }
}
