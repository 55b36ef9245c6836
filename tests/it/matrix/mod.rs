//! One list of scenarios, run unchanged over every transport and every store: what becomes of a task does not depend on
//! how it travels or where it is kept.
//!
//! A scenario is a test. It runs in all cells of the matrix at once, tells in each what became of its tasks, and every
//! cell has to tell the same. With `--nocapture` each scenario prints its row of the table of outcomes.

mod artifacts;
mod cancels;
mod ends;
mod leaves;
mod losses;
mod output;
mod payloads;
mod queue;
mod restarts;
mod script;
mod world;

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use eap_orchestrator::Config;
use futures_util::FutureExt;
use futures_util::future::join_all;

use self::world::{Way, World};
use crate::sdk_harness::Keep;

const WAYS: [Way; 3] = [Way::Pull, Way::Push, Way::WebSocket];
const KEEPS: [Keep; 2] = [Keep::Memory, Keep::Sqlite];

/// A server that tries again within a blink, and leases that outlast a slow machine.
fn patient(config: &mut Config) {
    config.timing.heartbeat_interval = Duration::from_secs(1);
    config.timing.lease = Duration::from_secs(15);
    config.tasks.backoff_base = Duration::from_millis(10);
    config.tasks.backoff_cap = Duration::from_millis(20);
    config.breaker.cooldown = Duration::from_millis(10);
    config.breaker.max_cooldown = Duration::from_millis(20);
    config.push.backoff_base = Duration::from_millis(10);
    config.push.pause_cap = Duration::from_millis(100);
}

/// The same with leases that are soon over, for scenarios in which one has to end.
fn hasty(config: &mut Config) {
    patient(config);
    config.timing.lease = Duration::from_secs(4);
}

/// Runs a scenario in each cell of the matrix.
async fn every(expected: &str, scenario: impl AsyncFn(World) -> String) {
    every_with(patient, expected, scenario).await;
}

/// The same, with servers of another configuration.
async fn every_with(change: fn(&mut Config), expected: &str, scenario: impl AsyncFn(World) -> String) {
    let cells = WAYS.into_iter().flat_map(|way| KEEPS.map(|keep| (way, keep)));
    let told = join_all(cells.map(async |(way, keep)| {
        let world = World::start(way, keep, change).await;
        let lives = Rc::clone(&world.lives);
        let told = AssertUnwindSafe(scenario(world)).catch_unwind().await;
        // The panic has printed itself where it happened.
        let told = told.unwrap_or_else(|_| "panicked".to_owned());
        if told != expected {
            println!("{way:?} over {keep:?}: {}", lives.take().join("\n"));
        }
        (format!("{way:?} over {keep:?}"), told)
    }))
    .await;
    let others: Vec<_> = told.iter().filter(|(_, told)| told != expected).collect();
    assert!(others.is_empty(), "expected {expected:?}, but {others:#?}");
    let test = std::thread::current().name().unwrap_or_default().replace("matrix::", "");
    println!("| {} | {expected} | {} cells alike |", test.replace("::", " | "), told.len());
}
