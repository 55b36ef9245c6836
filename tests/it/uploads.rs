//! Artifacts too large for a result: sent in parts, named by the result, fetched by those who watch (G2).

use std::net::SocketAddr;

use eap_types::ContentDigest;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Agent, Answer, OPERATOR_KEY, Peer, Server, Setup, eventually, id_of, request};

/// Bytes that are all a little different.
pub(crate) fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

/// A part of an upload that is not sent yet.
pub(crate) struct Part<'a> {
    agent: &'a Agent,
    task: String,
    query: String,
    whole: ContentDigest,
    digest: Option<ContentDigest>,
}

pub(crate) fn upload<'a>(agent: &'a Agent, assignment: &Value, content: &[u8]) -> Part<'a> {
    let query = format!("?lease_id={}&attempt={}", assignment["lease_id"].as_str().unwrap(), assignment["attempt"]);
    Part { agent, task: id_of(assignment), query, whole: ContentDigest::of(content), digest: None }
}

impl Part<'_> {
    fn path(&self) -> String {
        self.agent.path(&format!("/tasks/{}/artifacts/deep/model.bin{}", self.task, self.query))
    }

    pub(crate) async fn send(&self, from: usize, bytes: &[u8], total: usize) -> Answer {
        let range = format!("bytes {from}-{}/{total}", from + bytes.len() - 1);
        let call = self.agent.api.call(Method::PUT, &self.path()).header("x-agent-token", &self.agent.token);
        let call = call.header("repr-digest", &self.whole.header()).header("content-range", &range);
        let digest = self.digest.unwrap_or_else(|| ContentDigest::of(bytes));
        call.header("content-digest", &digest.header()).body(bytes).send().await
    }

    /// How much is there, and whether it is all.
    pub(crate) async fn offset(&self) -> (u64, bool) {
        let call = self.agent.api.call(Method::HEAD, &self.path()).header("x-agent-token", &self.agent.token);
        let answer = call.header("repr-digest", &self.whole.header()).send().await;
        assert_eq!(answer.status, 204);
        let offset = answer.header("upload-offset").expect("it is told").parse().expect("a number");
        (offset, answer.header("upload-complete") == Some("?1"))
    }

    pub(crate) fn named(&self, size: usize) -> Value {
        json!([{"path": "deep/model.bin", "content": "", "mime_type": "text/html", "sha256": self.whole, "size": size}])
    }
}

async fn holding() -> (Server, Agent, Value) {
    let server = Server::start().await;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    let assignment = agent.take().await;
    (server, agent, assignment)
}

pub(crate) fn completed(artifacts: &Value) -> Value {
    json!({"status": "completed", "artifacts": artifacts})
}

#[tokio::test]
async fn an_artifact_sent_in_parts_is_fetched_byte_for_byte() {
    let (server, agent, assignment) = holding().await;
    let whole = content(700_000);
    let part = upload(&agent, &assignment, &whole);
    let digest = part.whole.to_string();
    let first = part.send(0, &whole[..300_000], whole.len()).await.expect(202);
    assert_eq!(first, json!({"path": "deep/model.bin", "size": 300_000, "sha256": digest}));
    assert_eq!(part.offset().await, (300_000, false));
    let last = part.send(300_000, &whole[300_000..], whole.len()).await.expect(201);
    assert_eq!(last, json!({"path": "deep/model.bin", "size": 700_000, "sha256": digest}));
    assert_eq!(part.offset().await, (700_000, true));
    assert_eq!(part.send(0, &whole[..300_000], whole.len()).await.expect(201), last, "a repeat is no harm");

    let named = part.named(whole.len());
    agent.report_for(&assignment, completed(&named)).await.expect(200);
    let task = server.operator().task(&id_of(&assignment)).await;
    assert_eq!(task["result"]["artifacts"], named);
    let path = format!("/api/v1/tasks/{}/artifacts/deep/model.bin", id_of(&assignment));
    let answer = server.operator().get(&path).open().await;
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((answer.status().as_u16(), header("content-length")), (200, "700000".to_owned()));
    assert_eq!(header("content-type"), "application/octet-stream");
    assert_eq!(header("repr-digest"), part.whole.header());
    assert!(answer.bytes().await.unwrap() == whole);
    let head = server.api.call(Method::HEAD, &path).bearer(OPERATOR_KEY).open().await;
    assert_eq!(head.headers()["content-length"], "700000");
}

#[tokio::test]
async fn an_upload_goes_on_after_a_restart_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("eap.db");
    let server = Setup::sqlite_at(&file).start().await;
    let address: SocketAddr = server.address;
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    let assignment = agent.take().await;
    let whole = content(500_000);
    let part = upload(&agent, &assignment, &whole);
    part.send(0, &whole[..200_000], whole.len()).await.expect(202);
    server.stop().await;
    let server = Setup::sqlite_at(&file).start_at(address).await;
    assert_eq!(part.offset().await, (200_000, false));
    part.send(200_000, &whole[200_000..], whole.len()).await.expect(201);
    agent.report_for(&assignment, completed(&part.named(whole.len()))).await.expect(200);
    server.stop().await;
    let server = Setup::sqlite_at(&file).start_at(address).await;
    let path = format!("/api/v1/tasks/{}/artifacts/deep/model.bin", id_of(&assignment));
    assert!(server.operator().get(&path).open().await.bytes().await.unwrap() == whole);
}

#[tokio::test]
async fn a_part_is_what_and_where_it_says_or_changes_nothing() {
    let (_server, agent, assignment) = holding().await;
    let whole = content(1_000);
    let mut part = upload(&agent, &assignment, &whole);
    part.send(0, &whole[..400], 1_000).await.expect(202);
    let problem = part.send(500, &whole[500..], 1_000).await.problem(409, "UPLOAD_OFFSET");
    assert_eq!(problem["detail"], "the upload goes on at byte 400");
    part.digest = Some(ContentDigest::of(b"something else"));
    part.send(400, &whole[400..], 1_000).await.problem(422, "DIGEST_MISMATCH");
    part.digest = None;
    assert_eq!(part.offset().await, (400, false));
    part.send(400, &[0; 600], 1_000).await.problem(422, "DIGEST_MISMATCH");
    assert_eq!(part.offset().await, (0, false), "what is wrong as a whole begins anew");

    let put = || agent.api.call(Method::PUT, &part.path()).header("x-agent-token", &agent.token);
    assert_eq!(put().body("x").send().await.fields(), ["header.repr-digest", "header.content-digest"]);
    let digests = || put().header("repr-digest", &part.whole.header()).header("content-digest", &part.whole.header());
    assert_eq!(
        digests().header("content-range", "bytes 0-5/4").body("x").send().await.fields(),
        ["header.content-range"]
    );
    let large = digests().header("content-range", "bytes 0-0/67108865").body("x").send().await;
    large.problem(413, "PAYLOAD_TOO_LARGE");
    let large = digests().header("content-range", "bytes 0-8388608/9000000").body("x").send().await;
    large.problem(413, "PAYLOAD_TOO_LARGE");
    let gzip = digests().header("content-encoding", "gzip").body("x").send().await;
    gzip.problem(415, "UNSUPPORTED_MEDIA_TYPE");
}

#[tokio::test]
async fn a_refusal_is_heard_by_who_sends_the_whole_part_first() {
    let (server, agent, assignment) = holding().await;
    let bytes = content(8 * 1024 * 1024);
    let part = upload(&agent, &assignment, &bytes);
    let (from, to) = (bytes.len(), 2 * bytes.len());
    let headers = [
        format!("x-agent-token: {}", agent.token),
        format!("repr-digest: {}", part.whole.header()),
        format!("content-digest: {}", part.whole.header()),
        format!("content-range: bytes {from}-{}/{to}", to - 1),
        format!("content-length: {}", bytes.len()),
    ];
    let head = request(&format!("PUT {}", part.path()), &headers, "");
    let mut peer = Peer::connect(server.address).await;
    for _ in 0..2 {
        assert!(peer.send(&head).await && peer.send(&bytes).await, "the server reads to the end");
        let (status, problem) = peer.answer().await.expect("it answers");
        assert_eq!((status, &problem["code"]), (409, &json!("UPLOAD_OFFSET")), "{problem}");
    }
}

#[tokio::test]
async fn a_result_names_only_what_was_uploaded_whole_for_its_attempt() {
    let (server, agent, assignment) = holding().await;
    let whole = content(1_000);
    let part = upload(&agent, &assignment, &whole);
    let refused = async |artifacts: &Value, field: &str| {
        let alone = agent.report_for(&assignment, completed(artifacts)).await;
        assert_eq!(alone.fields(), [format!("body.artifacts[0].{field}")]);
        let mut result = completed(artifacts);
        for name in ["task_id", "lease_id", "attempt"] {
            result[name] = assignment[name].clone();
        }
        let together = agent.call("/results").json(&json!({"results": [result]})).send().await.expect(200);
        assert_eq!(together["results"][0]["code"], "VALIDATION_ERROR", "{together}");
        assert_eq!(server.operator().status(&id_of(&assignment)).await, "leased");
    };
    refused(&part.named(1_000), "sha256").await;
    part.send(0, &whole[..400], 1_000).await.expect(202);
    refused(&part.named(1_000), "sha256").await;
    part.send(400, &whole[400..], 1_000).await.expect(201);
    refused(&part.named(999), "size").await;
    agent.fail(&assignment, json!({})).await.expect(200);

    let again = eventually("the task comes again", async || agent.take_up_to(1).await.pop()).await;
    let answer = agent.report_for(&again, completed(&part.named(1_000))).await;
    assert_eq!(answer.fields(), ["body.artifacts[0].sha256"], "it was uploaded for another attempt");
    let late = agent.report_for(&assignment, completed(&part.named(1_000))).await;
    assert!(late.status == 409 || late.status == 422, "{}", late.body);
    let next = upload(&agent, &again, &whole);
    next.send(0, &whole, 1_000).await.expect(201);
    let mut result = completed(&next.named(1_000));
    for name in ["task_id", "lease_id", "attempt"] {
        result[name] = again[name].clone();
    }
    let together = agent.call("/results").json(&json!({"results": [result]})).send().await.expect(200);
    assert_eq!(together["results"][0]["status"], "accepted", "{together}");
    let repeated = agent.report_for(&again, completed(&next.named(1_000))).await.expect(200);
    assert_eq!(repeated["duplicate"], true);
}

#[tokio::test]
async fn only_the_holder_of_a_task_uploads_for_it() {
    let (server, agent, assignment) = holding().await;
    let other = server.agent("AGENT-B").await;
    let whole = content(10);
    upload(&other, &assignment, &whole).send(0, &whole, 10).await.problem(404, "TASK_NOT_FOUND");
    let mut part = upload(&agent, &assignment, &whole);
    part.query = "?attempt=0".to_owned();
    assert_eq!(part.send(0, &whole, 10).await.fields(), ["query.attempt"]);
    part.query = String::new();
    part.send(0, &whole, 10).await.expect(201);
    server.operator().cancel(&id_of(&assignment), None).await.expect(200);
    part.send(0, &whole, 10).await.problem(409, "TASK_FINAL");
}

#[tokio::test]
async fn a_late_result_names_no_uploads() {
    let (server, agent, assignment) = holding().await;
    let whole = content(10);
    let part = upload(&agent, &assignment, &whole);
    part.send(0, &whole, 10).await.expect(201);
    server.operator().cancel(&id_of(&assignment), None).await.expect(200);
    let late = agent.report_for(&assignment, completed(&part.named(10))).await;
    assert_eq!(late.fields(), ["body.artifacts"]);
    let history = server.operator().history(&id_of(&assignment)).await;
    assert_eq!(history["late_results"], json!([]));
    agent.report_for(&assignment, completed(&json!([]))).await.problem(409, "TASK_FINAL");
}

/// How many files are below a folder.
fn files(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .map(|entry| entry.expect("it can be read").path())
        .map(|path| if path.is_dir() { files(&path) } else { 1 })
        .sum()
}

#[tokio::test]
async fn uploads_go_with_their_attempt_and_with_their_task() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("eap.db");
    let server = Setup::sqlite_at(&file).manual_clock().start().await;
    let folder = dir.path().join("eap.db.artifacts");
    let agent = server.agent("AGENT-A").await;
    server.operator().submit(json!({})).await;
    let assignment = agent.take().await;
    let (whole, unnamed) = (content(1_000), content(2_000));
    let part = upload(&agent, &assignment, &whole);
    part.send(0, &whole, 1_000).await.expect(201);
    upload(&agent, &assignment, &unnamed).send(0, &unnamed[..500], 2_000).await.expect(202);
    assert_eq!(files(&folder), 2);
    agent.report_for(&assignment, completed(&part.named(1_000))).await.expect(200);
    eventually("what is not named goes", async || (files(&folder) == 1).then_some(())).await;

    server.operator().submit(json!({})).await;
    let cancelled = agent.take().await;
    upload(&agent, &cancelled, &unnamed).send(0, &unnamed, 2_000).await.expect(201);
    assert_eq!(files(&folder), 2);
    server.operator().cancel(&id_of(&cancelled), None).await.expect(200);
    eventually("what an ended attempt left goes", async || (files(&folder) == 1).then_some(())).await;
    let metrics = server.operator().get("/metrics").page().await.2;
    assert!(metrics.contains("eap_artifacts_total 2\n"), "{metrics}");
    assert!(metrics.contains("eap_artifact_received_bytes_total 3500\n"), "{metrics}");
    let path = format!("/api/v1/tasks/{}/artifacts/deep/model.bin", id_of(&assignment));
    assert_eq!(server.operator().get(&path).open().await.status(), 200);

    server.advance(8 * 24 * 3600);
    // The sweeper looks for what is old once a minute by the machine's clock, and first when it starts.
    server.stop().await;
    let clock = std::sync::Arc::new(eap_orchestrator::ManualClock::at(eap_types::Timestamp::from_seconds(
        1_800_000_000 + 8 * 24 * 3600,
    )));
    let _server = Setup::sqlite_at(&file).clock(clock).start().await;
    eventually("retention takes the rest", async || (files(&folder) == 0).then_some(())).await;
}

#[tokio::test]
async fn an_agent_is_told_where_uploads_go_and_how_large_they_may_be() {
    let server = Server::start().await;
    let agent = server.agent_with("AGENT-A", json!({"features": ["pull.v1", "artifacts.v1"]})).await;
    assert_eq!(agent.reply["features"], json!(["pull.v1", "artifacts.v1"]));
    assert_eq!(agent.reply["limits"]["max_artifact_bytes"], 64 * 1024 * 1024);
    assert_eq!(agent.reply["endpoints"]["artifact"], agent.path("/tasks/{task_id}/artifacts/{path}"));
}

/// `HEAD` has no body that could say more, so its status is all that tells.
#[tokio::test]
async fn asking_how_much_is_there_is_refused_as_sending_it_is() {
    let (server, agent, assignment) = holding().await;
    let other = server.agent("AGENT-B").await;
    let whole = content(10);
    let digest = ContentDigest::of(&whole).header();
    let task = id_of(&assignment);
    let of = |task: &str, query: &str| agent.path(&format!("/tasks/{task}/artifacts/model.bin{query}"));
    let unknown = of("01890a5d-ac96-774b-bcce-b302099a8057", "");
    let ours = of(&task, "");
    for (path, token, digest, status) in [
        (ours.as_str(), "", digest.as_str(), 401),
        (&ours, "eap_x_y", &digest, 401),
        (&ours, &other.token, &digest, 404),
        (&unknown, &agent.token, &digest, 404),
        (&of("x", ""), &agent.token, &digest, 404),
        (&ours, &agent.token, "", 422),
        (&ours, &agent.token, "sha-256=:x:", 422),
        (&of(&task, "?attempt=0"), &agent.token, &digest, 422),
        (&of(&task, "?lease_id=x"), &agent.token, &digest, 422),
        (&of(&task, "?attempt=2"), &agent.token, &digest, 409),
        (&ours, &agent.token, &digest, 204),
    ] {
        let call = |method| agent.api.call(method, path).header("x-agent-token", token).header("repr-digest", digest);
        let answer = call(Method::HEAD).open().await;
        assert_eq!(answer.status(), status, "{path} {token} {digest}");
        assert_eq!(answer.bytes().await.unwrap().len(), 0);
        let sent = call(Method::PUT).header("content-digest", &ContentDigest::of(&whole).header()).body(&*whole);
        assert_eq!(sent.send().await.status, if status == 204 { 201 } else { status }, "{path} {token} {digest}");
    }
}
