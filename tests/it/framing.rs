//! Bytes that no HTTP client would send: answered or closed, never a 5xx, and others are served meanwhile
//! (A47, A48; T14, T18).

use std::time::Duration;

use eap_orchestrator::Operator;
use eap_types::SubmitTask;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::harness::{BLINK, OPERATOR_KEY, Peer, Server, Setup, eventually, work};

/// Shorter than the default, so that nobody waits long.
const SHORT: Duration = Duration::from_millis(200);
const SOON: Duration = Duration::from_millis(1500);

async fn impatient() -> Server {
    let setup = Setup::memory().config(|config| {
        config.capacity.header_timeout = SHORT;
        config.capacity.body_timeout = SHORT;
        config.capacity.idle_timeout = SHORT * 2;
    });
    setup.start().await
}

async fn still_serves(server: &Server) {
    server.api.get("/health").send().await.expect(200);
}

/// What the server says to these bytes; `None` if it closes without a word.
async fn answer(server: &Server, bytes: &[u8]) -> Option<u16> {
    let mut peer = Peer::connect(server.address).await;
    peer.send(bytes).await;
    peer.answer().await.map(|(status, _)| status)
}

fn headers(count: usize) -> String {
    (1..count).map(|number| format!("x-{number}: x\r\n")).collect()
}

#[tokio::test]
async fn a_connection_that_sends_nothing_is_closed() {
    let server = impatient().await;
    let mut peer = Peer::connect(server.address).await;
    let start = Instant::now();
    assert!(peer.is_closed_within(SOON).await);
    assert!(start.elapsed() >= SHORT, "and not before its time");
    still_serves(&server).await;
}

#[tokio::test]
async fn a_connection_that_stops_in_its_header_is_closed() {
    let server = impatient().await;
    for half in ["G", "GET /health", "GET /health HTTP/1.1\r\n", "GET /health HTTP/1.1\r\nhost: local"] {
        let mut peer = Peer::connect(server.address).await;
        peer.send(half.as_bytes()).await;
        assert!(peer.is_closed_within(SOON).await, "{half:?}");
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn a_header_that_drips_is_cut_off_however_steadily_it_drips() {
    let server = impatient().await;
    let mut peer = Peer::connect(server.address).await;
    let start = Instant::now();
    let mut closed = false;
    for byte in b"GET /health HTTP/1.1\r\nx-drip: ".iter().chain(std::iter::repeat_n(&b'x', 1000)) {
        if !peer.send(&[*byte]).await || peer.is_closed_within(BLINK).await {
            closed = true;
            break;
        }
    }
    assert!(closed);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    still_serves(&server).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_has_longer_than_a_header() {
    let server = impatient().await;
    let mut peer = Peer::connect(server.address).await;
    peer.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(peer.answer().await.map(|(status, _)| status), Some(200));
    let start = Instant::now();
    assert!(peer.is_closed_within(SOON).await);
    assert!(start.elapsed() > SHORT, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_long_poll_outlives_every_timeout_of_its_connection() {
    let server = impatient().await;
    let agent = server.agent("AGENT-A").await;
    let start = Instant::now();
    agent.lease(json!({"request_id": "r", "wait_seconds": 1})).await.expect(204);
    assert!(start.elapsed() > SHORT * 3);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_408_or_closed() {
    let server = impatient().await;
    let body = work(json!({})).to_string();
    for head in [
        format!("content-length: {}\r\n\r\n{}", body.len(), &body[..5]),
        format!("transfer-encoding: chunked\r\n\r\n5\r\n{}\r\n", &body[..5]),
        format!("content-length: {}\r\n\r\n", body.len()),
    ] {
        let mut peer = Peer::connect(server.address).await;
        let line =
            format!("POST /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPERATOR_KEY}\r\n");
        peer.send(format!("{line}{head}").as_bytes()).await;
        let (status, problem) = peer.answer().await.expect("it is told before it is closed");
        assert_eq!((status, &problem["code"]), (408, &json!("REQUEST_TIMEOUT")));
        assert!(peer.is_closed_within(SOON).await, "its rest would be taken for a request");
    }
    assert_eq!(server.operator().list("").await, json!({"tasks": []}));
}

#[tokio::test]
async fn a_body_that_drips_is_cut_off_too() {
    let server = impatient().await;
    let mut peer = Peer::connect(server.address).await;
    let line = format!("POST /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPERATOR_KEY}\r\n");
    peer.send(format!("{line}content-length: 1000\r\n\r\n").as_bytes()).await;
    let start = Instant::now();
    while start.elapsed() < SOON && peer.send(b" ").await && !peer.is_closed_within(BLINK).await {}
    assert!(start.elapsed() < SOON);
    still_serves(&server).await;
}

#[tokio::test]
async fn sixty_four_headers_are_taken_and_sixty_five_are_not() {
    let server = impatient().await;
    let request = |count| format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{}\r\n", headers(count));
    assert_eq!(answer(&server, request(64).as_bytes()).await, Some(200));
    assert_eq!(answer(&server, request(65).as_bytes()).await, Some(431));
    still_serves(&server).await;
}

#[tokio::test]
async fn headers_of_thirty_kibibytes_are_taken_and_of_thirty_three_are_not() {
    let server = impatient().await;
    let request =
        |bytes: usize| format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n", "x".repeat(bytes));
    assert_eq!(answer(&server, request(30 * 1024).as_bytes()).await, Some(200));
    assert!(matches!(answer(&server, request(33 * 1024).as_bytes()).await, Some(431) | None));
    let many: String = (0..40).map(|number| format!("x-{number}: {}\r\n", "x".repeat(1000))).collect();
    let bytes = format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    assert!(matches!(answer(&server, bytes.as_bytes()).await, Some(431) | None));
    let path = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(70_000));
    assert!(matches!(answer(&server, path.as_bytes()).await, Some(414 | 431) | None));
    still_serves(&server).await;
}

#[tokio::test]
async fn a_request_with_two_lengths_is_not_smuggled() {
    let server = impatient().await;
    let line = format!("POST /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPERATOR_KEY}\r\n");
    let body = work(json!({"input": "smuggled"})).to_string();
    let second = format!("{line}content-length: {}\r\n\r\n{body}", body.len());
    let chunks = format!("0\r\n\r\n{second}");
    for (head, rest) in [
        // Framed by TE alone: an empty body, and the connection closed before the second request.
        ("content-length: 5\r\ntransfer-encoding: chunked\r\n".to_owned(), chunks.clone()),
        (format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", chunks.len()), chunks.clone()),
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n".to_owned(), chunks.clone()),
        ("transfer-encoding: identity\r\n".to_owned(), chunks.clone()),
        ("transfer-encoding: chunked, gzip\r\n".to_owned(), chunks.clone()),
        ("transfer-encoding: xchunked\r\n".to_owned(), chunks),
        ("content-length: 2\r\ncontent-length: 3\r\n".to_owned(), format!("{{}}{second}")),
        ("content-length: 2, 3\r\n".to_owned(), format!("{{}}{second}")),
        ("content-length: +2\r\n".to_owned(), format!("{{}}{second}")),
        ("content-length: -1\r\n".to_owned(), second.clone()),
        ("content-length: 99999999999999999999\r\n".to_owned(), second.clone()),
        ("content-length: 0x2\r\n".to_owned(), format!("{{}}{second}")),
    ] {
        let mut peer = Peer::connect(server.address).await;
        peer.send(format!("{line}{head}\r\n{rest}").as_bytes()).await;
        let status = peer.answer().await.map(|(status, _)| status);
        assert!(matches!(status, None | Some(400..=499)), "{status:?} to {head:?}");
        assert!(peer.is_closed_within(SOON).await, "{head:?} leaves the connection open");
    }
    assert_eq!(server.operator().list("").await, json!({"tasks": []}), "nothing was smuggled in");
    still_serves(&server).await;
}

#[tokio::test]
async fn bytes_that_are_no_request_are_answered_or_closed() {
    let server = impatient().await;
    let cases: [&[u8]; 22] = [
        b"\r\n\r\n\r\n\r\n",
        b"hello\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health HTTP/9.9\r\nhost: localhost\r\n\r\n",
        b"GET  /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /api/v1/tasks/\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /api/v1/tasks/ x HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET api/v1/tasks HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET http://localhost/health HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"G@T /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"BREW /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\nx-nul: a\0b\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\nx bad: a\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\nno colon here\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\n folded: header\r\n\r\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n",
    ];
    for bytes in cases {
        let status = answer(&server, bytes).await;
        let shown = String::from_utf8_lossy(bytes);
        assert!(matches!(status, None | Some(400..=499)), "{status:?} to {shown:?}");
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn an_unknown_method_gets_the_documented_body_and_leaves_the_connection_usable() {
    let server = impatient().await;
    let mut peer = Peer::connect(server.address).await;
    peer.send(b"BREW /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let (status, problem) = peer.answer().await.expect("it is answered");
    assert_eq!((status, &problem["code"]), (405, &json!("METHOD_NOT_ALLOWED")));
    peer.send(b"GET /api/v1/tasks/%FF HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let (status, problem) = peer.answer().await.expect("it is answered");
    assert_eq!((status, &problem["code"]), (401, &json!("INVALID_TOKEN")));
    peer.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(peer.answer().await.map(|(status, _)| status), Some(200));
}

#[tokio::test]
async fn chunks_beyond_the_limit_are_refused_although_no_length_was_announced() {
    let server = Setup::memory().start().await;
    let mut peer = Peer::connect(server.address).await;
    let line = format!("POST /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPERATOR_KEY}\r\n");
    peer.send(format!("{line}transfer-encoding: chunked\r\n\r\n").as_bytes()).await;
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..17 {
        if !peer.send(chunk.as_bytes()).await {
            break;
        }
    }
    let (status, problem) = peer.answer().await.expect("it is told before it is closed");
    assert_eq!((status, &problem["code"]), (413, &json!("PAYLOAD_TOO_LARGE")));
    still_serves(&server).await;
}

#[tokio::test]
async fn a_chunked_body_is_as_good_as_any() {
    let server = Setup::memory().start().await;
    let mut peer = Peer::connect(server.address).await;
    let line = format!("POST /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPERATOR_KEY}\r\n");
    let body = work(json!({})).to_string();
    let chunks: String = body.as_bytes().iter().map(|byte| format!("1\r\n{}\r\n", char::from(*byte))).collect();
    peer.send(format!("{line}transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n").as_bytes()).await;
    assert_eq!(peer.answer().await.map(|(status, _)| status), Some(201));
}

#[tokio::test]
async fn slow_and_broken_connections_do_not_slow_down_the_others() {
    let server = impatient().await;
    let mut attackers = Vec::new();
    for number in 0..100 {
        let mut peer = Peer::connect(server.address).await;
        match number % 3 {
            0 => true,
            1 => peer.send(b"GET /health HTTP/1.1\r\nhost: lo").await,
            _ => peer.send(b"POST /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n").await,
        };
        attackers.push(peer);
    }
    for _ in 0..20 {
        let start = Instant::now();
        server.operator().submit(json!({})).await;
        assert!(start.elapsed() < Duration::from_millis(500));
    }
    for peer in &mut attackers {
        assert!(peer.is_closed_within(SOON).await);
    }
}

#[tokio::test]
async fn connections_beyond_the_capacity_wait_until_one_ends() {
    let setup = Setup::memory().config(|config| config.capacity.connections = 3);
    let server = setup.start().await;
    // The harness itself keeps one connection.
    let held = [Peer::connect(server.address).await, Peer::connect(server.address).await];
    server.api.get("/health").send().await.expect(200);
    let mut late = Peer::connect(server.address).await;
    late.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    server.api.get("/health").send().await.expect(200);
    drop(held);
    assert_eq!(late.answer().await.map(|(status, _)| status), Some(200));
}

#[tokio::test]
async fn a_peer_that_asks_on_and_on_and_reads_nothing_is_cut_off() {
    let setup = Setup::memory().config(|config| {
        config.capacity.connections = 1;
        config.capacity.idle_timeout = SHORT * 2;
    });
    let (orchestrator, ..) = setup.build();
    orchestrator.start().await.unwrap();
    for _ in 0..50 {
        let task = SubmitTask::text("sum".parse().unwrap(), "1 2");
        orchestrator.submit(&Operator::host(), task, None).await.unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { orchestrator.serve(listener, std::future::pending()).await });
    let mut greedy = Peer::connect(address).await;
    let ask = format!("GET /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPERATOR_KEY}\r\n\r\n");
    // Their answers are far more than the buffers between the two hold. The connection stays open on this side.
    let asking = tokio::spawn(async move {
        greedy.send(ask.repeat(2_000).as_bytes()).await;
        greedy
    });
    // There is one place: somebody else gets it once the greedy one has lost it.
    let mut next = Peer::connect(address).await;
    next.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(next.answer().await.map(|(status, _)| status), Some(200));
    drop(asking.await.unwrap());
    serving.abort();
}

#[tokio::test]
async fn bodies_beyond_the_room_for_them_are_told_to_come_again() {
    let setup = Setup::memory().config(|config| {
        config.capacity.result_bytes = 64 * 1024;
        config.capacity.submit_bytes = 64 * 1024;
        config.capacity.batch_bytes = 64 * 1024;
        config.capacity.bodies_bytes = 64 * 1024;
    });
    let server = setup.start().await;
    let mut slow = Peer::connect(server.address).await;
    let head = format!("POST /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPERATOR_KEY}\r\n");
    slow.send(format!("{head}content-length: 65536\r\n\r\n").as_bytes()).await;
    let refused = eventually("the room is taken", async || {
        let answer = server.operator().try_submit(&work(json!({}))).await;
        (answer.status == 503).then_some(answer)
    });
    refused.await.problem(503, "UNAVAILABLE");
    drop(slow);
    let taken = async || (server.operator().try_submit(&work(json!({}))).await.status == 201).then_some(());
    eventually("the room is free again", taken).await;
}
