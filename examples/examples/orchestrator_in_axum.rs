//! How do I embed an orchestrator in my axum app, under a prefix of its own?
//!
//! ```text
//! export EAP_OPERATOR_KEY=$(openssl rand -hex 16) EAP_REGISTRATION_SECRET=$(openssl rand -hex 16)
//! cargo run -p eap-examples --example orchestrator_in_axum
//! EAP_URL=http://127.0.0.1:8080/orchestrator eap agent run --name AGENT-WC-01 --capability word_count -- wc -w
//! curl --data 'to be or not to be' http://127.0.0.1:8080/count
//! ```

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use eap_orchestrator::{Operator, Orchestrator};
use eap_types::SubmitTask;

/// A route of the app: it submits in process and waits, as any part of the app may.
async fn count(State(orchestrator): State<Orchestrator>, text: String) -> (StatusCode, String) {
    let counted = async {
        let task = SubmitTask::text("word_count".parse()?, &text);
        let me = Operator::host();
        let id = orchestrator.submit(&me, task, None).await?.task_id;
        orchestrator.wait(&me, id, Duration::from_secs(30)).await.map_err(Box::<dyn std::error::Error>::from)
    };
    match counted.await {
        Ok(task) => match task.result {
            Some(result) => (StatusCode::OK, result.output_data.as_str().to_owned()),
            None => (StatusCode::ACCEPTED, format!("{} is {}", task.task_id, task.status)),
        },
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret = |name| std::env::var(name).map_err(|_| format!("{name} is not set"));
    // A router cannot know its listener, so the host decides who may call: here, whoever has the key or the secret.
    let orchestrator = Orchestrator::builder_in_memory()
        .operator_key(secret("EAP_OPERATOR_KEY")?)
        .registration_secret(secret("EAP_REGISTRATION_SECRET")?)
        .build()?;
    orchestrator.start().await?;
    let app = Router::new()
        .route("/count", post(count))
        .with_state(orchestrator.clone())
        .nest("/orchestrator", orchestrator.router());

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("serving on http://{}", listener.local_addr()?);
    let stopping = orchestrator.clone();
    let stop = async move {
        let _ = tokio::signal::ctrl_c().await;
        // Ends the long polls, so that axum has no connection left to wait for.
        stopping.shutdown().await;
    };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    Ok(())
}
