//! What is wrong with each field of each body: its name, the path it is told under, and values nobody may send.

use serde_json::{Value, json};

type Wrong = (&'static str, &'static str, Vec<Value>);

/// The fields that must be there.
pub(super) fn required(route: &str) -> &'static [&'static str] {
    match route {
        "register" => &["name", "capabilities"],
        "heartbeat" => &["status"],
        "lease" => &["request_id"],
        "result" => &["task_id", "status"],
        "results" => &["results"],
        "batch" => &["tasks"],
        "create key" => &["name", "scopes"],
        "create secret" => &["name"],
        "progress" => &["seq"],
        "interval" => &["heartbeat_interval_seconds"],
        "submit" => &["task_type", "input"],
        _ => &[],
    }
}

/// Wrong values, by route. A field comes again where another value is told under another path.
pub(super) fn wrong(route: &str) -> Vec<Wrong> {
    match route {
        "register" => register(),
        "heartbeat" => heartbeat(),
        "lease" => {
            let mut fields = next();
            fields.push(("request_id", "request_id", texts(128, &["", "two words", "é"])));
            fields.push(("max_tasks", "max_tasks", whole(1, 100)));
            fields
        }
        "next" => next(),
        "result" => result(),
        "create key" => vec![
            ("name", "name", texts(100, &["", " padded", "two\nlines"])),
            ("scopes", "scopes", vec![json!("tasks:read"), json!(["tasks:write"]), json!([5]), json!({})]),
            ("preset", "preset", vec![json!("everything"), json!(["read"]), json!(1)]),
            ("expires_at", "expires_at", moments()),
        ],
        "create secret" => vec![
            ("name", "name", texts(100, &["", " padded", "two\nlines"])),
            ("max_uses", "max_uses", whole(1, 1_000_000)),
            ("names", "names", vec![json!("AGENT-A"), json!(["a*b"]), json!([""]), json!([5])]),
            ("capabilities", "capabilities", vec![json!("work"), json!(["two words"]), json!([5]), json!({})]),
            ("expires_at", "expires_at", moments()),
        ],
        "batch" => vec![("tasks", "tasks", vec![json!([]), json!({}), json!("x"), json!(1), json!(true)])],
        "results" => vec![("results", "results", vec![json!({}), json!("x"), json!(1), json!(true)])],
        "progress" => vec![
            ("seq", "seq", vec![json!("1"), json!(-1), json!(1.5), json!(true), json!([])]),
            ("progress", "progress", fractions()),
            ("message", "message", texts(4096, &[])),
            ("output_delta", "output_delta", vec![json!(5), json!([]), json!("é".repeat((1 << 15) + 1))]),
            ("lease_id", "lease_id", uuids()),
            ("attempt", "attempt", counts()),
        ],
        "release" => vec![
            ("reason", "reason", texts(4096, &[])),
            ("retry_after_seconds", "retry_after_seconds", whole(0, 3600)),
            ("lease_id", "lease_id", uuids()),
            ("attempt", "attempt", counts()),
            ("draining", "draining", flags()),
        ],
        "deregister" | "remove" => vec![("reason", "reason", texts(4096, &[])), ("graceful", "graceful", flags())],
        "submit" => submit(),
        "interval" => vec![("heartbeat_interval_seconds", "heartbeat_interval_seconds", whole(1, 3600))],
        "keep workflow" => vec![
            ("id", "id", texts(128, &["", ".", "a/b", " padded"])),
            ("name", "name", texts(256, &[""])),
            ("description", "description", texts(4096, &[])),
            ("version", "version", texts(64, &[""])),
            ("tasks", "tasks", vec![json!([]), json!({}), json!("x"), json!(1)]),
        ],
        "run" => vec![("initial_payload", "initial_payload", objects())],
        "cancel" | "cancel session" | "drain" => vec![("reason", "reason", texts(4096, &[]))],
        other => panic!("{other} takes no body"),
    }
}

/// Not a whole number within the range.
fn whole(least: i64, most: i64) -> Vec<Value> {
    vec![
        json!(least - 1),
        json!(most + 1),
        json!("5"),
        json!(1.5),
        json!(true),
        json!([]),
        json!({}),
        json!(1e30),
        serde_json::from_str("123456789012345678901234567890").expect("it is JSON"),
    ]
}

fn counts() -> Vec<Value> {
    vec![json!(-1), json!("1"), json!(1.5), json!(true), json!([1]), json!(4_294_967_296_u64)]
}

fn fractions() -> Vec<Value> {
    vec![json!(1.5), json!(-0.1), json!(1.000_001), json!("0.5"), json!("NaN"), json!(true), json!([]), json!(1e300)]
}

fn figures() -> Vec<Value> {
    vec![json!(-1), json!(-0.001), json!("1"), json!("Infinity"), json!(true), json!([]), json!({})]
}

fn flags() -> Vec<Value> {
    vec![json!("yes"), json!(1), json!(0), json!([])]
}

fn objects() -> Vec<Value> {
    vec![json!([]), json!("x"), json!(5), json!(true)]
}

fn uuids() -> Vec<Value> {
    vec![
        json!("x"),
        json!(""),
        json!(5),
        json!({}),
        json!("01890a5d-ac96-774b-bcce-b302099a805"),
        json!("01890a5d-ac96-774b-bcce-b302099a80577"),
        json!("z1890a5d-ac96-774b-bcce-b302099a8057"),
    ]
}

/// No text of at most so many characters, or one of these.
fn texts(most: usize, others: &[&str]) -> Vec<Value> {
    let mut values = vec![json!(5), json!(true), json!([]), json!({}), json!("x".repeat(most + 1))];
    values.extend(others.iter().map(|text| json!(text)));
    values
}

fn capabilities() -> Vec<Value> {
    vec![
        json!("work"),
        json!({}),
        json!(5),
        json!([5]),
        json!(["two words"]),
        json!(["-x"]),
        json!([""]),
        json!(["x".repeat(65)]),
        json!(["é"]),
        json!([["work"]]),
        json!((0..65).map(|n| format!("c{n}")).collect::<Vec<_>>()),
    ]
}

fn labels() -> Vec<Value> {
    let many: serde_json::Map<String, Value> = (0..33).map(|number| (format!("k{number}"), json!("v"))).collect();
    vec![
        json!([]),
        json!("x"),
        json!({"k": 5}),
        json!({"": "v"}),
        json!({"-k": "v"}),
        json!({"two words": "v"}),
        json!({"x".repeat(64): "v"}),
        json!({"k": "v".repeat(129)}),
        Value::Object(many),
    ]
}

fn task_types() -> Vec<Value> {
    vec![json!("work"), json!({}), json!(5), json!([5]), json!(["two words"]), json!([""]), json!(["x".repeat(65)])]
}

fn times() -> Vec<Value> {
    vec![json!("yesterday"), json!(""), json!(true), json!([]), json!({}), json!("2026-13-01T00:00:00Z"), json!(1e300)]
}

fn next() -> Vec<Wrong> {
    vec![("wait_seconds", "wait_seconds", whole(0, 60)), ("task_types", "task_types", task_types())]
}

fn register() -> Vec<Wrong> {
    let url = format!("http://h/{}", "x".repeat(2048));
    vec![
        ("protocol_version", "protocol_version", vec![json!(1), json!(1.0), json!(true), json!([])]),
        ("name", "name", texts(100, &["", "ab", "-abc", "two words", "naïve", "a/b", "abc\n"])),
        ("version", "version", texts(64, &[])),
        ("agent_type", "agent_type", texts(64, &[])),
        ("capabilities", "capabilities", [capabilities(), vec![json!([])]].concat()),
        (
            "endpoint_url",
            "endpoint_url",
            texts(2048, &["nope", "ftp://h/", "http://u:p@h/", "http://h/#f", "http://", "/path", "//h/", &url]),
        ),
        ("metadata", "metadata", [objects(), vec![json!({"x": "x".repeat(16 * 1024)})]].concat()),
        ("features", "features", vec![json!("pull.v1"), json!({}), json!(5), json!([5])]),
        ("instance_id", "instance_id", texts(128, &[""])),
        ("labels", "labels", labels()),
        ("max_concurrent_tasks", "max_concurrent_tasks", whole(1, 1000)),
        (
            "transports",
            "transports",
            vec![
                json!("pull"),
                json!({}),
                json!([5]),
                json!(["pigeon"]),
                json!([]),
                json!(["push"]),
                json!(["pull", "pigeon"]),
            ],
        ),
        ("task_schemas", "task_schemas", vec![json!([1]), json!("x"), json!(5), json!({"no type": {}})]),
    ]
}

fn heartbeat() -> Vec<Wrong> {
    let lease = "01890a5d-ac96-774b-bcce-b302099a8057";
    vec![
        (
            "status",
            "status",
            vec![json!("sleepy"), json!("Healthy"), json!(""), json!(5), json!(true), json!([]), json!({})],
        ),
        ("current_load", "current_load", fractions()),
        ("tasks_in_progress", "tasks_in_progress", vec![json!(-1), json!("1"), json!(1.5), json!(true), json!([])]),
        ("metrics", "metrics", objects()),
        ("timestamp", "timestamp", times()),
        ("seq", "seq", vec![json!(-1), json!("1"), json!(1.5), json!(true), json!([])]),
        (
            "ack",
            "ack",
            vec![json!("x"), json!({}), json!([5]), json!([""]), json!(["two words"]), json!(["x".repeat(129)])],
        ),
        ("work_loop", "work_loop", objects()),
        ("work_loop", "work_loop.state", vec![json!({"state": 5}), json!({"state": "x".repeat(65)})]),
        ("work_loop", "work_loop.last_poll_at", vec![json!({"last_poll_at": "soon"})]),
        ("draining", "draining", flags()),
        ("tasks", "tasks", vec![json!({}), json!("x"), json!(5)]),
        ("tasks", "tasks[0]", vec![json!([5]), json!(["x"]), json!([[]])]),
        ("tasks", "tasks[0].lease_id", vec![json!([{"task_id": lease}]), json!([{"task_id": lease, "lease_id": "x"}])]),
        ("tasks", "tasks[1].task_id", vec![json!([{"task_id": lease, "lease_id": lease}, {"lease_id": lease}])]),
        ("tasks", "tasks[0].progress", vec![json!([{"task_id": lease, "lease_id": lease, "progress": 2}])]),
    ]
}

fn result() -> Vec<Wrong> {
    vec![
        ("task_id", "task_id", [uuids(), vec![json!("01890a5d-ac96-774b-bcce-b302099a8057")]].concat()),
        ("status", "status", vec![json!("done"), json!("Completed"), json!(""), json!(5), json!([]), json!({})]),
        ("artifacts", "artifacts", vec![json!({}), json!("x"), json!(vec![json!({"path": "a", "content": ""}); 101])]),
        ("artifacts", "artifacts[0]", vec![json!([5]), json!(["x"])]),
        (
            "artifacts",
            "artifacts[0].path",
            vec![
                json!([{"content": ""}]),
                json!([{"path": 5, "content": ""}]),
                json!([{"path": "../x", "content": ""}]),
                json!([{"path": "/x", "content": ""}]),
                json!([{"path": "x".repeat(513), "content": ""}]),
            ],
        ),
        (
            "artifacts",
            "artifacts[0].content",
            vec![
                json!([{"path": "a"}]),
                json!([{"path": "a", "content": 5}]),
                json!([{"path": "a", "content": {}}]),
                json!([{"path": "a", "content": "!", "encoding": "base64"}]),
            ],
        ),
        ("artifacts", "artifacts[0].encoding", vec![json!([{"path": "a", "content": "", "encoding": "gzip"}])]),
        ("artifacts", "artifacts[0].mime_type", vec![json!([{"path": "a", "content": "", "mime_type": 5}])]),
        ("artifacts", "artifacts[0].sha256", vec![json!([{"path": "a", "content": "", "sha256": "00"}])]),
        ("output_data", "output_data", objects()),
        ("error_message", "error_message", vec![json!(5), json!([]), json!({}), json!(true)]),
        ("execution_time_ms", "execution_time_ms", figures()),
        ("tokens_used", "tokens_used", figures()),
        ("cost_usd", "cost_usd", figures()),
        ("metrics", "metrics", objects()),
        (
            "metrics",
            "metrics.execution_time_ms",
            vec![json!({"execution_time_ms": -1}), json!({"execution_time_ms": "1"})],
        ),
        ("metrics", "metrics.cost_usd", vec![json!({"cost_usd": -1}), json!({"cost_usd": []})]),
        ("lease_id", "lease_id", uuids()),
        ("attempt", "attempt", counts()),
        ("error_code", "error_code", vec![json!("WHATEVER"), json!("timeout"), json!(""), json!(5), json!([])]),
        ("retryable", "retryable", flags()),
    ]
}

fn submit() -> Vec<Wrong> {
    vec![
        ("task_type", "task_type", texts(64, &["", "two words", "-x", "é"])),
        ("context", "context", objects()),
        ("requirements", "requirements", vec![json!("x"), json!({}), json!([5]), json!([["x"]])]),
        ("required_capabilities", "required_capabilities", capabilities()),
        ("agent_id", "agent_id", texts(128, &["", " a", "a/b", "a\u{7}"])),
        ("labels", "labels", labels()),
        ("session_id", "session_id", uuids()),
        ("priority", "priority", vec![json!(5), json!(-1), json!("1"), json!(1.5), json!(true), json!([])]),
        ("timeout_seconds", "timeout_seconds", whole(1, 604_800)),
        ("inactivity_seconds", "inactivity_seconds", whole(1, 604_800)),
        ("max_attempts", "max_attempts", whole(1, 100)),
        ("run_at", "run_at", times()),
        ("expires_at", "expires_at", vec![json!("2020-01-01T00:00:00Z"), json!(0)]),
        ("expires_at", "expires_at", times()),
        ("preferred_agents", "preferred_agents", vec![json!(["a b/"]), json!("a"), json!(5), json!([5]), json!({})]),
        ("preferred_agents", "preferred_agents", vec![json!((0..17).map(|n| format!("a{n}")).collect::<Vec<_>>())]),
        (
            "callback_url",
            "callback_url",
            vec![
                json!("ftp://x/"),
                json!("nonsense"),
                json!("https://example.com/"),
                json!(""),
                json!(5),
                json!([]),
                json!({}),
            ],
        ),
    ]
}

/// What is no time, or one that is over.
fn moments() -> Vec<Value> {
    vec![json!("soon"), json!(true), json!([])]
}
