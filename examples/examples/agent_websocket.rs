//! How does an agent get its tasks over a WebSocket?
//!
//! `cargo run -p eap-examples --example agent_websocket`, with an orchestrator at `EAP_URL`
//! (default `http://127.0.0.1:8080`), as in `eap serve`. Give it work with
//! `eap task submit --capability shout --input "good morning" --wait`.
//!
//! One line differs from an agent that asks for its tasks. Restart the server: the log shows how the agent goes on
//! without its socket, and comes back to it.

use eap_agent_sdk::{Agent, Task, TaskContext};

#[tokio::main]
async fn main() -> Result<(), eap_agent_sdk::Error> {
    tracing_subscriber::fmt().init();
    let url = std::env::var("EAP_URL").unwrap_or_else(|_| "http://127.0.0.1:8080".into());
    let agent = Agent::builder(url, "AGENT-SHOUT-01")
        .websocket()
        .handle("shout", |task: Task<String>, _: TaskContext| async move { Ok(task.input.to_uppercase()) })
        .build()?;
    let report = agent.run_until(tokio::signal::ctrl_c()).await?;
    println!("stopped: {report}");
    Ok(())
}
