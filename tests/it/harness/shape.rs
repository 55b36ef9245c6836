//! Bodies compared with the documented shape: exactly these members, no more.

use serde_json::{Value, json};

/// Compares `given` with `shape`, in which `"<uuid>"`, `"<time>"`, `"<text>"`, `"<count>"` and `"<any>"` stand for
/// values that differ from run to run. Every other value, and the set of members, has to be the same.
#[track_caller]
pub(crate) fn assert_shape(given: &Value, shape: &Value) {
    if let Err(difference) = compare(given, shape, "") {
        panic!("{difference}\n  given: {given}\n  shape: {shape}");
    }
}

fn compare(given: &Value, shape: &Value, at: &str) -> Result<(), String> {
    match (given, shape) {
        (_, Value::String(pattern)) if pattern.starts_with('<') && pattern.ends_with('>') => {
            if stands_for(given, pattern) { Ok(()) } else { Err(format!("{at} is no {pattern}: {given}")) }
        }
        (Value::Object(given), Value::Object(shape)) => {
            for name in given.keys() {
                if !shape.contains_key(name) {
                    return Err(format!("{at}.{name} should not be there"));
                }
            }
            for (name, shape) in shape {
                let given = given.get(name).ok_or_else(|| format!("{at}.{name} is missing"))?;
                compare(given, shape, &format!("{at}.{name}"))?;
            }
            Ok(())
        }
        (Value::Array(given), Value::Array(shape)) if given.len() == shape.len() => given
            .iter()
            .zip(shape)
            .enumerate()
            .try_for_each(|(index, (given, shape))| compare(given, shape, &format!("{at}[{index}]"))),
        (given, shape) if given == shape => Ok(()),
        (given, shape) => Err(format!("{at} is {given}, not {shape}")),
    }
}

fn stands_for(given: &Value, pattern: &str) -> bool {
    let text = given.as_str();
    match pattern {
        "<any>" => true,
        "<text>" => text.is_some_and(|text| !text.is_empty()),
        "<count>" => given.is_u64(),
        "<uuid>" => text.is_some_and(|text| {
            text.len() == 36 && text.bytes().all(|byte| byte == b'-' || matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        }),
        "<time>" => text.is_some_and(|text| text.ends_with('Z') && text.parse::<eap_types::Timestamp>().is_ok()),
        other => panic!("{other} is no pattern"),
    }
}

/// A task as it is shown right after a plain submit; `changes` replaces and adds members, null removes one.
pub(crate) fn task_shape(changes: Value) -> Value {
    let mut shape = json!({
        "task_id": "<uuid>", "session_id": "<uuid>", "status": "queued", "task_type": "work",
        "routing": {"required_capabilities": ["work"], "labels": {}},
        "priority": 2, "attempt": 0, "attempts_used": 0, "max_attempts": 3, "created_at": "<time>", "updated_at": "<time>",
    });
    merge(&mut shape, changes);
    shape
}

/// An assignment of a plain task's first attempt; `changes` as above.
pub(crate) fn assignment_shape(changes: Value) -> Value {
    let mut shape = json!({
        "task_id": "<uuid>", "session_id": "<uuid>", "task_type": "work", "context": {}, "input_data": "input",
        "requirements": [], "timeout_seconds": 3600, "lease_id": "<uuid>", "lease_expires_in_ms": "<count>",
        "lease_expires_at": "<time>", "attempt": 1, "max_attempts": 3, "priority": 2,
    });
    merge(&mut shape, changes);
    shape
}

fn merge(shape: &mut Value, changes: Value) {
    let (Value::Object(shape), Value::Object(changes)) = (shape, changes) else {
        panic!("shapes and their changes are objects")
    };
    for (name, value) in changes {
        if value.is_null() {
            shape.remove(&name);
        } else {
            shape.insert(name, value);
        }
    }
}
