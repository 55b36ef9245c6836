//! What the tests share: a world of a few agents, one task's life under a virtual clock, and its observer.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this module")]

pub mod observer;

use std::collections::BTreeSet;
use std::time::Duration;

use eap_core::{
    Changed, Chance, EndOfLease, Phase, Progress, Quote, Refusal, Report, RoutingKey, Step, Task, TaskEvent,
    TaskPolicy, TaskSpec,
};
use eap_types::{
    AgentId, FailureCode, JsonObject, LeaseId, Priority, SessionId, TaskId, TaskResult, TaskStatus, TenantId,
    Timestamp,
};

use observer::Observer;

/// The lease every test agent gets.
pub const LEASE: Duration = Duration::from_secs(60);
/// The hard limit of an attempt, unless a test says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(3600);
/// The smallest step of the clock.
pub const TICK: Duration = Duration::from_micros(1);
/// A draw in the middle, so that every back-off takes half of its longest.
pub const HALF: Chance = Chance::HALF_FOR_TESTS;

trait Draws {
    const HALF_FOR_TESTS: Self;
}
