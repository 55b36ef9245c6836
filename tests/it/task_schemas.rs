//! Agents say what they take as input, and what none of them would take is refused when it is submitted
//! (docs/protocol.md section 3, "What agents take as input").

use eap_agent_sdk::{HandlerError, Task, TaskContext, schemars};
use serde_json::{Value, json};

use crate::harness::{Server, Setup, eventually, id_of, registration, work};
use crate::sdk_harness::Site;

fn order() -> Value {
    json!({
        "type": "object",
        "properties": {"items": {"type": "array", "items": {
            "type": "object", "properties": {"count": {"type": "integer", "minimum": 1}}, "required": ["count"],
        }}},
        "required": ["items"],
    })
}

fn publishing(schema: &Value) -> Value {
    json!({"task_schemas": {"work": schema}})
}

/// The problems that a submit of this input is refused with, as `field: message`.
async fn refused(server: &Server, members: Value) -> Vec<String> {
    let problem = server.operator().try_submit(&work(members)).await.problem(422, "VALIDATION_ERROR");
    let details = problem["details"].as_array().expect("details are a list");
    let text = |detail: &Value, name: &str| detail[name].as_str().expect("it is a text").to_owned();
    details.iter().map(|detail| format!("{}: {}", text(detail, "field"), text(detail, "message"))).collect()
}

#[tokio::test]
async fn an_input_that_no_schema_accepts_is_refused_with_every_problem() {
    for server in [Setup::sqlite().start().await, Setup::memory().start().await] {
        let agent = server.agent_with("AGENT-A", publishing(&order())).await;
        let input = json!({"items": [{"count": 0}, {"count": 2}, {}, {"count": "3"}]});
        assert_eq!(
            refused(&server, json!({ "input": input })).await,
            [
                "body.input/items/0/count: must be at least 1",
                "body.input/items/2/count: is required",
                "body.input/items/3/count: expected a whole number, got a string",
            ]
        );
        assert_eq!(refused(&server, json!({"input": "words"})).await, ["body.input: expected an object, got a string"]);
        // An input travels as text, and text that is such an object is one to the agent.
        let id = server.operator().submit(json!({"input": "{\"items\": [{\"count\": 1}]}"})).await;
        assert_eq!(id_of(&agent.take().await), id);
        assert_eq!(agent.take_up_to(1).await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn of_a_batch_each_task_is_looked_at_alone_and_a_repeat_gets_the_same_answers() {
    let server = Server::start().await;
    server.agent_with("AGENT-A", publishing(&order())).await;
    let batch = async || {
        let body = json!({"tasks": [
            work(json!({"input": {"items": []}})), work(json!({"input": {}})), {"task_type": "other", "input": 1},
        ]});
        let call = server.operator().post("/api/v1/tasks/batch").header("idempotency-key", "k1");
        call.json(&body).send().await.expect(200)["tasks"].clone()
    };
    let first = batch().await;
    assert_eq!(first[1]["details"][0]["field"], "body.tasks[1].input/items");
    let taken = |outcomes: &Value| [id_of(&outcomes[0]), id_of(&outcomes[2])];
    // The agent takes anything now; what was refused under this key stays refused.
    server.agent_with("AGENT-A", publishing(&json!(true))).await;
    let again = batch().await;
    assert_eq!(taken(&again), taken(&first));
    assert_eq!(again[1]["details"][0]["field"], "body.tasks[1]");
}

#[tokio::test]
async fn one_agent_that_accepts_or_takes_the_type_without_a_schema_is_enough() {
    let server = Server::start().await;
    let words = json!({"type": "string", "maxLength": 5});
    server.agent_with("AGENT-A", publishing(&order())).await;
    server.agent_with("AGENT-B", publishing(&words)).await;
    server.operator().submit(json!({"input": "short"})).await;
    server.operator().submit(json!({"input": {"items": []}})).await;
    assert_eq!(
        refused(&server, json!({"input": "too long"})).await,
        [
            "body.input: expected an object, got a string",
            "body.input: fits none of the 2 schemas that agents published; the nearest is told of",
        ]
    );
    let anything = server.agent("AGENT-C").await;
    server.operator().submit(json!({"input": "too long"})).await;
    anything.delete().await.expect(204);
    assert_eq!(refused(&server, json!({"input": "too long"})).await.len(), 2);
}

#[tokio::test]
async fn only_agents_that_would_get_the_task_have_a_say() {
    let server = Server::start().await;
    let strict =
        server.agent_with("AGENT-A", json!({"task_schemas": {"work": false}, "labels": {"region": "eu"}})).await;
    let other = server.agent_with("AGENT-B", json!({"task_schemas": {"work": false}, "capabilities": ["other"]})).await;
    assert_eq!(refused(&server, json!({})).await, ["body.input: is not allowed here"]);
    assert_eq!(refused(&server, json!({"agent_id": strict.id})).await.len(), 1);
    for elsewhere in [
        json!({"labels": {"region": "us"}}),
        json!({"agent_id": other.id}),
        json!({"required_capabilities": ["nobody-can"]}),
        json!({"task_type": "strange", "required_capabilities": ["work"]}),
    ] {
        server.operator().submit(elsewhere).await;
    }
}

#[tokio::test]
async fn an_agent_that_left_was_replaced_or_fell_silent_has_no_say() {
    let server = Server::start_with_clock().await;
    let strict = publishing(&json!(false));
    let gone = server.agent_with("AGENT-A", strict.clone()).await;
    assert_eq!(refused(&server, json!({})).await.len(), 1);
    gone.delete().await.expect(204);
    server.operator().submit(json!({})).await;

    let mut older = registration("AGENT-B", strict.clone());
    older["endpoint_url"] = json!("http://127.0.0.1:9");
    older.as_object_mut().expect("it is an object").remove("instance_id");
    server.register(&older).await.expect(201);
    assert_eq!(refused(&server, json!({})).await.len(), 1);
    older["task_schemas"] = json!({"work": true});
    server.register(&older).await.expect(201);
    server.operator().submit(json!({})).await;
    older["capabilities"] = json!(["other"]);
    server.register(&older).await.expect(201);

    let silent = server.agent_with("AGENT-C", strict).await;
    server.advance(89);
    assert_eq!(refused(&server, json!({})).await.len(), 1);
    server.advance(1);
    server.operator().submit(json!({})).await;
    silent.beat(json!({"status": "healthy"})).await.expect(200);
    assert_eq!(refused(&server, json!({})).await.len(), 1);
}

#[tokio::test]
async fn a_schema_that_is_wrong_is_refused_with_the_registration() {
    let server = Server::start().await;
    let wrong = json!({"task_schemas": {
        "a": {"type": "text", "properties": {"b": {"$ref": "http://127.0.0.1:9/schema.json"}}},
        "c": {"$ref": "#"},
        "d": {"pattern": "(?=a)"},
    }});
    let mut fields = server.register(&registration("AGENT-A", wrong)).await.fields();
    fields.sort();
    assert_eq!(
        fields,
        [
            "body.task_schemas.a/properties/b/$ref",
            "body.task_schemas.a/type",
            "body.task_schemas.c",
            "body.task_schemas.d/pattern",
        ]
    );
    let large = json!({"work": {"description": "x".repeat(41 * 1024)}});
    let fields = server.register(&registration("AGENT-A", json!({ "task_schemas": large }))).await.fields();
    assert_eq!(fields, ["body.task_schemas"]);
    assert_eq!(server.operator().agents().await, Vec::<Value>::new());
}

#[tokio::test]
async fn what_agents_take_is_shown_and_outlives_a_restart() {
    let dir = tempfile::TempDir::new().expect("there is room for a temporary directory");
    let file = dir.path().join("eap.db");
    let server = Setup::sqlite_at(&file).start().await;
    let (one, two) = (
        server.agent_with("AGENT-A", publishing(&order())).await,
        server.agent_with("AGENT-B", publishing(&order())).await,
    );
    let shown = async |server: &Server| server.operator().get("/api/v1/task-types/work").send().await.expect(200);
    let mut agents = [&one.id, &two.id];
    agents.sort();
    let expected = json!({
        "task_type": "work", "agents": 2, "is_checked": true, "schemas": [{"schema": order(), "agents": agents}],
    });
    assert_eq!(shown(&server).await, expected);
    server.stop().await;

    let server = Setup::sqlite_at(&file).start().await;
    assert_eq!(shown(&server).await, expected);
    assert_eq!(refused(&server, json!({})).await.len(), 1);
    assert_eq!(server.operator().agent(&one.id).await.expect(200)["task_schemas"], json!({"work": order()}));
    server.agent("AGENT-C").await;
    let view = shown(&server).await;
    assert_eq!((&view["agents"], &view["is_checked"]), (&json!(3), &json!(false)));
    let nobody = server.operator().get("/api/v1/task-types/nobody").send().await.expect(200);
    assert_eq!(nobody, json!({"task_type": "nobody", "agents": 0, "is_checked": false, "schemas": []}));
    server.operator().get("/api/v1/task-types/no%20type").send().await.problem(404, "NOT_FOUND");
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Pair {
    left: u8,
    #[serde(default)]
    right: Option<u8>,
}

#[tokio::test]
async fn a_typed_handler_publishes_the_schema_of_its_input() {
    let site = Site::start().await;
    let add = async |task: Task<Pair>, _: TaskContext| {
        Ok::<_, HandlerError>(u32::from(task.input.left) + u32::from(task.input.right.unwrap_or_default()))
    };
    let agent = site.agent("AGENT-ADD").handle_typed("add", add).build().unwrap().start();
    eventually("the schema is there", async || {
        let view = site.operator().get("/api/v1/task-types/add").send().await.expect(200);
        (view["is_checked"] == true).then_some(())
    })
    .await;
    let submit = async |input: Value| site.operator().try_submit(&json!({"task_type": "add", "input": input})).await;
    let mut fields = submit(json!({"right": 256})).await.fields();
    fields.sort();
    assert_eq!(fields, ["body.input/left", "body.input/right"]);
    let id = id_of(&submit(json!({"left": 1, "right": 255})).await.expect(201));
    let done = site.operator().until(&id, "completed").await;
    assert_eq!(done["result"]["output_data"], json!({"output": 256}));
    agent.drain();
    agent.wait().await.unwrap();
}
