//! A task for the tests of this folder.

use std::time::Duration;

use eap_core::{RoutingKey, Task, TaskSpec};
use eap_types::{JsonObject, Priority, SessionId, TaskId, TenantId, Timestamp};

/// One that was submitted at `now`, under an id of its number.
pub(super) fn submitted(number: u8, now: Timestamp) -> Task {
    Task::submitted(TaskSpec {
        id: TaskId::v7(now, [number; 10]),
        routing: RoutingKey::of_type(TenantId::default(), "translate".parse().unwrap()),
        session_id: SessionId::v7(now, [number; 10]),
        input: String::new(),
        context: JsonObject::default(),
        preferred_agents: Default::default(),
        requirements: Vec::new(),
        priority: Priority::default(),
        timeout: Duration::from_secs(3600),
        inactivity: None,
        max_attempts: 3,
        run_at: None,
        expires_at: None,
        created_at: now,
        traceparent: None,
        requeued_from: None,
        is_step: false,
        callback_url: None,
    })
}
