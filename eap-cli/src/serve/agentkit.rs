//! The face of an agent platform: its options, and its secrets as their file changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use eap_orchestrator::{AgentKit, MIN_SECRET_BYTES, Orchestrator};
use eap_types::agentkit::AgentKitSecret;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::exit::Failure;
use crate::secrets;

/// How often the file with the secrets is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How many secrets a server takes; it checks that itself, without knowing of lines.
const MOST: usize = 8;

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
        let secrets = self.secrets()?;
        if self.agentkit_url.is_none() && secrets.is_none() {
            return Ok(());
        }
        let face = config.get_or_insert_default();
        if let Some(url) = &self.agentkit_url {
            face.url = Some(url.clone());
        }
        if let Some(secrets) = secrets {
            face.secrets = secrets;
        }
        Ok(())
    }

    /// The secrets from wherever they are given.
    fn secrets(&self) -> Result<Option<Vec<AgentKitSecret>>, Failure> {
        let (source, text) = if let Some(file) = &self.agentkit_secret_file {
            (file.display().to_string(), content(file).map_err(Failure::usage)?)
        } else if !self.agentkit_secret.is_empty() {
            ("--agentkit-secret".to_owned(), self.agentkit_secret.join("\n"))
        } else if let Some(told) = secrets::read_for_server(secrets::AGENTKIT_SECRET, None)? {
            (secrets::AGENTKIT_SECRET.to_owned(), told.expose().to_owned())
        } else {
            return Ok(None);
        };
        of_lines(&text, &source).map(Some).map_err(Failure::usage)
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
            let read = now.clone().and_then(|text| of_lines(&text, &file.display().to_string()));
            match read.map(|secrets| (secrets.len(), orchestrator.replace_agentkit_secrets(secrets))) {
                Ok((count, Ok(()))) => info!(count, "the secrets of the agent platform are replaced"),
                Ok((_, Err(problems))) => {
                    let file = file.display();
                    warn!(%file, %problems, "the secrets of the agent platform stay as they were");
                }
                Err(problem) => warn!(problem, "the secrets of the agent platform stay as they were"),
            }
            known = now;
        }
    }
}

fn content(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("cannot read secrets from {}: {error}", file.display()))
}

/// A secret in each line of what `source` holds; a problem is told with its line.
fn of_lines(text: &str, source: &str) -> Result<Vec<AgentKitSecret>, String> {
    let mut secrets = Vec::new();
    for (line, text) in (1..).zip(text.lines().map(str::trim)) {
        if text.is_empty() {
            continue;
        }
        if text.len() < MIN_SECRET_BYTES {
            return Err(format!("{source}, line {line}: the secret has fewer than {MIN_SECRET_BYTES} bytes"));
        }
        secrets.push(text.parse().map_err(|error| format!("{source}, line {line}: {error}"))?);
        if secrets.len() > MOST {
            return Err(format!("{source}, line {line}: there are more than {MOST} secrets"));
        }
    }
    if secrets.is_empty() { Err(format!("{source} holds no secret: it is empty")) } else { Ok(secrets) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_secret_is_told_with_its_line_and_without_the_secret() {
        let long = "a secret that is long enough\n";
        assert_eq!(of_lines(&format!("\n{long}\n  {long}"), "x").map(|secrets| secrets.len()), Ok(2));
        let short = of_lines(&format!("\n{long}a short one\n"), "the-file").unwrap_err();
        assert_eq!(short, "the-file, line 3: the secret has fewer than 24 bytes");
        assert_eq!(of_lines(&long.repeat(9), "x").unwrap_err(), "x, line 9: there are more than 8 secrets");
        assert_eq!(of_lines(" \n", "x").unwrap_err(), "x holds no secret: it is empty");
    }
}
