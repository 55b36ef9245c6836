//! How do I mount an agent in my own axum app, so that the orchestrator brings its tasks there?
//!
//! `cargo run -p eap-examples --example agent_push_in_axum`, with an orchestrator at `EAP_URL`
//! (`http://127.0.0.1:8080` if unset). Then `eap task submit --type shout --input 'hello' --wait`.

use axum::Router;
use axum::routing::get;
use eap_agent_sdk::{Agent, HandlerError, Push, Task, TaskContext};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("EAP_URL").unwrap_or_else(|_| "http://127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    // What leads the orchestrator to the router below; in production, the app's public URL.
    let reached_at = format!("http://{}/eap", listener.local_addr()?);
    let agent = Agent::builder(url, "AGENT-SHOUT-01")
        .handle("shout", |task: Task<String>, _: TaskContext| async move {
            Ok::<_, HandlerError>(task.input.to_uppercase())
        })
        .push(Push::mounted(reached_at))
        .build()?;
    let app = Router::new().route("/", get(async || "My own page.\n")).nest("/eap", agent.router());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let report = agent.run_until(tokio::signal::ctrl_c()).await?;
    serving.abort();
    println!("stopped: {report}");
    Ok(())
}
