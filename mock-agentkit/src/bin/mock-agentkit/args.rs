//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use mock_agentkit::{MockAgentKit, MockBuilder, Outcome};

use crate::named_fault::{self, NamedFault};

/// Play an agent platform (AgentKit) towards an orchestrator, and misbehave on demand.
///
/// The platform registers agents, tells the orchestrator of them by signed webhooks,
/// takes tasks for them, and plays the agents: each reports BUSY, works for a while
/// and reports IDLE. Start it beside an orchestrator and register an agent:
///
///   mock-agentkit --opscore-url http://127.0.0.1:8080
///
///   curl http://127.0.0.1:8090/v1/agents -d '{"agentId": "a1",
///     "agentName": "Summarizer", "version": "1.0.0",
///     "capabilities": ["summarize"],
///     "contactEndpoint": "http://127.0.0.1:9000"}'
///
///   curl http://127.0.0.1:8090/control/sent
#[derive(Debug, Parser)]
#[command(name = "mock-agentkit", version, verbatim_doc_comment, after_help = AFTER)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one, which the first line on standard output names.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// The orchestrator's base URL: webhooks go below it, and reports too unless --api-url is given.
    #[arg(long, value_name = "URL", env = "OPSCORE_INTERNAL_URL")]
    opscore_url: Option<String>,
    /// The base URL that agents report to.
    #[arg(long, value_name = "URL", env = "OPSCORE_API_URL")]
    api_url: Option<String>,
    /// The operator key that agents report with.
    #[arg(long, value_name = "KEY", env = "OPSCORE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// The whole URL of the webhook, if it does not follow from --opscore-url.
    #[arg(long, value_name = "URL", env = "OPSCORE_WEBHOOK_URL")]
    webhook_url: Option<String>,
    /// The secret that webhooks are signed with; without one they are not signed.
    #[arg(long, value_name = "SECRET", env = "OPSCORE_WEBHOOK_SECRET", hide_env_values = true)]
    webhook_secret: Option<String>,
    /// Sign the time of webhooks in RFC 3339 and to the microsecond, rather than in whole seconds.
    #[arg(long)]
    sign_rfc3339: bool,
    /// How long a task takes, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 100)]
    work_ms: u64,
    /// How tasks end.
    #[arg(long, value_enum, default_value_t = End::Success)]
    outcome: End,
    /// Have the last report of a task name it.
    #[arg(long)]
    name_tasks: bool,
    /// How often a message is tried.
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    tries: u32,
    /// The pause after the first try, in milliseconds; each one after it is twice as long.
    #[arg(long, value_name = "MS", default_value_t = 100)]
    first_pause_ms: u64,
    /// What goes wrong, as in webhooks.drop or webhooks.late_ms=500; may be given several times.
    #[arg(long = "fault", value_name = "GROUP.NAME[=VALUE]", value_parser = named_fault::parse)]
    faults: Vec<NamedFault>,
}

/// How tasks end.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum End {
    Success,
    Failure,
}

const AFTER: &str = "\
Faults, each for all cases or for the next GROUP.times=N:
  webhooks.drop | late_ms=MS | duplicate=N | reorder | forge | wrong_secret
          | unsigned | clock_offset_seconds=S
  runs.late_ms=MS | status=CODE
  work.crash | fail
  reports.drop | late_ms=MS | duplicate=N | reorder

At run time:
  GET, PUT, DELETE /control/faults   {\"webhooks\": {\"drop\": true, \"times\": 1}}
  GET, PUT /control/work             {\"duration_ms\": 100, \"outcome\": \"success\",
                                      \"names_tasks\": false}
  GET, DELETE /control/received      the calls that came
  GET, DELETE /control/sent          webhooks and reports, each try and its answer

There is no key: whoever reaches it may use it. It is for tests alone.";

impl Args {
    pub(crate) fn builder(self) -> MockBuilder {
        let outcome = match self.outcome {
            End::Success => Outcome::Success,
            End::Failure => Outcome::Failure,
        };
        let faults = named_fault::all(&self.faults).unwrap_or_default();
        let mut builder = MockAgentKit::builder()
            .listens_on(self.listen)
            .works_for(Duration::from_millis(self.work_ms))
            .ends_in(outcome)
            .tries(self.tries, Duration::from_millis(self.first_pause_ms))
            .with_faults(faults);
        // What is set and empty, as compose files leave it, is not set.
        let given = |value: Option<String>| value.filter(|value| !value.is_empty());
        if let Some(url) = given(self.opscore_url) {
            builder = builder.notifies(url);
        }
        if let Some(url) = given(self.webhook_url) {
            builder = builder.notifies_at(url);
        }
        if let Some(url) = given(self.api_url) {
            builder = builder.reports_to(url);
        }
        if let Some(key) = given(self.api_key) {
            builder = builder.key(key);
        }
        if let Some(secret) = given(self.webhook_secret) {
            builder = builder.secret(secret);
        }
        if self.sign_rfc3339 {
            builder = builder.signs_rfc3339();
        }
        if self.name_tasks {
            builder = builder.names_tasks();
        }
        builder
    }
}
