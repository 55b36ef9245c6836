//! The demonstration is true.

use std::process::Command;

use crate::support::{eap, run};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

#[test]
fn the_words_of_a_file_are_those_that_wc_counts() {
    let alone = Command::new("wc").args(["-w", README]).output().unwrap();
    let alone = String::from_utf8(alone.stdout).unwrap();
    let expected = alone.split_whitespace().next().expect("a number");
    let shown = run(&mut eap(&["demo", README])).expect(0);
    let line = shown.stdout.lines().find(|line| line.starts_with("words ")).expect("the words are shown");
    assert_eq!(line.split_whitespace().nth(1), Some(expected), "{shown:?}");
    for step in ["registered", "submitted", "leased", "completed"] {
        assert!(shown.stdout.contains(step), "{step}: {shown:?}");
    }
    assert_eq!(shown.stderr, "");
}

#[test]
fn its_own_text_does_and_programs_get_json() {
    let results = run(&mut eap(&["demo", "--json"])).expect(0).json();
    assert_eq!((&results["words"], &results["lines"]), (&97.into(), &9.into()));
    assert_eq!(results["wrong"], serde_json::json!([]));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let ended = run(&mut eap(&["demo", "/nowhere/file"])).expect(2);
    assert!(ended.stderr.contains("/nowhere/file"), "{ended:?}");
}
