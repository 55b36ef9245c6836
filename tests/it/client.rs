//! The typed client against a real server, where the rest of these tests speak raw JSON.

use std::sync::Arc;

use eap_client::{ClientError, EventStream, HttpCall, OperatorClient, ReqwestCall, Told};
use eap_types::{ErrorCode, EventQuery, EventsReset, Secret};
use serde_json::{Value, json};

use crate::harness::{OPERATOR_KEY, Server, Setup, in_time};

fn client(server: &Server) -> OperatorClient {
    let http = ReqwestCall::new().expect("the client has nothing that could be wrong");
    let client = OperatorClient::new(&format!("http://{}", server.address), Arc::new(http) as Arc<dyn HttpCall>);
    client.expect("the address is a URL")
}

fn operator(server: &Server) -> OperatorClient {
    client(server).with_key(Secret::new(OPERATOR_KEY))
}

async fn next(events: &mut EventStream) -> (u64, String) {
    match in_time("something is told", events.next()).await.expect("the stream goes on") {
        Told::Event(event) => (event.seq, event.kind),
        Told::Reset(reset) => (reset.oldest, EventsReset::KIND.to_owned()),
    }
}

#[tokio::test]
async fn what_the_server_says_of_itself_is_read_whole_and_without_a_key() {
    let setup = Setup::memory().config(|config| config.public_url = Some("https://eap.example.com/base".into()));
    let server = setup.start().await;
    let about = client(&server).well_known().await.unwrap();
    let raw = server.api.get("/.well-known/eap").send().await.expect(200);
    assert_eq!(serde_json::to_value(&about).unwrap(), raw);
    assert_eq!(about.openapi, "/base/openapi.json");
    assert_eq!(about.endpoints["submit_task"].path, "/base/api/v1/tasks");

    let document = client(&server).openapi().await.unwrap().to_value();
    assert_eq!(document, server.api.get("/openapi.json").send().await.expect(200));
    assert_eq!(
        (&document["openapi"], &document["servers"][0]["url"]),
        (&json!("3.1.0"), &json!("https://eap.example.com/base"))
    );
}

#[tokio::test]
async fn events_come_as_values_and_each_is_what_the_wire_says() {
    let server = Server::start().await;
    let raw = server.operator();
    raw.submit(json!({})).await;
    let mut events = operator(&server).events(EventQuery::new()).await.unwrap();
    assert_eq!(events.last_id(), Some(1));
    let id = raw.submit(json!({})).await;
    raw.cancel(&id, Some(&json!({"reason": "why\nnot"}))).await.expect(200);
    let history = raw.history(&id).await;
    for number in 0..2 {
        let Told::Event(event) = in_time("something is told", events.next()).await.unwrap() else { panic!("no reset") };
        assert_eq!(serde_json::to_value(&event).unwrap(), history["events"][number]);
    }
    assert_eq!(events.last_id(), Some(3));

    let of_task =
        EventQuery::new().with_after(0).with_task_id(id.parse().unwrap()).with_kind("task.cancelled,task.dead");
    let mut of_task = operator(&server).events(of_task).await.unwrap();
    assert_eq!(next(&mut of_task).await, (3, "task.cancelled".to_owned()));
}

#[tokio::test]
async fn a_number_of_another_store_is_answered_with_a_reset() {
    let server = Server::start().await;
    server.operator().submit(json!({})).await;
    let mut events = operator(&server).events(EventQuery::new().with_after(5_000)).await.unwrap();
    assert_eq!(next(&mut events).await, (1, "reset".to_owned()));
    assert_eq!(next(&mut events).await, (1, "task.submitted".to_owned()));
}

#[tokio::test]
async fn whoever_wants_what_is_kept_need_not_wait_for_more() {
    let server = Server::start().await;
    let raw = server.operator();
    for _ in 0..300 {
        raw.submit(json!({})).await;
    }
    let newest = operator(&server).events(EventQuery::new()).await.unwrap().last_id().expect("it says where it begins");
    for (kind, count) in [("task.submitted", 300), ("task.dead", 0)] {
        let query = EventQuery::new().with_after(0).with_kind(kind);
        let mut events = operator(&server).events(query).await.unwrap();
        let mut told = 0;
        // A place alone says that nothing is left: the next beat is 15 s away.
        while in_time("it ends", events.next_until(newest)).await.unwrap().is_some() {
            told += 1;
        }
        assert_eq!((told, events.last_id()), (count, Some(300)), "{kind}");
    }
}

#[tokio::test]
async fn a_stream_that_is_refused_says_why() {
    let server = Setup::memory().config(|config| config.capacity.watchers = 1).start().await;
    let wrong = client(&server).with_key(Secret::new("another-operator-key-0123456789"));
    let code = |error: &ClientError| error.code();
    assert_eq!(code(&wrong.events(EventQuery::new()).await.unwrap_err()), Some(ErrorCode::InvalidToken));
    let open = operator(&server).events(EventQuery::new()).await.unwrap();
    let full = operator(&server).events(EventQuery::new()).await.unwrap_err();
    assert_eq!(code(&full), Some(ErrorCode::Unavailable));
    drop(open);
    crate::harness::eventually("a dropped stream gives its place back", async || {
        operator(&server).events(EventQuery::new()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_stream_goes_on_at_the_server_that_follows_at_its_address() {
    let dir = tempfile::TempDir::new().expect("there is room for a temporary directory");
    let path = dir.path().join("eap.db");
    let first = Setup::sqlite_at(&path).start().await;
    let mut events = operator(&first).events(EventQuery::new()).await.unwrap();
    first.operator().submit(json!({})).await;
    // From here on the stream knows where it is.
    assert_eq!(next(&mut events).await, (1, "task.submitted".to_owned()));
    let address = first.address;
    first.stop().await;
    let second = Setup::sqlite_at(&path).start_at(address).await;
    second.operator().submit(json!({})).await;
    assert_eq!(next(&mut events).await, (2, "task.submitted".to_owned()));
    let history: Value = second.operator().list("limit=500").await;
    assert_eq!(history["tasks"].as_array().map(Vec::len), Some(2));
}
