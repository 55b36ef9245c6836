//! Every route against every kind of bad input: the documented problem body, never a 5xx, nothing changed.
//!
//! The table of routes is [`routes`]; each test below is one column of it.

mod fields;
mod routes;

use std::collections::{BTreeMap, BTreeSet};

use eap_types::path;
use serde_json::{Value, json};

use self::routes::{Caller, Route, World};
use crate::harness::{Answer, Call, OPERATOR_KEY, REGISTRATION_SECRET};

const UNKNOWN: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// A body of exactly this many bytes that is JSON, and wrong in one field.
fn of_length(route: &Route, length: usize) -> String {
    let mut body = route.wrong_body().to_string();
    body.push_str(&" ".repeat(length - body.len()));
    body
}

/// A body nested this deep in a field that nobody knows, and wrong in another field.
fn of_depth(route: &Route, depth: usize) -> String {
    let nested = format!("{}{}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    with_members(&route.wrong_body(), &format!(r#""of_the_future": {nested}"#))
}

/// A body with further members, as text.
fn with_members(body: &Value, members: &str) -> String {
    let mut text = body.to_string();
    let comma = if text == "{}" { "" } else { ", " };
    text.insert_str(1, &format!("{members}{comma}"));
    text
}

async fn refused(call: Call, status: u16, code: &str, what: &str) -> Answer {
    let answer = call.send().await;
    assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{what}: {}", answer.body);
    answer.assert_is_problem();
    answer
}

#[test]
fn the_table_has_every_route_of_this_version() {
    let base = path::AGENTS_BASE;
    let served: BTreeSet<String> = [
        ("POST", path::REGISTER),
        ("DELETE", path::AGENT),
        ("POST", path::DEREGISTER),
        ("POST", path::HEARTBEAT),
        ("POST", path::LEASE),
        ("POST", path::NEXT),
        ("POST", path::RESULT),
        ("POST", path::RESULTS),
        ("POST", path::PROGRESS),
        ("POST", path::RELEASE),
        ("PUT", path::ARTIFACT),
        ("POST", path::TOKEN_ROTATE),
    ]
    .map(|(method, path)| format!("{method} {base}{path}"))
    .into_iter()
    .chain(
        [
            ("POST", path::TASKS),
            ("POST", path::TASKS_BATCH),
            ("GET", path::TASKS),
            ("GET", path::TASK),
            ("POST", path::TASK_CANCEL),
            ("GET", path::TASK_HISTORY),
            ("GET", path::DEAD_LETTERS),
            ("POST", path::DEAD_LETTER_REQUEUE),
            ("POST", path::DEAD_LETTER_DISCARD),
            ("GET", path::TASK_EXPLAIN),
            ("GET", path::TASK_ARTIFACT),
            ("GET", path::EVENTS),
            ("GET", path::AGENTS),
            ("GET", path::AGENT_DETAIL),
            ("POST", path::AGENT_ROTATE),
            ("POST", path::AGENT_DRAIN),
            ("POST", path::AGENT_RESUME),
            ("PUT", path::AGENT_INTERVAL),
            ("POST", path::WORKFLOWS),
            ("GET", path::WORKFLOWS),
            ("GET", path::WORKFLOW),
            ("POST", path::WORKFLOW_RUNS),
            ("GET", path::SESSIONS),
            ("GET", path::SESSION),
            ("POST", path::SESSION_PAUSE),
            ("POST", path::SESSION_RESUME),
            ("POST", path::SESSION_CANCEL),
            ("POST", path::AGENTKIT_RECONCILE),
            ("POST", path::KEYS),
            ("GET", path::KEYS),
            ("DELETE", path::KEY),
            ("POST", path::REGISTRATION_SECRETS),
            ("GET", path::REGISTRATION_SECRETS),
            ("DELETE", path::REGISTRATION_SECRET),
        ]
        .map(|(method, path)| format!("{method} {path}")),
    )
    .collect();
    let table: BTreeSet<String> = Route::all().iter().map(Route::template).collect();
    assert_eq!(table, served);
}

#[tokio::test]
async fn without_its_key_token_or_secret_every_route_refuses() {
    let world = World::new().await;
    for route in Route::all() {
        let what = route.template();
        let (status, code) = match route.caller {
            Caller::Registrant => (403, "REGISTRATION_DENIED"),
            Caller::Agent | Caller::Operator => (401, "INVALID_TOKEN"),
        };
        let call = || route.call_as_nobody(&world, &world.ids());
        let unknown_token = format!("eap_{UNKNOWN}_{}", "A".repeat(43));
        refused(call(), status, code, &what).await;
        for wrong in ["", "x", "eap_", "eap_x_y", &unknown_token, "canary-operator-key-0123456788"] {
            refused(call().bearer(wrong), status, code, &what).await;
            refused(call().header("x-agent-token", wrong), status, code, &what).await;
            refused(call().header("x-registration-token", wrong), status, code, &what).await;
        }
        let mut almost = world.agent.token.clone();
        almost.pop();
        refused(call().header("x-agent-token", &almost), status, code, &what).await;
        let basic = format!("Basic {OPERATOR_KEY}");
        refused(call().header("authorization", &basic), status, code, &what).await;
        // The keys of the other sides are no keys here.
        if route.caller != Caller::Operator {
            refused(call().bearer(OPERATOR_KEY), status, code, &what).await;
        }
        if route.caller != Caller::Registrant {
            refused(call().header("x-registration-token", REGISTRATION_SECRET), status, code, &what).await;
            refused(call().bearer(REGISTRATION_SECRET), status, code, &what).await;
        }
        if route.caller == Caller::Operator {
            refused(call().bearer(&world.agent.token), status, code, &what).await;
            refused(call().header("x-agent-token", &world.agent.token), status, code, &what).await;
        }
        // Who is calling comes before everything else that is wrong.
        let other = route.call_with(&world, &world.ids(), None).header("content-encoding", "gzip");
        refused(other.bytes("{".repeat(100)), status, code, &what).await;
    }
    world.assert_unchanged("a missing or wrong token").await;
}

#[tokio::test]
async fn another_agents_token_finds_no_agent_and_its_tasks_are_not_found() {
    let world = World::new().await;
    for route in Route::all().iter().filter(|route| route.caller == Caller::Agent) {
        let what = route.template();
        let ids = world.ids();
        let same_id = |call: Call| call.header("x-request-id", "same");
        let body = route.valid_body(&world);
        let stranger = route.call_with(&world, &ids, Some(&world.other.token)).json(&body);
        let foreign = refused(same_id(stranger), 404, "AGENT_NOT_FOUND", &what).await;
        let absent = route.call_with(&world, &world.ids().agent(UNKNOWN), Some(&world.agent.token)).json(&body);
        let absent = refused(same_id(absent), 404, "AGENT_NOT_FOUND", &what).await;
        assert_eq!(foreign.body, absent.body, "{what}: existence does not leak");
        if route.has_task() {
            let call = |task: &str| same_id(route.call(&world, &world.ids().task(task)));
            let foreign = refused(call(&world.foreign), 404, "TASK_NOT_FOUND", &what).await;
            let absent = refused(call(UNKNOWN), 404, "TASK_NOT_FOUND", &what).await;
            assert_eq!(foreign.body, absent.body, "{what}: existence does not leak");
        }
    }
    world.assert_unchanged("another agent's token or task").await;
}

#[tokio::test]
async fn unknown_and_malformed_ids_are_not_found_whatever_the_body_says() {
    let world = World::new().await;
    for route in Route::all() {
        let what = route.template();
        for id in [UNKNOWN, "not-a-uuid"] {
            if route.has_task() {
                refused(route.call(&world, &world.ids().task(id)), 404, "TASK_NOT_FOUND", &what).await;
                if route.takes_body() {
                    let call = route.call_with_body(&world, &world.ids().task(id), &route.wrong_body().to_string());
                    refused(call, 404, "TASK_NOT_FOUND", &what).await;
                }
            } else if route.has_agent() {
                refused(route.call(&world, &world.ids().agent(id)), 404, "AGENT_NOT_FOUND", &what).await;
            } else if route.has_credential() {
                refused(route.call(&world, &world.ids().agent(id)), 404, "NOT_FOUND", &what).await;
            }
        }
    }
    world.assert_unchanged("an id that is not there").await;
}

#[tokio::test]
async fn a_body_that_is_no_json_is_malformed() {
    let world = World::new().await;
    for route in Route::all().iter().filter(|route| route.takes_body()) {
        let what = route.template();
        let bodies: [&[u8]; 14] = [
            b"{",
            b"{\"a\":",
            b"nonsense",
            b"{'a': 1}",
            b"{\"a\": 1,}",
            b"{\"a\": NaN}",
            b"{\"a\": 01}",
            b"[1, 2",
            b"{} {}",
            b"{\"a\": \"\xff\"}",
            b"\xff\xfe{}",
            b"\0",
            b"{\"a\": \"\n\"}",
            b"   ",
        ];
        for body in bodies {
            let call = route.call_with_body(&world, &world.ids(), body);
            let shown = String::from_utf8_lossy(body);
            refused(call, 400, "MALFORMED_JSON", &format!("{what} {shown:?}")).await;
        }
        if !route.takes_empty {
            let call = route.call_with_body(&world, &world.ids(), "");
            refused(call, 400, "MALFORMED_JSON", &what).await;
        }
    }
    world.assert_unchanged("malformed JSON").await;
}

#[tokio::test]
async fn a_body_that_is_no_object_or_names_a_field_twice_is_refused() {
    let world = World::new().await;
    for route in Route::all().iter().filter(|route| route.takes_body()) {
        let what = route.template();
        for body in ["[]", "null", "true", "5", "\"text\"", " [ {} ] "] {
            let answer = route.call_with_body(&world, &world.ids(), body).send().await;
            assert_eq!(answer.fields(), ["body"], "{what} {body}");
        }
        let twice = with_members(&route.valid_body(&world), r#""of_the_future": 1, "of_the_future": 2"#);
        let answer = route.call_with_body(&world, &world.ids(), &twice).send().await;
        assert_eq!(answer.body["details"][0]["type"], "duplicate", "{what}: {}", answer.body);
        assert_eq!(answer.fields(), ["body.of_the_future"], "{what}");
    }
    world.assert_unchanged("a body that is no object").await;
}

#[tokio::test]
async fn every_field_of_every_body_is_checked() {
    let world = World::new().await;
    for route in Route::all().iter().filter(|route| route.takes_body()) {
        let what = route.template();
        for (name, expected, values) in fields::wrong(route.name) {
            for value in values {
                let mut body = route.valid_body(&world);
                body[name] = value.clone();
                let answer = route.call_with_body(&world, &world.ids(), &body.to_string()).send().await;
                let shown: String = value.to_string().chars().take(80).collect();
                assert_eq!(answer.status, 422, "{what} {name}: {shown} → {}", answer.body);
                assert_eq!(answer.fields(), [format!("body.{expected}")], "{what} {name}: {shown}");
            }
        }
        // Required fields, absent and null.
        for name in fields::required(route.name) {
            let mut body = route.valid_body(&world);
            body[*name] = Value::Null;
            for _ in 0..2 {
                let answer = route.call_with_body(&world, &world.ids(), &body.to_string()).send().await;
                assert_eq!(answer.body["details"][0]["type"], "missing", "{what} {name}");
                assert_eq!(answer.fields(), [format!("body.{name}")], "{what}");
                body.as_object_mut().expect("a body is an object").remove(*name);
            }
        }
    }
    world.assert_unchanged("a wrong field").await;
}

#[tokio::test]
async fn all_wrong_fields_of_a_body_are_named_at_once() {
    let world = World::new().await;
    for route in Route::all().iter().filter(|route| route.takes_body()) {
        let (mut body, mut told) = (route.valid_body(&world), BTreeMap::new());
        // The last wrong value of a field is the one that stands.
        for (name, field, values) in fields::wrong(route.name) {
            body[name] = values[0].clone();
            told.insert(name, format!("body.{field}"));
        }
        let expected: BTreeSet<String> = told.into_values().collect();
        let answer = route.call_with_body(&world, &world.ids(), &body.to_string()).send().await;
        let fields = answer.fields();
        let named: BTreeSet<String> = fields.iter().cloned().collect();
        assert_eq!(named, expected, "{}", route.template());
        assert_eq!(named.len(), fields.len(), "each of them once");
    }
    world.assert_unchanged("many wrong fields").await;
}

#[tokio::test]
async fn one_byte_over_a_routes_limit_is_too_large_and_the_limit_itself_is_not() {
    let world = World::new().await;
    for route in Route::all().iter().filter(|route| route.takes_body()) {
        let what = route.template();
        let over = route.call_with_body(&world, &world.ids(), &of_length(route, route.limit + 1));
        refused(over, 413, "PAYLOAD_TOO_LARGE", &what).await;
        let exact = route.call_with_body(&world, &world.ids(), &of_length(route, route.limit)).send().await;
        assert_eq!(exact.status, 422, "{what}: {}", exact.body);
    }
    world.assert_unchanged("a large body").await;
}

#[tokio::test]
async fn thirty_three_levels_are_too_deep_and_thirty_two_are_not() {
    let world = World::new().await;
    for route in Route::all().iter().filter(|route| route.takes_body()) {
        let what = route.template();
        for depth in [33, 34, 5_000] {
            let call = route.call_with_body(&world, &world.ids(), &of_depth(route, depth));
            refused(call, 400, "MALFORMED_JSON", &what).await;
        }
        let exact = route.call_with_body(&world, &world.ids(), &of_depth(route, 32)).send().await;
        assert_eq!(exact.status, 422, "{what}: {}", exact.body);
    }
    world.assert_unchanged("a deep body").await;
}

#[tokio::test]
async fn another_content_type_or_a_content_encoding_is_not_supported() {
    let world = World::new().await;
    for route in Route::all().iter().filter(|route| route.takes_body()) {
        let what = route.template();
        let body = route.valid_body(&world).to_string();
        for content_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/xml",
            "application/jsonx",
            "",
            "json",
        ] {
            let call = route.call_with(&world, &world.ids(), route.secret(&world)).header("content-type", content_type);
            refused(call.body(body.clone()), 415, "UNSUPPORTED_MEDIA_TYPE", &format!("{what} {content_type}")).await;
        }
        for encoding in ["gzip", "br", "zstd", "deflate", "gzip, identity", "x"] {
            let call = route.call_with_body(&world, &world.ids(), &body).header("content-encoding", encoding);
            refused(call, 415, "UNSUPPORTED_MEDIA_TYPE", &format!("{what} {encoding}")).await;
        }
        // These are JSON, whatever else is wrong with the body.
        let wrong = route.wrong_body().to_string();
        for content_type in ["application/json; charset=utf-8", "Application/JSON", "application/vnd.eap+json"] {
            let call = route.call_with(&world, &world.ids(), route.secret(&world)).header("content-type", content_type);
            assert_eq!(call.body(wrong.clone()).send().await.status, 422, "{what} {content_type}");
        }
        let call = route.call_with(&world, &world.ids(), route.secret(&world)).body(wrong.clone());
        assert_eq!(call.send().await.status, 422, "{what}: a body without a type is taken for JSON");
        let call = route.call_with_body(&world, &world.ids(), &wrong).header("content-encoding", "identity");
        assert_eq!(call.send().await.status, 422, "{what}");
    }
    world.assert_unchanged("another content type").await;
}

#[tokio::test]
async fn refusals_come_in_the_documented_order() {
    let world = World::new().await;
    for route in Route::all().iter().filter(|route| route.takes_body() && route.caller != Caller::Registrant) {
        let what = route.template();
        let wrong_ids = world.ids().agent(UNKNOWN).task(UNKNOWN);
        // 415 before 400 and 404, 413 before 400 and 404, 400 before 404.
        let call = route.call_with_body(&world, &wrong_ids, "{").header("content-encoding", "gzip");
        refused(call, 415, "UNSUPPORTED_MEDIA_TYPE", &what).await;
        let call = route.call_with_body(&world, &wrong_ids, &"{".repeat(route.limit + 1));
        refused(call, 413, "PAYLOAD_TOO_LARGE", &what).await;
        let call = route.call_with_body(&world, &wrong_ids, "{");
        refused(call, 400, "MALFORMED_JSON", &what).await;
        if route.has_agent() {
            let call = route.call_with_body(&world, &wrong_ids, &route.wrong_body().to_string());
            let is_of_a_task = route.caller == Caller::Operator && route.has_task();
            let code = if is_of_a_task { "TASK_NOT_FOUND" } else { "AGENT_NOT_FOUND" };
            refused(call, 404, code, &what).await;
        }
    }
    world.assert_unchanged("several faults at once").await;
}
