//! The rules decide and nothing else: no clock, no chance, no waiting, no sharing, no input or output.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Words that no line of code may hold, comments aside.
const BANNED_WORDS: &[&str] = &[
    "async",
    "await",
    "Mutex",
    "RwLock",
    "OnceLock",
    "LazyLock",
    "thread_local",
    "rand",
    "getrandom",
    "fastrand",
    "Instant",
    "SystemTime",
    "tokio",
    "thread",
    "fs",
    "net",
    "env",
    "io",
    "process",
    "println",
    "eprintln",
    "unsafe",
];

/// What the crate may be built on.
const DEPENDENCIES: &[&str] = &["eap-types", "regex", "serde", "serde_json", "sha2", "thiserror"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the sources are readable") {
        let path = entry.expect("the sources are readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What is impure about a line of code.
fn impurity(line: &str) -> Option<&'static str> {
    let code = line.split("//").next().unwrap_or_default();
    if code.contains(".now()") || code.contains("::now()") {
        return Some("now()");
    }
    let words: BTreeSet<&str> = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    BANNED_WORDS.iter().copied().find(|banned| words.contains(banned))
}

#[test]
fn no_line_reads_a_clock_draws_a_number_or_waits() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() >= 10, "the sources are found");
    let mut found = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("the sources are readable");
        for (number, line) in text.lines().enumerate() {
            if let Some(what) = impurity(line) {
                found.push(format!("{}:{}: {what}: {line}", file.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_search_finds_what_it_looks_for() {
    for line in [
        "    let now = clock.now();",
        "pub async fn decide() {",
        "use std::time::{Duration, Instant};",
        "let lucky: f64 = rand::random();",
        "struct Shared(std::sync::Mutex<u8>);",
        "let at = SystemTime::now();",
    ] {
        assert!(impurity(line).is_some(), "{line}");
    }
    for line in
        ["let step = task.apply(event, now, policy);", "// nothing async, no rand", "let operand = random_part;"]
    {
        assert_eq!(impurity(line), None, "{line}");
    }
}

#[test]
fn it_is_built_on_types_and_words_alone() {
    let manifest = include_str!("../Cargo.toml");
    let section = manifest.split("\n[dependencies]\n").nth(1).expect("a section of dependencies");
    let section = section.split("\n[").next().unwrap_or(section);
    let names: BTreeSet<&str> =
        section.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim()).collect();
    assert_eq!(names, DEPENDENCIES.iter().copied().collect());
}
