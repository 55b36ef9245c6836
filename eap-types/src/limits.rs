//! The limits that both ends of the wire know, from RELIABILITY.md section 5 and the protocol.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Arrays and objects nested deeper than this are malformed (PROTOCOL.md section 5a).
pub const MAX_JSON_DEPTH: usize = 32;
/// Problems of one body beyond this many are counted and not listed.
pub const MAX_FIELD_PROBLEMS: usize = 100;

/// Bytes of the body of a registration.
pub const MAX_REGISTER_BYTES: usize = 64 * KIB;
/// Bytes of an agent's `metadata`.
pub const MAX_METADATA_BYTES: usize = 16 * KIB;
/// Bytes of the body of one submitted task.
pub const MAX_SUBMIT_BYTES: usize = MIB;
/// Bytes of the body of a batch of submitted tasks.
pub const MAX_BATCH_BYTES: usize = 8 * MIB;
/// Bytes of a workflow's definition, and of the body that starts one.
pub const MAX_WORKFLOW_BYTES: usize = MIB;
/// Bytes of the body of a result or of a batch of results: `limits.max_body_bytes`.
pub const MAX_RESULT_BYTES: usize = 8 * MIB;
/// Bytes of an artifact that is sent by reference: `limits.max_artifact_bytes`.
pub const MAX_ARTIFACT_BYTES: usize = 64 * MIB;
/// Bytes of one part of such an artifact.
pub const MAX_ARTIFACT_PART_BYTES: usize = 8 * MIB;
/// Bytes of the body of a progress report, which carries up to this much of an attempt's output.
pub const MAX_PROGRESS_BYTES: usize = MIB;
/// Bytes of every body that has no limit of its own.
pub const MAX_SMALL_BYTES: usize = 64 * KIB;
/// Bytes of a push agent's answer, unless it speaks plain 1.0 and answers with the result.
pub const MAX_PUSH_ANSWER_BYTES: usize = MIB;

/// Gives the bytes of the body of a heartbeat, by how many tasks the agent may hold.
#[must_use]
pub const fn max_heartbeat_bytes(max_concurrent_tasks: u32) -> usize {
    16 * KIB + 160 * max_concurrent_tasks as usize
}

/// Capabilities of one agent.
pub const MAX_CAPABILITIES: usize = 64;
/// Patterns of names that one registration secret may list.
pub const MAX_SECRET_NAMES: usize = 100;
/// Task types of one agent whose inputs have a schema.
pub const MAX_TASK_SCHEMAS: usize = 64;
/// Bytes of all schemas of one agent together.
pub const MAX_TASK_SCHEMAS_BYTES: usize = 40 * KIB;
/// Patterns in all schemas of one agent together.
pub const MAX_SCHEMA_PATTERNS: usize = 64;
/// Labels of one agent or one task.
pub const MAX_LABELS: usize = 32;
/// Agents that one task prefers.
pub const MAX_PREFERRED_AGENTS: usize = 16;
/// Artifacts of one result.
pub const MAX_ARTIFACTS: usize = 100;
/// Bytes of the path of an artifact.
pub const MAX_ARTIFACT_PATH_BYTES: usize = 512;
/// Characters of an `endpoint_url`.
pub const MAX_ENDPOINT_URL_CHARS: usize = 2048;
/// Bytes of output that one attempt may tell of while it runs.
pub const MAX_OUTPUT_BYTES: usize = MIB;
/// Bytes of the `output_delta` of one progress report.
pub const MAX_OUTPUT_DELTA_BYTES: usize = 64 * KIB;
/// Characters of the `message` of a progress report.
pub const MAX_PROGRESS_MESSAGE_CHARS: usize = 4096;
/// Tasks in one batch of submissions.
pub const MAX_BATCH_TASKS: usize = 1000;
/// The most results in one batch: as many as an agent may have running.
pub const MAX_BATCH_RESULTS: usize = MAX_CONCURRENT_TASKS as usize;

/// Tasks that an agent may hold at once, at most.
pub const MAX_CONCURRENT_TASKS: u32 = 1000;
/// Tasks that an agent may hold at once when it does not say.
pub const DEFAULT_CONCURRENT_TASKS: u32 = 5;
/// Tasks that one lease request may ask for.
pub const MAX_LEASE_TASKS: u32 = 100;
/// Attempts that a task may have, at most.
pub const MAX_ATTEMPTS: u32 = 100;
/// Attempts that a task has when its submitter does not say.
pub const DEFAULT_ATTEMPTS: u32 = 3;

/// Steps of one workflow.
pub const MAX_WORKFLOW_STEPS: usize = 1000;
/// How often a step may be tried again after its first attempt, at most.
pub const MAX_STEP_RETRIES: u32 = MAX_ATTEMPTS - 1;
/// How often a step is tried again after its first attempt when its workflow does not say.
pub const DEFAULT_STEP_RETRIES: u32 = 3;

/// How long a request may wait for something to happen, at most.
pub const MAX_WAIT: Duration = Duration::from_secs(60);
/// How long a lease request waits when it does not say.
pub const DEFAULT_LEASE_WAIT: Duration = Duration::from_secs(25);
/// How long one attempt may take when the submitter does not say.
pub const DEFAULT_TASK_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long one attempt may take, at most: a week.
pub const MAX_TASK_TIMEOUT: Duration = Duration::from_secs(604_800);
/// How long an agent may ask a released task to wait, at most.
pub const MAX_RELEASE_DELAY: Duration = Duration::from_secs(3600);
/// How often an agent says that it lives, unless it is told otherwise.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// How seldom an operator may ask an agent to say so, at most.
pub const MAX_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3600);

/// Entries of a page when the reader does not say.
pub const DEFAULT_PAGE: usize = 50;
/// Entries of a page, at most.
pub const MAX_PAGE: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_of_an_agent_full_of_tasks_fits_its_limit() {
        let held = r#"{"task_id":"01890a5d-ac96-774b-bcce-b302099a8057","lease_id":"01890a5d-ac96-774b-bcce-b302099a8057","progress":0.123456789},"#;
        let room = max_heartbeat_bytes(MAX_CONCURRENT_TASKS) - max_heartbeat_bytes(0);
        assert!(held.len() * MAX_CONCURRENT_TASKS as usize <= room);
        assert_eq!(max_heartbeat_bytes(5), 16 * 1024 + 800);
    }
}
