//! The arrows of ARCHITECTURE.md: which crate may use which.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each crate may use of the workspace in what it ships. A crate that is missing here fails the test.
const ARROWS: [(&str, &[&str]); 6] = [
    ("eap-types", &[]),
    ("eap-core", &["eap-types"]),
    ("eap-client", &["eap-types"]),
    ("eap-agent-sdk", &["eap-types", "eap-client", "eap-core"]),
    ("eap-orchestrator", &["eap-types", "eap-core"]),
    ("mock-agentkit", &["eap-types"]),
];

/// Nothing that waits, draws or connects, however far down: `eap-core` decides and does nothing else.
const NOT_IN_THE_CORE: [&str; 8] = ["tokio", "rand", "getrandom", "reqwest", "rusqlite", "axum", "hyper", "mio"];

/// Whether it is one of them or part of its family, as `tokio-util` is.
fn waits_draws_or_connects(name: &str) -> bool {
    NOT_IN_THE_CORE
        .iter()
        .any(|bad| name.strip_prefix(bad).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_'])))
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let arguments = ["metadata", "--format-version", "1", "--locked", "--offline", "--manifest-path", manifest];
    let output = Command::new(cargo).args(arguments).output().expect("cargo runs the test, so it is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo's description is JSON")
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn every_published_crate_uses_what_it_may_and_no_more() {
    let metadata = metadata();
    let mut allowed: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.into_iter().map(|(name, uses)| (name, uses.iter().copied().collect())).collect();
    for package in list(&metadata, "packages") {
        let is_library = list(package, "targets").iter().any(|target| list(target, "kind").contains(&"lib".into()));
        // An empty list of registries: not published.
        if !package["source"].is_null() || package["publish"] == serde_json::json!([]) || !is_library {
            continue;
        }
        let name = text(package, "name");
        let may_use = allowed.remove(name).unwrap_or_else(|| panic!("{name} has no line in this test"));
        let shipped = list(package, "dependencies").iter().filter(|dependency| dependency["kind"].is_null());
        let used: BTreeSet<&str> =
            shipped.map(|dependency| text(dependency, "name")).filter(|name| name.starts_with("eap-")).collect();
        assert!(used.is_subset(&may_use), "{name} uses {used:?} and may use {may_use:?}");
    }
    assert!(allowed.is_empty(), "these are not published any more: {allowed:?}");
}

#[test]
fn the_core_brings_nothing_that_waits_draws_or_connects() {
    let metadata = metadata();
    let names: BTreeMap<&str, &str> =
        list(&metadata, "packages").iter().map(|package| (text(package, "id"), text(package, "name"))).collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"], "nodes").iter().map(|node| (text(node, "id"), node)).collect();
    let core = nodes.keys().find(|id| names[**id] == "eap-core").expect("the workspace has the crate");
    let (mut seen, mut left) = (BTreeSet::new(), vec![*core]);
    while let Some(id) = left.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in list(nodes[id], "deps") {
            if list(dependency, "dep_kinds").iter().any(|kind| kind["kind"].is_null()) {
                left.push(text(dependency, "pkg"));
            }
        }
    }
    let bad: Vec<&str> = seen.iter().map(|id| names[*id]).filter(|name| waits_draws_or_connects(name)).collect();
    assert!(seen.len() > 5, "the walk went nowhere: {seen:?}");
    assert_eq!(bad, [""; 0]);
}
