//! What a report of a result is answered: the table of docs/reliability.md section 1 (A28–A32).

use std::sync::Arc;
use std::time::Duration;

use eap_orchestrator::SystemClock;
use eap_orchestrator::store::faulty::{Fault, FaultyStore, StoreCall};
use eap_orchestrator::store::{MemoryStore, Repository};
use eap_types::limits;
use serde_json::{Value, json};

use crate::harness::{Agent, Server, Setup, assert_shape, id_of, task_shape};

fn done(members: Value) -> Value {
    let mut body = json!({"status": "completed", "output_data": {"answer": 42}});
    let (Value::Object(into), Value::Object(members)) = (&mut body, members) else { panic!("members are an object") };
    into.extend(members);
    body
}

async fn leased(server: &Server, agent: &Agent, members: Value) -> Value {
    server.operator().submit(members).await;
    agent.take().await
}

/// A server, an agent, and a task it holds.
async fn holding() -> (Server, Agent, Value) {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let task = leased(&server, &agent, json!({})).await;
    (server, agent, task)
}

async fn late_results(server: &Server, task: &Value) -> Vec<Value> {
    server.operator().history(&id_of(task)).await["late_results"].as_array().expect("it is a list").clone()
}

#[tokio::test]
async fn a_result_is_acknowledged_and_shown_as_it_came() {
    let (server, agent, task) = holding().await;
    let body = done(json!({
        "artifacts": [
            {"path": "src/naïve.rs", "content": "fn main() {}\n", "mime_type": "text/x-rust"},
            {"path": "bytes.bin", "content": "AAECAw==", "encoding": "base64"},
        ],
        "execution_time_ms": 12.5, "tokens_used": 300, "cost_usd": 0.001,
    }));
    let accepted = agent.report_for(&task, body).await.expect(200);
    assert_eq!(accepted, json!({"task_id": task["task_id"], "status": "accepted", "duplicate": false}));
    let shown = server.operator().task(&id_of(&task)).await;
    let result = json!({
        "task_id": task["task_id"], "status": "completed", "output_data": {"answer": 42},
        "artifacts": [
            {"path": "src/naïve.rs", "content": "fn main() {}\n", "mime_type": "text/x-rust"},
            {"path": "bytes.bin", "content": "AAECAw==", "mime_type": "text/plain", "encoding": "base64"},
        ],
        "execution_time_ms": 12.5, "tokens_used": 300, "cost_usd": 0.001,
        "metrics": {"execution_time_ms": 12.5, "tokens_used": 300, "cost_usd": 0.001},
        "lease_id": task["lease_id"], "attempt": 1,
    });
    let shape = json!({
        "status": "completed", "attempt": 1, "attempts_used": 1, "agent_id": agent.id, "result": result,
    });
    assert_shape(&shown, &task_shape(shape));
}

#[tokio::test]
async fn figures_nested_as_adr_001_has_them_are_taken_and_the_flat_ones_win() {
    let (server, agent, task) = holding().await;
    let body = done(json!({
        "metrics": {"execution_time_ms": 100, "tokens_used": 5, "cost_usd": 1.5}, "tokens_used": 7,
    }));
    agent.report_for(&task, body).await.expect(200);
    let result = server.operator().task(&id_of(&task)).await["result"].clone();
    let figures = json!({"execution_time_ms": 100, "tokens_used": 7, "cost_usd": 1.5});
    assert_eq!(result["metrics"], figures);
    for name in ["execution_time_ms", "tokens_used", "cost_usd"] {
        assert_eq!(result[name], figures[name]);
    }
}

#[tokio::test]
async fn output_is_kept_byte_for_byte_with_its_numbers_and_the_order_of_its_keys() {
    let (server, agent, task) = holding().await;
    let output = r#"{"z":1.50,"a":12345678901234567890123,"n":null,"é":" \u0041"}"#;
    let body = format!(r#"{{"task_id":{},"status":"completed","output_data":{output}}}"#, task["task_id"]);
    let path = format!("/tasks/{}/result", id_of(&task));
    agent.call(&path).bytes(body).send().await.expect(200);
    // The client's own parser would round: the text is what counts.
    let path = format!("/api/v1/tasks/{}", id_of(&task));
    let text = server.operator().get(&path).text().await;
    assert!(text.contains(output), "{text}");
}

#[tokio::test]
async fn the_same_result_again_is_a_duplicate_however_it_is_spelled() {
    let (server, agent, task) = holding().await;
    let body = done(json!({"output_data": {"a": 1, "b": [1.0]}, "execution_time_ms": 5}));
    assert_eq!(agent.report_for(&task, body.clone()).await.expect(200)["duplicate"], false);
    assert_eq!(agent.report_for(&task, body).await.expect(200)["duplicate"], true);
    // Other order of keys, the nested spelling, no quote of lease and attempt.
    let body = format!(
        r#"{{"output_data": {{"b":[1.0], "a":1}}, "metrics": {{"execution_time_ms": 5.0}}, "artifacts": [],
            "status": "completed", "task_id": {}}}"#,
        task["task_id"],
    );
    let path = format!("/tasks/{}/result", id_of(&task));
    assert_eq!(agent.call(&path).bytes(body).send().await.expect(200)["duplicate"], true);
    assert_eq!(late_results(&server, &task).await, Vec::<Value>::new());
}

#[tokio::test]
async fn the_same_result_a_hundred_times_at_once_is_recorded_once() {
    let (server, agent, task) = holding().await;
    let mut body = done(json!({"artifacts": [{"path": "a.txt", "content": "x".repeat(1000)}]}));
    for name in ["task_id", "lease_id", "attempt"] {
        body[name] = task[name].clone();
    }
    let reports: Vec<_> = (0..100)
        .map(|_| {
            let (agent, task, body) = (agent.clone(), id_of(&task), body.clone());
            tokio::spawn(async move { agent.report(&task, body).await })
        })
        .collect();
    let mut recorded = 0;
    for report in reports {
        let accepted = report.await.expect("a report does not panic").expect(200);
        recorded += u32::from(accepted["duplicate"] == false);
    }
    assert_eq!(recorded, 1);
    assert_eq!(server.operator().outcomes(&id_of(&task)).await, ["completed"]);
    let history = server.operator().history(&id_of(&task)).await;
    let kinds: Vec<_> = history["events"].as_array().expect("a list").iter().map(|event| &event["kind"]).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "task.completed").count(), 1, "{kinds:?}");
}

#[tokio::test]
async fn another_result_for_a_recorded_attempt_is_a_conflict_and_the_first_stays() {
    let (server, agent, task) = holding().await;
    agent.report_for(&task, done(json!({}))).await.expect(200);
    for other in [json!({"output_data": {"answer": 43}}), json!({"status": "failed", "error_message": "no"})] {
        agent.report_for(&task, done(other)).await.problem(409, "RESULT_CONFLICT");
    }
    let shown = server.operator().task(&id_of(&task)).await;
    assert_eq!(shown["result"]["output_data"], json!({"answer": 42}));
    assert_eq!(shown["status"], "completed");
}

#[tokio::test]
async fn of_many_different_results_at_once_one_is_recorded() {
    let (server, agent, task) = holding().await;
    let reports: Vec<_> = (0..20)
        .map(|number| {
            let (agent, task) = (agent.clone(), task.clone());
            tokio::spawn(async move { agent.report_for(&task, done(json!({"output_data": {"n": number}}))).await })
        })
        .collect();
    let mut recorded = Vec::new();
    for (number, report) in reports.into_iter().enumerate() {
        let answer = report.await.expect("a report does not panic");
        if answer.status == 200 {
            recorded.push(number);
        } else {
            answer.problem(409, "RESULT_CONFLICT");
        }
    }
    let shown = server.operator().task(&id_of(&task)).await;
    assert_eq!(recorded.len(), 1);
    assert_eq!(shown["result"]["output_data"], json!({"n": recorded[0]}));
}

#[tokio::test]
async fn another_agents_task_and_an_unknown_one_are_refused_with_the_same_body() {
    let (server, _, task) = holding().await;
    let stranger = server.agent("AGENT-B").await;
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
    let mut bodies = Vec::new();
    for id in [id_of(&task), unknown] {
        for path in ["result", "progress", "release"] {
            let body = match path {
                "result" => json!({"task_id": id, "status": "completed"}),
                "progress" => json!({"seq": 1}),
                _ => json!({}),
            };
            let call = stranger.call(&format!("/tasks/{id}/{path}")).header("x-request-id", "same");
            bodies.push(call.json(&body).send().await.problem(404, "TASK_NOT_FOUND"));
        }
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "existence does not leak");
    assert_eq!(server.operator().status(&id_of(&task)).await, "leased");
    assert_eq!(late_results(&server, &task).await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_dead_token_is_refused_before_anything_is_looked_at() {
    let (server, agent, task) = holding().await;
    let again = server.agent("AGENT-A").await;
    agent.complete(&task).await.problem(401, "INVALID_TOKEN");
    assert_eq!(server.operator().status(&id_of(&task)).await, "leased");
    again.complete(&task).await.expect(200);
}

#[tokio::test]
async fn a_result_for_a_cancelled_task_is_too_late_and_kept_as_evidence() {
    let (server, agent, task) = holding().await;
    server.operator().cancel(&id_of(&task), None).await.expect(200);
    agent.report_for(&task, done(json!({}))).await.problem(409, "TASK_FINAL");
    agent.report_for(&task, done(json!({"output_data": {"n": 2}}))).await.problem(409, "TASK_FINAL");
    let late = late_results(&server, &task).await;
    assert_eq!(late.len(), 1, "the first one of an attempt");
    assert_shape(&late[0], &json!({"attempt": 1, "agent_id": agent.id, "received_at": "<time>", "result": "<any>"}));
    assert_eq!(late[0]["result"]["output_data"], json!({"answer": 42}));
    let shown = server.operator().task(&id_of(&task)).await;
    assert_eq!((&shown["status"], shown.get("result")), (&json!("cancelled"), None));
}

#[tokio::test]
async fn a_result_of_an_attempt_that_was_given_back_is_fenced() {
    let (server, agent, task) = holding().await;
    agent.release(&id_of(&task), Some(&json!({"retry_after_seconds": 0}))).await.expect(200);
    agent.report_for(&task, done(json!({}))).await.problem(409, "LEASE_LOST");
    assert_eq!(late_results(&server, &task).await.len(), 1);
    // Another agent holds it now: the first one's report changes nothing for it.
    let other = server.agent("AGENT-B").await;
    let second = other.take().await;
    assert_eq!((id_of(&second), &second["attempt"]), (id_of(&task), &json!(2)));
    let plain = json!({"task_id": task["task_id"], "status": "completed"});
    agent.report(&id_of(&task), plain.clone()).await.problem(409, "LEASE_LOST");
    // A plain report of the holder is the newest attempt's (G12).
    other.report(&id_of(&task), plain).await.expect(200);
    agent.report_for(&task, done(json!({}))).await.problem(409, "TASK_FINAL");
}

#[tokio::test]
async fn a_lease_and_an_attempt_that_do_not_belong_together_are_refused() {
    let (server, agent, task) = holding().await;
    let mut body = done(json!({"task_id": task["task_id"], "lease_id": task["lease_id"], "attempt": 2}));
    assert_eq!(agent.report(&id_of(&task), body.clone()).await.fields(), ["body.attempt"]);
    body["attempt"] = json!(1);
    body["lease_id"] = json!("01890a5d-ac96-774b-bcce-b302099a8057");
    assert_eq!(agent.report(&id_of(&task), body.clone()).await.fields(), ["body.attempt"]);
    // A body that names another task than the path.
    let other = json!({"task_id": "01890a5d-ac96-774b-bcce-b302099a8057", "status": "completed"});
    assert_eq!(agent.report(&id_of(&task), other).await.fields(), ["body.task_id"]);
    assert_eq!(server.operator().status(&id_of(&task)).await, "leased");
    agent.complete(&task).await.expect(200);
}

#[tokio::test]
async fn one_quote_of_the_two_is_enough() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    for name in ["lease_id", "attempt"] {
        let task = leased(&server, &agent, json!({})).await;
        let body = json!({"task_id": task["task_id"], "status": "completed", name: task[name]});
        agent.report(&id_of(&task), body).await.expect(200);
    }
}

#[tokio::test]
async fn a_result_of_eight_mebibytes_is_taken_and_one_byte_more_is_not() {
    let (server, agent, task) = holding().await;
    let padded = |length: usize| {
        let body = done(json!({"task_id": task["task_id"], "artifacts": [{"path": "a", "content": ""}]})).to_string();
        let (front, back) = body.split_once(r#""content":"""#).expect("it has a content");
        let room = length - body.len();
        format!(r#"{front}"content":"{}"{back}"#, "x".repeat(room))
    };
    let path = format!("/tasks/{}/result", id_of(&task));
    let limit = limits::MAX_RESULT_BYTES;
    agent.call(&path).bytes(padded(limit + 1)).send().await.problem(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(server.operator().status(&id_of(&task)).await, "leased", "the attempt stays open");
    assert_eq!(agent.call(&path).bytes(padded(limit)).send().await.expect(200)["duplicate"], false);
    let shown = server.operator().task(&id_of(&task)).await;
    let content = shown["result"]["artifacts"][0]["content"].as_str().expect("it has a content");
    assert!(content.len() > limit - 300 && content.bytes().all(|byte| byte == b'x'));
}

#[tokio::test]
async fn an_artifact_path_that_could_leave_its_directory_is_refused_and_the_attempt_stays_open() {
    let (server, agent, task) = holding().await;
    let too_long = "a".repeat(513);
    for path in ["../x", "/x", "C:\\x", "C:/x", "a\0b", "a/../../x", "", ".", "a//b", "a/", "a\\b", "a\nb", &too_long] {
        let body = done(json!({"artifacts": [{"path": "fine", "content": ""}, {"path": path, "content": "x"}]}));
        assert_eq!(agent.report_for(&task, body).await.fields(), ["body.artifacts[1].path"], "{path:?}");
    }
    assert_eq!(server.operator().status(&id_of(&task)).await, "leased");
    assert_eq!(agent.complete(&task).await.expect(200)["duplicate"], false);
}

#[tokio::test]
async fn an_artifact_by_reference_is_refused_unless_it_was_uploaded() {
    let (_server, agent, task) = holding().await;
    let artifact = json!({"path": "a", "content": "", "sha256": "0".repeat(64)});
    let answer = agent.report_for(&task, done(json!({"artifacts": [artifact]}))).await;
    assert_eq!(answer.fields(), ["body.artifacts[0].sha256"]);
    let artifact = json!({"path": "a", "content": "not base64!", "encoding": "base64"});
    let answer = agent.report_for(&task, done(json!({"artifacts": [artifact]}))).await;
    assert_eq!(answer.fields(), ["body.artifacts[0].content"]);
    let artifacts: Vec<_> = (0..101).map(|number| json!({"path": format!("a{number}"), "content": ""})).collect();
    let answer = agent.report_for(&task, done(json!({"artifacts": artifacts}))).await;
    assert_eq!(answer.fields(), ["body.artifacts"]);
}

#[tokio::test]
async fn each_result_of_a_batch_gets_the_answer_it_would_have_had_alone() {
    let server = Server::start().await;
    let (agent, other) = (server.agent("AGENT-A").await, server.agent("AGENT-B").await);
    let first = leased(&server, &agent, json!({})).await;
    let second = leased(&server, &agent, json!({})).await;
    let cancelled = leased(&server, &agent, json!({})).await;
    let foreign = leased(&server, &other, json!({})).await;
    server.operator().cancel(&id_of(&cancelled), None).await.expect(200);
    agent.complete(&second).await.expect(200);
    let report = |task: &Value, output: Value| {
        json!({"task_id": task["task_id"], "lease_id": task["lease_id"], "attempt": task["attempt"],
            "status": "completed", "output_data": output})
    };
    let results = json!([
        report(&first, json!({"n": 1})),
        report(&second, json!({"done": true})),
        report(&second, json!({"done": "otherwise"})),
        report(&cancelled, json!({})),
        report(&foreign, json!({})),
        {"task_id": "nonsense", "status": "done"},
        5,
        report(&first, json!({"n": 1})),
    ]);
    let reply = agent.call("/results").json(&json!({"results": results})).send().await.expect(200);
    let outcomes = reply["results"].as_array().expect("results are a list");
    let accepted = |index: usize| (&outcomes[index]["status"], &outcomes[index]["task_id"]);
    let refused = |index: usize| {
        let outcome = &outcomes[index];
        for name in ["type", "title", "detail", "error", "message", "details", "request_id", "retryable"] {
            assert!(outcome.get(name).is_some(), "{name} is missing in {outcome}");
        }
        (outcome["status"].clone(), outcome["code"].as_str().expect("it has a code"))
    };
    assert_eq!(outcomes.len(), 8);
    assert_eq!(accepted(0), (&json!("accepted"), &first["task_id"]));
    assert_eq!(accepted(1), (&json!("accepted"), &second["task_id"]));
    assert_eq!(outcomes[1]["duplicate"], true);
    assert_eq!(refused(2), (json!(409), "RESULT_CONFLICT"));
    assert_eq!(refused(3), (json!(409), "TASK_FINAL"));
    assert_eq!(refused(4), (json!(404), "TASK_NOT_FOUND"));
    assert_eq!(refused(5), (json!(422), "VALIDATION_ERROR"));
    let fields: Vec<_> =
        outcomes[5]["details"].as_array().expect("a list").iter().map(|detail| detail["field"].clone()).collect();
    assert_eq!(fields, ["body.results[5].task_id", "body.results[5].status"]);
    assert_eq!(refused(6), (json!(422), "VALIDATION_ERROR"));
    // The same result twice in one batch: one of them is the duplicate.
    assert_ne!(outcomes[0]["duplicate"], outcomes[7]["duplicate"]);
    assert_eq!(server.operator().status(&id_of(&first)).await, "completed");
    assert_eq!(server.operator().status(&id_of(&foreign)).await, "leased");
    agent.call("/results").json(&json!({"results": []})).send().await.expect(200);
}

#[tokio::test]
async fn cancelled_is_read_as_failed_with_its_code() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let task = leased(&server, &agent, json!({"max_attempts": 1})).await;
    agent.report_for(&task, json!({"status": "cancelled", "error_message": "stopped"})).await.expect(200);
    let shown = server.operator().task(&id_of(&task)).await;
    assert_eq!((&shown["status"], &shown["result"]["status"]), (&json!("failed"), &json!("failed")));
    assert_eq!(shown["result"]["error_code"], "CANCELLED");
}

#[tokio::test]
async fn a_failure_that_is_not_worth_repeating_ends_the_task() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let failures = [
        json!({"retryable": false}),
        json!({"error_code": "INVALID_INPUT"}),
        json!({"retryable": false, "error_code": "RESOURCE_EXHAUSTED"}),
    ];
    for members in failures {
        let task = leased(&server, &agent, json!({})).await;
        agent.fail(&task, members.clone()).await.expect(200);
        let shown = server.operator().task(&id_of(&task)).await;
        assert_eq!((&shown["status"], &shown["reason"]), (&json!("failed"), &json!("broken")), "{members}");
        assert_eq!(shown["result"]["error_message"], "broken");
        agent.fail(&task, members).await.expect(200);
        agent.complete(&task).await.problem(409, "RESULT_CONFLICT");
    }
}

#[tokio::test]
async fn an_agent_that_rejects_a_task_passes_it_on_and_is_not_offered_it_again() {
    let server = Server::start_with_clock().await;
    let agent = server.agent("AGENT-A").await;
    for code in ["REJECTED", "UNSUPPORTED_TASK"] {
        let task = leased(&server, &agent, json!({"max_attempts": 1})).await;
        let rejection = json!({"error_code": code, "retryable": false});
        agent.fail(&task, rejection.clone()).await.expect(200);
        assert_eq!(agent.fail(&task, rejection).await.expect(200)["duplicate"], true);
        assert_eq!(server.operator().outcomes(&id_of(&task)).await, ["released"]);
        server.advance(60);
        agent.beat(json!({"status": "healthy"})).await.expect(200);
        let other = server.agent(&format!("AGENT-{code}")).await;
        let taken = other.wait_for_task().await;
        assert_eq!((id_of(&taken), &taken["attempt"]), (id_of(&task), &json!(2)));
        other.complete(&taken).await.expect(200);
    }
    let task = leased(&server, &agent, json!({})).await;
    agent.fail(&task, json!({"error_code": "REJECTED"})).await.expect(200);
    server.advance(599);
    let probe = server.operator().submit(json!({})).await;
    assert_eq!(id_of(&agent.wait_for_task().await), probe, "the rejected one is passed over for ten minutes");
    server.advance(1);
    assert_eq!(id_of(&agent.wait_for_task().await), id_of(&task));
}

/// One by one, they would be more than the server takes at once.
#[tokio::test]
async fn a_writer_that_was_faster_for_one_result_of_a_batch_holds_up_no_other() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new(Arc::new(SystemClock::new())))));
    let setup = Setup::store(Arc::clone(&store) as Arc<dyn Repository>).config(|config| {
        config.capacity.writes = 2;
        // Nothing else is written meanwhile.
        (config.timing.sweep_interval, config.timing.pulse_gap) =
            (Duration::from_secs(3600), Duration::from_secs(14_400));
    });
    let server = setup.start().await;
    let agent = server.agent_with("AGENT-A", json!({"max_concurrent_tasks": 8})).await;
    for _ in 0..8 {
        server.operator().submit(json!({})).await;
    }
    let tasks = agent.take_up_to(8).await;
    let results: Vec<Value> = tasks
        .iter()
        .map(|task| json!({"task_id": task["task_id"], "lease_id": task["lease_id"], "attempt": 1, "status": "completed"}))
        .collect();
    store.inject(StoreCall::Commit, Fault::Conflict);
    let reply = agent.call("/results").json(&json!({"results": results})).send().await.expect(200);
    assert_eq!(store.counts().conflicts, 1);
    let accepted = |task: &Value| json!({"task_id": task["task_id"], "status": "accepted", "duplicate": false});
    assert_eq!(reply["results"], Value::from_iter(tasks.iter().map(accepted)));
}
