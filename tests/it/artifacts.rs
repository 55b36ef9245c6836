//! Artifacts: what a result carries along, fetched by those who watch (G2, T22).

use std::sync::Arc;

use eap_client::{ClientError, OperatorClient, ReqwestCall};
use eap_types::{ContentDigest, ErrorCode, Scope, Secret};
use http::Method;
use serde_json::json;

use crate::harness::{Api, OPERATOR_KEY, Server};

fn place(task: &str, path: &str) -> String {
    format!("/api/v1/tasks/{task}/artifacts/{path}")
}

/// A server with a task whose result has these artifacts.
async fn completed(artifacts: serde_json::Value) -> (Server, String) {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let task = server.operator().submit(json!({})).await;
    let assignment = agent.take().await;
    agent.report_for(&assignment, json!({"status": "completed", "artifacts": artifacts})).await.expect(200);
    (server, task)
}

fn client(server: &Server) -> OperatorClient {
    let http = Arc::new(ReqwestCall::new().expect("nothing is in its way"));
    OperatorClient::new(server.api.base(), http).expect("the address is one").with_key(Secret::new(OPERATOR_KEY))
}

#[tokio::test]
async fn an_artifact_is_a_download_that_no_browser_shows() {
    let page = "<script>alert(1)</script>";
    let (server, task) = completed(json!([
        {"path": "deep/naïve page.html", "content": page, "mime_type": "text/html"},
        {"path": "b.bin", "content": "/wA=", "mime_type": "image/svg+xml", "encoding": "base64"},
    ]))
    .await;
    let operator = server.operator();
    let answer = operator.get(&place(&task, "deep/na%C3%AFve%20page.html")).open().await;
    let header = |name: &str| answer.headers()[name].to_str().expect("ASCII").to_owned();
    assert_eq!(answer.status(), 200);
    assert_eq!(header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("content-security-policy"), "default-src 'none'; sandbox");
    assert_eq!(
        header("content-disposition"),
        "attachment; filename=\"na_ve_page.html\"; filename*=UTF-8''na%C3%AFve%20page.html"
    );
    let digest = ContentDigest::of(page.as_bytes());
    assert_eq!(header("repr-digest"), digest.header());
    assert_eq!(header("etag"), format!("\"{digest}\""));
    assert_eq!(answer.text().await.unwrap(), page);

    let answer = operator.get(&place(&task, "b.bin")).open().await;
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    assert_eq!(answer.bytes().await.unwrap(), [0xff, 0x00].as_slice());
    let head = server.api.call(Method::HEAD, &place(&task, "b.bin")).bearer(OPERATOR_KEY).open().await;
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"2".parse().unwrap()));
    assert_eq!(head.bytes().await.unwrap().len(), 0);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let (server, task) = completed(json!([{"path": "deep/a", "content": "a"}])).await;
    let operator = server.operator();
    let other = operator.submit(json!({})).await;
    for path in [
        place(&task, "b"),
        place(&task, "deep"),
        place(&task, "deep/"),
        place(&task, "deep/..%2Fa"),
        place(&other, "a"),
    ] {
        operator.get(&path).send().await.problem(404, "NOT_FOUND");
    }
    operator.get(&place("01890a5d-ac96-774b-bcce-b302099a8057", "a")).send().await.problem(404, "TASK_NOT_FOUND");
    operator.get(&place("x", "a")).send().await.problem(404, "TASK_NOT_FOUND");
    server.api.get(&place(&task, "deep/a")).send().await.problem(401, "INVALID_TOKEN");
    let (status, _, text) = operator.get(&place(&task, "deep%2Fa")).page().await;
    assert_eq!((status, text.as_str()), (200, "a"), "an escaped slash is a slash");
}

#[tokio::test]
async fn whoever_reads_tasks_alone_does_not_read_what_they_produced() {
    let (server, task) = completed(json!([{"path": "a", "content": "a"}])).await;
    let body = json!({"name": "reader", "scopes": [Scope::TasksRead]});
    let key = server.operator().post("/api/v1/keys").json(&body).send().await.expect(201);
    let key = key["key"].as_str().expect("it is shown once");
    server.api.get(&place(&task, "a")).bearer(key).send().await.problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn the_client_gets_an_artifact_piece_by_piece() {
    let large = "0123456789".repeat(100_000);
    let (server, task) = completed(json!([{"path": "deep/a b", "content": large}])).await;
    let (client, task) = (client(&server), task.parse().unwrap());
    let mut stream = client.artifact(task, &"deep/a b".parse().unwrap()).await.unwrap();
    assert_eq!(stream.size(), Some(1_000_000));
    assert_eq!(stream.digest(), Some(ContentDigest::of(large.as_bytes())));
    let mut whole = Vec::new();
    while let Some(piece) = stream.piece().await.unwrap() {
        whole.extend_from_slice(&piece);
    }
    assert!(whole == large.as_bytes());
    let absent = client.artifact(task, &"b".parse().unwrap()).await.unwrap_err();
    assert_eq!(absent.code(), Some(ErrorCode::NotFound));
}

#[tokio::test]
async fn content_that_is_not_what_was_announced_is_no_success() {
    let router = axum::Router::new()
        .fallback(|| async { ([("repr-digest", ContentDigest::of(b"content").header())], "c0ntent") });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let api = Api::at(format!("http://{}", listener.local_addr().expect("it is bound")));
    let host = tokio::spawn(IntoFuture::into_future(axum::serve(listener, router)));
    let http = Arc::new(ReqwestCall::new().expect("nothing is in its way"));
    let client = OperatorClient::new(api.base(), http).unwrap();
    let task = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
    let mut stream = client.artifact(task, &"a".parse().unwrap()).await.unwrap();
    let mut ended = stream.piece().await;
    while let Ok(Some(_)) = ended {
        ended = stream.piece().await;
    }
    assert!(matches!(ended, Err(ClientError::Altered)), "{ended:?}");
    host.abort();
}

/// What came of a download: its status, which bytes it says it has, and the bytes.
async fn got(answer: reqwest::Response) -> (u16, String, Vec<u8>) {
    let range = answer.headers().get("content-range").map(|range| range.to_str().expect("ASCII").to_owned());
    (answer.status().as_u16(), range.unwrap_or_default(), answer.bytes().await.expect("a body").to_vec())
}

#[tokio::test]
async fn a_download_that_broke_off_goes_on_where_it_was() {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    let task = server.operator().submit(json!({})).await;
    let assignment = agent.take().await;
    let large: Vec<u8> = (0..600_000_u32).map(|index| (index % 251) as u8).collect();
    let digest = ContentDigest::of(&large);
    let put = agent.path(&format!("/tasks/{task}/artifacts/large.bin"));
    let put = agent.api.call(Method::PUT, &put).header("x-agent-token", &agent.token).body(large.clone());
    put.header("repr-digest", &digest.header()).header("content-digest", &digest.header()).send().await.expect(201);
    let artifacts = json!([
        {"path": "large.bin", "content": "", "sha256": digest},
        {"path": "small.txt", "content": "0123456789"},
        {"path": "empty", "content": ""},
    ]);
    agent.report_for(&assignment, json!({"status": "completed", "artifacts": artifacts})).await.expect(200);

    let operator = server.operator();
    let of = |path: &str, range: &str| operator.get(&place(&task, path)).header("range", range);
    let (status, range, rest) = got(of("large.bin", "bytes=262000-").open().await).await;
    assert_eq!((status, range.as_str()), (206, "bytes 262000-599999/600000"));
    assert!(rest == large[262_000..]);
    let (status, range, middle) = got(of("large.bin", "bytes=262140-262149").open().await).await;
    assert_eq!(
        (status, range.as_str(), middle.as_slice()),
        (206, "bytes 262140-262149/600000", &large[262_140..262_150])
    );
    let part = got(of("small.txt", "bytes=-3").open().await).await;
    assert_eq!(part, (206, "bytes 7-9/10".to_owned(), b"789".to_vec()));

    let tag = format!("\"{}\"", ContentDigest::of(b"0123456789"));
    let part = got(of("small.txt", "bytes=8-").header("if-range", &tag).open().await).await;
    assert_eq!(part, (206, "bytes 8-9/10".to_owned(), b"89".to_vec()));
    let whole = (200, String::new(), b"0123456789".to_vec());
    assert_eq!(got(of("small.txt", "bytes=8-").header("if-range", "\"other\"").open().await).await, whole);
    assert_eq!(got(of("small.txt", "bytes=0-1,4-5").open().await).await, whole);
    let known = operator.get(&place(&task, "small.txt")).header("if-none-match", &tag).open().await;
    assert_eq!(got(known).await, (304, String::new(), Vec::new()));

    for (path, range, size) in [("large.bin", "bytes=600000-", "bytes */600000"), ("empty", "bytes=0-", "bytes */0")] {
        let refused = of(path, range).send().await;
        assert_eq!(refused.header("content-range"), Some(size));
        refused.problem(416, "RANGE_NOT_SATISFIABLE");
    }
}
