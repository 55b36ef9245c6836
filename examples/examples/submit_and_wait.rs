//! How do I submit a task from another program, and wait for its result?
//!
//! `cargo run -p eap-examples --example submit_and_wait -- "to be or not to be" order-4711`, with an orchestrator at
//! `EAP_URL` (default `http://127.0.0.1:8080`) and an agent that counts words, as in `eap agent run … -- wc -w`.

use std::sync::Arc;
use std::time::Duration;

use eap_client::{OperatorClient, ReqwestCall};
use eap_types::{IdempotencyKey, Secret, SubmitTask};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("EAP_URL").unwrap_or_else(|_| "http://127.0.0.1:8080".into());
    let mut client = OperatorClient::new(&url, Arc::new(ReqwestCall::new()?))?;
    if let Ok(key) = std::env::var("EAP_OPERATOR_KEY") {
        client = client.with_key(Secret::new(key));
    }
    let mut arguments = std::env::args().skip(1);
    let text = arguments.next().unwrap_or_else(|| "to be or not to be".into());
    let task = SubmitTask::text("word_count".parse()?, &text);

    // The caller's own name for this piece of work: if the answer is lost, the same call again gives the same task.
    let key: Option<IdempotencyKey> = arguments.next().map(|name| name.parse()).transpose()?;
    let submitted = client.submit(&task, key.as_ref()).await?;
    println!("{} is {}", submitted.task_id, submitted.status);

    let mut task = submitted;
    while !task.status.is_final() {
        // Each call waits up to half a minute for the end.
        task = client.task(task.task_id, Some(Duration::from_secs(30))).await?;
    }
    println!("{} is {}", task.task_id, task.status);
    if let Some(result) = task.result {
        println!("{}", result.output_data.as_str());
    }
    Ok(())
}
