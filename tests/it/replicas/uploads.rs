//! Uploads whose parts come to several orchestrators, which keep them in the same PostgreSQL.

use std::sync::Arc;

use eap_orchestrator::artifacts::ArtifactStore;
use eap_orchestrator::store::{PostgresOptions, PostgresStore};
use eap_tests::postgres::{Schema, server};
use eap_types::{Secret, TaskId};
use serde_json::json;

use super::at;
use crate::harness::{Server, Setup, eventually, id_of};
use crate::uploads::{completed, content, upload};

/// One more orchestrator on a schema, and its view of the uploads.
async fn start(schema: &Schema) -> (Server, Arc<dyn ArtifactStore>) {
    let options = PostgresOptions::default().with_schema(schema.name()).with_max_connections(5);
    let store = PostgresStore::connect(schema.url(), options).await.expect("the schema can be opened");
    let artifacts: Arc<dyn ArtifactStore> = Arc::new(store.artifacts());
    let setup = Setup::store_with_its_clock(Arc::new(store)).artifacts(Arc::clone(&artifacts));
    let setup = setup.config(|config| config.sealing_key = Some(Secret::new("a sealing key for the tests alone")));
    (setup.start().await, artifacts)
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_come_to_one_and_then_the_other_and_no_sweeper_takes_them_before_their_attempt_is_over() {
    if server().is_none() {
        return;
    }
    let schema = Schema::new();
    let ((a, kept), (b, _)) = (start(&schema).await, start(&schema).await);
    let agent = a.agent("AGENT-A").await;
    let there = at(&b, &agent);
    b.operator().submit(json!({})).await;
    let assignment = agent.wait_for_task().await;
    let whole = content(1_000_000);
    let (here, elsewhere) = (upload(&agent, &assignment, &whole), upload(&there, &assignment, &whole));
    let send = async |number: usize| {
        let (part, from) = (if number.is_multiple_of(2) { &here } else { &elsewhere }, number * 250_000);
        part.send(from, &whole[from..from + 250_000], whole.len()).await
    };
    send(0).await.expect(202);
    send(1).await.expect(202);
    assert_eq!((here.offset().await, elsewhere.offset().await), ((500_000, false), (500_000, false)));

    // Both sweepers have looked through everything once what an attempt left that is over is gone, whoever received it.
    for (server, agent) in [(&a, &agent), (&b, &there)] {
        server.operator().submit(json!({})).await;
        let other = agent.wait_for_task().await;
        upload(agent, &other, &whole).send(0, &whole[..1_000], whole.len()).await.expect(202);
        server.operator().cancel(&id_of(&other), None).await.expect(200);
        let task: TaskId = id_of(&other).parse().expect("an id");
        eventually("what is over goes", async || kept.of_attempt(task, 1).await.unwrap().is_empty().then_some(()))
            .await;
    }
    assert_eq!((here.offset().await, elsewhere.offset().await), ((500_000, false), (500_000, false)));
    send(2).await.expect(202);
    send(2).await.problem(409, "UPLOAD_OFFSET");
    send(3).await.expect(201);

    let named = here.named(whole.len());
    there.report_for(&assignment, completed(&named)).await.expect(200);
    let path = format!("/api/v1/tasks/{}/artifacts/deep/model.bin", id_of(&assignment));
    for server in [&a, &b] {
        let answer = server.operator().get(&path).open().await;
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.unwrap() == whole);
    }
}
