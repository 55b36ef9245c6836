//! The JSON Schemas say what the decoder does.

use super::*;
use schemars::{JsonSchema, schema_for};

fn schema<T: JsonSchema>() -> Value {
    schema_for!(T).to_value()
}

fn required(schema: &Value) -> Vec<&str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn require_what_the_decoder_requires() {
    assert_eq!(required(&schema::<Registration>()), ["name", "capabilities"]);
    assert_eq!(required(&schema::<Heartbeat>()), ["status"]);
    assert_eq!(required(&schema::<TaskResult>()), ["task_id", "status"]);
    assert_eq!(required(&schema::<LeaseRequest>()), ["request_id"]);
    assert_eq!(required(&schema::<ProgressReport>()), ["seq"]);
    assert_eq!(required(&schema::<SubmitTask>()), ["task_type"]);
    assert_eq!(required(&schema::<Assignment>()), ["task_id"]);
}

#[test]
fn know_the_older_spellings() {
    let assignment = schema::<Assignment>();
    assert_eq!(assignment["properties"]["input"]["type"], "string");
    assert_eq!(assignment["anyOf"], json!([{ "required": ["input_data"] }, { "required": ["input"] }]));
    assert!(schema::<TaskResult>()["properties"]["metrics"]["properties"]["tokens_used"].is_object());
}

#[test]
fn say_the_ranges() {
    let priority = schema::<Priority>();
    assert_eq!((&priority["minimum"], &priority["maximum"]), (&json!(0), &json!(4)));
    assert_eq!(schema::<LeaseRequest>()["properties"]["max_tasks"]["maximum"], 100);
}
