//! Pause, resume and cancel, and what else ends a session.

use serde_json::json;

use super::flow::{World, direct, ended, session, setups, started, two_steps, two_under_way, words, work};

#[tokio::test]
async fn a_paused_session_begins_no_step_until_it_is_resumed() {
    for setup in setups() {
        let World { server, drafter, reviewer, id } = two_under_way(setup).await;
        let held = drafter.take().await;
        for _ in 0..2 {
            assert_eq!(direct(&server, &id, "pause").await.expect(200)["status"], "paused");
        }
        drafter.complete(&held).await.expect(200);
        let paused = session(&server, &id).await;
        assert_eq!((&paused["status"], words(&paused)), (&json!("paused"), vec!["completed", "pending"]));
        assert_eq!(server.operator().list("status=queued").await["tasks"], json!([]));
        for _ in 0..2 {
            let resumed = direct(&server, &id, "resume").await.expect(200);
            assert_eq!((&resumed["status"], words(&resumed)), (&json!("running"), vec!["completed", "queued"]));
        }
        // What is paused after its last step began ends all the same.
        let last = reviewer.take().await;
        direct(&server, &id, "pause").await.expect(200);
        reviewer.complete(&last).await.expect(200);
        assert_eq!(ended(&server, &id).await["status"], "completed");
        for what in ["pause", "resume", "cancel"] {
            let refused = direct(&server, &id, what).await.problem(409, "SESSION_FINAL");
            assert_eq!(refused["detail"], "the session is already completed");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_cancelled_session_takes_the_task_of_its_step_with_it() {
    for setup in setups() {
        let World { server, drafter, id, .. } = two_under_way(setup).await;
        let held = drafter.take().await;
        let cancel = async || {
            let call = server.operator().post(&format!("/api/v1/sessions/{id}/cancel"));
            call.json(&json!({"reason": "the source was wrong"})).send().await.expect(200)
        };
        let cancelled = cancel().await;
        assert_eq!((&cancelled["status"], words(&cancelled)), (&json!("cancelled"), vec!["cancelled", "pending"]));
        assert_eq!(cancelled["error"], "the source was wrong");
        let step = &cancelled["steps"][0];
        assert_eq!((&step["attempts"], &step["agentId"]), (&json!(1), &json!(drafter.id)), "who was at it is shown");
        assert_eq!(cancel().await, cancelled);
        let task = server.operator().task(held["task_id"].as_str().unwrap()).await;
        assert_eq!((&task["status"], &task["reason"]), (&json!("cancelled"), &json!("the source was wrong")));
        let told = drafter
            .beat(json!({"status": "busy", "tasks": [{"task_id": held["task_id"], "lease_id": held["lease_id"]}]}))
            .await
            .expect(200);
        assert_eq!(told["directives"][0]["type"], "cancel");
        drafter.complete(&held).await.problem(409, "TASK_FINAL");
        assert_eq!(session(&server, &id).await, cancelled);
        for what in ["pause", "resume"] {
            direct(&server, &id, what).await.problem(409, "SESSION_FINAL");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_session_ends_with_a_task_of_its_own_that_somebody_cancels() {
    for setup in setups() {
        let World { server, drafter, id, .. } = two_under_way(setup).await;
        let held = drafter.take().await;
        let task = held["task_id"].as_str().unwrap();
        server.operator().cancel(task, Some(&json!({"reason": "why not"}))).await.expect(200);
        let ended = ended(&server, &id).await;
        assert_eq!((&ended["status"], words(&ended)), (&json!("cancelled"), vec!["cancelled", "pending"]));
        assert_eq!(ended["error"], "the task of step t1 was cancelled: why not");
        server.stop().await;
    }
}

/// A wait for the end is over when the end comes, by whatever way.
#[tokio::test]
async fn a_wait_ends_with_the_session() {
    for setup in setups() {
        let World { server, drafter, reviewer, id } = two_under_way(setup).await;
        let steps = async {
            work(&drafter, json!({})).await;
            work(&reviewer, json!({})).await;
        };
        assert_eq!(tokio::join!(ended(&server, &id), steps).0["status"], "completed");
        let id = started(&server, &two_steps(), json!({})).await;
        let held = drafter.take().await;
        direct(&server, &id, "pause").await.expect(200);
        drafter.complete(&held).await.expect(200);
        let cancelled = async { direct(&server, &id, "cancel").await.expect(200) };
        assert_eq!(tokio::join!(ended(&server, &id), cancelled).0["status"], "cancelled");
        server.stop().await;
    }
}
