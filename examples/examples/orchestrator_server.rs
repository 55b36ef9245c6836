//! How do I run an orchestrator in my own program?
//!
//! `cargo run -p eap-examples --example orchestrator_server -- 127.0.0.1:8080`

use eap_orchestrator::{Access, Orchestrator};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let orchestrator = Orchestrator::builder_in_memory().access(Access::Loopback).build()?;
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("serving on http://{}", listener.local_addr()?);
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    let report = orchestrator.serve(listener, stop).await?;
    println!("stopped: {report}");
    Ok(())
}
