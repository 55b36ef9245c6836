//! Schemas of many payloads as the components of one OpenAPI document.

use std::collections::{BTreeMap, BTreeSet};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::form::Form;
use crate::PayloadInfo;

const SENT: &str = "/components/schemas";
/// Where references to replies point until it is known which names they share with requests.
const READ: &str = "/components/read";

/// Collects the schemas that an OpenAPI document refers to.
///
/// They are made for clients: one spelling of each member, no `null`, and what a server of this version always writes
/// is required of its replies.
#[derive(Debug)]
pub struct Components {
    sent: SchemaGenerator,
    read: SchemaGenerator,
}

/// One parameter of a query.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QueryField {
    /// Its name.
    pub name: String,
    /// What it means.
    pub description: String,
    /// Whether it must be there.
    pub required: bool,
    /// What it may be.
    pub schema: Value,
}

impl Default for Components {
    fn default() -> Self {
        Self { sent: Form::Sent.settings(SENT).into_generator(), read: Form::Read.settings(READ).into_generator() }
    }
}

impl Components {
    /// Refers to a payload that clients send.
    pub fn sent(&mut self, payload: &PayloadInfo) -> Value {
        (payload.schema)(&mut self.sent).to_value()
    }

    /// Refers to a payload that clients read.
    pub fn read(&mut self, payload: &PayloadInfo) -> Value {
        (payload.schema)(&mut self.read).to_value()
    }

    /// Refers to a value that clients send outside a body, as an id in a path.
    pub fn value<T: JsonSchema>(&mut self) -> Value {
        self.sent.subschema_for::<T>().to_value()
    }

    /// Refers to a value that clients read outside a body, as in a frame.
    pub fn read_value<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().to_value()
    }

    /// Takes a query apart into its parameters.
    pub fn query(&mut self, payload: &PayloadInfo) -> Vec<QueryField> {
        (payload.schema)(&mut self.sent);
        let Some(Value::Object(mut query)) = self.sent.definitions_mut().remove(payload.name) else {
            return Vec::new();
        };
        let required = query.remove("required").unwrap_or_default();
        let Some(Value::Object(members)) = query.remove("properties") else { return Vec::new() };
        let parameter = |(name, member): (String, Value)| {
            let mut member = Schema::try_from(member).unwrap_or_default();
            Form::Sent.shape(&mut member);
            let description = member.remove("description").and_then(|text| text.as_str().map(str::to_owned));
            QueryField {
                required: required.as_array().is_some_and(|required| required.iter().any(|field| *field == name)),
                description: description.unwrap_or_default(),
                schema: member.to_value(),
                name,
            }
        };
        members.into_iter().map(parameter).collect()
    }

    /// Puts the schemas into the document whose references they are.
    #[must_use]
    pub fn join(mut self, mut document: Value) -> Value {
        let mut sent = self.sent.take_definitions(true);
        let mut read = self.read.take_definitions(true);
        // A text is sent as it is written, whatever else is taken.
        for (name, schema) in &read {
            if schema.get("type").is_some_and(|kind| kind == "string") && sent.contains_key(name) {
                sent.insert(name.clone(), schema.clone());
            }
        }
        let apart = told_apart(&sent, &read);
        for schema in read.values_mut() {
            settle(schema, &apart);
        }
        settle(&mut document, &apart);
        let mut schemas = sent;
        for (name, schema) in read {
            schemas.insert(apart.get(&name).cloned().unwrap_or(name), schema);
        }
        document["components"]["schemas"] = Value::Object(schemas);
        document
    }
}

/// New names for replies that are not what a request of the same name is, or that hold such a one.
fn told_apart(sent: &Map<String, Value>, read: &Map<String, Value>) -> BTreeMap<String, String> {
    let shared: Vec<&String> = read.keys().filter(|name| sent.contains_key(*name)).collect();
    let differs = |name: &&&String| {
        let mut schema = read[**name].clone();
        settle(&mut schema, &BTreeMap::new());
        schema != sent[**name]
    };
    let mut apart: BTreeSet<&String> = shared.iter().filter(differs).copied().collect();
    loop {
        let holds_one = |name: &&&String| {
            let text = read[**name].to_string();
            apart.iter().any(|other| text.contains(&format!("\"#{READ}/{other}\"")))
        };
        let more: Vec<&String> =
            shared.iter().filter(|name| !apart.contains(*name)).filter(holds_one).copied().collect();
        if more.is_empty() {
            return apart.into_iter().map(|name| (name.clone(), format!("{name}Reply"))).collect();
        }
        apart.extend(more);
    }
}

/// Points references to replies at their final place.
fn settle(value: &mut Value, apart: &BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let target = member.as_str().and_then(|target| target.strip_prefix('#')?.strip_prefix(READ)?.get(1..));
                match target {
                    Some(name) if key == "$ref" => {
                        let name = apart.get(name).map_or(name, String::as_str);
                        *member = json!(format!("#{SENT}/{name}"));
                    }
                    _ => settle(member, apart),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| settle(item, apart)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Payload, TaskQuery, TaskResult, TaskView};

    #[test]
    fn a_reply_that_differs_from_its_request_gets_a_name_of_its_own() {
        let mut components = Components::default();
        let (result, task) = (components.sent(&TaskResult::INFO), components.read(&TaskView::INFO));
        let document = components.join(json!({ "components": {}, "result": result, "task": task }));
        assert_eq!(document["result"], json!({ "$ref": "#/components/schemas/TaskResult" }));
        assert_eq!(document["task"], json!({ "$ref": "#/components/schemas/TaskView" }));
        let schemas = &document["components"]["schemas"];
        let of_the_view = &schemas["TaskView"]["properties"]["result"]["$ref"];
        assert_eq!(of_the_view, "#/components/schemas/TaskResultReply");
        assert!(schemas["TaskResultReply"]["required"].as_array().unwrap().contains(&json!("artifacts")));
        assert!(schemas["TaskIdReply"].is_null(), "what is the same both ways has one name");
        assert!(!document.to_string().contains(READ), "every reference is settled");
    }

    #[test]
    fn a_query_is_taken_apart_and_is_no_component() {
        let mut components = Components::default();
        let query = components.query(&TaskQuery::INFO);
        let limit = query.iter().find(|field| field.name == "limit").unwrap();
        assert_eq!(
            (limit.required, &limit.schema["maximum"], &limit.schema["type"]),
            (false, &json!(500), &json!("integer"))
        );
        assert!(limit.description.contains("at most 500"));
        let document = components.join(json!({ "components": {} }));
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(schemas.contains_key("TaskStatus") && !schemas.contains_key("TaskQuery"));
    }
}
