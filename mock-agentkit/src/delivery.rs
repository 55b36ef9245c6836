//! Sends a message until it is taken, refused or given up.

use std::time::Duration;

use bytes::Bytes;
use eap_types::{AgentId, Secret, Timestamp, header};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use url::Url;

use crate::call::post;
use crate::chance::{jittered, now};
use crate::journal::{Answer, Attempt, Ending, SentCall, SentKind};
use crate::shared::Shared;

/// How often and how patiently a message is sent.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    /// Tries in all, at least one.
    pub(crate) attempts: u32,
    /// The pause after the first try; each one after it is twice as long.
    pub(crate) first_pause: Duration,
    /// No pause is longer.
    pub(crate) longest_pause: Duration,
    /// No try takes longer.
    pub(crate) call_timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            call_timeout: Duration::from_secs(5),
        }
    }
}

impl Patience {
    /// The pause after so many tries, before jitter.
    fn pause(&self, tries: u32) -> Duration {
        self.first_pause.saturating_mul(1 << (tries - 1).min(20)).min(self.longest_pause)
    }
}

/// A message, ready to be sent any number of times.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) kind: SentKind,
    pub(crate) agent_id: AgentId,
    /// When what it tells came to pass.
    pub(crate) at: Timestamp,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) bearer: Option<Secret>,
}

impl Letter {
    /// Writes it into the journal, and gives its number there.
    pub(crate) fn announce(&self, shared: &Shared) -> u64 {
        shared.journal.sending(|number| SentCall {
            number,
            at: self.at,
            kind: self.kind,
            agent_id: self.agent_id.clone(),
            url: self.url.to_string(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            attempts: Vec::new(),
            ending: Ending::Pending,
        })
    }

    /// Sends it as often as it takes; `attempted` is cancelled after the first try.
    pub(crate) async fn send(&self, shared: &Shared, number: u64, attempted: &CancellationToken) -> Ending {
        let patience = &shared.settings.patience;
        for tries in 1..=patience.attempts {
            let Some(answer) = shared.unless_stopped(self.send_once(shared, number)).await else { return Ending::Cut };
            attempted.cancel();
            match answer.status() {
                Some(200..=299) => return Ending::Taken,
                Some(408 | 425 | 429 | 500..) | None => {}
                Some(status) => {
                    warn!(number, status, kind = ?self.kind, "a message was refused");
                    return Ending::Refused;
                }
            }
            debug!(number, tries, ?answer, kind = ?self.kind, "a message was not taken");
            if tries < patience.attempts {
                let pause = tokio::time::sleep(jittered(patience.pause(tries)));
                if shared.unless_stopped(pause).await.is_none() {
                    return Ending::Cut;
                }
            }
        }
        warn!(number, kind = ?self.kind, "a message was given up");
        Ending::GivenUp
    }

    /// Sends it once, and writes down what came of it.
    pub(crate) async fn send_once(&self, shared: &Shared, number: u64) -> Answer {
        let at = now();
        let body = Bytes::copy_from_slice(self.body.as_bytes());
        let answer = post(&self.url, self.header_map(), body, shared.settings.patience.call_timeout).await;
        shared.journal.tried(number, Attempt { at, answer: answer.clone() });
        answer
    }

    fn header_map(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(header::JSON));
        let bearer = self.bearer.as_ref().map(|key| (header::AUTHORIZATION, format!("Bearer {}", key.expose())));
        let others = self.headers.iter().map(|(name, value)| (name.as_str(), value.clone()));
        for (name, value) in others.chain(bearer) {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                map.append(name, value);
            }
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let patience = Patience { longest_pause: Duration::from_secs(1), ..Patience::default() };
        let pauses: Vec<u128> = [1, 2, 3, 4, 5, 40].map(|tries| patience.pause(tries).as_millis()).into();
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
        for _ in 0..100 {
            let pause = jittered(Duration::from_millis(100));
            assert!((Duration::from_millis(50)..=Duration::from_millis(100)).contains(&pause), "{pause:?}");
        }
    }
}
