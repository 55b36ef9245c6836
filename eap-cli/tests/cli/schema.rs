//! The contract from the command line: the very files of `schemas/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{eap, run};

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas")
}

fn files(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let names = entries.map(|entry| entry.expect("it can be read").file_name().into_string().expect("UTF-8"));
    names.filter(|name| name.ends_with(".json")).collect()
}

#[test]
fn what_is_written_is_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new/schemas");
    run(&mut eap(&["schema", "--write", folder.to_str().expect("UTF-8")])).expect(0);
    assert_eq!(files(&folder), files(&kept()));
    for name in files(&folder) {
        let read = |folder: &Path| std::fs::read_to_string(folder.join(&name)).expect("it is there");
        assert_eq!(read(&folder), read(&kept()), "{name}");
    }
}

#[test]
fn every_name_of_the_list_can_be_shown() {
    let list = run(&mut eap(&["schema"])).expect(0).stdout;
    let names: Vec<&str> = list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert!(list.starts_with("NAME ") && names.contains(&"SubmitTask") && names.contains(&"openapi"), "{list}");
    assert!(names.contains(&"asyncapi"), "{list}");
    assert_eq!(names.len(), files(&kept()).len());
    for name in names {
        let shown: Value = run(&mut eap(&["schema", name])).expect(0).json();
        let version = if matches!(name, "openapi" | "asyncapi") { name } else { "$schema" };
        assert!(shown[version].is_string(), "{name}");
    }
}

#[test]
fn what_cannot_be_shown_or_written_is_a_usage_error() {
    let ended = run(&mut eap(&["schema", "NoSuchPayload"])).expect(2);
    assert!(ended.stderr.contains("`eap schema` lists the names"), "{ended:?}");
    run(&mut eap(&["schema", "SubmitTask", "--write", "/tmp"])).expect(2);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("schemas");
    run(&mut eap(&["schema", "--write", below.to_str().expect("UTF-8")])).expect(2);
}
