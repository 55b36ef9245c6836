//! How does an agent platform work with an orchestrator, from the first webhook to the last?
//!
//! `cargo run -p eap-examples --example with_mock_agentkit` plays the platform with `mock-agentkit`: two agents register, a
//! workflow goes through both, one of them fails at first, and then they leave. It ends by itself and keeps nothing.

use std::time::Duration;

use eap_orchestrator::{Access, AgentKit, Operator, Orchestrator};
use eap_types::agentkit::PlatformAgent;
use eap_types::{JsonObject, RawJson, RunWorkflow, SessionState, WorkflowDefinition, WorkflowStep};
use mock_agentkit::{MockAgentKit, RunFaults};

const KEY: &str = "an-operator-key-of-24-bytes-or-more";
const SECRET: &str = "a word that both sides know";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The platform: it tells the orchestrator of its agents, who report to it. Its first answer to work is a refusal.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let platform = MockAgentKit::builder().notifies(&url).secret(SECRET).reports_to(&url).key(KEY);
    let platform = platform.with_runs(RunFaults::answered_with(500).times(1)).start().await?;

    // The orchestrator: with the face of the platform, and the workflow.
    let mut face = AgentKit::default();
    face.url = Some(platform.url());
    face.secrets = vec![SECRET.parse()?];
    let steps = [
        WorkflowStep::new("draft".parse()?, "Summarize")
            .with_capability("summarize".parse()?)
            .with_next("check".parse()?),
        WorkflowStep::new("check".parse()?, "Check").with_capability("review".parse()?),
    ];
    let workflow = WorkflowDefinition::new("wf-1".parse()?, "Summarize and check", "1.0", steps);
    let builder = Orchestrator::builder_in_memory().access(Access::Loopback).operator_key(KEY);
    let orchestrator = builder.agentkit(face).workflow(workflow.clone()).build()?;
    orchestrator.start().await?;
    let serving = orchestrator.clone();
    let server = tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });

    // Its agents: each is known once its webhook has come.
    for (agent, capability) in [("a1", "summarize"), ("a2", "review")] {
        let agent = PlatformAgent::new(agent.parse()?, format!("Agent {agent}"), "http://127.0.0.1:9");
        platform.register(agent.with_capabilities([capability])).await?;
    }
    let me = Operator::host();
    println!("agents: {}", orchestrator.agents(&me, None, None)?.agents.len());

    // A run of the workflow: each step is a task that goes out by the platform's `run` and ends with a report of state.
    let run = RunWorkflow::new().with_initial_payload(JsonObject::parse(r#"{"text": "to be or not to be"}"#)?);
    let started = orchestrator.run_workflow(&me, workflow.id, run, None).await?;
    let session = orchestrator.wait_for_session(&me, started.session_id, Duration::from_secs(60)).await?;
    assert_eq!(session.status, SessionState::Completed);
    for step in &session.steps {
        let agent = step.agent_id.as_ref().map(ToString::to_string).unwrap_or_default();
        let result = step.result.as_ref().map(RawJson::as_str).unwrap_or_default();
        println!("{}: {} by {agent} at attempt {}: {result}", step.name, step.status, step.attempts);
    }

    // They leave, and everybody stops in order.
    for agent in ["a1", "a2"] {
        platform.remove(&agent.parse()?).await?;
    }
    println!("agents: {}", orchestrator.agents(&me, None, None)?.agents.len());
    println!("calls that the platform had: {}", platform.received().len());
    platform.stop().await;
    orchestrator.shutdown().await;
    println!("orchestrator stopped: {}", server.await??);
    Ok(())
}
