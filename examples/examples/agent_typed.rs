//! How does a handler take and give types of my own, let submitters know what it takes, and say why it failed?
//!
//! `cargo run -p eap-examples --example agent_typed`, with an orchestrator at `EAP_URL`
//! (default `http://127.0.0.1:8080`). Its input is JSON, as in `{"prices": [120, 80], "discount_percent": 25}`;
//! `eap task submit --schema bill` shows what it has to be, and one that is not so is refused when it is submitted.

use eap_agent_sdk::schemars::{self, JsonSchema};
use eap_agent_sdk::{Agent, HandlerError, Task, TaskContext};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, JsonSchema)]
struct Basket {
    /// In cents.
    prices: Vec<u64>,
    #[serde(default)]
    #[schemars(range(max = 100))]
    discount_percent: u64,
}

#[derive(Serialize)]
struct Bill {
    items: usize,
    total_cents: u64,
}

/// Input that is no `Basket` never gets here: it is refused when it is submitted, or fails the task as `INVALID_INPUT`.
/// Any error passed on with `?` lets another attempt follow, as `retry` does; `invalid_input` and `fatal` do not, and
/// `reject` sends the task to another agent.
async fn bill(task: Task<Basket>, _ctx: TaskContext) -> Result<Bill, HandlerError> {
    let Basket { prices, discount_percent } = task.input;
    let full = prices.iter().try_fold(0_u64, |sum, price| sum.checked_add(*price));
    // What a schema cannot say is for the handler to say.
    let full = full.ok_or_else(|| HandlerError::invalid_input("the basket costs more than there is"))?;
    let share = 100_u64.checked_sub(discount_percent);
    let share = share.ok_or_else(|| HandlerError::invalid_input("a discount is at most 100 %"))?;
    Ok(Bill { items: prices.len(), total_cents: full / 100 * share + full % 100 * share / 100 })
}

#[tokio::main]
async fn main() -> Result<(), eap_agent_sdk::Error> {
    tracing_subscriber::fmt().init();
    let url = std::env::var("EAP_URL").unwrap_or_else(|_| "http://127.0.0.1:8080".into());
    let mut agent = Agent::builder(url, "AGENT-BILL-01").handle_typed("bill", bill).max_concurrent_tasks(4);
    if let Ok(secret) = std::env::var("EAP_REGISTRATION_SECRET") {
        agent = agent.registration_secret(secret);
    }
    let report = agent.build()?.run_until(tokio::signal::ctrl_c()).await?;
    println!("stopped: {report}");
    Ok(())
}
