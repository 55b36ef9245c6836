//! The files in `schemas/` are those that the types give.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use eap_types::PayloadInfo;
use serde_json::{Value, json};

const WRITE_THEM: &str = "write them anew with: cargo run -p eap-cli -- schema --write schemas";

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas")
}

#[test]
fn the_files_say_what_the_types_say() {
    for payload in PayloadInfo::ALL {
        let path = folder().join(format!("{}.json", payload.name));
        let kept =
            fs::read_to_string(&path).unwrap_or_else(|_| panic!("{} is not there: {WRITE_THEM}", path.display()));
        let kept: Value = serde_json::from_str(&kept).expect("the file is JSON");
        assert!(kept == payload.json_schema(), "{}.json is not what the type says: {WRITE_THEM}", payload.name);
    }
}

#[test]
fn no_file_is_left_of_a_payload_that_is_gone() {
    let names = PayloadInfo::ALL.iter().map(|payload| payload.name).chain(["openapi", "asyncapi"]);
    let expected: BTreeSet<String> = names.map(|name| format!("{name}.json")).collect();
    let files = fs::read_dir(folder()).expect("the folder can be listed");
    let kept: BTreeSet<String> =
        files.map(|file| file.expect("it can be listed").file_name().into_string().expect("names are text")).collect();
    assert_eq!(kept, expected, "remove what is too much, or {WRITE_THEM}");
}

#[test]
fn every_reference_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    for payload in PayloadInfo::ALL {
        let schema = payload.json_schema();
        assert_eq!(schema["$id"], json!(format!("urn:eap:schema:1.0:{}", payload.name)));
        let mut found = Vec::new();
        references(&schema, &mut found);
        for reference in found {
            assert!(schema.pointer(&reference[1..]).is_some(), "{}: {reference}", payload.name);
        }
    }
}
