//! The server that a command talks to, and how often it tries.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use eap_client::{ClientError, OperatorClient, ReqwestCall};
use eap_orchestrator::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use eap_types::{ErrorCode, TaskId};

use crate::exit::{Failure, chain};
use crate::secrets;

/// How often a call that may be repeated is made before giving up.
const TRIES: u32 = 4;
/// The longest pause after the first try; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// No server can make a command wait longer than this by asking.
const LONGEST_ASKED: Duration = Duration::from_secs(5);

/// Where the server is and who is calling.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    /// The server's address.
    #[arg(long, env = "EAP_URL", hide_env_values = true, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub(crate) url: String,

    /// File with the operator key [default: the environment variable EAP_OPERATOR_KEY].
    #[arg(long, value_name = "FILE")]
    operator_key_file: Option<PathBuf>,
}

impl ServerArgs {
    /// A client for the server.
    pub(crate) fn client(&self) -> Result<OperatorClient, Failure> {
        let http = ReqwestCall::new().map_err(|error| Failure::usage(chain(&error)))?;
        let client = OperatorClient::new(&self.url, Arc::new(http)).map_err(|error| self.failed(&error))?;
        let key = secrets::read(secrets::OPERATOR_KEY, self.operator_key_file.as_deref())?;
        Ok(match key {
            Some(key) => client.with_key(key),
            None => client,
        })
    }

    /// Why a call to this server did not give what was asked for.
    pub(crate) fn failed(&self, error: &ClientError) -> Failure {
        Failure::of_call(error, &self.url)
    }

    /// Makes a call that has the effect of one however often it is made, until it is answered or too often tried.
    pub(crate) async fn repeat<T, F>(&self, call: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        tried(call).await.map_err(|error| self.failed(&error))
    }

    /// The same for a call that may be about something that is not there: `advice` says what to do then.
    pub(crate) async fn repeat_or<T, F>(&self, advice: &str, call: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        tried(call).await.map_err(|error| match error.code() {
            Some(ErrorCode::NotFound) => Failure::refused(&error).and(advice),
            _ => self.failed(&error),
        })
    }
}

/// Makes a call until it is answered or too often tried.
async fn tried<T, F>(call: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut tried = 1;
    loop {
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if tried == TRIES || !may_pass(&error) {
            return Err(error);
        }
        tokio::time::sleep(pause(tried, &error)).await;
        tried += 1;
    }
}

/// Whether the same call may be answered otherwise in a moment.
pub(crate) fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Call(eap_client::CallError::Setup { .. } | eap_client::CallError::TooLarge { .. }) => false,
        ClientError::Call(_) => true,
        error => matches!(error.status(), Some(408 | 425 | 429 | 502..=504)),
    }
}

/// How long to wait after so many tries: growing, with jitter, and not less than the server asked for.
pub(crate) fn pause(tried: u32, error: &ClientError) -> Duration {
    let longest = FIRST_PAUSE * 2_u32.saturating_pow(tried.saturating_sub(1).min(5));
    let mut chance = [0];
    SystemEntropy.fill(&mut chance);
    let asked = error.retry_after().unwrap_or_default().min(LONGEST_ASKED);
    asked + longest.mul_f64(0.5 + f64::from(chance[0]) / 512.0)
}

/// A new id of UUID version 7, for a key or a name that must be unique.
pub(crate) fn new_id() -> String {
    let mut random = [0; 10];
    SystemEntropy.fill(&mut random);
    TaskId::v7(SystemClock::new().now(), random).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_heed_the_server_within_reason() {
        let broken = ClientError::Call(eap_client::CallError::Broken { source: "reset".into() });
        assert!(pause(1, &broken) >= FIRST_PAUSE / 2 && pause(1, &broken) < FIRST_PAUSE);
        assert!(pause(3, &broken) >= FIRST_PAUSE * 2 && pause(3, &broken) < FIRST_PAUSE * 4);
        let asked = |seconds| ClientError::Unreadable {
            status: 503,
            retry_after: Some(Duration::from_secs(seconds)),
            source: None,
        };
        assert!(pause(1, &asked(2)) >= Duration::from_secs(2));
        assert!(pause(1, &asked(3600)) < Duration::from_secs(6));
        assert!(may_pass(&asked(1)) && may_pass(&broken));
        assert!(!may_pass(&ClientError::Unreadable { status: 404, retry_after: None, source: None }));
    }

    #[test]
    fn two_ids_are_two() {
        assert_ne!(new_id(), new_id());
    }
}
