//! What is the smallest agent?
//!
//! `cargo run -p eap-examples --example agent_hello`, with an orchestrator at `EAP_URL`
//! (default `http://127.0.0.1:8080`), as in `eap serve`. Give it work with
//! `eap task submit --capability hello --input Ada --wait`.

use eap_agent_sdk::{Agent, Task, TaskContext};

#[tokio::main]
async fn main() -> Result<(), eap_agent_sdk::Error> {
    tracing_subscriber::fmt().init();
    let url = std::env::var("EAP_URL").unwrap_or_else(|_| "http://127.0.0.1:8080".into());
    let agent = Agent::builder(url, "AGENT-HELLO-01")
        .handle("hello", |task: Task<String>, _: TaskContext| async move { Ok(format!("Hello, {}!", task.input)) })
        .build()?;
    let report = agent.run_until(tokio::signal::ctrl_c()).await?;
    println!("stopped: {report}");
    Ok(())
}
