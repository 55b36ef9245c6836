//! Webhooks: what is taken, and which of its own refusals the rest gets.

use eap_types::DecodeError;
use eap_types::agentkit::{AgentNotification, AgentNotified, DetailBody, NotificationRefusal};
use serde_json::{Value, json};

fn read(body: &Value) -> Result<AgentNotification, NotificationRefusal> {
    AgentNotification::read(body.to_string().as_bytes())
}

fn details() -> Value {
    json!({
        "agentId": "a1", "agentName": "Summarizer", "version": "1.0.0", "capabilities": ["summarize"],
        "contactEndpoint": "http://agent-a1:9000", "metadata": {"team": "x"},
    })
}

fn register(changes: &Value) -> Value {
    let mut details = details();
    for (name, value) in changes.as_object().expect("changes are an object") {
        details[name] = value.clone();
    }
    json!({ "event_type": "REGISTER", "agent_details": details })
}

/// The problems of a body that is refused with 422, as "loc kind".
fn problems(body: &Value) -> Vec<String> {
    match read(body).expect_err("the body is refused") {
        NotificationRefusal::Invalid(DecodeError::Invalid { problems }) => {
            problems.iter().map(|problem| format!("{} {}", problem.field, problem.kind)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_event_may_be_in_any_case() {
    for event in ["REGISTER", "register", "Register"] {
        let told = read(&json!({ "event_type": event, "agent_details": details() })).expect("it is taken");
        assert_eq!((told.event_type(), told.agent_id().as_str()), ("REGISTER", "a1"));
    }
    for event in ["DEREGISTER", "deregister", "DeRegister"] {
        let told = read(&json!({ "event_type": event, "agent_details": details() })).expect("it is taken");
        assert_eq!(told, AgentNotification::Deregister("a1".parse().unwrap()));
    }
}

#[test]
fn whoever_leaves_needs_an_id_alone() {
    let told = read(&json!({ "event_type": "DEREGISTER", "agent_details": { "agentId": "a1" } })).expect("it is taken");
    assert_eq!(told.event_type(), "DEREGISTER");
    let odd = json!({ "agentId": "a1", "capabilities": null, "contactEndpoint": "", "version": 7 });
    assert_eq!(read(&json!({ "event_type": "DEREGISTER", "agent_details": odd })), Ok(told));
}

#[test]
fn an_unknown_event_is_named_whatever_else_is_wrong() {
    for details in [details(), json!({}), json!(null), json!(7), json!({ "agentId": 3 })] {
        let refusal = read(&json!({ "event_type": "FOO", "agent_details": details })).expect_err("it is unknown");
        assert!(matches!(refusal, NotificationRefusal::UnknownEvent { .. }), "{refusal:?}");
        assert_eq!(refusal.to_string(), "Unknown event type: FOO");
    }
    let long = read(&json!({ "event_type": "é".repeat(10_000) })).expect_err("it is unknown");
    assert_eq!(long.to_string(), format!("Unknown event type: {}", "é".repeat(64)));
}

#[test]
fn a_missing_id_is_told_apart_from_everything_else() {
    for (event, word) in [("REGISTER", "REGISTER"), ("register", "REGISTER"), ("deregister", "DEREGISTER")] {
        for details in [json!({}), json!({ "agentId": null, "version": 7 }), json!({ "agentId": "" })] {
            let refusal = read(&json!({ "event_type": event, "agent_details": details })).expect_err("it has no id");
            assert!(matches!(refusal, NotificationRefusal::MissingAgentId { .. }), "{refusal:?}");
            assert_eq!(refusal.to_string(), format!("Missing agentId in agent_details for {word} event."));
        }
    }
}

#[test]
fn all_other_problems_are_named_at_once() {
    let wrong = json!({ "agentName": "", "version": null, "capabilities": ["a", ""], "contactEndpoint": "ftp://x" });
    assert_eq!(
        problems(&register(&wrong)),
        [
            "body.agent_details.agentName value_error",
            "body.agent_details.version missing",
            "body.agent_details.capabilities[1] value_error",
            "body.agent_details.contactEndpoint value_error",
        ]
    );
    assert_eq!(problems(&json!({})), ["body.event_type missing", "body.agent_details missing"]);
    assert_eq!(problems(&json!({ "event_type": "REGISTER" })), ["body.agent_details missing"]);
    assert_eq!(problems(&json!({ "event_type": 3, "agent_details": {} })), ["body.event_type type_error"]);
    assert_eq!(problems(&json!({ "event_type": "REGISTER", "agent_details": [] })), ["body.agent_details type_error"]);
    for id in [json!("external"), json!("a/b"), json!("x".repeat(129))] {
        assert_eq!(problems(&register(&json!({ "agentId": id }))), ["body.agent_details.agentId value_error"]);
    }
    assert_eq!(problems(&register(&json!({ "agentId": 7 }))), ["body.agent_details.agentId type_error"]);
    let large = register(&json!({ "metadata": { "text": "x".repeat(16 * 1024) } }));
    assert_eq!(problems(&large), ["body.agent_details.metadata value_error"]);
}

#[test]
fn an_agent_may_offer_nothing_and_say_nothing_more() {
    let told = read(&register(&json!({ "capabilities": [], "metadata": null }))).expect("it is taken");
    let AgentNotification::Register(agent) = told else { panic!("it registers") };
    assert!(agent.capabilities.is_empty() && agent.metadata.is_empty());
}

#[test]
fn what_is_no_json_is_a_problem_of_the_body() {
    let NotificationRefusal::Invalid(error) = AgentNotification::read(b"{").expect_err("it is no JSON") else {
        panic!("it is no JSON")
    };
    let body = serde_json::to_value(DetailBody::of_decode(&error)).unwrap();
    assert_eq!((&body["detail"][0]["type"], &body["detail"][0]["loc"]), (&json!("json_invalid"), &json!(["body"])));
}

#[test]
fn a_problem_says_where_step_by_step() {
    let NotificationRefusal::Invalid(error) =
        read(&register(&json!({ "capabilities": ["a", ""] }))).expect_err("one is empty")
    else {
        panic!("one is empty")
    };
    assert_eq!(
        serde_json::to_value(DetailBody::of_decode(&error)).unwrap(),
        json!({ "detail": [{
            "type": "value_error",
            "loc": ["body", "agent_details", "capabilities", 1],
            "msg": "must have 1 to 128 characters",
        }] })
    );
}

#[test]
fn the_answers_have_the_words_of_the_protocol() {
    let answer = |event: &str| {
        AgentNotified::of(&read(&json!({ "event_type": event, "agent_details": details() })).expect("it is taken"))
    };
    let written = |answer: AgentNotified| serde_json::to_value(answer).unwrap();
    let came = json!({ "status": "success", "message": "Agent a1 registered successfully." });
    let left = json!({ "status": "success", "message": "Agent a1 deregistered successfully." });
    assert_eq!((written(answer("REGISTER")), written(answer("DEREGISTER"))), (came, left));
    let again = written(answer("REGISTER").with_duplicate());
    assert_eq!((&again["duplicate"], &again["ignored"]), (&json!(true), &json!(null)));
    assert_eq!(written(answer("REGISTER").with_stale())["ignored"], "stale");
}
