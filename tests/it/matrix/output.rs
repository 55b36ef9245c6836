//! What handlers emit reaches watchers while the work goes on.

use std::sync::Arc;

use eap_client::{EventStream, HttpCall, OperatorClient, ReqwestCall, Told};
use eap_tests::proxy::Leg;
use eap_types::{EventQuery, Secret, TaskId};

use super::every;
use super::world::{LONG, World};
use crate::harness::OPERATOR_KEY;

const POEM: &str = "recite wer reitet so spät durch Nacht und Wind";

/// Opens a stream of all that happens from now on.
async fn watch(world: &World) -> EventStream {
    let http = ReqwestCall::new().expect("the client has nothing that could be wrong");
    let client = OperatorClient::new(&world.site.url(), Arc::new(http) as Arc<dyn HttpCall>).expect("it is a URL");
    client.with_key(Secret::new(OPERATOR_KEY)).events(EventQuery::new()).await.expect("the server tells events")
}

/// All that a task emits until it is completed, in the order in which it is told.
async fn heard(events: &mut EventStream, task: TaskId) -> String {
    let mut heard = String::new();
    loop {
        let told = tokio::time::timeout(LONG, events.next()).await.expect("something is told");
        let Told::Event(event) = told.expect("the stream goes on") else { panic!("nothing is forgotten so soon") };
        if event.task_id != Some(task) {
            continue;
        }
        match event.kind.as_str() {
            "task.output_delta" => {
                let detail = event.detail.to_value();
                heard.push_str(detail["output_delta"].as_str().expect("it has output"));
            }
            "task.completed" => return heard,
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrives_in_order_and_before_the_result() {
    every("completed [completed]: recited; heard wer reitet so spät durch Nacht und Wind", async |world: World| {
        let mut events = watch(&world).await;
        let _agent = world.start_agent().await;
        let task = world.submit(POEM).await;
        let heard = heard(&mut events, task).await;
        format!("{}; heard {heard}", world.end_of(task).await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_handler_is_still_at_work() {
    every("leased [open]; heard a dot", async |world: World| {
        let mut events = watch(&world).await;
        let _agent = world.start_agent().await;
        let task = world.submit("tick 99").await;
        loop {
            let told = tokio::time::timeout(LONG, events.next()).await.expect("something is told");
            let Told::Event(event) = told.expect("the stream goes on") else { panic!("nothing is forgotten so soon") };
            if event.kind == "task.output_delta" {
                break;
            }
        }
        format!("{}; heard a dot", world.told(task).await)
    })
    .await;
}

/// Reports get lost, and the answers to others: each part is told once all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_network_that_loses_reports_and_answers() {
    every(
        "completed [completed]: recited; heard wer reitet so spät durch Nacht und Wind; 4 lost",
        async |world: World| {
            let mut events = watch(&world).await;
            let _agent = world.start_agent().await;
            let mut left = [2, 2];
            world.lose(move |what, leg| {
                let left = &mut left[usize::from(leg == Leg::Back)];
                let is_lost = matches!(what, "progress" | "task.progress") && *left > 0;
                *left -= usize::from(is_lost);
                is_lost
            });
            let task = world.submit(POEM).await;
            let heard = heard(&mut events, task).await;
            format!("{}; heard {heard}; {} lost", world.end_of(task).await, world.lost())
        },
    )
    .await;
}
