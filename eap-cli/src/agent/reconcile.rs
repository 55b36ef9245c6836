//! `eap agent reconcile`.

use clap::Args;
use eap_types::AgentId;

use crate::exit::{Exit, Failure};
use crate::output::{print, print_json};
use crate::server::ServerArgs;

/// What to do where there is no platform, or none that lists its agents.
const ADVICE: &str = "`eap serve --agentkit-url URL` says where the platform is, which has to answer GET /v1/agents";

/// Compare the agents of the agent platform (AgentKit) with its own list, and say what that changed.
///
/// Webhooks can be lost. The server does the same after its start.
#[derive(Args, Debug)]
pub(crate) struct ReconcileArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Print what was changed as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Has the server compare.
pub(super) async fn reconcile(args: ReconcileArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let done = args.server.repeat_or(ADVICE, || client.reconcile()).await?;
    if args.json {
        print_json(&done)?;
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    for (word, agents) in [("added", &done.added), ("changed", &done.changed), ("removed", &done.removed)] {
        for agent in agents {
            text.push_str(&line(word, agent));
        }
    }
    if done.is_unchanged() {
        text.push_str("nothing changed\n");
    }
    if done.skipped > 0 {
        text.push_str(&format!("{} entries of the list were passed over\n", done.skipped));
    }
    print(&text)?;
    Ok(Exit::Done)
}

fn line(word: &str, agent: &AgentId) -> String {
    format!("{word} {agent}\n")
}
