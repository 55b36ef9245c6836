//! Files that are too large for a result arrive all the same, whatever is lost on the way.

use async_trait::async_trait;
use eap_agent_sdk::{Handler, HandlerError, Output, TaskContext};
use eap_types::{Artifact, Assignment, SubmitTask, TaskId};

use super::every;
use super::world::World;

/// More than a result may have.
const LARGE: usize = 9 * 1024 * 1024;
const NAME: &str = "deep/made.bin";

/// Gives one large file, sent ahead by its own call or left to the agent.
#[derive(Clone, Copy)]
struct Maker {
    sends: bool,
}

fn content() -> Vec<u8> {
    (0..LARGE as u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[async_trait]
impl Handler for Maker {
    async fn run(&self, _: Assignment, ctx: TaskContext) -> Result<Output, HandlerError> {
        let path = NAME.parse()?;
        let made = if self.sends {
            ctx.artifact(path, content()).await?
        } else {
            Artifact::from_bytes(path, &content()).with_mime_type("application/x-made")
        };
        Ok(Output::of("made")?.artifact(made))
    }
}

async fn made(world: &World, maker: Maker) -> TaskId {
    let role = world.role("AGENT-MAKER").await.with(move |agent| agent.handle_with("make", maker));
    let _agent = role.start().await;
    let task = SubmitTask::text("make".parse().expect("it is a task type"), "now");
    let task = world.site.submit_task(task).await;
    let end = world.end_of(task).await;
    assert_eq!(end, "completed [completed]: made");
    task
}

/// What the operator fetches of it.
async fn fetched(world: &World, task: TaskId) -> String {
    let shown = world.site.task_json(task).await["result"]["artifacts"][0].clone();
    let answer = world.site.operator().get(&format!("/api/v1/tasks/{task}/artifacts/{NAME}")).open().await;
    let bytes = answer.bytes().await.expect("the artifact arrives whole");
    let is_same = if bytes == content() { "as it was made" } else { "altered" };
    format!("{} of {}, {is_same}", shown["mime_type"], shown["size"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sent_ahead_while_one_of_four_parts_and_answers_is_lost() {
    every("\"application/octet-stream\" of 9437184, as it was made; parts were lost", async |world: World| {
        world.lose_one_of_four(|what| what == "made.bin");
        let task = made(&world, Maker { sends: true }).await;
        assert!(world.lost() > 0);
        format!("{}; parts were lost", fetched(&world, task).await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_a_result_could_not_carry() {
    every("\"application/x-made\" of 9437184, as it was made", async |world: World| {
        let task = made(&world, Maker { sends: false }).await;
        fetched(&world, task).await
    })
    .await;
}
