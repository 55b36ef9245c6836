//! The face of an agent platform: its options, and its secrets as their file changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use eap_orchestrator::{AgentKit, Orchestrator};
use eap_types::agentkit::AgentKitSecret;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::exit::Failure;
use crate::secrets;

/// How often the file with the secrets is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What is said of an agent platform.
#[derive(Args, Debug)]
pub(super) struct AgentKitArgs {
    /// Where an agent platform (AgentKit) is: its webhooks and reports of state are taken, and its agents get work by its
    /// `/v1/agents/{id}/run`.
    #[arg(long, env = "EAP_AGENTKIT_URL", hide_env_values = true, value_name = "URL")]
    agentkit_url: Option<String>,

    /// A secret that the platform signs its webhooks with; may be given several times, and each will do. Every user of this
    /// machine can read it: better is a file [default: the environment variable EAP_AGENTKIT_SECRET, one in a line; on
    /// loopback, without any, unsigned webhooks of this machine are taken].
    #[arg(long, value_name = "SECRET", conflicts_with = "agentkit_secret_file")]
    agentkit_secret: Vec<String>,

    /// File with these secrets, one in a line. It is read again when it changes: a secret is replaced without a restart.
    #[arg(long, value_name = "FILE")]
    agentkit_secret_file: Option<PathBuf>,
}

impl AgentKitArgs {
    /// Adds to a configuration what is said here.
    pub(super) fn add_to(&self, config: &mut Option<AgentKit>) -> Result<(), Failure> {
        let named = self.agentkit_secret.join("\n");
        let secrets = if self.agentkit_secret.is_empty() {
            let told = secrets::read_for_server(secrets::AGENTKIT_SECRET, self.agentkit_secret_file.as_deref())?;
            told.map(|told| told.expose().to_owned())
        } else {
            Some(named)
        };
        if self.agentkit_url.is_none() && secrets.is_none() {
            return Ok(());
        }
        let face = config.get_or_insert_default();
        if let Some(url) = &self.agentkit_url {
            face.url = Some(url.clone());
        }
        if let Some(secrets) = secrets {
            face.secrets = of_lines(&secrets)?;
        }
        Ok(())
    }

    /// Follows the file with the secrets until `stop`.
    pub(super) async fn follow(self, orchestrator: Orchestrator, stop: CancellationToken) {
        let Some(file) = &self.agentkit_secret_file else { return };
        let mut known = content(file);
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let now = content(file);
            if now == known {
                continue;
            }
            let read = now.as_deref().and_then(|text| of_lines(text).ok());
            match read.map(|secrets| (secrets.len(), orchestrator.replace_agentkit_secrets(secrets))) {
                Some((count, Ok(()))) => info!(count, "the secrets of the agent platform are replaced"),
                Some((_, Err(problems))) => warn!(%problems, "the secrets of the agent platform stay as they were"),
                None => {
                    warn!(file = %file.display(), "no secrets of the agent platform can be read: they stay as they were");
                }
            }
            known = now;
        }
    }
}

fn content(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok()
}

/// A secret in each line.
fn of_lines(text: &str) -> Result<Vec<AgentKitSecret>, Failure> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let secrets: Vec<AgentKitSecret> = lines.filter_map(|line| line.parse().ok()).collect();
    if secrets.is_empty() {
        return Err(Failure::usage(format!("{} (or --agentkit-secret) holds no secret", secrets::AGENTKIT_SECRET)));
    }
    Ok(secrets)
}
