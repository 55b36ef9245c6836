//! How does a handler take and give types of my own, and say why it failed?
//!
//! `cargo run -p eap-examples --example agent_typed`, with an orchestrator at `EAP_URL`
//! (default `http://127.0.0.1:8080`). Its input is JSON, as in `{"prices": [120, 80], "discount_percent": 25}`.

use eap_agent_sdk::{Agent, HandlerError, Task, TaskContext};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Basket {
    /// In cents.
    prices: Vec<u64>,
    #[serde(default)]
    discount_percent: u64,
}

#[derive(Serialize)]
struct Bill {
    items: usize,
    total_cents: u64,
}

/// Input that is no `Basket` never gets here: it fails the task as `INVALID_INPUT`. Any error passed on with `?`
/// lets another attempt follow; `invalid_input` and `fatal` do not.
async fn bill(task: Task<Basket>, _ctx: TaskContext) -> Result<Bill, HandlerError> {
    let Basket { prices, discount_percent } = task.input;
    if discount_percent > 100 {
        return Err(HandlerError::invalid_input("a discount is at most 100 %"));
    }
    let full: u64 = prices.iter().sum();
    Ok(Bill { items: prices.len(), total_cents: full * (100 - discount_percent) / 100 })
}

#[tokio::main]
async fn main() -> Result<(), eap_agent_sdk::Error> {
    tracing_subscriber::fmt().init();
    let url = std::env::var("EAP_URL").unwrap_or_else(|_| "http://127.0.0.1:8080".into());
    let mut agent = Agent::builder(url, "AGENT-BILL-01").handle("bill", bill).max_concurrent_tasks(4);
    if let Ok(secret) = std::env::var("EAP_REGISTRATION_SECRET") {
        agent = agent.registration_secret(secret);
    }
    let report = agent.build()?.run_until(tokio::signal::ctrl_c()).await?;
    println!("stopped: {report}");
    Ok(())
}
