//! How much one call may bring, and what a call in process shares with one over the wire (T5, T30).

use std::time::Duration;

use eap_orchestrator::store::EventSeq;
use eap_orchestrator::{Error, Operator, RegistrationSecret};
use eap_types::SubmitTask;
use serde_json::json;

use crate::harness::{Server, Setup, registration};

const REGISTER: &str = "/api/v1/agents/external/register";

#[tokio::test]
async fn a_registration_secret_may_look_like_a_token() {
    let secret = "eap_prod_0123456789abcdef0123";
    let setup = Setup::memory().config(|config| config.registration_secret = Some(RegistrationSecret::new(secret)));
    let server = setup.start().await;
    for header in ["x-registration-token", "authorization"] {
        let given = if header == "authorization" { format!("Bearer {secret}") } else { secret.to_owned() };
        let call = server.api.post(REGISTER).header(header, &given);
        call.json(&registration("AGENT-A", json!({}))).send().await.expect(201);
    }
}

#[tokio::test]
async fn a_batch_of_too_many_results_is_refused_whole() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let answer = agent.call("/results").json(&json!({"results": vec![0; 1_001]})).send().await;
    assert_eq!(answer.fields(), ["body.results"]);
}

#[tokio::test]
async fn a_call_in_process_is_checked_like_one_over_the_wire() {
    let server = Server::start().await;
    let operator = Operator::host();
    let task = SubmitTask::text("sum".parse().unwrap(), "1 2").with_timeout_seconds(0).with_max_attempts(0);
    let refused = server.orchestrator.submit(&operator, task, None).await;
    let Err(Error::Invalid { problems }) = refused else { panic!("{refused:?}") };
    let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["body.timeout_seconds", "body.max_attempts"]);
}

#[tokio::test]
async fn events_come_in_order_and_end_with_the_orchestrator() {
    let server = Server::start().await;
    let id = server.operator().submit(json!({})).await;
    let mut events = server.orchestrator.events(&Operator::host(), EventSeq(0));
    let first = events.next().await.expect("there is one");
    assert_eq!((first.kind.as_str(), first.task.map(|task| task.to_string())), ("task.submitted", Some(id)));
    let watching = tokio::spawn(async move { events.next().await });
    let orchestrator = server.orchestrator.clone();
    server.stop().await;
    let ended = tokio::time::timeout(Duration::from_secs(5), watching).await.expect("it ends").expect("it runs");
    assert!(matches!(ended, Err(Error::Draining)), "{ended:?}");
    // The store is closed by then, and that is the same end.
    let late = orchestrator.events(&Operator::host(), EventSeq(0)).next().await;
    assert!(matches!(late, Err(Error::Draining)), "{late:?}");
}
