//! How do I submit a task in the same transaction as rows of my own, so that there is never one without the other?
//!
//! `cargo run -p eap-examples --example task_in_my_transaction -- postgres://user:password@localhost/database` uses a
//! database of yours; without one it starts a private server of this machine's PostgreSQL. It ends by itself.

use std::sync::Arc;
use std::time::Duration;

use eap_agent_sdk::{Agent, Task, TaskContext};
use eap_orchestrator::store::{PostgresOptions, PostgresStore};
use eap_orchestrator::{Access, Config, Error, Operator, Orchestrator};
use eap_types::{Secret, SubmitTask, TaskId, TaskStatus};
use sqlx::PgPool;

/// A shop, with an order for each thing that was bought and a task for each order.
struct Shop {
    pool: PgPool,
    store: Arc<PostgresStore>,
    orchestrator: Orchestrator,
}

impl Shop {
    /// Writes an order and its task, both or neither.
    async fn order(&self, what: &str, is_paid: bool) -> Result<TaskId, Box<dyn std::error::Error>> {
        // Checked as a submit would be, and kept nowhere yet; the id is known.
        let task = self.orchestrator.prepare(&Operator::host(), SubmitTask::text("write_invoice".parse()?, what))?;
        let id = task.id();

        let mut transaction = self.pool.begin().await?;
        let sql = "INSERT INTO orders (what, task) VALUES ($1, $2)";
        sqlx::query(sql).bind(what).bind(id.to_string()).execute(&mut *transaction).await?;
        self.store.enqueue(&mut transaction, &[task]).await?;
        if is_paid {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        Ok(id)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let private = || eap_tests::postgres::server().map(|server| server.url().to_owned());
    // Where this machine has none either, that was said aloud.
    let Some(url) = std::env::args().nth(1).or_else(private) else { return Ok(()) };

    // The shop's own connections are the orchestrator's as well.
    let pool = PgPool::connect(&url).await?;
    sqlx::query("CREATE TABLE IF NOT EXISTS orders (what text NOT NULL, task text NOT NULL)").execute(&pool).await?;
    let store = Arc::new(PostgresStore::with_pool(pool.clone(), PostgresOptions::default()).await?);
    let mut config = Config::default();
    // One secret of the shop, the same wherever it runs: other orchestrators may stand on this database.
    config.sealing_key = Some(Secret::new("a sealing key for this example alone"));
    let orchestrator = Orchestrator::builder(store.clone()).config(config).access(Access::Loopback).build()?;
    orchestrator.start().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let serving = orchestrator.clone();
    let server = tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
    let agent = Agent::builder(address, "AGENT-INVOICES-01")
        .handle("write_invoice", |task: Task<String>, _: TaskContext| async move {
            Ok(format!("invoice for {}", task.input))
        })
        .build()?
        .start();

    let (me, shop) = (Operator::host(), Shop { pool, store, orchestrator: orchestrator.clone() });
    let paid = shop.order("a bicycle", true).await?;
    let unpaid = shop.order("a boat", false).await?;

    let done = orchestrator.wait(&me, paid, Duration::from_secs(60)).await?;
    assert_eq!(done.status, TaskStatus::Completed);
    println!("a bicycle: {}", done.result.map(|result| result.output_data.as_str().to_owned()).unwrap_or_default());
    assert!(matches!(orchestrator.get(&me, unpaid).await, Err(Error::UnknownTask)));
    println!("a boat: no order, and no task");

    agent.drain();
    println!("agent stopped: {}", agent.wait().await?);
    orchestrator.shutdown().await;
    println!("orchestrator stopped: {}", server.await??);
    Ok(())
}
