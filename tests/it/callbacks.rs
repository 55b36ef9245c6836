//! The end of a task is told to its `callback_url`: signed, until it is taken, and nowhere else (T1 to T3, G23, G24).

use std::sync::Arc;
use std::time::Duration;

use eap_orchestrator::store::Repository as _;
use eap_orchestrator::{Config, EndpointProfile};
use eap_tests::ports::free_address;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::harness::{GatedStore, Play, Received, Receiver, Server, Setup, eventually, id_of, in_time, work};

/// `whsec_` and the base64 of this.
const KEY: &[u8] = b"canary-signing-key-0123456789ab";
const SECRET: &str = "whsec_Y2FuYXJ5LXNpZ25pbmcta2V5LTAxMjM0NTY3ODlhYg==";
const OTHER_KEY: &[u8] = b"another-signing-key-0123456789a";
const OTHER_SECRET: &str = "whsec_YW5vdGhlci1zaWduaW5nLWtleS0wMTIzNDU2Nzg5YQ==";

/// Callbacks that are tried again at once, as far as waits go.
fn telling(config: &mut Config) {
    config.callbacks.secrets = vec![SECRET.parse().expect("it is a secret")];
    config.callbacks.backoff_base = Duration::from_millis(20);
    config.callbacks.backoff_cap = Duration::from_millis(1500);
    config.callbacks.timeout = Duration::from_millis(1500);
    config.timing.shutdown_grace = Duration::from_secs(2);
}

async fn server() -> Server {
    Setup::sqlite().config(telling).start().await
}

/// The words and details of what the history says of a task's callback.
async fn told(server: &Server, id: &str) -> Vec<(String, Value)> {
    let history = server.operator().history(id).await;
    let events = history["events"].as_array().expect("events are a list").iter();
    let kinds =
        events.map(|event| (event["kind"].as_str().expect("an event has a kind").to_owned(), event["detail"].clone()));
    kinds.filter(|(kind, _)| kind.starts_with("callback.")).collect()
}

async fn until_told(server: &Server, id: &str, last: &str) -> Vec<(String, Value)> {
    eventually(&format!("the history says {last}"), async || {
        let told = told(server, id).await;
        told.iter().any(|(kind, _)| kind == last).then_some(told)
    })
    .await
}

fn ids(received: &[Received]) -> Vec<&str> {
    received.iter().map(Received::id).collect()
}

#[tokio::test]
async fn every_end_of_a_task_is_told_with_the_task_as_it_is() {
    let server = server().await;
    let receiver = Receiver::start([]).await;
    let agent = server.agent("AGENT-A").await;
    let operator = server.operator();
    let submit = async |members: Value| {
        let mut members = members;
        members["callback_url"] = json!(receiver.url());
        operator.submit(members).await
    };

    let completed = submit(json!({})).await;
    agent.complete(&agent.take().await).await.expect(200);
    let failed = submit(json!({"max_attempts": 1})).await;
    agent.fail(&agent.take().await, json!({})).await.expect(200);
    let cancelled = submit(json!({})).await;
    operator.cancel(&cancelled, Some(&json!({"reason": "why not"}))).await.expect(200);
    let batch = json!({"tasks": [work(json!({"callback_url": receiver.url(), "run_at": "2100-01-01T00:00:00Z"}))]});
    let batch = operator.post("/api/v1/tasks/batch").json(&batch).send().await.expect(200);
    let in_batch = batch["tasks"][0]["task_id"].as_str().expect("the task was taken").to_owned();
    operator.cancel(&in_batch, None).await.expect(200);
    let silent = operator.submit(json!({})).await;
    agent.complete(&agent.take().await).await.expect(200);

    let received = receiver.until(4).await;
    for (id, kind) in [
        (&completed, "task.completed"),
        (&failed, "task.failed"),
        (&cancelled, "task.cancelled"),
        (&in_batch, "task.cancelled"),
    ] {
        let callback = received.iter().find(|callback| callback.id() == format!("callback-{id}"));
        let callback = callback.unwrap_or_else(|| panic!("{kind} is told"));
        let task = operator.task(id).await;
        assert_eq!(callback.json(), json!({"type": kind, "timestamp": task["updated_at"], "data": task}));
        assert_eq!(callback.header("content-type"), "application/json");
        assert!(callback.is_signed_with(KEY), "the signature is that of the secret");
        assert!(!callback.is_signed_with(OTHER_KEY));
        let sent: i64 = callback.header("webhook-timestamp").parse().expect("it is a number of seconds");
        let ended: eap_types::Timestamp =
            task["updated_at"].as_str().expect("it is text").parse().expect("it is a time");
        assert!((0..60).contains(&(sent - ended.as_micros() / 1_000_000)), "the time is that of sending");
        assert_eq!(
            until_told(&server, id, "callback.delivered").await,
            [("callback.delivered".into(), json!({"try": 1}))]
        );
    }
    assert!(operator.task(&completed).await["result"]["output_data"]["done"] == json!(true));
    assert_eq!(told(&server, &silent).await, [], "who asked for nothing gets nothing");
    assert_eq!(receiver.received().len(), 4);
}

#[tokio::test]
async fn a_task_that_the_clock_ends_is_told_as_dead() {
    let server = Setup::memory().manual_clock().config(telling).start().await;
    let receiver = Receiver::start([]).await;
    let now = crate::harness::START + 10;
    let id = server.operator().submit(json!({"expires_at": now, "callback_url": receiver.url()})).await;
    server.advance(20);
    let received = receiver.until(1).await;
    assert_eq!(received[0].json()["type"], "task.dead");
    assert_eq!(received[0].json()["data"], server.operator().task(&id).await);
}

#[tokio::test]
async fn a_receiver_that_fails_is_told_again_under_the_same_id() {
    let server = server().await;
    let receiver = Receiver::start([
        Play::Answer(500, Vec::new(), "canary-of-the-receiver"),
        Play::Answer(429, vec![("retry-after", "1".into())], ""),
        Play::Hang,
        Play::Answer(302, vec![("location", "http://127.0.0.1:1/".into())], ""),
    ])
    .await;
    let id = server.operator().submit(json!({"callback_url": receiver.url()})).await;
    server.operator().cancel(&id, None).await.expect(200);
    let told = until_told(&server, &id, "callback.delivered").await;
    let said: Vec<(&str, &Value, &Value)> =
        told.iter().map(|(kind, detail)| (kind.as_str(), &detail["try"], &detail["error"])).collect();
    assert_eq!(
        said,
        [
            ("callback.failed", &json!(1), &json!("status")),
            ("callback.failed", &json!(2), &json!("status")),
            ("callback.failed", &json!(3), &json!("timeout")),
            ("callback.failed", &json!(4), &json!("status")),
            ("callback.delivered", &json!(5), &Value::Null),
        ]
    );
    let received = receiver.received();
    assert_eq!(ids(&received), vec![format!("callback-{id}"); 5]);
    for callback in &received {
        assert_eq!(callback.body, received[0].body, "it tells the same");
        assert!(callback.is_signed_with(KEY));
    }
    assert!(received[2].at - received[1].at >= Duration::from_millis(990), "the pause that was asked for is kept");
    let sent: Vec<&str> = received.iter().map(|callback| callback.header("webhook-timestamp")).collect();
    assert!(sent[4] > sent[0], "each try is signed anew, or its receiver would take it for a replay: {sent:?}");
    let history = server.operator().history(&id).await.to_string();
    assert!(!history.contains("canary"), "neither what the receiver said nor its URL is told: {history}");
}

#[tokio::test]
async fn a_receiver_that_is_gone_or_never_takes_it_is_given_up() {
    let server = Setup::sqlite()
        .config(|config| {
            telling(config);
            config.callbacks.max_tries = 3;
            config.callbacks.backoff_cap = Duration::from_millis(50);
        })
        .start()
        .await;
    let gone = Receiver::start([Play::status(410)]).await;
    let id = server.operator().submit(json!({"callback_url": gone.url()})).await;
    server.operator().cancel(&id, None).await.expect(200);
    let told = until_told(&server, &id, "callback.given_up").await;
    assert_eq!(told, [("callback.given_up".into(), json!({"try": 1, "error": "status"}))]);

    let broken = Receiver::start(vec![Play::status(503); 9]).await;
    let id = server.operator().submit(json!({"callback_url": broken.url()})).await;
    server.operator().cancel(&id, None).await.expect(200);
    let told = until_told(&server, &id, "callback.given_up").await;
    let kinds: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["callback.failed", "callback.failed", "callback.given_up"]);
    assert_eq!((broken.received().len(), gone.received().len()), (3, 1), "and it stays so");
}

#[tokio::test]
async fn a_callback_outlives_the_server_and_has_one_effect() {
    let dir = TempDir::new().expect("there is room for a temporary directory");
    let path = dir.path().join("eap.db");
    let start = async || Setup::sqlite_at(&path).config(telling).start().await;
    // Nobody is there yet.
    let address = free_address();
    let first = start().await;
    let url = format!("http://{address}/done");
    let down = first.operator().submit(json!({"callback_url": url})).await;
    first.operator().cancel(&down, None).await.expect(200);
    let failures = until_told(&first, &down, "callback.failed").await;
    assert_eq!(failures[0].1["error"], "connect");
    first.stop().await;

    // Now somebody is, but hangs until the server is stopped in the middle of a try.
    let second = start().await;
    let receiver = Receiver::at(address, vec![Play::Hang; 2]).await;
    let hung = second.operator().submit(json!({"callback_url": url})).await;
    second.operator().cancel(&hung, None).await.expect(200);
    receiver.until(2).await;
    let began = Instant::now();
    second.stop().await;
    assert!(began.elapsed() < Duration::from_secs(4), "a receiver that hangs does not hold up the stop");

    let third = start().await;
    for id in [&down, &hung] {
        until_told(&third, id, "callback.delivered").await;
    }
    let received = receiver.received();
    let mut effects: Vec<&str> = ids(&received);
    effects.sort_unstable();
    effects.dedup();
    let mut expected = [format!("callback-{down}"), format!("callback-{hung}")];
    expected.sort_unstable();
    assert_eq!(effects, expected, "by its id, each is one");
    assert!(received.iter().all(|callback| callback.is_signed_with(KEY)));
    third.stop().await;
    let fourth = start().await;
    for id in [&down, &hung] {
        let delivered = told(&fourth, id).await.into_iter().filter(|(kind, _)| kind == "callback.delivered").count();
        assert_eq!(delivered, 1);
    }
    assert_eq!(receiver.received().len(), received.len(), "what was taken is not sent again");
}

#[tokio::test]
async fn every_live_secret_signs() {
    let setup = Setup::memory().config(|config| {
        telling(config);
        config.callbacks.secrets.push(OTHER_SECRET.parse().expect("it is a secret"));
    });
    let server = setup.start().await;
    let receiver = Receiver::start([]).await;
    let id = server.operator().submit(json!({"callback_url": receiver.url()})).await;
    server.operator().cancel(&id, None).await.expect(200);
    let received = receiver.until(1).await;
    assert!(received[0].is_signed_with(KEY) && received[0].is_signed_with(OTHER_KEY));
}

#[tokio::test]
async fn without_a_secret_a_callback_is_refused_with_what_to_do() {
    let server = Server::start().await;
    let body = work(json!({"callback_url": "https://hooks.example.com/done"}));
    let refusal = server.operator().try_submit(&body).await.problem(422, "VALIDATION_ERROR");
    assert_eq!(refusal["details"][0]["field"], "body.callback_url");
    let message = refusal["details"][0]["message"].as_str().expect("a problem has a message");
    assert!(message.contains("callbacks.secrets") && message.contains("EAP_CALLBACK_SECRET"), "{message}");
    assert_eq!(server.operator().list("").await, json!({"tasks": []}));
}

#[tokio::test]
async fn callbacks_that_are_due_wait_for_a_secret() {
    let dir = TempDir::new().expect("there is room for a temporary directory");
    let path = dir.path().join("eap.db");
    let receiver = Receiver::start(vec![Play::status(500); 2]).await;
    let slowly = |config: &mut Config| {
        telling(config);
        config.callbacks.backoff_base = Duration::from_millis(1000);
    };
    let first = Setup::sqlite_at(&path).config(slowly).start().await;
    let id = first.operator().submit(json!({"callback_url": receiver.url()})).await;
    first.operator().cancel(&id, None).await.expect(200);
    until_told(&first, &id, "callback.failed").await;
    first.stop().await;
    let before = receiver.received().len();
    let without = Setup::sqlite_at(&path).start().await;
    without.operator().task(&id).await;
    without.stop().await;
    assert_eq!(receiver.received().len(), before, "nothing is sent unsigned");
    let again = Setup::sqlite_at(&path).config(telling).start().await;
    until_told(&again, &id, "callback.delivered").await;
}

#[tokio::test]
async fn the_endpoint_policy_speaks_at_submit() {
    let dev = server().await;
    let own = format!("http://{}/", dev.address);
    let refused = async |server: &Server, url: &str| {
        let answer = server.operator().try_submit(&work(json!({"callback_url": url}))).await;
        let problem = answer.problem(422, "VALIDATION_ERROR");
        assert_eq!(problem["details"][0]["field"], "body.callback_url", "{url}");
        problem["details"][0]["message"].as_str().expect("a problem has a message").to_owned()
    };
    for (url, why) in [
        ("nonsense", "must be an absolute URL"),
        ("ftp://example.com/", "must start with http:// or https://"),
        ("https://user:pass@example.com/", "must not carry a user name or password"),
        ("https://example.com/#there", "must not have a fragment"),
        ("http://169.254.169.254/latest/meta-data/", "leads to a reserved address"),
        ("http://[::ffff:169.254.169.254]/", "leads to a reserved address"),
        (&own, "leads back to the server itself"),
    ] {
        let message = refused(&dev, url).await;
        assert!(message.starts_with(why), "{url}: {message}");
    }
    let prod = Setup::memory()
        .config(|config| {
            telling(config);
            config.endpoints.profile = EndpointProfile::Prod;
        })
        .start()
        .await;
    for (url, why) in [
        ("http://example.com/", "must start with https://"),
        ("https://127.0.0.1/", "leads to a loopback address"),
        ("https://0x7f.1/", "leads to a loopback address"),
        ("https://10.0.0.1/", "leads to a private address"),
    ] {
        let message = refused(&prod, url).await;
        assert!(message.starts_with(why), "{url}: {message}");
    }
    let body = work(json!({"callback_url": "https://hooks.example.com/done"}));
    prod.operator().try_submit(&body).await.expect(201);
}

#[tokio::test]
async fn the_endpoint_policy_binds_when_it_is_dialled() {
    // A name, so that nothing can be said of its address when the task is submitted.
    let trap = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let port = trap.local_addr().expect("it is bound").port();
    let server = Setup::memory()
        .config(|config| {
            telling(config);
            config.callbacks.max_tries = 1;
            config.endpoints.profile = EndpointProfile::Custom;
            config.endpoints.allow_http_hosts = vec!["localhost".to_owned()];
        })
        .start()
        .await;
    let id = server.operator().submit(json!({"callback_url": format!("http://localhost:{port}/")})).await;
    server.operator().cancel(&id, None).await.expect(200);
    let told = until_told(&server, &id, "callback.given_up").await;
    assert_eq!(told, [("callback.given_up".into(), json!({"try": 1, "error": "policy"}))]);
    let connection = tokio::time::timeout(Duration::from_millis(50), trap.accept()).await;
    assert!(connection.is_err(), "nobody came to the trap");
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_its_own_callbacks_alone() {
    let server = Setup::sqlite()
        .config(|config| {
            telling(config);
            config.callbacks.timeout = Duration::from_secs(60);
            (config.callbacks.at_once, config.callbacks.per_receiver) = (2, 1);
        })
        .start()
        .await;
    let hanging = Receiver::start(vec![Play::Hang; 1000]).await;
    let operator = server.operator();
    // More than one page of them.
    let tasks = vec![work(json!({"callback_url": hanging.url(), "run_at": "2100-01-01T00:00:00Z"})); 300];
    let batch = operator.post("/api/v1/tasks/batch").json(&json!({"tasks": tasks})).send().await.expect(200);
    for result in batch["tasks"].as_array().expect("results are a list") {
        operator.cancel(&id_of(result), None).await.expect(200);
    }
    let well = Receiver::start([]).await;
    for _ in 0..5 {
        let id = operator.submit(json!({"callback_url": well.url()})).await;
        operator.cancel(&id, None).await.expect(200);
    }
    well.until(5).await;
    assert_eq!(hanging.received().len(), 1, "one at a time to each receiver");
    in_time("the stop does not wait for it", server.stop()).await;
}

#[tokio::test]
async fn a_try_that_ends_within_the_grace_of_a_stop_is_not_cut() {
    let dir = TempDir::new().expect("there is room for a temporary directory");
    let path = dir.path().join("eap.db");
    let patient = |config: &mut Config| {
        telling(config);
        config.timing.shutdown_grace = Duration::from_secs(60);
        config.callbacks.timeout = Duration::from_secs(60);
    };
    let answer = Arc::new(Semaphore::new(0));
    let receiver = Receiver::start([Play::Wait(Arc::clone(&answer))]).await;
    let mut first = Setup::sqlite_at(&path).config(patient).start().await;
    let id = first.operator().submit(json!({"callback_url": receiver.url()})).await;
    first.operator().cancel(&id, None).await.expect(200);
    receiver.until(1).await;
    first.begin_stop();
    eventually("the stop has begun", async || TcpStream::connect(first.address).await.err()).await;
    answer.add_permits(1);
    first.stop().await;
    let second = Setup::sqlite_at(&path).config(patient).start().await;
    let told = told(&second, &id).await;
    assert_eq!(told, [("callback.delivered".into(), json!({"try": 1}))]);
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_try_that_outlasts_the_grace_of_a_stop_is_cut() {
    let server = Setup::sqlite()
        .config(|config| {
            telling(config);
            config.callbacks.timeout = Duration::from_secs(60);
        })
        .start()
        .await;
    let receiver = Receiver::start([Play::Hang]).await;
    let id = server.operator().submit(json!({"callback_url": receiver.url()})).await;
    server.operator().cancel(&id, None).await.expect(200);
    receiver.until(1).await;
    in_time("the stop does not wait for it", server.stop()).await;
}

/// A letter's discard changes a task that is over: its callback was told already.
#[tokio::test]
async fn what_changes_of_a_task_that_is_over_is_not_told() {
    let one_by_one = |config: &mut Config| {
        telling(config);
        config.callbacks.per_receiver = 1;
    };
    let server = Setup::sqlite().config(one_by_one).start().await;
    let receiver = Receiver::start([]).await;
    let (operator, agent) = (server.operator(), server.agent("AGENT-A").await);
    let letter = operator.submit(json!({"callback_url": receiver.url(), "max_attempts": 1})).await;
    agent.fail(&agent.take().await, json!({})).await.expect(200);
    until_told(&server, &letter, "callback.delivered").await;
    operator.post(&format!("/api/v1/dead-letters/{letter}/discard")).send().await.expect(204);
    // What the discard had made due would come first.
    let next = operator.submit(json!({"callback_url": receiver.url()})).await;
    operator.cancel(&next, None).await.expect(200);
    until_told(&server, &next, "callback.delivered").await;
    assert_eq!(ids(&receiver.received()), [format!("callback-{letter}"), format!("callback-{next}")]);
}

#[tokio::test]
async fn a_callback_that_is_on_its_way_is_not_sent_again_meanwhile() {
    let server = Setup::sqlite()
        .config(|config| {
            telling(config);
            config.callbacks.timeout = Duration::from_secs(60);
            // With a second one of the first on its way, there would be no hand free for another.
            (config.callbacks.at_once, config.callbacks.per_receiver) = (2, 2);
        })
        .start()
        .await;
    let answer = Arc::new(Semaphore::new(0));
    let receiver = Receiver::start([Play::Wait(Arc::clone(&answer))]).await;
    let operator = server.operator();
    let slow = operator.submit(json!({"callback_url": receiver.url()})).await;
    operator.cancel(&slow, None).await.expect(200);
    receiver.until(1).await;
    let mut expected = vec![format!("callback-{slow}")];
    for _ in 0..3 {
        let quick = operator.submit(json!({"callback_url": receiver.url()})).await;
        operator.cancel(&quick, None).await.expect(200);
        until_told(&server, &quick, "callback.delivered").await;
        expected.push(format!("callback-{quick}"));
    }
    assert_eq!(ids(&receiver.received()), expected);
    answer.add_permits(1);
    until_told(&server, &slow, "callback.delivered").await;
}

#[tokio::test]
async fn the_callback_of_a_task_that_is_gone_is_forgotten() {
    let store = GatedStore::new();
    let server = Setup::store(Arc::clone(&store) as Arc<_>).config(telling).start().await;
    // Nobody is there yet, so that it is tried again.
    let address = free_address();
    let id = server.operator().submit(json!({"callback_url": format!("http://{address}/done")})).await;
    server.operator().cancel(&id, None).await.expect(200);
    until_told(&server, &id, "callback.failed").await;
    store.lose(id.parse().expect("it is an id"));
    eventually("nothing is due", async || store.callbacks(None, 9).await.expect("it is read").is_empty().then_some(()))
        .await;
}
